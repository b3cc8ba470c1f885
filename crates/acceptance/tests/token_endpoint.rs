//! The token endpoint: codes, refresh tokens, client authentication, and input of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{DEMO_API, Refused, SPA_CALLBACK, WEB_CALLBACK, World, story};
use oauth::grant;
use reqwest::Method;
use seal::{Algorithm, SigningKey, SystemEntropy};
use serde_json::{Value, json};
use store::params;
use vault::{Clock as _, KeyPurpose, NewClient, TokenEndpointAuthMethod};

fn said(refused: &Refused) -> (u16, &str) {
    (refused.status, refused.error.as_str())
}

/// A fresh code of the web client with its verifier.
async fn code(world: &mut World) -> anyhow::Result<(String, String)> {
    let (url, verifier) = world.authorize_url(&[])?;
    let mut agent = world.browser();
    let stop = world.pass(&mut agent, &url, WEB_CALLBACK).await?;
    Ok((stop.answer("code")?, verifier))
}

fn redemption(world: &World, code: &str, verifier: &str) -> Value {
    json!({
        "grant_type": grant::AUTHORIZATION_CODE,
        "client_id": world.clients.web.client.client_id,
        "client_secret": world.clients.web.secret,
        "code": code,
        "redirect_uri": WEB_CALLBACK,
        "code_verifier": verifier,
    })
}

/// A refresh token of the public client, which rotates.
async fn rotating(world: &mut World) -> anyhow::Result<String> {
    let client_id = world.clients.spa.client.client_id.clone();
    let (url, verifier) =
        world.authorize_url(&[("client_id", &client_id), ("redirect_uri", SPA_CALLBACK)])?;
    let mut agent = world.browser();
    let stop = world.pass(&mut agent, &url, SPA_CALLBACK).await?;
    let body = json!({
        "grant_type": grant::AUTHORIZATION_CODE,
        "client_id": client_id,
        "code": stop.answer("code")?,
        "redirect_uri": SPA_CALLBACK,
        "code_verifier": verifier,
    });
    let answer = world.token(&body).await?.unwrap();
    Ok(answer["refresh_token"].as_str().unwrap().to_owned())
}

/// Uses a refresh token of the public client; the next one.
async fn rotate(world: &mut World, token: &str) -> anyhow::Result<Result<String, Refused>> {
    let body = json!({
        "grant_type": grant::REFRESH_TOKEN,
        "client_id": world.clients.spa.client.client_id,
        "refresh_token": token,
    });
    let answer = world.token(&body).await?;
    Ok(answer.map(|answer| answer["refresh_token"].as_str().unwrap().to_owned()))
}

story!(
    tk_01_a_code_works_once_and_a_second_use_ends_what_came_of_it,
    |world| {
        let (code, verifier) = code(world).await?;
        let body = redemption(world, &code, &verifier);
        let tokens = world.token(&body).await?.unwrap();
        world.advance(1);
        assert_eq!(
            said(&world.token(&body).await?.unwrap_err()),
            (400, "invalid_grant")
        );
        let refresh = world.refresh_exchange(tokens["refresh_token"].as_str().unwrap());
        assert_eq!(
            said(&world.exchange(&refresh).await?.unwrap_err()),
            (403, "invalid_grant")
        );
        let access = world.access_exchange(tokens["access_token"].as_str().unwrap());
        assert_eq!(
            said(&world.exchange(&access).await?.unwrap_err()),
            (401, "invalid_grant")
        );
    }
);

