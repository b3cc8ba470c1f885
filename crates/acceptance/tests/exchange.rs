//! The exchange with refresh tokens and access tokens: what is given, to whom, and what is refused how.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{DEMO_API, Refused, WEB_CALLBACK, World, story};
use oauth::grant;
use reqwest::Method;
use sandbox::{Behaviour, ExpiresIn};
use serde_json::{Value, json};
use store::{Batch, Statement, params};
use vault::NewClient;

/// The same exchange in the standard's spelling.
fn standard(body: &Value) -> Value {
    let mut body = body.clone();
    body["grant_type"] = json!(grant::TOKEN_EXCHANGE);
    body.as_object_mut().unwrap().remove("requested_token_type");
    body
}

fn said(refused: &Refused) -> (u16, &str) {
    (refused.status, refused.error.as_str())
}

/// A token that our issuer signs and that is none of an exchange.
async fn id_token(world: &mut World) -> anyhow::Result<String> {
    Ok(world.log_in().await?.id_token)
}

story!(
    the_standard_grant_works_with_and_without_auth0s_parameters,
    |world| {
        let login = world.connected().await?;
        let auth0 = world.refresh_exchange(&login.refresh_token);
        let mut urn = standard(&auth0);
        urn.as_object_mut().unwrap().remove("connection");
        let mut resource = urn.clone();
        urn["audience"] = json!("urn:tokenvault:connection:sandbox");
        resource["resource"] = json!("urn:tokenvault:connection:sandbox");
        resource["requested_token_type"] = json!(grant::TOKEN_TYPE_ACCESS_TOKEN);
        for body in [standard(&auth0), urn, resource] {
            let answer = world.token(&body).await?.unwrap();
            assert_eq!(answer["issued_token_type"], grant::TOKEN_TYPE_ACCESS_TOKEN);
            assert!(
                world
                    .provider_honours(answer["access_token"].as_str().unwrap())
                    .await?
            );
        }
    }
);

story!(
    without_offline_access_a_subject_token_ends_with_its_session,
    |world| {
        let login = world.connected().await?;
        let bodies = [
            world.refresh_exchange(&login.refresh_token),
            world.access_exchange(&login.access_token),
        ];
        let revoke = "update sessions set revoked_at = $1";
        let scoped = "update authorizations set scope = $1";
        for (scope, outlives) in [
            ("openid offline_access profile", true),
            ("offline_access", true),
            ("offline_access openid", true),
            ("openid offline_access", true),
            ("openid profile", false),
            ("", false),
            // Words that are only like it.
            ("openid my_offline_access", false),
            ("offline_access2 openid", false),
            ("openid offline access", false),
            ("openid offline.access Offline_Access", false),
        ] {
            world.execute(scoped, params![scope]).await;
            for (revoked_at, works) in [(None, true), (Some(1_i64), outlives)] {
                world.execute(revoke, params![revoked_at]).await;
                for body in &bodies {
                    let answer = world.token(body).await?;
                    assert_eq!(answer.is_ok(), works, "{scope:?}, session {revoked_at:?}");
                }
            }
        }
    }
);

story!(
    a_token_that_cannot_be_given_is_not_recorded_as_given,
    |world| {
        let login = world.connected().await?;
        world
            .execute("update accounts set variables = $1", params!["{"])
            .await;
        let jwt = world.sign_worker(&world.worker_claims());
        for (asked, body) in (1..).zip([
            world.refresh_exchange(&login.refresh_token),
            world.worker_exchange(&jwt),
        ]) {
            let refused = world.token(&body).await?.unwrap_err();
            assert_eq!(refused.status, 500);
            let given =
                "select count(*) from audit where event = 'exchange' and outcome = 'succeeded'";
            assert_eq!(world.count(given, params![]).await, 0);
            let failed =
                "select count(*) from audit where event = 'exchange' and outcome = 'failed'";
            assert_eq!(world.count(failed, params![]).await, asked);
        }
        // The worker's request was not used up either.
        world
            .execute("update accounts set variables = $1", params!["{}"])
            .await;
        let again = world.token(&world.worker_exchange(&jwt)).await?;
        assert!(again.is_ok(), "{again:?}");
    }
);

