//! The My Account API to the letter of contract 2.4 to 2.9: statuses, members, problems, pages of lists, limits.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{PASSWORD, Setup, USERNAME, WEB_CALLBACK, World, story};
use anyhow::Result;
use headless::Agent;
use oauth::grant;
use reqwest::Method;
use reqwest::header::HeaderMap;
use sandbox::Behaviour;
use serde_json::{Value, json};
use store::params;
use web::WebOptions;

const JSON: &str = "application/json";

/// An answer with its headers.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Contract 2.4: every member, each of its kind, and nothing that is not in it.
    fn assert_problem(&self, status: u16, what: &str) -> Value {
        assert_eq!(self.status, status, "{what}: {}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let body = self.json();
        let problem_type = body["type"].as_str().unwrap();
        assert!(
            problem_type.starts_with(&format!("https://auth0.com/api-errors/A0E-{status}-")),
            "{what}: {problem_type}"
        );
        assert_eq!(body["status"], status, "{what}");
        assert!(!body["title"].as_str().unwrap().is_empty(), "{what}");
        assert!(!body["detail"].as_str().unwrap().is_empty(), "{what}");
        for name in body.as_object().unwrap().keys() {
            assert!(
                ["type", "status", "title", "detail", "validation_errors"].contains(&&**name),
                "{what}: {name}"
            );
        }
        body
    }

    /// The limit's headers, as numbers: limit, remaining, reset.
    fn limits(&self) -> (u64, u64, i64) {
        let text = |name: &str| self.headers[name].to_str().unwrap();
        (
            text("x-ratelimit-limit").parse().unwrap(),
            text("x-ratelimit-remaining").parse().unwrap(),
            text("x-ratelimit-reset").parse().unwrap(),
        )
    }
}

async fn call(
    world: &World,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<(&str, &str)>,
) -> Result<Answer> {
    let url = world.url(&format!("me/v1/connected-accounts/{path}"));
    let mut request = world.agent.request(method, &url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some((content_type, body)) = body {
        request = request
            .header("content-type", content_type)
            .body(body.to_owned());
    }
    let answer = request.send().await?;
    Ok(Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        text: answer.text().await?,
    })
}

async fn get(world: &World, path: &str, token: &str) -> Result<Answer> {
    call(world, Method::GET, path, Some(token), None).await
}

async fn post(world: &World, path: &str, token: &str, body: &Value) -> Result<Answer> {
    let body = body.to_string();
    call(world, Method::POST, path, Some(token), Some((JSON, &body))).await
}

/// A My Account token with some scopes only.
async fn token_with(world: &mut World, refresh_token: &str, scope: &str) -> Result<String> {
    let me = world.vault.settings().issuer.me_audience();
    let answer = world
        .token(&json!({
            "grant_type": grant::REFRESH_TOKEN,
            "client_id": world.clients.web.client.client_id,
            "client_secret": world.clients.web.secret,
            "refresh_token": refresh_token,
            "audience": me,
            "scope": scope,
        }))
        .await?
        .unwrap();
    Ok(answer["access_token"].as_str().unwrap().to_owned())
}

/// Connects somebody's account at a connection, in a browser where the user is logged in.
async fn connect_at(
    world: &mut World,
    agent: &mut Agent,
    me: &str,
    connection: &str,
    person: &str,
) -> Result<Value> {
    let body = json!({ "connection": connection, "redirect_uri": WEB_CALLBACK });
    let started = world
        .me(Method::POST, "connect", me, Some(&body))
        .await?
        .unwrap();
    let stop = world.consent(agent, &started, person).await?;
    let code = stop.answer("connect_code")?;
    Ok(world.complete(me, &started, &code).await?.unwrap())
}