story!(tk_02_code_posted_1000_times, |world| {
    let (code, verifier) = code(world).await?;
    let body = redemption(world, &code, &verifier);
    let (_, second) = world.second_node("node-2").await;
    let (_, third) = world.second_node("node-3").await;
    let nodes = [world.origin(), second, third];
    let mut asked = tokio::task::JoinSet::new();
    for worker in 0..50 {
        let agent = world.agent_at(&nodes[worker % 3]);
        let (url, body) = (world.url("oauth/token"), body.clone());
        asked.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..20 {
                answers.push(
                    agent
                        .call(Method::POST, &url, None, Some(&body))
                        .await
                        .unwrap(),
                );
            }
            answers
        });
    }
    let mut won = Vec::new();
    let mut refused = 0;
    while let Some(answers) = asked.join_next().await {
        for (status, answer) in answers? {
            match status.as_u16() {
                200 => won.push(answer),
                400 => {
                    assert_eq!(answer["error"], "invalid_grant");
                    refused += 1;
                }
                other => panic!("{other} {answer}"),
            }
        }
    }
    assert_eq!((won.len(), refused), (1, 999));
    let refresh = world.refresh_exchange(won[0]["refresh_token"].as_str().unwrap());
    assert_eq!(
        said(&world.exchange(&refresh).await?.unwrap_err()),
        (403, "invalid_grant")
    );
});

story!(
    tk_04_05_07_08_a_code_is_bound_and_a_wrong_try_leaves_it,
    |world| {
        let (code, verifier) = code(world).await?;
        let good = redemption(world, &code, &verifier);
        let mut made_up = code.clone();
        let last = made_up.len() - 20;
        made_up.replace_range(
            last..=last,
            if made_up.as_bytes()[last] == b'a' {
                "b"
            } else {
                "a"
            },
        );
        let wrong = "w".repeat(43);
        let (short, long, spaced) = (
            "w".repeat(42),
            "w".repeat(129),
            format!("{} ", "w".repeat(43)),
        );
        for (name, value, status, error) in [
            ("code", made_up.as_str(), 400, "invalid_grant"),
            ("code", "nonsense", 400, "invalid_grant"),
            (
                "redirect_uri",
                "https://app.test/other",
                400,
                "invalid_grant",
            ),
            ("redirect_uri", "", 400, "invalid_grant"),
            ("code_verifier", "", 400, "invalid_grant"),
            ("code_verifier", wrong.as_str(), 400, "invalid_grant"),
            ("code_verifier", short.as_str(), 400, "invalid_request"),
            ("code_verifier", long.as_str(), 400, "invalid_request"),
            ("code_verifier", spaced.as_str(), 400, "invalid_request"),
        ] {
            let mut body = good.clone();
            body[name] = json!(value);
            assert_eq!(
                said(&world.token(&body).await?.unwrap_err()),
                (status, error),
                "{name}"
            );
        }
        let other = world
            .register(NewClient {
                name: "Other".to_owned(),
                grant_types: vec![grant::AUTHORIZATION_CODE.to_owned()],
                callbacks: vec![WEB_CALLBACK.to_owned()],
                ..NewClient::default()
            })
            .await;
        let mut body = good.clone();
        body["client_id"] = json!(other.client.client_id);
        body["client_secret"] = json!(other.secret);
        assert_eq!(
            said(&world.token(&body).await?.unwrap_err()),
            (400, "invalid_grant")
        );
        // After all of this it still works for whom it was made.
        assert!(world.token(&good).await?.is_ok());
    }
);

story!(a_code_lives_a_minute, |world| {
    let (code, verifier) = code(world).await?;
    world.advance(61);
    let body = redemption(world, &code, &verifier);
    assert_eq!(
        said(&world.token(&body).await?.unwrap_err()),
        (400, "invalid_grant")
    );
});