story!(a_form_says_the_same_as_json, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let fields: Vec<(String, String)> = body
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let url = world.url("oauth/token");
    let answer = world
        .agent
        .request(Method::POST, &url)
        .form(&fields)
        .send()
        .await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let answer: Value = serde_json::from_str(&answer.text().await?)?;
    assert_eq!(
        world.token(&body).await?.unwrap()["access_token"],
        answer["access_token"]
    );
});

story!(login_hint_picks_among_several_accounts, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    world.advance(10);
    world.connect(&me, "bob").await?;
    let mut body = world.refresh_exchange(&login.refresh_token);
    let newest = world.exchange(&body).await?.unwrap();
    let mut tokens = Vec::new();
    for hint in [
        "sandbox-alice",
        "alice@sandbox.example",
        "sandbox-bob",
        "bob@sandbox.example",
    ] {
        body["login_hint"] = json!(hint);
        tokens.push(world.exchange(&body).await?.unwrap().access_token);
    }
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(tokens[2], tokens[3]);
    assert_ne!(tokens[0], tokens[2]);
    // Without a hint, the most recently connected one.
    assert_eq!(newest.access_token, tokens[2]);
    body["login_hint"] = json!("carol@sandbox.example");
    assert_eq!(
        said(&world.exchange(&body).await?.unwrap_err()),
        (401, "user_not_found")
    );
});

story!(ex_01_to_11_subject_tokens_that_are_none, |world| {
    let login = world.connected().await?;
    let own_id_token = id_token(world).await?;
    let spa_refresh_token = spa_login(world).await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let started = world.start_connect(&me).await?;
    let (url, _) = world.authorize_url(&[])?;
    let mut agent = world.browser();
    let code = world
        .pass(&mut agent, &url, WEB_CALLBACK)
        .await?
        .answer("code")?;
    world.secret(&code);
    let other = seal::SigningKey::generate(seal::Algorithm::Rs256).unwrap();
    let claims = Value::Object(acceptance::jwt_claims(&login.access_token));
    let forged = other
        .sign(
            seal::UnverifiedJws::parse(&login.access_token)
                .unwrap()
                .unverified_kid(),
            "at+jwt",
            &claims,
        )
        .unwrap();
    let unsigned = {
        let mut parts: Vec<&str> = login.access_token.split('.').collect();
        parts[0] = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";
        format!("{}.{}.", parts[0], parts[1])
    };

    // As a refresh token: 403, and the owner of somebody else's is unaffected (EX-11).
    for token in [
        "garbage",
        login.access_token.as_str(),
        own_id_token.as_str(),
        code.as_str(),
        started["auth_session"].as_str().unwrap(),
        started["connect_params"]["ticket"].as_str().unwrap(),
        spa_refresh_token.as_str(),
    ] {
        let body = world.refresh_exchange(token);
        assert_eq!(
            said(&world.exchange(&body).await?.unwrap_err()),
            (403, "invalid_grant"),
            "{}",
            &token[..4]
        );
        assert_eq!(
            said(&world.exchange(&standard(&body)).await?.unwrap_err()),
            (400, "invalid_request")
        );
    }
    // As an access token: 401.
    for token in [
        "garbage",
        login.refresh_token.as_str(),
        own_id_token.as_str(),
        forged.as_str(),
        unsigned.as_str(),
    ] {
        let body = world.access_exchange(token);
        assert_eq!(
            said(&world.exchange(&body).await?.unwrap_err()),
            (401, "invalid_grant")
        );
    }
    // EX-05: meant for another API than the one that this client is.
    let body = world.access_exchange(&me);
    assert_eq!(
        said(&world.exchange(&body).await?.unwrap_err()),
        (403, "access_denied")
    );
    // More than a token ever has.
    let body = world.refresh_exchange(&"x".repeat(20_000));
    assert_eq!(
        said(&world.exchange(&body).await?.unwrap_err()),
        (400, "invalid_request")
    );
    let body = world.refresh_exchange(&"x".repeat(100_000));
    assert_eq!(world.exchange(&body).await?.unwrap_err().status, 413);

    let body = world.refresh_exchange(&login.refresh_token);
    assert!(world.exchange(&body).await?.is_ok());
});

