//! APIs, client grants and settings through the Management API (contract 4.3, 4.5).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{WEB_CALLBACK, story};
use oauth::grant;
use reqwest::Method;
use serde_json::json;

const API: &str = "https://invoices.test/";
const API_IN_PATH: &str = "https%3A%2F%2Finvoices.test%2F";

story!(an_api_is_made_seen_changed_and_deleted, |world| {
    let admin = world.administrator(&[]).await?;
    let body = json!({
        "identifier": API,
        "scopes": [{"value": "read:invoices", "description": "Read your invoices"}, {"value": "pay"}],
        "token_lifetime": 600,
        "token_lifetime_for_web": 300,
        "token_dialect": "access_token",
        "enforce_policies": false,
    });
    let made = world
        .manage(Method::POST, "resource-servers", &admin, Some(&body))
        .await?;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    assert_eq!(made["name"], API);
    assert_eq!(made["token_lifetime"], 600);
    assert_eq!(
        made["subject_type_authorization"]["client"]["policy"],
        "require_client_grant"
    );
    assert!(made.get("token_lifetime_for_web").is_none());

    let again = world
        .manage(Method::POST, "resource-servers", &admin, Some(&body))
        .await?;
    assert_eq!(again.status, 409);
    assert_eq!(again.json()["errorCode"], "already_exists");

    // By its id and by its identifier.
    for name in [made["id"].as_str().unwrap(), API_IN_PATH] {
        let path = format!("resource-servers/{name}");
        let seen = world.manage(Method::GET, &path, &admin, None).await?;
        assert_eq!(seen.json(), made, "{}", seen.text);
    }
    let path = format!("resource-servers/{API_IN_PATH}");
    let changed = world
        .manage(
            Method::PATCH,
            &path,
            &admin,
            Some(&json!({"name": "Invoices", "scopes": [{"value": "pay"}], "allow_offline_access": true})),
        )
        .await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.json()["name"], "Invoices");
    assert_eq!(changed.json()["scopes"], json!([{"value": "pay"}]));
    assert_eq!(changed.json()["token_lifetime"], 600);

    let filtered = world
        .manage(
            Method::GET,
            &format!("resource-servers?identifiers={API_IN_PATH}&include_totals=true"),
            &admin,
            None,
        )
        .await?
        .json();
    assert_eq!(filtered["total"], 1, "{filtered}");
    assert_eq!(filtered["resource_servers"][0]["identifier"], API);

    // Both of two changes at once are kept.
    let (name, lifetime) = (json!({"name": "Bills"}), json!({"token_lifetime": 900}));
    let url = world.url(&format!("api/v2/{path}"));
    let patch = |body: &serde_json::Value| {
        let request = world.agent.request(Method::PATCH, &url).bearer_auth(&admin);
        let request = request.header("content-type", "application/json");
        request.body(body.to_string()).send()
    };
    let (one, two) = tokio::join!(patch(&name), patch(&lifetime));
    assert_eq!((one?.status().as_u16(), two?.status().as_u16()), (200, 200));
    let seen = world.manage(Method::GET, &path, &admin, None).await?.json();
    assert_eq!(
        (&seen["name"], &seen["token_lifetime"]),
        (&json!("Bills"), &json!(900))
    );

    // A client that represents it has to go first.
    let client = world
        .manage(
            Method::POST,
            "clients",
            &admin,
            Some(&json!({"name": "Bills' own", "app_type": "resource_server", "resource_server_identifier": API})),
        )
        .await?;
    assert_eq!(client.status, 201, "{}", client.text);
    let client_id = client.json()["client_id"].as_str().unwrap().to_owned();
    let seen = world.manage(Method::GET, &path, &admin, None).await?.json();
    assert_eq!(seen["client_id"], client_id.as_str());
    let refused = world.manage(Method::DELETE, &path, &admin, None).await?;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["errorCode"], "still_in_use");
    assert!(refused.text.contains(&client_id));
    world
        .manage(
            Method::DELETE,
            &format!("clients/{client_id}"),
            &admin,
            None,
        )
        .await?;
    let deleted = world.manage(Method::DELETE, &path, &admin, None).await?;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    let gone = world.manage(Method::DELETE, &path, &admin, None).await?;
    assert_eq!(gone.status, 404);
});