story!(
    tk_13_tk_14_tk_16_grants_that_a_client_does_not_have,
    |world| {
        for (client, grant_type, status, error) in [
            (
                &world.clients.api,
                grant::CLIENT_CREDENTIALS,
                400,
                "unauthorized_client",
            ),
            (
                &world.clients.spa,
                grant::CLIENT_CREDENTIALS,
                401,
                "invalid_client",
            ),
            (
                &world.clients.web,
                "password",
                400,
                "unsupported_grant_type",
            ),
            (&world.clients.web, "", 400, "invalid_request"),
        ] {
            let mut body = json!({
                "grant_type": grant_type,
                "client_id": client.client.client_id,
                "audience": DEMO_API,
            });
            if !client.secret.is_empty() {
                body["client_secret"] = json!(client.secret);
            }
            let url = world.url("oauth/token");
            let (found, answer) = world
                .agent
                .call(Method::POST, &url, None, Some(&body))
                .await?;
            assert_eq!(
                (found.as_u16(), answer["error"].as_str().unwrap()),
                (status, error),
                "{grant_type}"
            );
        }
        for (audience, status, error) in [
            ("https://elsewhere.test/", 400, "invalid_target"),
            ("", 400, "invalid_request"),
            // A client without a user has no account.
            ("https://vault.test/me/", 403, "access_denied"),
        ] {
            let body = json!({
                "grant_type": grant::CLIENT_CREDENTIALS,
                "client_id": world.clients.web.client.client_id,
                "client_secret": world.clients.web.secret,
                "audience": audience,
            });
            assert_eq!(
                said(&world.token(&body).await?.unwrap_err()),
                (status, error),
                "{audience}"
            );
        }
        world.log_in().await?;
    }
);

story!(client_credentials_give_a_token_that_is_no_users, |world| {
    world.log_in().await?;
    let body = json!({
        "grant_type": grant::CLIENT_CREDENTIALS,
        "client_id": world.clients.web.client.client_id,
        "client_secret": world.clients.web.secret,
        "audience": DEMO_API,
        "scope": "read:reports delete:everything",
    });
    let answer = world.token(&body).await?.unwrap();
    assert_eq!(answer["scope"], "read:reports");
    assert!(answer.get("refresh_token").is_none() && answer.get("id_token").is_none());
    let token = answer["access_token"].as_str().unwrap();
    assert!(
        acceptance::jwt_claims(token)["sub"]
            .as_str()
            .unwrap()
            .ends_with("@clients")
    );
    let exchange = world.access_exchange(token);
    assert_eq!(
        said(&world.exchange(&exchange).await?.unwrap_err()),
        (401, "invalid_grant")
    );
});

story!(tk_17_19_20_22_23_secrets_in_every_place, |world| {
    world.log_in().await?;
    let url = world.url("oauth/token");
    let (id, secret) = (
        world.clients.web.client.client_id.clone(),
        world.clients.web.secret.clone(),
    );
    let fields = [
        ("grant_type", grant::CLIENT_CREDENTIALS),
        ("audience", DEMO_API),
    ];
    let by_header = async |header: &str, more: &[(&str, &str)]| {
        let mut form: Vec<(&str, &str)> = fields.to_vec();
        form.extend(more);
        let answer = world
            .agent
            .request(Method::POST, &url)
            .header("authorization", header)
            .form(&form)
            .send()
            .await
            .unwrap();
        assert!(
            !answer.headers().contains_key("www-authenticate"),
            "contract 7.6"
        );
        assert_eq!(answer.headers()["content-type"], "application/json");
        answer.status().as_u16()
    };
    let basic = |text: &str| {
        use base64::Engine as _;
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(text)
        )
    };
    let good = basic(&format!("{id}:{secret}"));
    // Registered for the body, accepted as Basic too, also with the client's name beside it (contract 7.3).
    assert_eq!(by_header(&good, &[]).await, 200);
    assert_eq!(
        by_header(&good.replace("Basic", "basic"), &[("client_id", &id)]).await,
        200
    );
    for (header, more) in [
        (good.replace("Basic ", "Basic  "), vec![]),
        (basic("nocolon"), vec![]),
        (basic(&format!("{id}:%zz")), vec![]),
        ("Basic !!!".to_owned(), vec![]),
        ("Basic".to_owned(), vec![]),
        (format!("Basic {}", "A".repeat(10_000)), vec![]),
        (basic(&format!("{id}:wrong")), vec![]),
        (good.clone(), vec![("client_id", "cl_other")]),
    ] {
        assert_eq!(
            by_header(&header, &more).await,
            401,
            "{}",
            header.chars().take(12).collect::<String>()
        );
    }
    // Two ways at once.
    assert_eq!(
        by_header(&good, &[("client_id", &id), ("client_secret", &secret)]).await,
        400
    );
    // No way at all, for a client that has one.
    let none =
        json!({ "grant_type": grant::CLIENT_CREDENTIALS, "client_id": id, "audience": DEMO_API });
    assert_eq!(
        said(&world.token(&none).await?.unwrap_err()),
        (401, "invalid_client")
    );
    // TK-23: an old secret while it is rotated out, and after.
    let mut body = none;
    body["client_secret"] = json!(secret);
    let end = world
        .clock
        .now()
        .checked_add(jiff::SignedDuration::from_secs(60))?;
    world
        .execute("update client_secrets set expires_at = $1", params![end])
        .await;
    assert!(world.token(&body).await?.is_ok());
    world.advance(60);
    assert_eq!(
        said(&world.token(&body).await?.unwrap_err()),
        (401, "invalid_client")
    );
});