story!(
    ex_13_what_is_taken_back_is_refused_at_once_on_another_node,
    |world| {
        let (_, second) = world.second_node("node-2").await;
        let there = world.agent_at(&second);
        let url = world.url("oauth/token");
        let login = world.connected().await?;
        let all = ["refresh token", "access token", "worker"];
        let cases: [(&str, &[&str], &'static str, &'static str); 10] = [
            (
                "the user is blocked",
                &all,
                "update users set blocked_at = 1",
                "update users set blocked_at = null",
            ),
            (
                "the clients are disabled",
                &all,
                "update clients set disabled_at = 1",
                "update clients set disabled_at = null",
            ),
            (
                "the client is disabled that the access token was issued to",
                &["refresh token", "access token"],
                "update clients set disabled_at = 1 where name = 'Web'",
                "update clients set disabled_at = null",
            ),
            (
                "the secrets have ended",
                &all,
                "update client_secrets set expires_at = 1",
                "update client_secrets set expires_at = null",
            ),
            (
                "the worker's key has ended",
                &["worker"],
                "update client_keys set expires_at = 1",
                "update client_keys set expires_at = null",
            ),
            (
                "the worker's key is for something else",
                &["worker"],
                "update client_keys set purpose = 'client_authentication'",
                "update client_keys set purpose = 'privileged_access'",
            ),
            (
                "the connection is switched off",
                &all,
                "update connections set connected_accounts_active = 0",
                "update connections set connected_accounts_active = 1",
            ),
            (
                "the connection is taken away",
                &all,
                "delete from connection_clients",
                "insert into connection_clients (connection_id, client_id)
                 select c.id, l.client_id from connections c, clients l where c.name = 'sandbox'",
            ),
            (
                "the signing keys are revoked",
                &["access token"],
                "update signing_keys set state = 'revoked' where state = 'current'",
                "update signing_keys set state = 'current' where state = 'revoked'",
            ),
            (
                "the authorization is revoked",
                &["refresh token", "access token"],
                "update authorizations set revoked_at = 1",
                "update authorizations set revoked_at = null",
            ),
        ];
        for (case, refused, take, give_back) in cases {
            // The second time, the node knows the configuration; after the change it must not believe what it knows.
            for (when, expected) in [("at first", &[][..]), ("again", &[]), ("after", refused)] {
                if when == "after" {
                    assert!(world.execute(take, params![]).await > 0, "{case}");
                }
                let jwt = world.sign_worker(&world.worker_claims());
                for (kind, body) in all.into_iter().zip([
                    world.refresh_exchange(&login.refresh_token),
                    world.access_exchange(&login.access_token),
                    world.worker_exchange(&jwt),
                ]) {
                    let (status, answer) =
                        there.call(Method::POST, &url, None, Some(&body)).await?;
                    let wanted: &[u16] = match expected.contains(&kind) {
                        true => &[401, 403],
                        false => &[200],
                    };
                    assert!(
                        wanted.contains(&status.as_u16()),
                        "{case}, {when}, {kind}: {status} {answer}"
                    );
                    assert_eq!(answer.get("access_token").is_some(), status == 200);
                }
            }
            world.execute(give_back, params![]).await;
        }
    }
);

