//! Users, what they have and what they consented to, through the Management API (contract 4.4).
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

async fn made(world: &mut World, admin: &str, body: &Value) -> Value {
    let reply = world
        .manage(Method::POST, "users", admin, Some(body))
        .await
        .unwrap();
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.json()
}

async fn got(world: &mut World, admin: &str, path: &str) -> Value {
    let reply = world.manage(Method::GET, path, admin, None).await.unwrap();
    assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    reply.json()
}

async fn done(world: &mut World, admin: &str, method: Method, path: &str) -> u16 {
    let reply = world.manage(method, path, admin, None).await.unwrap();
    assert!(reply.status < 300, "{path}: {}", reply.text);
    reply.status
}

/// Whether the exchanges of a refresh token, an access token and a worker still give anything.
async fn exchanges(world: &mut World, refresh_token: &str, access_token: &str) -> [bool; 3] {
    let worker = world.sign_worker(&world.worker_claims());
    let bodies = [
        world.refresh_exchange(refresh_token),
        world.access_exchange(access_token),
        world.worker_exchange(&worker),
    ];
    let mut works = [false; 3];
    for (index, body) in bodies.iter().enumerate() {
        works[index] = world.token(body).await.unwrap().is_ok();
    }
    works
}

story!(a_user_is_made_seen_changed_and_deleted, |world| {
    world.secret("correct horse battery staple");
    let admin = world.administrator(&[]).await?;
    let user = made(
        world,
        &admin,
        &json!({
            "connection": "Username-Password-Authentication",
            "email": "Ada@Example.com",
            "password": "correct horse battery staple",
            "name": "Ada",
            "user_metadata": {"colour": "blue", "size": 1},
        }),
    )
    .await;
    let id = user["user_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("usr_"));
    assert_eq!(user["username"], "ada@example.com");
    assert_eq!(user["blocked"], false);
    let path = format!("users/{id}");
    assert_eq!(got(world, &admin, &path).await, user);

    let mut browser = world.browser();
    let person = ("ada@example.com", "correct horse battery staple");
    world.log_in_as(&mut browser, person).await?;

    let changed = world
        .manage(
            Method::PATCH,
            &path,
            &admin,
            Some(&json!({"nickname": "A", "user_metadata": {"size": null, "shape": "round"}})),
        )
        .await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(changed["nickname"], "A");
    assert_eq!(changed["name"], "Ada");
    assert_eq!(
        changed["user_metadata"],
        json!({"colour": "blue", "shape": "round"})
    );

    for (query, found) in [
        ("q=email:Ada@Example.com", 1),
        ("q=email:Ada*", 1),
        ("q=email:nobody*", 0),
        ("q=username:ada@example.com&search_engine=v3", 1),
        ("q=ada@example.com", 1),
        (&format!("q=user_id:%22{id}%22"), 1),
    ] {
        let listed = got(world, &admin, &format!("users?{query}&include_totals=true")).await;
        assert_eq!(listed["total"], found, "{query}");
        assert_eq!(listed["users"].as_array().unwrap().len(), found, "{query}");
    }
    let by_email = got(world, &admin, "users-by-email?email=Ada%40Example.com").await;
    assert_eq!(by_email[0]["user_id"], id.as_str());
    let refused = world
        .manage(Method::GET, "users?q=colour:blue", &admin, None)
        .await?;
    assert_eq!(refused.json()["validation_errors"][0]["field"], "q");

    assert_eq!(done(world, &admin, Method::DELETE, &path).await, 204);
    let gone = world.manage(Method::GET, &path, &admin, None).await?;
    assert_eq!(gone.status, 404);
});

story!(what_a_user_cannot_be_is_pointed_at, |world| {
    let admin = world.administrator(&[]).await?;
    for (body, field) in [
        (json!({}), "email"),
        (json!({"email": "nobody"}), "email"),
        (json!({"username": "a b"}), "username"),
        (
            json!({"email": "a@b.example", "password": "short"}),
            "password",
        ),
        (json!({"email": "a@b.example", "user_id": "a/b"}), "user_id"),
        (json!({"email": "a@b.example", "colour": "blue"}), "colour"),
    ] {
        let refused = world
            .manage(Method::POST, "users", &admin, Some(&body))
            .await?;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        assert_eq!(refused.json()["validation_errors"][0]["field"], field);
        assert!(!refused.text.contains("short\""));
    }
    made(
        world,
        &admin,
        &json!({"email": "a@b.example", "user_id": "chosen"}),
    )
    .await;
    let again = world
        .manage(
            Method::POST,
            "users",
            &admin,
            Some(&json!({"email": "A@b.example"})),
        )
        .await?;
    assert_eq!(again.status, 409, "{}", again.text);
    assert_eq!(again.json()["errorCode"], "already_exists");
});

story!(
    whoever_is_blocked_gets_nothing_from_the_next_request_on,
    |world| {
        let admin = world.administrator(&[]).await?;
        let logged_in = world.connected().await?;
        let (refresh, access) = (
            logged_in.refresh_token.clone(),
            logged_in.access_token.clone(),
        );
        assert_eq!(exchanges(world, &refresh, &access).await, [true; 3]);
        let path = format!("users/{}", world.user.id);
        for (blocked, works) in [(true, [false; 3]), (false, [true; 3])] {
            let body = json!({"blocked": blocked});
            let changed = world
                .manage(Method::PATCH, &path, &admin, Some(&body))
                .await?;
            assert_eq!(changed.json()["blocked"], blocked, "{}", changed.text);
            assert_eq!(exchanges(world, &refresh, &access).await, works);
        }
        // A new password ends what the one before began.
        let body = json!({"password": "another horse battery"});
        let changed = world
            .manage(Method::PATCH, &path, &admin, Some(&body))
            .await?;
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!(
            exchanges(world, &refresh, &access).await,
            [false, false, true]
        );
    }
);

story!(accounts_are_seen_and_taken_away, |world| {
    let admin = world.administrator(&[]).await?;
    let logged_in = world.connected().await?;
    let user = world.user.id.clone();
    let path = format!("users/{user}/connected-accounts");
    let listed = got(world, &admin, &path).await;
    let account = listed["connected_accounts"][0].clone();
    assert_eq!(account["connection"], "sandbox");
    assert_eq!(account["access_type"], "offline");
    assert_eq!(account["strategy"], "sandbox");
    let none = world
        .manage(Method::DELETE, &format!("{path}/cac_none"), &admin, None)
        .await?;
    assert_eq!(none.status, 404);
    let account = account["id"].as_str().unwrap();
    done(world, &admin, Method::DELETE, &format!("{path}/{account}")).await;
    let exchange = world.refresh_exchange(&logged_in.refresh_token);
    let refused = world.token(&exchange).await?.unwrap_err();
    assert_eq!(
        refused.error,
        "federated_connection_refresh_token_not_found"
    );

    // Who goes is disconnected everywhere first.
    let me = world.my_account_token(&logged_in.refresh_token).await?;
    world.connect(&me, "alice").await?;
    done(world, &admin, Method::DELETE, &format!("users/{user}")).await;
    assert_eq!(
        world
            .count("select count(*) from accounts", params![])
            .await,
        0
    );
    assert_eq!(world.audited("account.disconnected").await.len(), 2);
});

story!(sessions_and_refresh_tokens_are_seen_and_ended, |world| {
    let admin = world.administrator(&[]).await?;
    let first = world.connected().await?;
    let user = world.user.id.clone();
    let mut other = world.browser();
    let person = (acceptance::USERNAME, acceptance::PASSWORD);
    let second = world.log_in_as(&mut other, person).await?;
    let sessions = got(world, &admin, &format!("users/{user}/sessions")).await;
    let sessions = sessions["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let tokens = got(
        world,
        &admin,
        &format!("users/{user}/refresh-tokens?take=1"),
    )
    .await;
    assert_eq!(tokens["tokens"].as_array().unwrap().len(), 1);
    let next = tokens["next"].as_str().unwrap();
    let rest = got(
        world,
        &admin,
        &format!(
            "users/{user}/refresh-tokens?take=1&from={}",
            next.replace(' ', "%20")
        ),
    )
    .await;
    assert!(rest.get("next").is_none());
    let token = rest["tokens"][0].clone();
    assert_ne!(token, tokens["tokens"][0]);
    assert_eq!(
        token["client_id"],
        world.clients.web.client.client_id.as_str()
    );
    for token in [&first.refresh_token, &second.refresh_token] {
        assert!(!rest.to_string().contains(token.as_str()));
    }

    // One refresh token.
    let path = format!("refresh-tokens/{}", token["id"].as_str().unwrap());
    assert_eq!(got(world, &admin, &path).await, token);
    done(world, &admin, Method::DELETE, &path).await;
    let gone = world.manage(Method::GET, &path, &admin, None).await?;
    assert_eq!(gone.status, 404);
    let mut alive = Vec::new();
    for token in [&first.refresh_token, &second.refresh_token] {
        let exchange = world.refresh_exchange(token);
        alive.push(world.token(&exchange).await?.is_ok());
    }
    assert_eq!(alive.iter().filter(|alive| **alive).count(), 1, "{alive:?}");

    // One session.
    let path = format!("sessions/{}", sessions[0]["id"].as_str().unwrap());
    assert_eq!(got(world, &admin, &path).await, sessions[0]);
    done(world, &admin, Method::DELETE, &path).await;
    let left = got(world, &admin, &format!("users/{user}/sessions")).await;
    assert_eq!(left["sessions"].as_array().unwrap().len(), 1);

    // All of it, by somebody who may.
    let path = format!("users/{user}/revoke-access");
    let some = world.administrator(&["delete:sessions"]).await?;
    let refused = world
        .manage(Method::POST, &path, &some, Some(&json!({})))
        .await?;
    assert_eq!(refused.status, 403, "{}", refused.text);
    let ended = world
        .manage(Method::POST, &path, &admin, Some(&json!({})))
        .await?;
    assert_eq!(ended.status, 204, "{}", ended.text);
    for list in ["sessions", "refresh-tokens"] {
        let left = got(world, &admin, &format!("users/{user}/{list}")).await;
        assert!(!left.to_string().contains("\"id\""), "{left}");
    }
    for token in [&first.refresh_token, &second.refresh_token] {
        let exchange = world.refresh_exchange(token);
        assert!(world.token(&exchange).await?.is_err());
    }
});

story!(a_consent_that_is_taken_back_is_asked_for_again, |world| {
    let admin = world.administrator(&[]).await?;
    let user = world.user.id.clone();
    let client = world.clients.web.client.client_id.clone();
    world
        .execute(
            "insert into consents (user_id, client_id, audience, scopes, granted_at) values ($1, $2, $3, $4, 1)",
            params![
                user.as_str(),
                client.as_str(),
                acceptance::DEMO_API,
                "read:reports",
            ],
        )
        .await;
    let logged_in = world.connected().await?;
    let listed = got(
        world,
        &admin,
        &format!("grants?user_id={user}&include_totals=true"),
    )
    .await;
    assert_eq!(listed["total"], 1);
    let consent = &listed["grants"][0];
    assert_eq!(consent["clientID"], client.as_str());
    assert_eq!(consent["scope"], json!(["read:reports"]));
    let path = format!("grants/{}", consent["id"].as_str().unwrap());
    done(world, &admin, Method::DELETE, &path).await;
    let gone = world.manage(Method::DELETE, &path, &admin, None).await?;
    assert_eq!(gone.status, 404);
    let exchange = world.refresh_exchange(&logged_in.refresh_token);
    assert!(world.token(&exchange).await?.is_err());
    done(
        world,
        &admin,
        Method::DELETE,
        &format!("grants?user_id={user}"),
    )
    .await;
    for path in ["grants/AAAA", "grants/%C3%BC"] {
        let refused = world.manage(Method::DELETE, path, &admin, None).await?;
        assert_eq!(refused.status, 404, "{path}");
    }
});

story!(users_need_their_scopes, |world| {
    let reader = world.administrator(&["read:users"]).await?;
    let user = world.user.id.clone();
    for (method, path) in [
        (Method::POST, "users".to_owned()),
        (Method::PATCH, format!("users/{user}")),
        (Method::DELETE, format!("users/{user}")),
        (Method::GET, format!("users/{user}/sessions")),
        (Method::DELETE, format!("users/{user}/refresh-tokens")),
        (Method::GET, "grants".to_owned()),
    ] {
        let refused = world
            .manage(method, &path, &reader, Some(&json!({})))
            .await?;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text);
        assert_eq!(refused.json()["errorCode"], "insufficient_scope");
    }
});
