//! Connections through the Management API (contract 4.2).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{World, story};
use reqwest::Method;
use serde_json::{Value, json};
use store::params;

/// The id of the connection that every story has.
async fn sandbox(world: &World) -> String {
    let connection = world.vault.find_connection("sandbox").await.unwrap();
    connection.unwrap().id
}

/// Makes a connection and returns what the API says of it.
async fn made(world: &mut World, admin: &str, body: &Value) -> Value {
    let reply = world
        .manage(Method::POST, "connections", admin, Some(body))
        .await
        .unwrap();
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json()
}

fn custom(name: &str) -> Value {
    json!({
        "name": name,
        "strategy": "oauth2",
        "options": {
            "client_id": "abc",
            "client_secret": "a secret at the provider",
            "authorizationURL": "https://provider.example/authorize",
            "tokenURL": "https://provider.example/token",
            "scope": "read write",
            "pkce_enabled": true,
            "upstream_params": {"prompt": {"value": "consent"}},
        },
    })
}

story!(a_connection_is_made_seen_changed_and_deleted, |world| {
    world.secret("a secret at the provider");
    world.secret("another secret");
    let admin = world.administrator(&[]).await?;
    let connection = made(world, &admin, &custom("files")).await;
    let path = format!("connections/{}", connection["id"].as_str().unwrap());
    assert_eq!(connection["connected_accounts"], json!({"active": true}));
    assert_eq!(connection["authentication"], json!({"active": false}));
    assert_eq!(
        connection["options"],
        json!({
            "client_id": "abc",
            "authorizationURL": "https://provider.example/authorize",
            "tokenURL": "https://provider.example/token",
            "scope": ["read", "write"],
            "pkce_enabled": true,
            "upstream_params": {"prompt": {"value": "consent"}},
        })
    );
    let seen = world.manage(Method::GET, &path, &admin, None).await?.json();
    assert_eq!(seen, connection);
    let again = world
        .manage(Method::POST, "connections", &admin, Some(&custom("files")))
        .await?;
    assert_eq!(again.status, 409, "{}", again.text);

    // MG-07: what comes out goes in again, and the secret that never came out stays.
    let sealed_anew = async |world: &World| {
        let sql = "select generation from connections where name = 'files'";
        world.count(sql, params![]).await - 1
    };
    let mut options = connection["options"].clone();
    options["scope"] = json!(["read"]);
    let changed = world
        .manage(
            Method::PATCH,
            &path,
            &admin,
            Some(&json!({"options": options, "display_name": "Files"})),
        )
        .await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.json()["options"]["scope"], json!(["read"]));
    assert_eq!(changed.json()["display_name"], "Files");
    assert_eq!(sealed_anew(world).await, 0);
    options["client_secret"] = json!("another secret");
    let changed = world
        .manage(
            Method::PATCH,
            &path,
            &admin,
            Some(&json!({"options": options})),
        )
        .await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert!(!changed.text.contains("another secret"));
    assert_eq!(sealed_anew(world).await, 1);

    // Who does not know the secret does not have it sent elsewhere.
    let moves = json!({"options": {
        "client_id": "abc",
        "authorizationURL": "https://provider.example/authorize",
        "tokenURL": "https://elsewhere.example/token",
    }});
    let refused = world
        .manage(Method::PATCH, &path, &admin, Some(&moves))
        .await?;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(
        refused.json()["validation_errors"][0]["field"],
        "options.client_secret"
    );
    let mut with_secret = moves.clone();
    with_secret["options"]["client_secret"] = json!("another secret");
    let moved = world
        .manage(Method::PATCH, &path, &admin, Some(&with_secret))
        .await?;
    assert_eq!(moved.status, 200, "{}", moved.text);
    // The redirect URI is told of one connection; what a list says can be sent back.
    let redirect_uri = moved.json()["callback_url"].as_str().unwrap().to_owned();
    assert!(
        redirect_uri.contains("/connect/callback/"),
        "{redirect_uri}"
    );
    let listed = world
        .manage(Method::GET, "connections?name=files", &admin, None)
        .await?;
    assert!(
        listed.json()[0].get("callback_url").is_none(),
        "{}",
        listed.text
    );

    for (query, found) in [
        ("name=files", 1),
        ("name=nothing", 0),
        ("strategy=oauth2&strategy=oidc", 1),
        ("strategy=github", 0),
    ] {
        let listed = world
            .manage(
                Method::GET,
                &format!("connections?{query}&include_totals=true"),
                &admin,
                None,
            )
            .await?
            .json();
        assert_eq!(listed["total"], found, "{query}: {listed}");
    }
    let deleted = world.manage(Method::DELETE, &path, &admin, None).await?;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert_eq!(
        world.manage(Method::GET, &path, &admin, None).await?.status,
        404
    );
    assert_eq!(world.audited("connection.changed").await.len(), 5);
});