fn names(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Walks a list to its end by cursors, and returns its items. `next` is on every page but the last.
async fn walk(
    world: &World,
    list: &str,
    query: &str,
    cursor: &str,
    me: &str,
) -> Result<(Vec<Value>, usize)> {
    let mut items = Vec::new();
    let mut path = format!("{list}?{query}");
    for pages in 1..30 {
        let answer = get(world, &path, me).await?;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let body = answer.json();
        items.extend(body[list].as_array().unwrap().iter().cloned());
        let Some(next) = body.get("next") else {
            assert_eq!(names(&body), [list]);
            return Ok((items, pages));
        };
        let next: String =
            url::form_urlencoded::byte_serialize(next.as_str().unwrap().as_bytes()).collect();
        path = format!("{list}?{query}&{cursor}={next}");
    }
    panic!("{list} does not end");
}

story!(the_answers_have_their_statuses_and_members, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let body = json!({ "connection": "sandbox", "redirect_uri": WEB_CALLBACK, "state": "s" });
    let answer = post(world, "connect", &me, &body).await?;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], JSON);
    answer.limits();
    let started = answer.json();
    let mut members = names(&started);
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "auth_session",
            "connect_params",
            "connect_uri",
            "expires_in"
        ]
    );
    // SDKs append or overwrite the query: there must be none.
    assert_eq!(
        started["connect_uri"],
        world.url("connected-accounts/connect")
    );
    assert!(started["auth_session"].as_str().unwrap().len() <= 64);
    assert_eq!(names(&started["connect_params"]), ["ticket"]);
    assert_eq!(started["expires_in"], 300);

    let mut agent = world.browser();
    world.log_in_as(&mut agent, (USERNAME, PASSWORD)).await?;
    let stop = world.consent(&mut agent, &started, "alice").await?;
    let body = json!({
        "auth_session": started["auth_session"],
        "connect_code": stop.answer("connect_code")?,
        "redirect_uri": WEB_CALLBACK,
    });
    let answer = post(world, "complete", &me, &body).await?;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.limits();
    let account = answer.json();
    let id = account["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("cac_"));
    assert!(id[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(account["connection"], "sandbox");
    assert_eq!(account["access_type"], "offline");
    assert!(account["scopes"].as_array().unwrap().len() >= 4);
    let created_at = account["created_at"].as_str().unwrap();
    assert!(created_at.ends_with('Z') && created_at.parse::<jiff::Timestamp>().is_ok());
    // The second complete is a conflict.
    let answer = post(world, "complete", &me, &body).await?;
    answer.assert_problem(409, "completed before");

    let answer = get(world, "accounts", &me).await?;
    assert_eq!(answer.status, 200);
    answer.limits();
    assert_eq!(answer.json(), json!({ "accounts": [account] }));
    let answer = get(world, "connections", &me).await?;
    assert_eq!(answer.status, 200);
    let listed = answer.json();
    assert_eq!(names(&listed), ["connections"]);
    assert_eq!(listed["connections"][0]["name"], "sandbox");
    assert_eq!(listed["connections"][0]["strategy"], "sandbox");

    let path = format!("accounts/{id}");
    let answer = call(world, Method::DELETE, &path, Some(&me), None).await?;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    answer.limits();
    let answer = get(world, "accounts", &me).await?;
    assert_eq!(answer.json(), json!({ "accounts": [] }));
    // The provider is told behind the answer.
    world.vault.land().await;
    assert_eq!(world.sandbox.calls().revoke, 1);
});

story!(a_wrong_body_is_told_field_by_field, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let good = json!({ "connection": "sandbox", "redirect_uri": WEB_CALLBACK });
    let long = |length: usize| "x".repeat(length);
    for (change, field) in [
        (json!({ "connection": null }), "connection"),
        (json!({ "connection": "" }), "connection"),
        (json!({ "connection": long(129) }), "connection"),
        (json!({ "connection": 7 }), "connection"),
        (json!({ "redirect_uri": [WEB_CALLBACK] }), "redirect_uri"),
        (json!({ "redirect_uri": long(2049) }), "redirect_uri"),
        (json!({ "state": "" }), "state"),
        (json!({ "state": long(4097) }), "state"),
        (
            json!({ "code_challenge": long(42), "code_challenge_method": "S256" }),
            "code_challenge",
        ),
        (
            json!({ "code_challenge": long(43) }),
            "code_challenge_method",
        ),
        (
            json!({ "code_challenge": long(43), "code_challenge_method": "plain" }),
            "code_challenge_method",
        ),
        (json!({ "scopes": [] }), "scopes"),
        (json!({ "scopes": ["a", "a"] }), "scopes"),
        (json!({ "scopes": [long(256)] }), "scopes"),
        (json!({ "scopes": "openid" }), "scopes"),
        (json!({ "unknown": 1 }), "unknown"),
        (
            json!({ "authorization_params": { "prompt": "later" } }),
            "prompt",
        ),
        (
            json!({ "authorization_params": { "max_age": -1 } }),
            "max_age",
        ),
        (
            json!({ "authorization_params": { "login_hint": long(256) } }),
            "login_hint",
        ),
        (
            json!({ "authorization_params": { "redirect_uri": "https://evil.test" } }),
            "redirect_uri",
        ),
        (
            json!({ "authorization_params": "prompt=none" }),
            "authorization_params",
        ),
    ] {
        let mut body = good.clone();
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                body.as_object_mut().unwrap().remove(name);
            } else {
                body[name] = value.clone();
            }
        }
        let answer = post(world, "connect", &me, &body).await?;
        let problem = answer.assert_problem(400, &change.to_string());
        let errors = problem["validation_errors"].as_array().unwrap();
        assert!(
            errors.iter().any(|error| error.to_string().contains(field)),
            "{change}: {problem}"
        );
        for error in errors {
            assert!(error["detail"].is_string(), "{problem}");
        }
    }
    // Every field that is wrong at once.
    let problem = post(
        world,
        "complete",
        &me,
        &json!({ "code_verifier": "short", "x": 1 }),
    )
    .await?
    .assert_problem(400, "complete");
    let errors = problem["validation_errors"].to_string();
    for field in [
        "auth_session",
        "connect_code",
        "redirect_uri",
        "code_verifier",
        "x",
    ] {
        assert!(errors.contains(field), "{field}: {errors}");
    }
    let flows = world
        .count("select count(*) from connect_flows", params![])
        .await;
    assert_eq!(flows, 0);
});

