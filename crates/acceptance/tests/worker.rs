//! The worker's exchange: a signed request for somebody who is not there.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{Refused, Setup, World, story};
use oauth::grant;
use reqwest::Method;
use seal::Algorithm;
use serde_json::{Value, json};
use store::params;
use vault::{KeyPurpose, PrivilegedAccess, PrivilegedGrant};
use web::WebOptions;

fn said(refused: &Refused) -> (u16, &str) {
    (refused.status, refused.error.as_str())
}

/// Exchanges with the given claims.
async fn ask(
    world: &mut World,
    claims: &Value,
) -> anyhow::Result<Result<acceptance::Exchanged, Refused>> {
    let jwt = world.sign_worker(claims);
    let body = world.worker_exchange(&jwt);
    world.exchange(&body).await
}

async fn allow(world: &World, access: &PrivilegedAccess) {
    world
        .execute(
            "update clients set privileged_access = $2 where client_id = $1",
            params![
                world.clients.worker.client.client_id.as_str(),
                serde_json::to_string(access).unwrap()
            ],
        )
        .await;
}

fn access(addresses: &[&str], scopes: &[&str]) -> PrivilegedAccess {
    PrivilegedAccess {
        ip_allowlist: addresses
            .iter()
            .map(|address| (*address).to_owned())
            .collect(),
        grants: vec![PrivilegedGrant {
            connection: "sandbox".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        }],
    }
}

const ALL: [&str; 5] = ["openid", "profile", "email", "offline_access", "files.read"];

story!(a_worker_gets_the_token_and_its_words_are_kept, |world| {
    world.connected().await?;
    let claims = world.worker_claims();
    ask(world, &claims).await?.unwrap();
    let row = world
        .db
        .read_one(
            "select audit_context, user_id, client_id from audit where event = 'exchange'",
            params![],
        )
        .await?
        .unwrap();
    assert_eq!(row.text(0)?, "the nightly report");
    assert_eq!(row.text(1)?, world.user.id);
    assert_eq!(row.text(2)?, world.clients.worker.client.client_id);
});

story!(wk_01_to_07_and_28_a_request_that_does_not_hold, |world| {
    world.connected().await?;
    let good = world.worker_claims();
    let now = good["iat"].as_i64().unwrap();
    for (name, value) in [
        ("iss", json!("cl_other")),
        ("aud", json!("https://other.test/")),
        ("aud", json!([world.url(""), "https://other.test/"])),
        ("sub", json!("")),
        ("sub", json!([world.user.id])),
        ("iat", json!(now - 61)),
        ("iat", json!(now + 61)),
        ("exp", json!(now)),
        ("nbf", json!(now + 61)),
        ("audit_context", json!("")),
        ("audit_context", json!("x".repeat(257))),
        ("jti", json!("")),
    ] {
        let mut claims = world.worker_claims();
        claims[name] = value.clone();
        let refused = ask(world, &claims).await?.unwrap_err();
        assert_eq!(said(&refused), (401, "invalid_grant"), "{name} {value}");
    }
    let claims = world.worker_claims();
    let sign = |typ: &str| {
        world
            .worker_key
            .sign(Some("worker-key-1"), typ, &claims)
            .unwrap()
    };
    let mut tokens: Vec<String> = [
        "JWT",
        "at+jwt",
        "token-vault-req",
        "client-authentication+jwt",
    ]
    .into_iter()
    .map(sign)
    .collect();
    let other = seal::SigningKey::generate(Algorithm::Es256).unwrap();
    for kid in [Some("worker-key-1"), Some("unknown"), None] {
        tokens.push(other.sign(kid, "token-vault-req+jwt", &claims).unwrap());
    }
    // JW-01, JW-02: no signature, and one made with the public key.
    let signed = world.sign_worker(&claims);
    let payload = signed.split('.').nth(1).unwrap();
    let header = "eyJhbGciOiJub25lIiwidHlwIjoidG9rZW4tdmF1bHQtcmVxK2p3dCJ9";
    tokens.push(format!("{header}.{payload}."));
    tokens.push(format!("{header}.{payload}.AAAA"));
    tokens.push("not a token".to_owned());
    for jwt in tokens {
        let body = world.worker_exchange(&jwt);
        let refused = world.exchange(&body).await?.unwrap_err();
        assert_eq!(said(&refused), (401, "invalid_grant"));
    }
    assert_eq!(
        world.count("select count(*) from replays", params![]).await,
        0
    );
    ask(world, &good).await?.unwrap();
});

