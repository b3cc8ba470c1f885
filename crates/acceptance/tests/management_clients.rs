//! Clients through the Management API (contract 4.1), and what every endpoint of it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{World, story};
use oauth::grant;
use reqwest::Method;
use seal::{Algorithm, SigningKey};
use serde_json::{Value, json};
use store::params;

async fn created(world: &mut World, admin: &str, body: Value) -> Value {
    let reply = world
        .manage(Method::POST, "clients", admin, Some(&body))
        .await
        .unwrap();
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json()
}

/// Whether a secret still gets its client a token for the demo API.
async fn works(world: &mut World, client_id: &str, secret: &str) -> bool {
    let answer = world
        .token(&json!({
            "grant_type": grant::CLIENT_CREDENTIALS,
            "client_id": client_id,
            "client_secret": secret,
            "audience": acceptance::DEMO_API,
        }))
        .await
        .unwrap();
    match answer {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused.error, "invalid_client");
            false
        }
    }
}

fn pem(key: &SigningKey) -> String {
    use base64::Engine as _;
    let jwk = key.public_jwk("k");
    // SubjectPublicKeyInfo of P-256: a fixed head and the point.
    let head = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    let mut der = head.to_vec();
    for name in ["x", "y"] {
        der.extend(
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(jwk[name].as_str().unwrap())
                .unwrap(),
        );
    }
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

story!(a_client_is_made_seen_changed_and_deleted, |world| {
    let admin = world.administrator(&[]).await?;
    let made = created(
        world,
        &admin,
        json!({
            "name": "Calendar agent",
            "description": "Reads calendars",
            "callbacks": ["https://agent.test/callback"],
            "client_metadata": {"team": "agents"},
            "jwt_configuration": {"alg": "RS256", "lifetime_in_seconds": 600, "secret_encoded": false},
        }),
    )
    .await;
    let id = made["client_id"].as_str().unwrap().to_owned();
    assert!(made["client_secret"].as_str().unwrap().len() > 30);
    assert_eq!(made["app_type"], "regular_web");
    assert_eq!(
        made["grant_types"],
        json!(["authorization_code", "refresh_token"])
    );
    assert_eq!(made["token_endpoint_auth_method"], "client_secret_post");
    assert_eq!(made["jwt_configuration"]["lifetime_in_seconds"], 600);

    // MG-07: the secret is never read back.
    let path = format!("clients/{id}");
    let seen = world.manage(Method::GET, &path, &admin, None).await?.json();
    assert!(seen.get("client_secret").is_none());
    let mut without = made.clone();
    without.as_object_mut().unwrap().remove("client_secret");
    assert_eq!(seen, without);

    let patch =
        json!({"name": "Calendar", "description": null, "grant_types": [grant::TOKEN_VAULT]});
    let changed = world
        .manage(Method::PATCH, &path, &admin, Some(&patch))
        .await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let mut expected = without;
    expected["name"] = json!("Calendar");
    expected["grant_types"] = json!([grant::TOKEN_VAULT]);
    expected.as_object_mut().unwrap().remove("description");
    assert_eq!(changed.json(), expected);

    let deleted = world.manage(Method::DELETE, &path, &admin, None).await?;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for method in [Method::GET, Method::DELETE] {
        let gone = world.manage(method, &path, &admin, None).await?;
        assert_eq!(gone.status, 404);
        assert_eq!(gone.json()["errorCode"], "object_unknown");
    }
    let changes = world.audited("client.changed").await;
    assert_eq!(changes.len(), 3, "{changes:?}");
});

story!(
    a_rotated_secret_works_and_the_one_before_does_not,
    |world| {
        let admin = world.administrator(&[]).await?;
        let id = world.clients.web.client.client_id.clone();
        let old = world.clients.web.secret.clone();
        assert!(works(world, &id, &old).await);
        let path = format!("clients/{id}/rotate-secret");
        let rotated = world.manage(Method::POST, &path, &admin, None).await?;
        assert_eq!(rotated.status, 200, "{}", rotated.text);
        let new = rotated.json()["client_secret"].as_str().unwrap().to_owned();
        assert!(!works(world, &id, &old).await);
        assert!(works(world, &id, &new).await);

        // With a time for both, deployments can be moved over one by one.
        let kept = format!("{path}?keep_previous_for=60");
        let rotated = world
            .manage(Method::POST, &kept, &admin, None)
            .await?
            .json();
        let newest = rotated["client_secret"].as_str().unwrap().to_owned();
        assert!(works(world, &id, &new).await);
        assert!(works(world, &id, &newest).await);
        world.advance(61);
        assert!(!works(world, &id, &new).await);
        assert!(works(world, &id, &newest).await);

        let public = world.clients.spa.client.client_id.clone();
        let path = format!("clients/{public}/rotate-secret");
        let refused = world.manage(Method::POST, &path, &admin, None).await?;
        assert_eq!(refused.status, 400);
        assert_eq!(
            refused.json()["validation_errors"][0]["field"],
            "token_endpoint_auth_method"
        );
    }
);

story!(the_rules_of_the_token_vault_grant_are_enforced, |world| {
    let admin = world.administrator(&[]).await?;
    let vault = [grant::TOKEN_VAULT];
    for (body, field) in [
        (
            json!({"name": "x", "grant_types": vault, "is_first_party": false}),
            "is_first_party",
        ),
        (
            json!({"name": "x", "grant_types": vault, "oidc_conformant": false}),
            "oidc_conformant",
        ),
        (
            json!({"name": "x", "grant_types": vault, "token_endpoint_auth_method": "none"}),
            "grant_types",
        ),
        (
            json!({"name": "x", "app_type": "spa", "grant_types": vault}),
            "grant_types",
        ),
        (
            json!({"name": "x", "app_type": "resource_server"}),
            "resource_server_identifier",
        ),
        (
            json!({"name": "x", "app_type": "resource_server", "resource_server_identifier": "https://no.test/"}),
            "resource_server_identifier",
        ),
        (
            json!({"name": "x", "token_endpoint_auth_method": "none",
                   "token_vault_privileged_access": {"ip_allowlist": [], "grants": []}}),
            "token_vault_privileged_access",
        ),
        (
            json!({"name": "x", "token_vault_privileged_access": {"ip_allowlist": ["10.0.0.0/33"]}}),
            "token_vault_privileged_access.ip_allowlist.0",
        ),
        (
            json!({"name": "x", "token_vault_privileged_access": {"ip_allowlist": vec!["10.0.0.1"; 11]}}),
            "token_vault_privileged_access.ip_allowlist",
        ),
        (
            json!({"name": "x", "token_vault_privileged_access": {
                "grants": [{"connection": "a", "scopes": []}, {"connection": "a", "scopes": []}]}}),
            "token_vault_privileged_access.grants.1.connection",
        ),
        (
            json!({"name": "x", "grant_types": ["password"]}),
            "grant_types.0",
        ),
        (
            json!({"name": "x", "callbacks": ["http://app.test/"]}),
            "callbacks.0",
        ),
        (
            json!({"name": "x", "allowed_origins": ["https://app.test/path"]}),
            "allowed_origins.0",
        ),
        (json!({"name": "x", "surprise": 1}), "surprise"),
        (json!({"name": "", "client_id": "usr_1"}), "client_id"),
        (json!({"description": "no name"}), "name"),
        (
            json!({"name": "x", "refresh_token": {"rotation_type": "sometimes"}}),
            "refresh_token.rotation_type",
        ),
        (
            json!({"name": "x", "jwt_configuration": {"alg": "HS256"}}),
            "jwt_configuration.alg",
        ),
    ] {
        let refused = world
            .manage(Method::POST, "clients", &admin, Some(&body))
            .await?;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        let answer = refused.json();
        assert_eq!(answer["errorCode"], "invalid_body", "{body}");
        assert_eq!(answer["error"], "Bad Request");
        let fields: Vec<&str> = answer["validation_errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["field"].as_str().unwrap())
            .collect();
        assert!(fields.contains(&field), "{body}: {fields:?}");
    }
    // A change is held to the same rules.
    let id = world.clients.web.client.client_id.clone();
    for patch in [
        json!({"is_first_party": false}),
        json!({"token_endpoint_auth_method": "none"}),
        json!({"resource_server_identifier": "https://api.test/"}),
        json!({"name": null}),
    ] {
        let refused = world
            .manage(
                Method::PATCH,
                &format!("clients/{id}"),
                &admin,
                Some(&patch),
            )
            .await?;
        assert_eq!(refused.status, 400, "{patch}: {}", refused.text);
    }
});

story!(keys_are_registered_assigned_and_deleted, |world| {
    let admin = world.administrator(&[]).await?;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let made = created(
        world,
        &admin,
        json!({
            "name": "Signs",
            "app_type": "non_interactive",
            "client_authentication_methods": {"private_key_jwt": {"credentials": [
                {"credential_type": "public_key", "name": "first", "pem": pem(&key), "alg": "ES256"}]}},
        }),
    )
    .await;
    assert!(made.get("client_secret").is_none());
    let id = made["client_id"].as_str().unwrap().to_owned();
    let first = made["client_authentication_methods"]["private_key_jwt"]["credentials"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();

    let credentials = format!("clients/{id}/credentials");
    let other = SigningKey::generate(Algorithm::Es256).unwrap();
    let body = json!({"pem": pem(&other), "alg": "ES256", "kid": "worker-key-1"});
    let registered = world
        .manage(Method::POST, &credentials, &admin, Some(&body))
        .await?;
    assert_eq!(registered.status, 201, "{}", registered.text);
    let second = registered.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(registered.json()["purpose"], "unassigned");
    let again = world
        .manage(Method::POST, &credentials, &admin, Some(&body))
        .await?;
    assert_eq!(
        (again.status, again.json()["errorCode"].as_str().unwrap()),
        (409, "already_exists")
    );

    let path = format!("clients/{id}");
    let patch = json!({"token_vault_privileged_access": {
        "credentials": [{"id": second}], "ip_allowlist": ["2001:db8::/32", "198.51.100.7"],
        "grants": [{"connection": "sandbox", "scopes": ["files.read"]}]}});
    let changed = world
        .manage(Method::PATCH, &path, &admin, Some(&patch))
        .await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(
        changed.json()["token_vault_privileged_access"],
        patch["token_vault_privileged_access"]
    );

    // One key, one purpose.
    let patch = json!({"token_vault_privileged_access": {"credentials": [{"id": first}]}});
    let refused = world
        .manage(Method::PATCH, &path, &admin, Some(&patch))
        .await?;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(
        refused.json()["validation_errors"][0]["field"],
        "token_vault_privileged_access.credentials.0"
    );

    // Back to a secret: there is a new one, and the key is for nothing any more.
    let patch = json!({"client_authentication_methods": null, "token_endpoint_auth_method": "client_secret_basic"});
    let changed = world
        .manage(Method::PATCH, &path, &admin, Some(&patch))
        .await?
        .json();
    assert!(changed["client_secret"].is_string(), "{changed}");
    let seen = world
        .manage(Method::GET, &format!("{credentials}/{first}"), &admin, None)
        .await?;
    assert_eq!(seen.json()["purpose"], "unassigned");

    let end = json!({"expires_at": "2030-01-01T00:00:00Z"});
    let ended = world
        .manage(
            Method::PATCH,
            &format!("{credentials}/{second}"),
            &admin,
            Some(&end),
        )
        .await?;
    assert_eq!(ended.json()["expires_at"], "2030-01-01T00:00:00Z");
    let deleted = world
        .manage(
            Method::DELETE,
            &format!("{credentials}/{first}"),
            &admin,
            None,
        )
        .await?;
    assert_eq!(deleted.status, 204);
    let left = world
        .manage(Method::GET, &credentials, &admin, None)
        .await?
        .json();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    let gone = world
        .manage(Method::GET, &format!("{credentials}/{first}"), &admin, None)
        .await?;
    assert_eq!(gone.status, 404);
});

story!(of_two_changes_at_once_none_is_lost, |world| {
    let admin = world.administrator(&[]).await?;
    let id = world.clients.web.client.client_id.clone();
    let path = format!("clients/{id}");
    let url = world.url(&format!("api/v2/{path}"));
    let requests = (0..10).map(|number| {
        let metadata = json!({"description": format!("number {number}")});
        let logo = json!({"logo_uri": format!("https://img.test/{number}")});
        let body = if number % 2 == 0 { metadata } else { logo };
        world
            .agent
            .request(Method::PATCH, &url)
            .bearer_auth(&admin)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
    });
    let mut changed = 0;
    for answer in futures_util::future::join_all(requests).await {
        let status = answer?.status().as_u16();
        assert!(matches!(status, 200 | 409), "{status}");
        changed += i32::from(status == 200);
    }
    assert!(changed >= 2);
    let seen = world.manage(Method::GET, &path, &admin, None).await?.json();
    assert!(
        seen["description"].as_str().unwrap().starts_with("number "),
        "{seen}"
    );
    assert!(
        seen["logo_uri"]
            .as_str()
            .unwrap()
            .starts_with("https://img.test/"),
        "{seen}"
    );
});

story!(in_28_lists_go_on_by_cursor_and_by_page, |world| {
    let admin = world.administrator(&[]).await?;
    for number in 0..7 {
        created(
            world,
            &admin,
            json!({"name": format!("Client {number}"), "app_type": "native"}),
        )
        .await;
    }
    let mut ids = Vec::new();
    let mut from = String::new();
    loop {
        let path = format!("clients?take=3&fields=client_id,name&app_type=native&from={from}");
        let part = world.manage(Method::GET, &path, &admin, None).await?.json();
        for client in part["clients"].as_array().unwrap() {
            assert_eq!(client.as_object().unwrap().len(), 2, "{client}");
            ids.push(client["client_id"].as_str().unwrap().to_owned());
        }
        match part["next"].as_str() {
            Some(next) => from = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(ids.len(), 7);
    assert!(ids.is_sorted());
    let page = "clients?app_type=native&page=1&per_page=5&include_totals=true";
    let page = world.manage(Method::GET, page, &admin, None).await?.json();
    assert_eq!(
        (
            page["start"].clone(),
            page["limit"].clone(),
            page["length"].clone(),
            page["total"].clone()
        ),
        (json!(5), json!(5), json!(2), json!(7))
    );
    let bare = world
        .manage(Method::GET, "clients?app_type=native", &admin, None)
        .await?
        .json();
    assert_eq!(bare.as_array().unwrap().len(), 7);

    // MG-16: a cursor is good for the list and the filter that it was made for.
    let part = world
        .manage(Method::GET, "clients?take=1", &admin, None)
        .await?
        .json();
    let next = part["next"].as_str().unwrap();
    for query in [
        format!("app_type=native&from={next}"),
        format!("from=x{next}"),
        "from=abc".to_owned(),
        "take=0".to_owned(),
        "take=101".to_owned(),
        "per_page=1000000000".to_owned(),
        "page=-1".to_owned(),
        "page=99999&per_page=100".to_owned(),
        "sort=name".to_owned(),
    ] {
        let refused = world
            .manage(Method::GET, &format!("clients?{query}"), &admin, None)
            .await?;
        assert_eq!(refused.status, 400, "{query}: {}", refused.text);
    }
});

story!(mg_01_who_may_not_is_told_so_and_challenged, |world| {
    let admin = world.administrator(&["read:connections"]).await?;
    let login = world.connected().await?;
    let url = world.url("api/v2/clients");
    let nobody = world.send(world.agent.request(Method::GET, &url)).await?;
    assert_eq!(nobody.status, 401);
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    assert_eq!(nobody.json()["errorCode"], "bearer_missing");
    // Other audiences, another kind of token, and none at all.
    let me = world.my_account_token(&login.refresh_token).await?;
    for token in [
        login.access_token.as_str(),
        &me,
        &login.id_token,
        "x",
        "a.b.c",
    ] {
        let refused = world.manage(Method::GET, "clients", token, None).await?;
        assert_eq!(refused.status, 401, "{}", refused.text);
        let challenge = refused.headers["www-authenticate"].to_str()?.to_owned();
        assert!(
            challenge.starts_with("Bearer error=\"invalid_token\""),
            "{challenge}"
        );
    }
    let refused = world.manage(Method::GET, "clients", &admin, None).await?;
    assert_eq!(
        (
            refused.status,
            refused.json()["errorCode"].as_str().unwrap()
        ),
        (403, "insufficient_scope")
    );
    assert!(
        refused.headers["www-authenticate"]
            .to_str()?
            .contains("insufficient_scope")
    );
    // Ended.
    world.advance(24 * 3600 + 1);
    let refused = world.manage(Method::GET, "clients", &admin, None).await?;
    assert_eq!(refused.status, 401);
});

story!(
    mg_05_a_grant_taken_back_ends_the_tokens_that_it_gave,
    |world| {
        let admin = world.administrator(&["read:clients"]).await?;
        assert_eq!(
            world
                .manage(Method::GET, "clients", &admin, None)
                .await?
                .status,
            200
        );
        world
            .execute(
                "update client_grants set scopes = 'read:users' where scopes = 'read:clients'",
                params![],
            )
            .await;
        let refused = world.manage(Method::GET, "clients", &admin, None).await?;
        assert_eq!(
            (
                refused.status,
                refused.json()["errorCode"].as_str().unwrap()
            ),
            (403, "insufficient_scope")
        );
    }
);

story!(mg_14_nobody_becomes_more_than_they_are, |world| {
    // A client that can do more than the administrator: its secret and its keys are not for them.
    world.administrator(&[]).await?;
    let little = world
        .administrator(&[
            "read:clients",
            "update:clients",
            "update:client_keys",
            "delete:clients",
            "create:client_credentials",
        ])
        .await?;
    let clients = world
        .manage(Method::GET, "clients?take=100", &little, None)
        .await?
        .json();
    let strong = clients["clients"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|client| client["name"] == "An administrator")
        .map(|client| client["client_id"].as_str().unwrap().to_owned());
    let mut refused = 0;
    for id in strong {
        let rotated = world
            .manage(
                Method::POST,
                &format!("clients/{id}/rotate-secret"),
                &little,
                None,
            )
            .await?;
        if rotated.status == 200 {
            continue;
        }
        assert_eq!(rotated.json()["errorCode"], "above_administrator");
        for (method, body) in [
            (Method::PATCH, Some(json!({"name": "mine"}))),
            (Method::DELETE, None),
        ] {
            let answer = world
                .manage(method, &format!("clients/{id}"), &little, body.as_ref())
                .await?;
            assert_eq!(answer.status, 403, "{}", answer.text);
        }
        refused += 1;
    }
    assert_eq!(refused, 1);
});

story!(the_document_is_served_and_names_every_scope, |world| {
    let url = world.url("api/v2/openapi.json");
    let reply = world.send(world.agent.request(Method::GET, &url)).await?;
    assert_eq!(reply.status, 200);
    let document = reply.json();
    assert_eq!(document["openapi"], "3.1.0");
    let create = &document["paths"]["/api/v2/clients"]["post"];
    assert_eq!(create["security"][0]["bearer"][0], "create:clients");
    let schema = &document["components"]["schemas"]["ClientSettings"];
    assert_eq!(schema["required"], json!(["name"]));
    assert_eq!(schema["additionalProperties"], false);
    let patch = &document["components"]["schemas"]["ClientSettingsPatch"];
    assert!(patch.get("required").is_none());
    assert!(
        patch["properties"]
            .get("resource_server_identifier")
            .is_none()
    );
});