story!(what_is_not_json_is_told_as_json, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let good = json!({ "connection": "sandbox", "redirect_uri": WEB_CALLBACK }).to_string();
    let form = "connection=sandbox&redirect_uri=https%3A%2F%2Fapp.test%2Fcallback";
    let twice = r#"{"connection":"sandbox","connection":"sandbox","redirect_uri":"https://app.test/callback"}"#;
    let huge = format!("\"{}\"", "x".repeat(70_000));
    for (content_type, body, status) in [
        ("application/x-www-form-urlencoded", form, 415),
        ("text/plain", good.as_str(), 415),
        ("application/json; charset=latin1", good.as_str(), 415),
        (JSON, "", 400),
        (JSON, "{", 400),
        (JSON, "[]", 400),
        (JSON, "\"connect\"", 400),
        (JSON, twice, 400),
        (JSON, huge.as_str(), 413),
    ] {
        for path in ["connect", "complete"] {
            let answer = call(
                world,
                Method::POST,
                path,
                Some(&me),
                Some((content_type, body)),
            )
            .await?;
            answer.assert_problem(status, &format!("{content_type} {path}"));
        }
    }
    let answer = call(world, Method::POST, "connect", Some(&me), None).await?;
    answer.assert_problem(415, "no body");
    // Paths and methods that do not exist are told as JSON too.
    for (method, path, status) in [
        (Method::GET, "connect", 405),
        (Method::PUT, "accounts", 405),
        (Method::DELETE, "accounts", 405),
        (Method::GET, "accounts/cac_x", 405),
        (Method::GET, "nothing", 404),
        (Method::DELETE, "accounts/cac_x/y", 404),
    ] {
        let answer = call(world, method.clone(), path, Some(&me), None).await?;
        answer.assert_problem(status, &format!("{method} {path}"));
    }
});