story!(
    what_is_configured_is_read_once_while_it_stays_what_it_is,
    |world| {
        let login = world.connected().await?;
        for already_known in [false, true] {
            if already_known {
                // As a table that nobody can read.
                world
                    .execute("alter table client_secrets rename to away", params![])
                    .await;
            }
            let jwt = world.sign_worker(&world.worker_claims());
            for body in [
                world.refresh_exchange(&login.refresh_token),
                world.access_exchange(&login.access_token),
                world.worker_exchange(&jwt),
            ] {
                world.exchange(&body).await?.unwrap();
            }
        }
    }
);

story!(
    every_change_of_the_configuration_changes_its_mark,
    |world| {
        world.connected().await?;
        let mut seen = std::collections::BTreeSet::new();
        for change in [
        "insert into clients select 'another', name, app_type, is_first_party, token_endpoint_auth_method, id_token_alg,
                grant_types, callbacks, allowed_logout_urls, allowed_origins, null, refresh_token, privileged_access,
                disabled_at, created_at, updated_at, profile, revision
           from clients where name = 'Web'",
        "update clients set name = name where client_id = 'another'",
        "insert into client_secrets (id, client_id, hash, created_at)
         select 'another', 'another', hash, created_at from client_secrets limit 1",
        "update client_secrets set expires_at = 1 where id = 'another'",
        "delete from client_secrets where id = 'another'",
        "insert into client_keys (id, client_id, purpose, kid, alg, public_jwk, created_at)
         select 'another', 'another', purpose, kid, alg, public_jwk, created_at from client_keys limit 1",
        "update client_keys set expires_at = 1 where id = 'another'",
        "delete from client_keys where id = 'another'",
        "insert into connection_clients (connection_id, client_id) select id, 'another' from connections limit 1",
        "update connection_clients set client_id = client_id where client_id = 'another'",
        "delete from connection_clients where client_id = 'another'",
        "insert into connections (id, name, strategy, display_name, client_id, options, scopes, callback_context,
                connected_accounts_active, generation, created_at, updated_at)
         select 'another', 'another', strategy, display_name, client_id, options, scopes, 'another', 1, 1, 1, 1
           from connections limit 1",
        "update connections set connected_accounts_active = 0 where id = 'another'",
        "delete from connections where id = 'another'",
        "delete from clients where client_id = 'another'",
        "insert into signing_keys (kid, alg, state, public_jwk, private_key, created_at)
         select 'another', alg, 'next', public_jwk, private_key, created_at from signing_keys limit 1",
        "update signing_keys set state = 'revoked' where kid = 'another'",
        "delete from signing_keys where kid = 'another'",
    ] {
        let mark = "select mark from configuration_mark";
        let before = world.db.read_one(mark, params![]).await?.unwrap();
        assert!(world.execute(change, params![]).await > 0, "{change}");
        let after = world.db.read_one(mark, params![]).await?.unwrap();
        assert!(before != after, "{change}");
        assert!(seen.insert(after.text(0)?.to_owned()), "{change}");
    }
        // One that did not come to pass changes nothing, and the next one on the same connection is marked all the same.
        for (fails, changes) in [(true, 0), (false, 1)] {
            let change = Statement::new("update clients set name = name", params![]);
            let mut batch = Batch::new().with(change.clone()).with(change);
            if fails {
                batch.push(Statement::new(
                    "insert into clients select * from clients",
                    params![],
                ));
            }
            assert_eq!(world.db.write(batch).await.is_err(), fails);
            let mark = world
                .db
                .read_one("select mark from configuration_mark", params![])
                .await?
                .unwrap();
            assert_eq!(usize::from(seen.insert(mark.text(0)?.to_owned())), changes);
        }
        assert_eq!(
            world
                .count("select count(*) from configuration_mark", params![])
                .await,
            1
        );
    }
);