story!(what_an_api_cannot_be_is_pointed_at, |world| {
    let admin = world.administrator(&[]).await?;
    for (body, field) in [
        (json!({}), "identifier"),
        (json!({"identifier": "a b"}), "identifier"),
        (
            json!({"identifier": API, "scopes": [{"value": "two words"}]}),
            "scopes.0.value",
        ),
        (
            json!({"identifier": API, "scopes": [{"value": "a"}, {"value": "a"}]}),
            "scopes.1.value",
        ),
        (
            json!({"identifier": API, "token_lifetime": 0}),
            "token_lifetime",
        ),
        (
            json!({"identifier": API, "enforce_policies": true}),
            "enforce_policies",
        ),
        (
            json!({"identifier": API, "signing_alg": "HS256"}),
            "signing_alg",
        ),
        (
            json!({"identifier": API, "proof_of_possession": {"required": true}}),
            "proof_of_possession",
        ),
        (json!({"identifier": API, "colour": "blue"}), "colour"),
    ] {
        let refused = world
            .manage(Method::POST, "resource-servers", &admin, Some(&body))
            .await?;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        assert_eq!(
            refused.json()["validation_errors"][0]["field"],
            field,
            "{}",
            refused.text
        );
    }
    let reader = world.administrator(&["read:resource_servers"]).await?;
    let refused = world
        .manage(
            Method::POST,
            "resource-servers",
            &reader,
            Some(&json!({"identifier": API})),
        )
        .await?;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["errorCode"], "insufficient_scope");
});

story!(the_apis_of_every_deployment_stay_what_they_are, |world| {
    let admin = world.administrator(&[]).await?;
    let all = world
        .manage(Method::GET, "resource-servers", &admin, None)
        .await?
        .json();
    let system: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .filter(|api| api["is_system"] == true)
        .collect();
    assert_eq!(system.len(), 2, "{all}");
    for api in &system {
        let path = format!("resource-servers/{}", api["id"].as_str().unwrap());
        let refused = world.manage(Method::DELETE, &path, &admin, None).await?;
        assert_eq!(
            refused.json()["errorCode"],
            "system_object",
            "{}",
            refused.text
        );
        for change in [
            json!({"name": "Mine"}),
            json!({"scopes": []}),
            json!({"subject_type_authorization": {"client": {"policy": "allow_all"}}}),
        ] {
            let refused = world
                .manage(Method::PATCH, &path, &admin, Some(&change))
                .await?;
            assert_eq!(refused.status, 403, "{change}: {}", refused.text);
            assert_eq!(refused.json()["errorCode"], "system_object");
        }
        let fine = world
            .manage(
                Method::PATCH,
                &path,
                &admin,
                Some(&json!({"token_lifetime": 3600})),
            )
            .await?;
        assert_eq!(fine.status, 200, "{}", fine.text);
        assert_eq!(fine.json()["name"], api["name"]);
    }
});