story!(lists_go_by_cursors_to_their_end, |world| {
    let other = world.another_connection("sandbox-two").await;
    world.another_connection("sandbox-three").await;
    let mut agent = world.browser();
    let login = world.log_in_as(&mut agent, (USERNAME, PASSWORD)).await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let mut ids = Vec::new();
    for (connection, person) in [
        ("sandbox", "alice"),
        ("sandbox", "bob"),
        ("sandbox-two", "alice"),
        ("sandbox-two", "bob"),
        ("sandbox-three", "alice"),
    ] {
        let account = connect_at(world, &mut agent, &me, connection, person).await?;
        ids.push(account["id"].as_str().unwrap().to_owned());
    }
    ids.sort();
    let id_of = |item: &Value| item["id"].as_str().unwrap().to_owned();
    for (query, expected_pages) in [
        ("take=1", 5),
        ("take=2", 3),
        ("take=4", 2),
        ("take=5", 1),
        ("take=20", 1),
        ("", 1),
    ] {
        // `from` as the contract says, and `next` as one SDK spells it.
        for cursor in ["from", "next"] {
            let (items, pages) = walk(world, "accounts", query, cursor, &me).await?;
            let mut seen: Vec<String> = items.iter().map(id_of).collect();
            seen.sort();
            assert_eq!((seen, pages), (ids.clone(), expected_pages), "{query}");
        }
    }
    // By several connections; by a name that there is not; more names than there may be.
    for (query, expected) in [
        ("connection=sandbox", 2),
        ("connection=sandbox&connection=sandbox-three", 3),
        ("connection=sandbox-two&connection=nothing&take=1", 2),
        ("connection=nothing", 0),
    ] {
        let (items, _) = walk(world, "accounts", query, "from", &me).await?;
        assert_eq!(items.len(), expected, "{query}");
    }
    let (items, pages) = walk(world, "connections", "take=1", "from", &me).await?;
    let listed: Vec<&str> = items
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        (listed, pages),
        (vec!["sandbox", "sandbox-three", "sandbox-two"], 3)
    );
    for query in [
        "take=0".to_owned(),
        "take=21".to_owned(),
        "take=x".to_owned(),
        "connection=".to_owned(),
        "connection=a&".repeat(21),
        "from=a&next=b".to_owned(),
    ] {
        let answer = get(world, &format!("accounts?{query}"), &me).await?;
        answer.assert_problem(400, &query);
    }
    // What the client may not use any more is not offered; what is connected stays listed.
    let web = world.clients.web.client.client_id.clone();
    world
        .vault
        .disable_connection(&other.id, &web)
        .await
        .unwrap();
    let (items, _) = walk(world, "connections", "", "from", &me).await?;
    assert_eq!(items.len(), 2);
});

story!(mg_16_a_forged_cursor_is_refused, |world| {
    let mut agent = world.browser();
    let login = world.log_in_as(&mut agent, (USERNAME, PASSWORD)).await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    connect_at(world, &mut agent, &me, "sandbox", "alice").await?;
    connect_at(world, &mut agent, &me, "sandbox", "bob").await?;
    let page = get(world, "accounts?take=1", &me).await?.json();
    let cursor = page["next"].as_str().unwrap().to_owned();
    let second = get(world, &format!("accounts?take=1&from={cursor}"), &me).await?;
    assert_eq!(second.status, 200);
    assert_eq!(second.json()["accounts"].as_array().unwrap().len(), 1);

    let mut flipped = cursor.clone().into_bytes();
    flipped[0] = if flipped[0] == b'0' { b'1' } else { b'0' };
    let flipped = String::from_utf8(flipped)?;
    for forged in [
        flipped.as_str(),
        &cursor[..cursor.len() - 1],
        &format!("{cursor}0"),
        &cursor[32..],
        "x",
        "0",
        "cac_",
        "%00",
        "%F0%9F%92%A9%F0%9F%92%A9%F0%9F%92%A9%F0%9F%92%A9%F0%9F%92%A9%F0%9F%92%A9%F0%9F%92%A9%F0%9F%92%A9%F0%9F%92%A9",
        &"0".repeat(500),
        "'%20or%201=1--",
    ] {
        let answer = get(world, &format!("accounts?from={forged}"), &me).await?;
        answer.assert_problem(400, forged);
    }
    // Of another list, and of another user.
    let answer = get(world, &format!("connections?from={cursor}"), &me).await?;
    answer.assert_problem(400, "another list's");
    world.another_user("eve@example.com").await;
    let mut other = world.browser();
    let eve = world
        .log_in_as(&mut other, ("eve@example.com", PASSWORD))
        .await?;
    let eve = world.my_account_token(&eve.refresh_token).await?;
    let answer = get(world, &format!("accounts?from={cursor}"), &eve).await?;
    answer.assert_problem(400, "another user's");
});