story!(ex_13_revoked_tokens_and_ended_sessions, |world| {
    let login = world.connected().await?;
    let revoke = json!({
        "client_id": world.clients.web.client.client_id,
        "client_secret": world.clients.web.secret,
        "token": login.access_token,
    });
    let url = world.url("oauth/revoke");
    world
        .agent
        .expect(Method::POST, &url, None, Some(&revoke))
        .await?;
    let access = world.access_exchange(&login.access_token);
    assert_eq!(
        said(&world.exchange(&access).await?.unwrap_err()),
        (401, "invalid_grant")
    );
    // TK-49: the refresh token stays; revoking it takes its access tokens with it.
    let refresh = world.refresh_exchange(&login.refresh_token);
    assert!(world.exchange(&refresh).await?.is_ok());
    let again = world.log_in().await?;
    let mut revoke = revoke;
    revoke["token"] = json!(again.refresh_token);
    world
        .agent
        .expect(Method::POST, &url, None, Some(&revoke))
        .await?;
    let access = world.access_exchange(&again.access_token);
    assert_eq!(
        said(&world.exchange(&access).await?.unwrap_err()),
        (401, "invalid_grant")
    );
    let refresh = world.refresh_exchange(&again.refresh_token);
    assert_eq!(
        said(&world.exchange(&refresh).await?.unwrap_err()),
        (403, "invalid_grant")
    );
});

story!(ex_14_one_answer_for_everything_that_is_not_there, |world| {
    let login = world.log_in().await?;
    // A connection that the client may use and the user has no account at, and one that does not exist.
    let nothing = world.refresh_exchange(&login.refresh_token);
    let mut unknown = nothing.clone();
    unknown["connection"] = json!("nowhere");
    let first = world.exchange(&nothing).await?.unwrap_err();
    assert_eq!(
        said(&first),
        (401, "federated_connection_refresh_token_not_found")
    );
    assert_eq!(world.exchange(&unknown).await?.unwrap_err(), first);
    let mut hinted = nothing.clone();
    hinted["login_hint"] = json!("alice@sandbox.example");
    assert_eq!(world.exchange(&hinted).await?.unwrap_err(), first);
    // The standard spelling: one body, also for a hint that matches none of several.
    world.connected().await?;
    let mut bodies = vec![standard(&unknown), standard(&nothing)];
    bodies[1]["login_hint"] = json!("carol@sandbox.example");
    let mut answers = Vec::new();
    for body in &bodies {
        answers.push(world.exchange(body).await?.unwrap_err());
    }
    assert_eq!(said(&answers[0]), (400, "invalid_target"));
    assert_eq!(answers[0], answers[1]);
});

story!(ex_16_ex_20_ex_26_who_may_not, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    world
        .execute(
            "update connections set connected_accounts_active = 0",
            params![],
        )
        .await;
    assert_eq!(
        said(&world.exchange(&body).await?.unwrap_err()),
        (403, "access_denied")
    );
    assert_eq!(
        said(&world.exchange(&standard(&body)).await?.unwrap_err()),
        (400, "unauthorized_client")
    );
    world
        .execute(
            "update connections set connected_accounts_active = 1",
            params![],
        )
        .await;
    // A public client cannot authenticate, and a third-party client or one without the grant may not.
    let mut public = body.clone();
    public["client_id"] = json!(world.clients.spa.client.client_id);
    public.as_object_mut().unwrap().remove("client_secret");
    let refused = world.exchange(&public).await?.unwrap_err();
    assert!(matches!(refused.status, 401 | 403), "{refused:?}");
    for (is_first_party, grant_types) in [
        (true, vec![grant::REFRESH_TOKEN.to_owned()]),
        (false, vec![grant::TOKEN_VAULT.to_owned()]),
    ] {
        let other = world
            .register(NewClient {
                name: "Other".to_owned(),
                grant_types,
                ..NewClient::default()
            })
            .await;
        // The Management API refuses a third-party client with the grant; so does the exchange.
        world
            .execute(
                "update clients set is_first_party = $2 where client_id = $1",
                params![other.client.client_id.as_str(), is_first_party],
            )
            .await;
        let mut body = body.clone();
        body["client_id"] = json!(other.client.client_id);
        body["client_secret"] = json!(other.secret);
        assert_eq!(
            said(&world.exchange(&body).await?.unwrap_err()),
            (403, "unauthorized_client")
        );
    }
});