story!(what_a_connection_cannot_be_is_pointed_at, |world| {
    let admin = world.administrator(&[]).await?;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = custom("files");
        change(&mut body);
        body
    };
    let bodies = [
        (with(&|body| body["name"] = json!("two words")), "name"),
        (with(&|body| body["strategy"] = json!("nobody")), "strategy"),
        (
            with(&|body| body["options"]["tokenURL"] = json!("nowhere")),
            "options.token_endpoint",
        ),
        (
            with(&|body| body["options"]["tokenURL"] = json!("https://10.0.0.1/token")),
            "options.token_endpoint",
        ),
        (
            with(&|body| body["options"]["tokenURL"] = Value::Null),
            "options.token_endpoint",
        ),
        (
            with(&|body| body["options"]["client_id"] = Value::Null),
            "options.client_id",
        ),
        (
            with(&|body| body["options"]["token_endpoint"] = json!("https://other.example/token")),
            "options.token_endpoint",
        ),
        (
            with(&|body| body["options"]["scripts"] = json!({"fetchUserProfile": "function"})),
            "options.scripts",
        ),
        (
            with(&|body| body["options"]["customHeaders"] = json!({"a": "b"})),
            "options.customHeaders",
        ),
        (
            with(&|body| {
                body["options"]["upstream_params"] = json!({"a": {"alias": "login_hint"}})
            }),
            "options.upstream_params.a.alias",
        ),
        (
            with(&|body| body["enabled_clients"] = json!(["cl_none"])),
            "enabled_clients",
        ),
        (with(&|body| body["colour"] = json!("blue")), "colour"),
    ];
    for (body, field) in bodies {
        let refused = world
            .manage(Method::POST, "connections", &admin, Some(&body))
            .await?;
        assert_eq!(refused.status, 400, "{field}: {}", refused.text);
        assert_eq!(
            refused.json()["validation_errors"][0]["field"],
            field,
            "{}",
            refused.text
        );
        assert!(!refused.text.contains("a secret at the provider"));
    }
    let connection = made(world, &admin, &custom("files")).await;
    let path = format!("connections/{}", connection["id"].as_str().unwrap());
    for field in ["name", "strategy"] {
        let refused = world
            .manage(Method::PATCH, &path, &admin, Some(&json!({field: "other"})))
            .await?;
        assert_eq!(
            refused.json()["validation_errors"][0]["field"],
            field,
            "{}",
            refused.text
        );
    }
});

story!(googles_switches_are_scopes, |world| {
    let admin = world.administrator(&[]).await?;
    let connection = made(
        world,
        &admin,
        &json!({
            "name": "google",
            "strategy": "google-oauth2",
            "options": {
                "client_id": "abc",
                "client_secret": "hush",
                "email": true,
                "calendar_events_readonly": true,
                "gmail": false,
                "offline_access": true,
                "allowed_audiences": [],
                "scope": ["profile"],
            },
        }),
    )
    .await;
    assert_eq!(
        connection["options"]["scope"],
        json!([
            "profile",
            "https://www.googleapis.com/auth/calendar.events.readonly",
            "email",
        ])
    );
});