story!(
    wk_04_an_unknown_user_is_told_like_a_missing_account,
    |world| {
        let mut claims = world.worker_claims();
        let without_account = ask(world, &claims).await?.unwrap_err();
        assert_eq!(
            said(&without_account),
            (401, "federated_connection_refresh_token_not_found")
        );
        for sub in ["usr_0000000000000000000000", "dana@example.com"] {
            claims = world.worker_claims();
            claims["sub"] = json!(sub);
            assert_eq!(ask(world, &claims).await?.unwrap_err(), without_account);
        }
    }
);

story!(
    wk_08_one_hundred_at_once_over_two_nodes_and_one_is_served,
    |world| {
        world.connected().await?;
        let (_, second) = world.second_node("node-2").await;
        let nodes = [world.origin(), second];
        let jwt = world.sign_worker(&world.worker_claims());
        let body = world.worker_exchange(&jwt);
        let mut asked = tokio::task::JoinSet::new();
        for index in 0..100 {
            let agent = world.agent_at(&nodes[index % 2]);
            let (url, body) = (world.url("oauth/token"), body.clone());
            asked.spawn(async move { agent.call(Method::POST, &url, None, Some(&body)).await });
        }
        let mut served = 0;
        while let Some(answer) = asked.join_next().await {
            let (status, answer) = answer??;
            match status.as_u16() {
                200 => served += 1,
                401 => assert_eq!(answer["error"], "invalid_grant"),
                other => panic!("{other} {answer}"),
            }
        }
        assert_eq!(served, 1);
        // And not after a restart either: a third node over the same database.
        let (_, third) = world.second_node("node-3").await;
        let agent = world.agent_at(&third);
        let (status, _) = agent
            .call(Method::POST, &world.url("oauth/token"), None, Some(&body))
            .await?;
        assert_eq!(status, 401);
    }
);

story!(wk_10_an_identifier_belongs_to_its_client, |world| {
    world.connected().await?;
    let claims = world.worker_claims();
    ask(world, &claims).await?.unwrap();
    let other = world
        .register(vault::NewClient {
            name: "Second worker".to_owned(),
            grant_types: vec![grant::TOKEN_VAULT.to_owned()],
            privileged_access: Some(access(&["127.0.0.1"], &ALL)),
            ..vault::NewClient::default()
        })
        .await;
    world
        .vault
        .create_client_key(
            &other.client.client_id,
            KeyPurpose::PrivilegedAccess,
            Algorithm::Es256,
            &world.worker_key.public_jwk("worker-key-1"),
            None,
        )
        .await
        .unwrap();
    let mut claims = claims;
    claims["iss"] = json!(other.client.client_id);
    let jwt = world.sign_worker(&claims);
    let mut body = world.worker_exchange(&jwt);
    // WK-02: not with the first client's credentials.
    assert_eq!(world.exchange(&body).await?.unwrap_err().status, 401);
    body["client_id"] = json!(other.client.client_id);
    body["client_secret"] = json!(other.secret);
    world.exchange(&body).await?.unwrap();
});