story!(mg_01_only_a_token_for_this_api_is_taken, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let machine = world
        .token(&json!({
            "grant_type": grant::CLIENT_CREDENTIALS,
            "client_id": world.clients.web.client.client_id,
            "client_secret": world.clients.web.secret,
            "audience": acceptance::DEMO_API,
        }))
        .await?
        .unwrap();
    let mut tampered = me.clone();
    tampered.truncate(me.len() - 6);
    let unsigned = format!(
        "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.",
        me.split('.').nth(1).unwrap()
    );
    for (token, what) in [
        (login.access_token.as_str(), "for the demo API"),
        (machine["access_token"].as_str().unwrap(), "of a machine"),
        (login.id_token.as_str(), "an ID token"),
        (login.refresh_token.as_str(), "a refresh token"),
        (tampered.as_str(), "a cut signature"),
        (unsigned.as_str(), "alg none"),
        ("x", "nothing"),
    ] {
        let answer = get(world, "accounts", token).await?;
        answer.assert_problem(401, what);
        let answer = post(world, "connect", token, &json!({})).await?;
        answer.assert_problem(401, what);
        let answer = call(world, Method::DELETE, "accounts/cac_x", Some(token), None).await?;
        answer.assert_problem(401, what);
    }
    let answer = call(world, Method::GET, "accounts", None, None).await?;
    answer.assert_problem(401, "no token");
    // In the query or a cookie it counts for nothing.
    let answer = call(
        world,
        Method::GET,
        &format!("accounts?access_token={me}"),
        None,
        None,
    )
    .await?;
    answer.assert_problem(401, "in the query");
    // It ends, and it ends with its user.
    assert_eq!(get(world, "accounts", &me).await?.status, 200);
    world
        .execute("update users set blocked_at = 1", params![])
        .await;
    get(world, "accounts", &me)
        .await?
        .assert_problem(401, "blocked");
    world
        .execute("update users set blocked_at = null", params![])
        .await;
    world.advance(24 * 3600 + 120);
    get(world, "accounts", &me)
        .await?
        .assert_problem(401, "expired");
});

story!(each_operation_needs_its_scope, |world| {
    let login = world.log_in().await?;
    for (scope, connect, list, delete) in [
        ("create:me:connected_accounts", 201, 403, 403),
        ("read:me:connected_accounts", 403, 200, 403),
        ("delete:me:connected_accounts", 403, 403, 404),
        (
            "create:me:connected_accounts read:me:connected_accounts",
            201,
            200,
            403,
        ),
    ] {
        let token = token_with(world, &login.refresh_token, scope).await?;
        let body = json!({ "connection": "sandbox", "redirect_uri": WEB_CALLBACK });
        for (answer, status) in [
            (post(world, "connect", &token, &body).await?, connect),
            (get(world, "accounts", &token).await?, list),
            (get(world, "connections", &token).await?, list),
            (
                call(world, Method::DELETE, "accounts/cac_x", Some(&token), None).await?,
                delete,
            ),
        ] {
            assert_eq!(answer.status, status, "{scope}: {}", answer.text);
            if status == 403 {
                answer.assert_problem(403, scope);
            }
        }
    }
});