story!(
    a_connection_is_enabled_for_clients_and_taken_away,
    |world| {
        let admin = world.administrator(&[]).await?;
        let connection = sandbox(world).await;
        let path = format!("connections/{connection}/clients");
        let web = world.clients.web.client.client_id.clone();
        let logged_in = world.connected().await?;
        let exchange = world.refresh_exchange(&logged_in.refresh_token);
        assert!(world.token(&exchange).await?.is_ok());

        let disabled = world
            .manage(
                Method::PATCH,
                &path,
                &admin,
                Some(&json!([{"client_id": web, "status": false}])),
            )
            .await?;
        assert_eq!(disabled.status, 204, "{}", disabled.text);
        assert!(world.token(&exchange).await?.is_err());
        let listed = world.manage(Method::GET, &path, &admin, None).await?.json();
        let clients = listed["clients"].as_array().unwrap();
        assert!(
            clients
                .iter()
                .all(|client| client["client_id"] != web.as_str())
        );

        let enabled = world
            .manage(
                Method::PATCH,
                &path,
                &admin,
                Some(&json!([{"client_id": web, "status": true}])),
            )
            .await?;
        assert_eq!(enabled.status, 204, "{}", enabled.text);
        assert!(world.token(&exchange).await?.is_ok());
        let of_client = world
            .manage(
                Method::GET,
                &format!("clients/{web}/connections"),
                &admin,
                None,
            )
            .await?
            .json();
        assert_eq!(of_client["connections"][0]["id"], connection.as_str());

        for body in [
            json!([]),
            json!([{"client_id": "cl_none", "status": true}]),
            json!({}),
        ] {
            let refused = world
                .manage(Method::PATCH, &path, &admin, Some(&body))
                .await?;
            assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        }

        // Switched off, it gives nothing from the next request on.
        let path = format!("connections/{connection}");
        let off = world
            .manage(
                Method::PATCH,
                &path,
                &admin,
                Some(&json!({"connected_accounts": {"active": false}})),
            )
            .await?;
        assert_eq!(off.status, 200, "{}", off.text);
        assert!(world.token(&exchange).await?.is_err());
    }
);

story!(
    a_connection_with_accounts_goes_only_if_that_is_said,
    |world| {
        let admin = world.administrator(&[]).await?;
        world.connected().await?;
        let path = format!("connections/{}", sandbox(world).await);
        let refused = world.manage(Method::DELETE, &path, &admin, None).await?;
        assert_eq!(refused.status, 409);
        assert_eq!(refused.json()["errorCode"], "still_in_use");
        assert!(
            refused.text.contains("1 accounts are connected"),
            "{}",
            refused.text
        );
        let said = format!("{path}?delete_accounts=true");
        let deleted = world.manage(Method::DELETE, &said, &admin, None).await?;
        assert_eq!(deleted.status, 204, "{}", deleted.text);
        assert_eq!(
            world
                .count("select count(*) from accounts", params![])
                .await,
            0
        );
    }
);

story!(whether_the_provider_knows_us_can_be_asked, |world| {
    let admin = world.administrator(&[]).await?;
    let path = format!("connections/{}", sandbox(world).await);
    let check = format!("{path}/check");
    let answer = world.manage(Method::POST, &check, &admin, None).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["ok"], true, "{}", answer.text);
    let mut options =
        world.manage(Method::GET, &path, &admin, None).await?.json()["options"].clone();
    for (secret, accepted) in [(None, true), (Some("not the one"), false)] {
        if let Some(secret) = secret {
            options["client_secret"] = json!(secret);
        }
        let changed = world
            .manage(
                Method::PATCH,
                &path,
                &admin,
                Some(&json!({"options": options})),
            )
            .await?;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let answer = world
            .manage(Method::POST, &check, &admin, None)
            .await?
            .json();
        assert_eq!(answer["ok"], accepted, "{answer}");
    }
    let answer = world
        .manage(Method::POST, &check, &admin, None)
        .await?
        .json();
    assert_eq!(answer["findings"][1]["check"], "client");
    assert!(
        answer["findings"][1]["message"]
            .as_str()
            .unwrap()
            .contains("client_secret")
    );
});