/// A client that signs assertions, and its key.
async fn asserting(world: &mut World) -> (String, SigningKey) {
    let registered = world
        .register(NewClient {
            name: "Signs".to_owned(),
            token_endpoint_auth_method: TokenEndpointAuthMethod::PrivateKeyJwt,
            grant_types: vec![grant::CLIENT_CREDENTIALS.to_owned()],
            ..NewClient::default()
        })
        .await;
    let client_id = registered.client.client_id;
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    world
        .vault
        .create_client_key(
            &client_id,
            KeyPurpose::ClientAuthentication,
            Algorithm::Es256,
            &key.public_jwk("assertion-1"),
            None,
        )
        .await
        .unwrap();
    world
        .vault
        .create_client_grant(
            &client_id,
            DEMO_API,
            vault::SubjectType::Client,
            vec!["read:reports".to_owned()],
        )
        .await
        .unwrap();
    (client_id, key)
}

fn assertion_claims(world: &World, client_id: &str) -> Value {
    let now = world.clock.now().as_second();
    json!({
        "iss": client_id,
        "sub": client_id,
        "aud": world.url(""),
        "iat": now,
        "exp": now + 60,
        "jti": seal::random_id(&SystemEntropy, ""),
    })
}

fn with_assertion(assertion: &str) -> Value {
    json!({
        "grant_type": grant::CLIENT_CREDENTIALS,
        "audience": DEMO_API,
        "client_assertion_type": grant::CLIENT_ASSERTION_TYPE,
        "client_assertion": assertion,
    })
}