story!(
    a_grant_gives_a_client_scopes_until_it_is_taken_back,
    |world| {
        let admin = world.administrator(&[]).await?;
        let web = world.clients.web.client.client_id.clone();
        let grants = world
            .manage(
                Method::GET,
                &format!("client-grants?client_id={web}&subject_type=client&include_totals=true"),
                &admin,
                None,
            )
            .await?
            .json();
        let known = grants["client_grants"][0].clone();
        let path = format!("client-grants/{}", known["id"].as_str().unwrap());
        let ask = json!({
            "grant_type": grant::CLIENT_CREDENTIALS,
            "client_id": web,
            "client_secret": world.clients.web.secret,
            "audience": acceptance::DEMO_API,
        });
        assert!(world.token(&ask).await?.is_ok());

        let body = json!({"client_id": web, "audience": acceptance::DEMO_API, "scope": []});
        let twice = world
            .manage(Method::POST, "client-grants", &admin, Some(&body))
            .await?;
        assert_eq!(twice.status, 409, "{}", twice.text);

        let deleted = world.manage(Method::DELETE, &path, &admin, None).await?;
        assert_eq!(deleted.status, 204);
        let refused = world.token(&ask).await?.unwrap_err();
        assert_eq!(refused.status, 403, "{refused:?}");

        let made = world
        .manage(
            Method::POST,
            "client-grants",
            &admin,
            Some(&json!({"client_id": web, "audience": acceptance::DEMO_API, "allow_all_scopes": true})),
        )
        .await?;
        assert_eq!(made.status, 201, "{}", made.text);
        assert_eq!(made.json()["subject_type"], "client");
        assert!(world.token(&ask).await?.is_ok());
        let path = format!("client-grants/{}", made.json()["id"].as_str().unwrap());
        for (change, status) in [
            (json!({"scope": ["no:such"]}), 400),
            (json!({"audience": "https://other.test/"}), 400),
            (json!({"scope": [], "allow_all_scopes": false}), 200),
        ] {
            let answer = world
                .manage(Method::PATCH, &path, &admin, Some(&change))
                .await?;
            assert_eq!(answer.status, status, "{change}: {}", answer.text);
        }
        for (body, field) in [
            (
                json!({"client_id": "cl_none", "audience": acceptance::DEMO_API}),
                "client_id",
            ),
            (
                json!({"client_id": web, "audience": "https://none.test/"}),
                "audience",
            ),
            (
                json!({"client_id": web, "audience": acceptance::DEMO_API, "subject_type": "robot"}),
                "subject_type",
            ),
        ] {
            let refused = world
                .manage(Method::POST, "client-grants", &admin, Some(&body))
                .await?;
            assert_eq!(refused.status, 400, "{}", refused.text);
            assert_eq!(refused.json()["validation_errors"][0]["field"], field);
        }
    }
);

story!(mg_14_nobody_grants_more_than_they_have, |world| {
    let some = world
        .administrator(&[
            "create:client_grants",
            "update:client_grants",
            "read:client_grants",
        ])
        .await?;
    let worker = world.clients.worker.client.client_id.clone();
    let audience = world.vault.settings().issuer.management_audience();
    let body = |scope: &[&str], all: bool| json!({"client_id": worker, "audience": audience, "scope": scope, "allow_all_scopes": all});
    for (scope, all) in [(&["read:users"][..], false), (&[][..], true)] {
        let refused = world
            .manage(
                Method::POST,
                "client-grants",
                &some,
                Some(&body(scope, all)),
            )
            .await?;
        assert_eq!(refused.status, 403, "{}", refused.text);
        assert_eq!(refused.json()["errorCode"], "above_administrator");
    }
    let made = world
        .manage(
            Method::POST,
            "client-grants",
            &some,
            Some(&body(&["read:client_grants"], false)),
        )
        .await?;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("client-grants/{}", made.json()["id"].as_str().unwrap());
    let refused = world
        .manage(
            Method::PATCH,
            &path,
            &some,
            Some(&json!({"scope": ["read:users"]})),
        )
        .await?;
    assert_eq!(refused.json()["errorCode"], "above_administrator");
});

story!(settings_are_set_and_seen, |world| {
    let admin = world.administrator(&[]).await?;
    let before = world
        .manage(Method::GET, "tenants/settings", &admin, None)
        .await?;
    assert_eq!(before.json(), json!({}));
    let set = json!({"friendly_name": "Example Corp", "support_email": "help@example.com"});
    let changed = world
        .manage(Method::PATCH, "tenants/settings", &admin, Some(&set))
        .await?;
    assert_eq!(changed.json(), set, "{}", changed.text);
    let changed = world
        .manage(
            Method::PATCH,
            "tenants/settings",
            &admin,
            Some(&json!({"support_email": null, "support_url": "https://example.com/help"})),
        )
        .await?;
    assert_eq!(
        changed.json(),
        json!({"friendly_name": "Example Corp", "support_url": "https://example.com/help"})
    );
    let (url, _) = world.authorize_url(&[])?;
    let login = world.browser().open(&url, WEB_CALLBACK).await?;
    for shown in [
        "<title>Log in – Example Corp</title>",
        "<a href=\"https://example.com/help\">Get help</a>",
    ] {
        assert!(login.page.contains(shown), "{}", login.page);
    }
    let refused = world
        .manage(
            Method::PATCH,
            "tenants/settings",
            &admin,
            Some(&json!({"support_url": "javascript:alert(1)"})),
        )
        .await?;
    assert_eq!(
        refused.json()["validation_errors"][0]["field"],
        "support_url"
    );
    assert_eq!(world.audited("settings.changed").await.len(), 2);
});