story!(
    ex_17_an_account_that_was_disconnected_is_gone_for_everybody,
    |world| {
        let login = world.connected().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        let listed = world.me(Method::GET, "accounts", &me, None).await?.unwrap();
        let path = format!("accounts/{}", listed["accounts"][0]["id"].as_str().unwrap());
        world.me(Method::DELETE, &path, &me, None).await?.unwrap();
        for body in [
            world.refresh_exchange(&login.refresh_token),
            world.access_exchange(&login.access_token),
        ] {
            assert_eq!(
                said(&world.exchange(&body).await?.unwrap_err()),
                (401, "federated_connection_refresh_token_not_found")
            );
        }
        assert_eq!(
            world
                .count("select count(*) from accounts", params![])
                .await,
            0
        );
    }
);

story!(
    ex_25_a_narrower_token_is_never_answered_with_the_wider_one,
    |world| {
        let login = world.connected().await?;
        let mut body = world.refresh_exchange(&login.refresh_token);
        body["scope"] = json!("files.read");
        // Auth0's spelling: what is granted has to be there, and comes in full (contract 2.1).
        assert!(
            world
                .exchange(&body)
                .await?
                .unwrap()
                .scope
                .contains("openid")
        );
        // The standard's: a narrower one, where the provider gives it.
        let narrow = world.exchange(&standard(&body)).await?.unwrap();
        assert_eq!(narrow.scope, "files.read");
        // And one that reads over what was asked for is found out.
        world.sandbox.set_behaviour(Behaviour {
            ignores_narrower_scope: true,
            ..Behaviour::default()
        });
        body["scope"] = json!("email");
        for _ in 0..3 {
            assert_eq!(
                said(&world.exchange(&standard(&body)).await?.unwrap_err()),
                (400, "invalid_scope")
            );
        }
        assert_eq!(world.sandbox.calls().refreshed, 2);
        body["scope"] = json!("files.write");
        assert_eq!(
            said(&world.exchange(&body).await?.unwrap_err()),
            (400, "invalid_scope")
        );
    }
);

story!(ex_28_lifetimes_as_providers_say_them, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let body = world.refresh_exchange(&login.refresh_token);
    for (expires_in, expected) in [
        (ExpiresIn::Number, 1800),
        (ExpiresIn::Text, 1800),
        (ExpiresIn::Negative, 60),
        // No end: an hour, so that whoever caches asks again.
        (ExpiresIn::Absent, 3600),
    ] {
        world.sandbox.set_behaviour(Behaviour {
            expires_in,
            access_token_lifetime: 1800,
            ..Behaviour::default()
        });
        world.connect(&me, "alice").await?;
        assert_eq!(
            world.exchange(&body).await?.unwrap().expires_in,
            expected,
            "{expires_in:?}"
        );
    }
});

story!(
    a_rotating_refresh_token_of_a_confidential_client_can_be_exchanged_and_is_not_used_up,
    |world| {
        let mut policy = world.clients.web.client.refresh_token.clone();
        policy.rotation_type = vault::Rotation::Rotating;
        world
            .execute(
                "update clients set refresh_token = $2 where client_id = $1",
                params![
                    world.clients.web.client.client_id.as_str(),
                    serde_json::to_string(&policy)?
                ],
            )
            .await;
        let login = world.log_in().await?;
        let use_it = |token: &str, world: &World| {
            json!({
                "grant_type": grant::REFRESH_TOKEN,
                "client_id": world.clients.web.client.client_id,
                "client_secret": world.clients.web.secret,
                "refresh_token": token,
            })
        };
        // Connecting needs a My Account token, which uses the refresh token: the next one comes with the answer.
        let mut first = use_it(&login.refresh_token, world);
        first["audience"] = json!(world.url("me/"));
        let answer = world.token(&first).await?.unwrap();
        let current = answer["refresh_token"].as_str().unwrap().to_owned();
        assert_ne!(current, login.refresh_token);
        world
            .connect(answer["access_token"].as_str().unwrap(), "alice")
            .await?;
        for _ in 0..3 {
            let body = world.refresh_exchange(&current);
            world.exchange(&body).await?.unwrap();
        }
        let next = world.token(&use_it(&current, world)).await?.unwrap();
        assert_ne!(next["refresh_token"], json!(current));
        // The one that was used is good for a retry only, and then not any more.
        let body = world.refresh_exchange(&current);
        world.exchange(&body).await?.unwrap();
        world.advance(31);
        assert_eq!(
            said(&world.exchange(&body).await?.unwrap_err()),
            (403, "invalid_grant")
        );
    }
);