story!(tk_25_to_35_a_client_that_signs, |world| {
    world.log_in().await?;
    let (client_id, key) = asserting(world).await;
    let sign = |claims: &Value| key.sign(Some("assertion-1"), "JWT", claims).unwrap();
    let claims = assertion_claims(world, &client_id);
    let now = claims["iat"].as_i64().unwrap();
    let good = with_assertion(&sign(&claims));
    world.token(&good).await?.unwrap();
    // TK-32: once, over all nodes and restarts.
    assert_eq!(
        said(&world.token(&good).await?.unwrap_err()),
        (401, "invalid_client")
    );
    let (_, second) = world.second_node("node-2").await;
    let agent = world.agent_at(&second);
    let (status, _) = agent
        .call(Method::POST, &world.url("oauth/token"), None, Some(&good))
        .await?;
    assert_eq!(status, 401);
    for (name, value, expected) in [
        ("aud", json!(world.url("oauth/token")), true),
        ("aud", json!([world.url("")]), false),
        ("aud", json!("https://vault.test"), false),
        ("iss", json!("cl_other"), false),
        ("sub", json!(world.clients.web.client.client_id), false),
        ("exp", json!(now - 300), false),
        ("exp", json!(now + 7200), false),
        ("exp", json!("1999999999"), false),
        ("iat", json!(now + 8), true),
        ("iat", json!(now + 61), false),
        ("jti", json!(""), false),
    ] {
        let mut claims = assertion_claims(world, &client_id);
        claims[name] = value.clone();
        let answer = world.token(&with_assertion(&sign(&claims))).await?;
        match answer {
            Ok(_) => assert!(expected, "{name} {value}"),
            Err(refused) => {
                assert!(!expected, "{name} {value}");
                assert_eq!(said(&refused), (401, "invalid_client"));
            }
        }
    }
    // JW-04, TK-34: another key, another algorithm, another kind of token.
    let claims = assertion_claims(world, &client_id);
    let other = SigningKey::generate(Algorithm::Es256).unwrap();
    let rsa = SigningKey::generate(Algorithm::Rs256).unwrap();
    for assertion in [
        other.sign(Some("assertion-1"), "JWT", &claims).unwrap(),
        rsa.sign(Some("assertion-1"), "JWT", &claims).unwrap(),
        key.sign(Some("assertion-1"), "at+jwt", &claims).unwrap(),
        "nonsense".to_owned(),
    ] {
        let refused = world.token(&with_assertion(&assertion)).await?.unwrap_err();
        assert_eq!(said(&refused), (401, "invalid_client"));
    }
    // TK-28, TK-35, TK-19: another name beside it, the wrong type, a secret instead.
    let mut named = with_assertion(&sign(&assertion_claims(world, &client_id)));
    named["client_id"] = json!(world.clients.web.client.client_id);
    assert_eq!(
        said(&world.token(&named).await?.unwrap_err()),
        (401, "invalid_client")
    );
    let mut typed = with_assertion(&sign(&assertion_claims(world, &client_id)));
    typed["client_assertion_type"] = json!("urn:x");
    assert_eq!(
        said(&world.token(&typed).await?.unwrap_err()),
        (400, "invalid_request")
    );
    let secret = json!({
        "grant_type": grant::CLIENT_CREDENTIALS,
        "audience": DEMO_API,
        "client_id": client_id,
        "client_secret": world.clients.web.secret,
    });
    assert_eq!(
        said(&world.token(&secret).await?.unwrap_err()),
        (401, "invalid_client")
    );
});

story!(tk_38_a_refresh_token_of_another_client, |world| {
    let login = world.log_in().await?;
    let stolen = json!({
        "grant_type": grant::REFRESH_TOKEN,
        "client_id": world.clients.spa.client.client_id,
        "refresh_token": login.refresh_token,
    });
    assert_eq!(
        said(&world.token(&stolen).await?.unwrap_err()),
        (403, "invalid_grant")
    );
    assert!(world.my_account_token(&login.refresh_token).await.is_ok());
});

story!(
    tk_40_a_retry_within_the_leeway_brings_the_same_successor,
    |world| {
        let first = rotating(world).await?;
        let second = rotate(world, &first).await?.unwrap();
        world.advance(30);
        assert_eq!(rotate(world, &first).await?.unwrap(), second);
        let third = rotate(world, &second).await?.unwrap();
        assert_ne!(third, second);
        // TK-41: its successor was used: somebody else has it, and the family ends.
        assert_eq!(
            said(&rotate(world, &first).await?.unwrap_err()),
            (403, "invalid_grant")
        );
        for token in [&second, &third] {
            assert_eq!(
                said(&rotate(world, token).await?.unwrap_err()),
                (403, "invalid_grant")
            );
        }
    }
);