story!(cn_28_what_is_not_yours_is_not_there, |world| {
    let mut agent = world.browser();
    let login = world.log_in_as(&mut agent, (USERNAME, PASSWORD)).await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let account = connect_at(world, &mut agent, &me, "sandbox", "alice").await?;
    let path = format!("accounts/{}", account["id"].as_str().unwrap());
    world.another_user("eve@example.com").await;
    let mut other = world.browser();
    let eve = world
        .log_in_as(&mut other, ("eve@example.com", PASSWORD))
        .await?;
    let eve = world.my_account_token(&eve.refresh_token).await?;
    // Somebody else's, one that never was, and what is no id: one answer.
    let mut bodies = Vec::new();
    for path in [
        path.as_str(),
        "accounts/cac_0000000000000000000000",
        "accounts/cac_",
        "accounts/con_1",
        "accounts/cac_%27%20or%201=1",
        "accounts/..%2Faccounts",
    ] {
        let answer = call(world, Method::DELETE, path, Some(&eve), None).await?;
        answer.assert_problem(404, path);
        bodies.push(answer.text);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    let body = world.refresh_exchange(&login.refresh_token);
    world.exchange(&body).await?.unwrap();
    // Its owner may, once.
    let answer = call(world, Method::DELETE, &path, Some(&me), None).await?;
    assert_eq!(answer.status, 204);
    let answer = call(world, Method::DELETE, &path, Some(&me), None).await?;
    answer.assert_problem(404, "deleted before");
    let refused = world.exchange(&body).await?.unwrap_err();
    assert_eq!(
        refused.error,
        "federated_connection_refresh_token_not_found"
    );
});

story!(cn_28_deleting_wins_over_a_refresh_in_flight, |world| {
    let mut agent = world.browser();
    let login = world.log_in_as(&mut agent, (USERNAME, PASSWORD)).await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let account = connect_at(world, &mut agent, &me, "sandbox", "alice").await?;
    let path = format!("accounts/{}", account["id"].as_str().unwrap());
    world.sandbox.set_behaviour(Behaviour {
        latency_ms: 400,
        rotation: sandbox::Rotation::Strict,
        ..Behaviour::default()
    });
    world.advance(3600);
    // My Account tokens end as well after a day only.
    let body = world.refresh_exchange(&login.refresh_token);
    let (asking, url) = (world.browser(), world.url("oauth/token"));
    let flight =
        tokio::spawn(async move { asking.call(Method::POST, &url, None, Some(&body)).await });
    while world.sandbox.calls().refresh == 0 {
        tokio::task::yield_now().await;
    }
    let answer = call(world, Method::DELETE, &path, Some(&me), None).await?;
    assert_eq!(answer.status, 204);
    let (status, answer) = flight.await??;
    assert!(!status.is_success(), "{answer}");
    for table in [
        "select count(*) from accounts",
        "select count(*) from accounts where token_set is not null",
    ] {
        assert_eq!(world.count(table, params![]).await, 0);
    }
    let listed = get(world, "accounts", &me).await?.json();
    assert_eq!(listed, json!({ "accounts": [] }));
    assert_eq!(world.journal_files(), 0);
});

story!(
    too_many_requests_are_told_when_to_come_back,
    Setup {
        web: WebOptions {
            me_requests_per_minute: 3,
            ..WebOptions::default()
        },
        ..Setup::default()
    },
    |world| {
        let login = world.log_in().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        let now = world.vault.now().as_second();
        for left in [2, 1, 0] {
            let answer = get(world, "accounts", &me).await?;
            assert_eq!(answer.status, 200);
            let (limit, remaining, reset) = answer.limits();
            assert_eq!((limit, remaining), (3, left));
            assert!((now..=now + 60).contains(&reset));
        }
        let answer = get(world, "accounts", &me).await?;
        answer.assert_problem(429, "one too many");
        assert_eq!(answer.limits().1, 0);
        assert_eq!(answer.headers["x-auth0-error-kind"], "global-rate-limit");
        let wait: u64 = answer.headers["retry-after"].to_str()?.parse()?;
        assert!((1..=60).contains(&wait));
        // Somebody else is not held up; and waiting as told is enough.
        world.another_user("eve@example.com").await;
        let mut other = world.browser();
        let eve = world
            .log_in_as(&mut other, ("eve@example.com", PASSWORD))
            .await?;
        let eve = world.my_account_token(&eve.refresh_token).await?;
        assert_eq!(get(world, "accounts", &eve).await?.status, 200);
        world.advance(wait);
        assert_eq!(get(world, "accounts", &me).await?.status, 200);
    }
);