story!(two_keys_and_two_accounts_are_two_of_each, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    world.advance(10);
    world.connect(&me, "bob").await?;
    // While a key is replaced, its successor is registered as well.
    let client_id = world.clients.worker.client.client_id.clone();
    let next = seal::SigningKey::generate(Algorithm::Es256).unwrap();
    let jwk = next.public_jwk("worker-key-2");
    world
        .vault
        .create_client_key(
            &client_id,
            KeyPurpose::PrivilegedAccess,
            Algorithm::Es256,
            &jwk,
            None,
        )
        .await
        .unwrap();

    let mut by_refresh_token = world.refresh_exchange(&login.refresh_token);
    for hint in [None, Some("sandbox-alice"), Some("sandbox-bob")] {
        if let Some(hint) = hint {
            by_refresh_token["login_hint"] = json!(hint);
        }
        let expected = world.exchange(&by_refresh_token).await?.unwrap();
        let with_first = world.sign_worker(&world.worker_claims());
        let with_second = next
            .sign(
                Some("worker-key-2"),
                "token-vault-req+jwt",
                &world.worker_claims(),
            )
            .unwrap();
        for jwt in [with_first, with_second] {
            let mut body = world.worker_exchange(&jwt);
            if let Some(hint) = hint {
                body["login_hint"] = json!(hint);
            }
            let given = world.exchange(&body).await?.unwrap();
            assert_eq!(given.access_token, expected.access_token, "{hint:?}");
        }
    }
});

story!(wk_13_wk_16_wk_17_where_from_and_what_for, |world| {
    world.connected().await?;
    for (addresses, scopes, allowed) in [
        (&["127.0.0.1"][..], &ALL[..], true),
        (&["127.0.0.0/8"], &ALL, true),
        (&["::ffff:127.0.0.1"], &ALL, true),
        (&["203.0.113.7"], &ALL, false),
        (&["::1"], &ALL, false),
        (&[], &ALL, false),
        // The account has more than the worker may see.
        (&["127.0.0.1"], &["files.read"], false),
        (&["127.0.0.1"], &["profile", "email", "files.read"], true),
        (&["127.0.0.1"], &[], false),
    ] {
        allow(world, &access(addresses, scopes)).await;
        let claims = world.worker_claims();
        match ask(world, &claims).await? {
            Ok(_) => assert!(allowed, "{addresses:?} {scopes:?}"),
            Err(refused) => {
                assert!(!allowed, "{addresses:?} {scopes:?}: {refused:?}");
                assert_eq!(said(&refused), (403, "access_denied"));
            }
        }
    }
    let mut elsewhere = access(&["127.0.0.1"], &ALL);
    elsewhere.grants[0].connection = "other".to_owned();
    allow(world, &elsewhere).await;
    let claims = world.worker_claims();
    assert_eq!(
        said(&ask(world, &claims).await?.unwrap_err()),
        (403, "access_denied")
    );
    world
        .execute("update clients set privileged_access = null", params![])
        .await;
    let claims = world.worker_claims();
    assert_eq!(
        said(&ask(world, &claims).await?.unwrap_err()),
        (403, "access_denied")
    );
});

/// Exchanges with a header that claims another address.
async fn forwarded(world: &World, header: (&str, &str)) -> anyhow::Result<u16> {
    let jwt = world.sign_worker(&world.worker_claims());
    let body = world.worker_exchange(&jwt);
    let answer = world
        .agent
        .request(Method::POST, &world.url("oauth/token"))
        .header("content-type", "application/json")
        .header(header.0, header.1)
        .body(body.to_string())
        .send()
        .await?;
    Ok(answer.status().as_u16())
}

story!(
    wk_14_an_address_is_not_believed_from_just_anybody,
    |world| {
        world.connected().await?;
        allow(world, &access(&["203.0.113.7"], &ALL)).await;
        let many = ["203.0.113.7"; 200].join(", ");
        for header in [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-for", many.as_str()),
            ("forwarded", "for=203.0.113.7"),
            ("x-real-ip", "203.0.113.7"),
            ("auth0-forwarded-for", "203.0.113.7"),
        ] {
            assert_eq!(forwarded(world, header).await?, 403, "{header:?}");
        }
    }
);

story!(
    wk_14_an_address_is_believed_from_a_trusted_proxy,
    Setup {
        web: WebOptions {
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
            ..WebOptions::default()
        },
        ..Setup::default()
    },
    |world| {
        world.connected().await?;
        allow(world, &access(&["203.0.113.7"], &ALL)).await;
        assert_eq!(
            forwarded(world, ("x-forwarded-for", "203.0.113.7")).await?,
            200
        );
        // What the proxy saw is the last entry; what stands before it, the caller may have written.
        assert_eq!(
            forwarded(world, ("x-forwarded-for", "203.0.113.7, 198.51.100.1")).await?,
            403
        );
    }
);