story!(tk_41_reuse_after_the_leeway_ends_the_family, |world| {
    let first = rotating(world).await?;
    let second = rotate(world, &first).await?.unwrap();
    world.advance(31);
    assert_eq!(
        said(&rotate(world, &first).await?.unwrap_err()),
        (403, "invalid_grant")
    );
    assert_eq!(
        said(&rotate(world, &second).await?.unwrap_err()),
        (403, "invalid_grant")
    );
});

story!(
    many_at_once_with_a_rotating_token_get_one_successor,
    |world| {
        let first = rotating(world).await?;
        let body = json!({
            "grant_type": grant::REFRESH_TOKEN,
            "client_id": world.clients.spa.client.client_id,
            "refresh_token": first,
        });
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let agent = world.browser();
            let (url, body) = (world.url("oauth/token"), body.clone());
            asked.spawn(async move { agent.call(Method::POST, &url, None, Some(&body)).await });
        }
        let mut successors = std::collections::HashSet::new();
        while let Some(answer) = asked.join_next().await {
            let (status, answer) = answer??;
            assert_eq!(status, 200, "{answer}");
            successors.insert(answer["refresh_token"].as_str().unwrap().to_owned());
        }
        assert_eq!(successors.len(), 1);
    }
);

story!(
    a_family_of_refresh_tokens_ends_where_its_client_says,
    |world| {
        let first = rotating(world).await?;
        world.advance(364 * 24 * 3600);
        let second = rotate(world, &first).await?.unwrap();
        // Rotation does not put the end off.
        world.advance(2 * 24 * 3600);
        assert_eq!(
            said(&rotate(world, &second).await?.unwrap_err()),
            (403, "invalid_grant")
        );
    }
);

story!(
    cr_10_cr_11_a_row_that_somebody_changed_in_the_database_is_refused,
    |world| {
        let login = world.log_in().await?;
        let me = world.my_account_token(&login.refresh_token).await;
        assert!(me.is_ok());
        world
            .execute(
                "update refresh_tokens set expires_at = expires_at + 1",
                params![],
            )
            .await;
        assert!(world.my_account_token(&login.refresh_token).await.is_err());
    }
);

story!(tk_47_revoking_what_nobody_knows_is_fine, |world| {
    let login = world.log_in().await?;
    let url = world.url("oauth/revoke");
    let huge = "x".repeat(60_000);
    for token in ["unknown", "tvr_x", huge.as_str(), login.id_token.as_str()] {
        let body = json!({
            "client_id": world.clients.web.client.client_id,
            "client_secret": world.clients.web.secret,
            "token": token,
        });
        let (status, answer) = world
            .agent
            .call(Method::POST, &url, None, Some(&body))
            .await?;
        assert_eq!((status.as_u16(), answer), (200, json!("OK")));
    }
    // Somebody else's is refused, and stays good.
    let body =
        json!({ "client_id": world.clients.spa.client.client_id, "token": login.refresh_token });
    let (status, _) = world
        .agent
        .call(Method::POST, &url, None, Some(&body))
        .await?;
    assert_eq!(status, 400);
    assert!(world.my_account_token(&login.refresh_token).await.is_ok());
});

story!(tk_55_tk_56_methods_and_media_types, |world| {
    world.log_in().await?;
    let url = world.url("oauth/token");
    for method in ["GET", "PUT", "HEAD", "DELETE"] {
        let answer = world
            .agent
            .request(Method::from_bytes(method.as_bytes())?, &url)
            .send()
            .await?;
        assert_eq!(answer.status(), 405, "{method}");
        assert_eq!(answer.headers()["allow"], "POST");
    }
    for media_type in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json, application/x-www-form-urlencoded",
        "",
    ] {
        let answer = world
            .agent
            .request(Method::POST, &url)
            .header("content-type", media_type)
            .body("grant_type=client_credentials")
            .send()
            .await?;
        assert_eq!(answer.status(), 400, "{media_type}");
        let answer: Value = serde_json::from_str(&answer.text().await?)?;
        assert_eq!(answer["error"], "invalid_request");
    }
});