story!(
    bad_input_wrong_secret_and_no_such_client_are_one_answer,
    |world| {
        let login = world.connected().await?;
        let body = world.refresh_exchange(&login.refresh_token);
        let url = world.url("oauth/token");
        let mut answers = Vec::new();
        for (client_id, secret) in [
            (world.clients.web.client.client_id.as_str(), "tvs_wrong"),
            (
                world.clients.web.client.client_id.as_str(),
                world.clients.api.secret.as_str(),
            ),
            (
                "cl_0000000000000000000000",
                world.clients.web.secret.as_str(),
            ),
            ("no such client", "no such secret"),
            (
                world.clients.spa.client.client_id.as_str(),
                world.clients.web.secret.as_str(),
            ),
        ] {
            let mut body = body.clone();
            body["client_id"] = json!(client_id);
            body["client_secret"] = json!(secret);
            let (status, answer) = world
                .agent
                .call(Method::POST, &url, None, Some(&body))
                .await?;
            answers.push((status.as_u16(), answer.to_string()));
        }
        assert_eq!(answers[0].0, 401);
        assert!(answers[0].1.contains("invalid_client"));
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
    }
);

story!(every_exchange_leaves_one_row_and_no_token_in_it, |world| {
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    let exchanged = world.exchange(&body).await?.unwrap();
    let row = world
        .db
        .read_one(
            "select client_id, user_id, connection, account_id, scopes, address, details, outcome
               from audit where event = 'exchange'",
            params![],
        )
        .await?
        .unwrap();
    assert_eq!(row.text(0)?, world.clients.web.client.client_id);
    assert_eq!(row.text(1)?, world.user.id);
    assert_eq!(row.text(2)?, "sandbox");
    assert!(row.text(3)?.starts_with("cac_"));
    assert!(row.text(4)?.contains("files.read"));
    assert_eq!(row.text(5)?, "127.0.0.1");
    assert_eq!(row.text(7)?, "succeeded");
    let details: Value = serde_json::from_str(row.text(6)?)?;
    let thumbprint = seal::sha256_hex_thumbprint(exchanged.access_token.as_bytes());
    assert_eq!(details["token_thumbprint"], json!(thumbprint));
    assert_eq!(details["is_privileged_worker"], json!(false));
});