story!(
    wk_19_a_narrower_scope_is_never_answered_with_the_full_token,
    |world| {
        world.connected().await?;
        let jwt = world.sign_worker(&world.worker_claims());
        let mut body = world.worker_exchange(&jwt);
        body["scope"] = json!("files.read");
        assert_eq!(world.exchange(&body).await?.unwrap().scope, "files.read");
        world.sandbox.set_behaviour(sandbox::Behaviour {
            ignores_narrower_scope: true,
            ..sandbox::Behaviour::default()
        });
        let jwt = world.sign_worker(&world.worker_claims());
        let mut body = world.worker_exchange(&jwt);
        body["scope"] = json!("email");
        assert_eq!(
            said(&world.exchange(&body).await?.unwrap_err()),
            (400, "invalid_scope")
        );
        let jwt = world.sign_worker(&world.worker_claims());
        let mut body = world.worker_exchange(&jwt);
        body["scope"] = json!("files.write");
        let refused = world.exchange(&body).await?.unwrap_err();
        assert!(matches!(
            said(&refused),
            (403, "access_denied") | (400, "invalid_scope")
        ));
    }
);

story!(wk_22_a_key_that_ended_signs_nothing, |world| {
    world.connected().await?;
    let claims = world.worker_claims();
    world
        .execute(
            "update client_keys set expires_at = $1",
            params![world.vault.now()],
        )
        .await;
    assert_eq!(
        said(&ask(world, &claims).await?.unwrap_err()),
        (401, "invalid_grant")
    );
    world.execute("delete from client_keys", params![]).await;
    assert_eq!(
        said(&ask(world, &claims).await?.unwrap_err()),
        (401, "invalid_grant")
    );
});

story!(wk_26_a_worker_request_is_no_client_assertion, |world| {
    world.connected().await?;
    let jwt = world.sign_worker(&world.worker_claims());
    let body = json!({
        "grant_type": grant::CLIENT_CREDENTIALS,
        "client_assertion_type": grant::CLIENT_ASSERTION_TYPE,
        "client_assertion": jwt,
        "audience": acceptance::DEMO_API,
    });
    assert_eq!(
        said(&world.token(&body).await?.unwrap_err()),
        (401, "invalid_client")
    );
});

story!(
    wk_11_without_a_place_to_remember_identifiers_nothing_is_given,
    |world| {
        world.connected().await?;
        world
            .execute("alter table replays rename to replays_away", params![])
            .await;
        let claims = world.worker_claims();
        let refused = ask(world, &claims).await?.unwrap_err();
        assert!(refused.status >= 500, "{refused:?}");
        world
            .execute("alter table replays_away rename to replays", params![])
            .await;
        // It was not used up by the failure.
        ask(world, &claims).await?.unwrap();
    }
);

story!(wk_25_a_request_belongs_into_the_body_once, |world| {
    world.connected().await?;
    let jwt = world.sign_worker(&world.worker_claims());
    let body = world.worker_exchange(&jwt);
    let mut fields: Vec<(String, String)> = body
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    // Beside the body, in the query: not looked at.
    let without: Vec<&(String, String)> = fields
        .iter()
        .filter(|(name, _)| name != "subject_token")
        .collect();
    let in_query = format!("{}?subject_token={jwt}", world.url("oauth/token"));
    let answer = world
        .agent
        .request(Method::POST, &in_query)
        .form(&without)
        .send()
        .await?;
    assert_eq!(answer.status(), 400);
    // Twice in the body.
    fields.push(("subject_token".to_owned(), jwt.clone()));
    let url = world.url("oauth/token");
    let answer = world
        .agent
        .request(Method::POST, &url)
        .form(&fields)
        .send()
        .await?;
    assert_eq!(answer.status(), 400);
    let twice = format!(
        "{},\"subject_token\":\"{jwt}\"}}",
        body.to_string().trim_end_matches('}')
    );
    let answer = world
        .agent
        .request(Method::POST, &url)
        .header("content-type", "application/json")
        .body(twice)
        .send()
        .await?;
    assert_eq!(answer.status(), 400);
    world.exchange(&body).await?.unwrap();
});