story!(in_01_to_17_bodies_that_are_none, |world| {
    world.log_in().await?;
    let url = world.url("oauth/token");
    let deep = "[".repeat(50_000);
    let many = format!(
        "{{{}}}",
        (0..5000)
            .map(|n| format!("\"k{n}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    );
    for body in [
        "{\"grant_type\":\"a\",\"grant_type\":\"b\"}",
        "{\"grant_type\":[\"a\"]}",
        "{\"grant_type\":\"a\\u0000\"}",
        "\u{feff}{}",
        "",
        "null",
        deep.as_str(),
        many.as_str(),
    ] {
        let answer = world
            .agent
            .request(Method::POST, &url)
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await?;
        assert_eq!(
            answer.status(),
            400,
            "{}",
            body.chars().take(20).collect::<String>()
        );
    }
    for (body, status) in [
        ("grant_type=x&grant_type=x", 400),
        ("code=1&code=1&grant_type=authorization_code", 400),
        ("grant_type=%00", 400),
        ("grant_type=%ff", 400),
    ] {
        let answer = world
            .agent
            .request(Method::POST, &url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await?;
        assert_eq!(answer.status(), status, "{body}");
    }
    let compressed = world
        .agent
        .request(Method::POST, &url)
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body("x")
        .send()
        .await?;
    assert_eq!(compressed.status(), 415);
    let long = world
        .agent
        .request(
            Method::GET,
            &format!("{}?{}", world.url("authorize"), "a".repeat(60_000)),
        )
        .send()
        .await?;
    assert!(matches!(long.status().as_u16(), 400 | 414));
});

story!(tk_59_scopes_of_every_kind, |world| {
    let login = world.log_in().await?;
    let many = (0..10_001)
        .map(|n| format!("s{n}"))
        .collect::<Vec<_>>()
        .join(" ");
    for scope in [many.as_str(), &"x".repeat(60_000)] {
        let mut body = json!({
            "grant_type": grant::REFRESH_TOKEN,
            "client_id": world.clients.web.client.client_id,
            "client_secret": world.clients.web.secret,
            "refresh_token": login.refresh_token,
        });
        body["scope"] = json!(scope);
        let refused = world.token(&body).await?.unwrap_err();
        assert!(
            matches!(
                said(&refused),
                (400, "invalid_scope") | (413, "invalid_request")
            ),
            "{refused:?}"
        );
    }
});

story!(userinfo_says_what_the_scopes_allow, |world| {
    let login = world.log_in().await?;
    let url = world.url("userinfo");
    let claims = world
        .agent
        .expect(Method::GET, &url, Some(&login.access_token), None)
        .await?;
    assert_eq!(claims["sub"], world.user.id);
    assert_eq!(claims["email"], acceptance::USERNAME);
    let me = world.my_account_token(&login.refresh_token).await?;
    for (token, status) in [
        ("garbage", 401),
        (login.id_token.as_str(), 401),
        (me.as_str(), 401),
    ] {
        let (found, _) = world
            .agent
            .call(Method::GET, &url, Some(token), None)
            .await?;
        assert_eq!(found.as_u16(), status);
    }
});

story!(
    tk_49b_a_revocation_that_was_not_stored_is_no_success,
    |world| {
        let login = world.log_in().await?;
        let body = json!({
            "client_id": world.clients.web.client.client_id,
            "client_secret": world.clients.web.secret,
            "token": login.refresh_token,
        });
        let url = world.url("oauth/revoke");
        world
            .execute("alter table authorizations rename to away", params![])
            .await;
        let (status, _) = world
            .agent
            .call(Method::POST, &url, None, Some(&body))
            .await?;
        assert!(status.is_server_error(), "{status}");
        world
            .execute("alter table away rename to authorizations", params![])
            .await;
        assert!(world.my_account_token(&login.refresh_token).await.is_ok());
    }
);