story!(tk_43_tk_44_several_apis_from_one_refresh_token, |world| {
    let login = world.log_in().await?;
    for (audience, asked, expected) in [
        (
            Some(world.url("me/")),
            None,
            "create:me:connected_accounts delete:me:connected_accounts email offline_access openid profile read:me:connected_accounts",
        ),
        // Wider than the policy: dropped silently (contract 2.2); the standard scopes are named anyway.
        (
            Some(world.url("me/")),
            Some("openid read:me:connected_accounts delete:everything"),
            "email offline_access openid profile read:me:connected_accounts",
        ),
        (
            Some(DEMO_API.to_owned()),
            Some("write:reports"),
            "email offline_access openid profile write:reports",
        ),
        (
            None,
            None,
            "email offline_access openid profile read:reports write:reports",
        ),
    ] {
        let mut body = json!({
            "grant_type": grant::REFRESH_TOKEN,
            "client_id": world.clients.web.client.client_id,
            "client_secret": world.clients.web.secret,
            "refresh_token": login.refresh_token,
        });
        if let Some(audience) = &audience {
            body["audience"] = json!(audience);
        }
        if let Some(asked) = asked {
            body["scope"] = json!(asked);
        }
        let answer = world.token(&body).await?.unwrap();
        assert_eq!(answer["scope"], json!(expected), "{audience:?} {asked:?}");
        // Contract 3.4: a browser client needs both in every answer.
        assert!(answer["id_token"].is_string());
        assert_eq!(answer["refresh_token"], json!(login.refresh_token));
    }
    let mut body = json!({
        "grant_type": grant::REFRESH_TOKEN,
        "client_id": world.clients.web.client.client_id,
        "client_secret": world.clients.web.secret,
        "refresh_token": login.refresh_token,
        "audience": "https://elsewhere.test/",
    });
    assert_eq!(
        said(&world.token(&body).await?.unwrap_err()),
        (400, "invalid_target")
    );
    // Without its client grant, an API that wants one says who may not do what.
    world
        .execute(
            "delete from client_grants where subject_type = 'user'",
            params![],
        )
        .await;
    body["audience"] = json!(world.url("me/"));
    let refused = world.token(&body).await?.unwrap_err();
    assert_eq!(said(&refused), (403, "access_denied"));
    assert!(
        refused
            .description
            .contains("is not authorized to access resource server")
    );
});

/// Logs the user in at the single-page application and returns its refresh token.
async fn spa_login(world: &mut World) -> anyhow::Result<String> {
    let client_id = world.clients.spa.client.client_id.clone();
    let (url, verifier) = world.authorize_url(&[
        ("client_id", &client_id),
        ("redirect_uri", acceptance::SPA_CALLBACK),
    ])?;
    let mut agent = world.browser();
    let stop = world
        .pass(&mut agent, &url, acceptance::SPA_CALLBACK)
        .await?;
    let body = json!({
        "grant_type": grant::AUTHORIZATION_CODE,
        "client_id": client_id,
        "code": stop.answer("code")?,
        "redirect_uri": acceptance::SPA_CALLBACK,
        "code_verifier": verifier,
    });
    let answer = world.token(&body).await?.unwrap();
    Ok(answer["refresh_token"].as_str().unwrap().to_owned())
}

story!(
    ex_11_a_token_of_another_client_leaves_its_owner_unaffected,
    |world| {
        let token = spa_login(world).await?;
        let body = world.refresh_exchange(&token);
        assert_eq!(
            said(&world.exchange(&body).await?.unwrap_err()),
            (403, "invalid_grant")
        );
        let own = json!({
            "grant_type": grant::REFRESH_TOKEN,
            "client_id": world.clients.spa.client.client_id,
            "refresh_token": token,
        });
        assert!(world.token(&own).await?.is_ok());
    }
);

story!(a_refresh_token_that_is_exchanged_is_in_use, |world| {
    let admin = world.administrator(&[]).await?;
    let path = format!("clients/{}", world.clients.web.client.client_id);
    let before = world.manage(Method::GET, &path, &admin, None).await?.json();
    let mut refresh_token = before["refresh_token"].clone();
    for (name, value) in [
        ("rotation_type", json!("non-rotating")),
        ("expiration_type", json!("expiring")),
        ("idle_token_lifetime", json!(3600)),
        ("infinite_idle_token_lifetime", json!(false)),
    ] {
        refresh_token[name] = value;
    }
    let hour = json!({ "refresh_token": refresh_token });
    let changed = world
        .manage(Method::PATCH, &path, &admin, Some(&hour))
        .await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let login = world.connected().await?;
    let body = world.refresh_exchange(&login.refresh_token);
    for _ in 0..3 {
        world.advance(40 * 60);
        world.exchange(&body).await?.unwrap();
    }
    world.advance(61 * 60);
    let refused = world.exchange(&body).await?.unwrap_err();
    assert_eq!(said(&refused), (403, "invalid_grant"));
});
