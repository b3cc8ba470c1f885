//! Input of every kind at the token endpoint and the My Account API: too much, too deep, twice, not text, not HTTP.
//! Each is refused in the form of its surface, and nothing is done.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{DEMO_API, Reply, WEB_CALLBACK, World, form_of, story};
use oauth::grant;
use reqwest::Method;
use serde_json::{Value, json};
use store::params;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const ME: &str = "me/v1/connected-accounts";

/// A token request that works.
fn client_credentials(world: &World) -> Value {
    json!({
        "grant_type": grant::CLIENT_CREDENTIALS,
        "client_id": world.clients.web.client.client_id,
        "client_secret": world.clients.web.secret,
        "audience": DEMO_API,
    })
}

/// Posts a body to the My Account API.
async fn post_me(
    world: &mut World,
    path: &str,
    token: &str,
    body: impl Into<reqwest::Body>,
) -> anyhow::Result<Reply> {
    let request = world
        .agent
        .request(Method::POST, &world.url(&format!("{ME}/{path}")))
        .bearer_auth(token)
        .header("content-type", JSON)
        .body(body);
    world.send(request).await
}

/// How often anything was given or begun.
async fn done(world: &World) -> (i64, i64) {
    let given = "select count(*) from audit where event like 'grant.%' and outcome = 'succeeded'";
    let begun = "select count(*) from connect_flows";
    (
        world.count(given, params![]).await,
        world.count(begun, params![]).await,
    )
}

story!(in_01_02_04_07_json_that_is_none, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let before = done(world).await;
    let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("\"k{n}\":1")).collect();
        format!("{{{}}}", names.join(","))
    };
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("in_01 depth 129", nested(129).into(), 400),
        ("in_01 depth 20,000", nested(20_000).into(), 400),
        ("in_01 never closed", "[".repeat(60_000).into(), 400),
        ("in_01 depth 100,000", nested(100_000).into(), 413),
        ("in_02 1,000,000 names", many(1_000_000).into(), 413),
        (
            "in_04 a name twice",
            br#"{"client_id":"a","client_id":"a"}"#.to_vec(),
            400,
        ),
        (
            "in_04 twice, once null",
            br#"{"scope":null,"scope":"a"}"#.to_vec(),
            400,
        ),
        (
            "in_04 twice, escaped",
            br#"{"scope":"a","\u0073cope":"a"}"#.to_vec(),
            400,
        ),
        ("in_07 a byte order mark", b"\xef\xbb\xbf{}".to_vec(), 400),
        ("in_07 half a pair", br#"{"scope":"\ud800"}"#.to_vec(), 400),
        (
            "in_07 the other half",
            br#"{"scope":"\udc00\ud800"}"#.to_vec(),
            400,
        ),
        ("in_07 not UTF-8", b"{\"scope\":\"\xff\"}".to_vec(), 400),
        ("in_07 overlong", b"{\"scope\":\"\xc0\x80\"}".to_vec(), 400),
        (
            "in_07 a surrogate in UTF-8",
            b"{\"scope\":\"\xed\xa0\x80\"}".to_vec(),
            400,
        ),
        ("in_07 UTF-16", b"\xff\xfe{\0}\0".to_vec(), 400),
        (
            "in_07 a control character",
            b"{\"scope\":\"a\x01\"}".to_vec(),
            400,
        ),
        ("nothing", Vec::new(), 400),
        ("null", b"null".to_vec(), 400),
        ("a list", b"[]".to_vec(), 400),
        ("a text", b"\"grant_type\"".to_vec(), 400),
        ("two documents", b"{}{}".to_vec(), 400),
        ("a comma too many", b"{\"a\":1,}".to_vec(), 400),
        ("not a number", b"{\"a\":NaN}".to_vec(), 400),
        ("a comment", b"{/**/}".to_vec(), 400),
        ("a form", b"grant_type=client_credentials".to_vec(), 400),
    ];
    for (what, body, status) in cases {
        let paths = ["oauth/token", "oauth/revoke", "oauth/par"];
        for path in paths {
            let reply = world.post_as(path, JSON, body.clone()).await?;
            reply.assert_oauth_error(status, "invalid_request", what);
        }
        for path in ["connect", "complete"] {
            let reply = post_me(world, path, &me, body.clone()).await?;
            reply.assert_problem(status, what);
        }
    }
    // Who is not let in hears that, too, however much was still to come.
    let much = json!({ "clients": "x".repeat(5_000_000) });
    let reply = world
        .manage(
            reqwest::Method::POST,
            "configuration",
            "nobody",
            Some(&much),
        )
        .await?;
    assert_eq!(reply.status, 401, "{}", reply.text);
    // And its next request on the connection is heard, however late the body of the first one came.
    for request in [
        "POST /api/v2/clients HTTP/1.1",
        "DELETE /api/v2/configuration HTTP/1.1",
        "POST /nowhere HTTP/1.1",
    ] {
        for (length, body) in [
            ("content-length: 5", "hello"),
            ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let first =
                format!("{request}\r\nhost: a\r\ncontent-type: text/plain\r\n{length}\r\n\r\n");
            let next = "GET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let said = world
                .say_with_a_break(first.as_bytes(), format!("{body}{next}").as_bytes())
                .await?;
            assert_eq!(
                said.matches("HTTP/1.1 ").count(),
                2,
                "{request} {length}: {said}"
            );
        }
    }
    // What only the flat objects of OAuth refuse: lists and objects, a NUL, a hundred names and more.
    let good = client_credentials(world);
    for (what, name, value) in [
        ("in_07 NUL", "scope", json!("a\0b")),
        ("in_07 a replaced character", "scope", json!("a\u{fffd}")),
        ("a list", "scope", json!(["read:reports"])),
        ("an object", "scope", json!({ "0": "read:reports" })),
        ("a list", "grant_type", json!([grant::CLIENT_CREDENTIALS])),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let reply = world.post_as("oauth/token", JSON, body.to_string()).await?;
        reply.assert_oauth_error(400, "invalid_request", what);
    }
    let reply = world.post_as("oauth/token", JSON, many(5000)).await?;
    reply.assert_oauth_error(400, "invalid_request", "in_02 5,000 names");
    for (name, value) in [
        ("connection", json!("sandbox\0")),
        ("connection", json!(["sandbox"])),
        ("connection", json!("x".repeat(60_000))),
        ("redirect_uri", json!(format!("{WEB_CALLBACK}\0"))),
        ("state", json!("a\0b")),
    ] {
        let mut body =
            json!({ "connection": "sandbox", "redirect_uri": WEB_CALLBACK, "state": "s" });
        body[name] = value;
        let reply = post_me(world, "connect", &me, body.to_string()).await?;
        reply.assert_problem(400, name);
    }
    assert_eq!(done(world).await, before);
    assert!(world.token(&good).await?.is_ok());
});

story!(in_05_a_body_without_an_end, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let paths = [
        "oauth/token".to_owned(),
        "oauth/revoke".to_owned(),
        format!("{ME}/connect"),
    ];
    for path in paths {
        let head = format!(
            "POST /{path} HTTP/1.1\r\nhost: vault.test\r\nauthorization: Bearer {me}\r\ncontent-type: {JSON}\r\n"
        );
        // Announced: refused before a byte of it is read.
        let request = format!("{head}content-length: 5368709120\r\n\r\n{{");
        let answer = world.say(request.as_bytes()).await?;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
        assert!(answer.contains("connection: close"), "{path}: {answer}");
        // Not announced: refused as soon as it is too much.
        let mut request = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
        request.extend(b"8\r\n{\"x\":\"xx\r\n");
        for _ in 0..40 {
            request.extend(b"1000\r\n");
            request.extend([b'x'; 0x1000]);
            request.extend(b"\r\n");
        }
        let answer = world.say(&request).await?;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
});

story!(in_08_forms_with_names_twice_and_other_separators, |world| {
    world.log_in().await?;
    let before = done(world).await;
    let form: Vec<String> = form_of(&client_credentials(world))
        .iter()
        .map(|(name, value)| {
            let pair = [(name, value)];
            reqwest::Url::parse_with_params("x:", pair)
                .unwrap()
                .query()
                .unwrap()
                .to_owned()
        })
        .collect();
    let good = form.join("&");
    for (what, body, error) in [
        (
            "a name twice",
            format!("{good}&scope=a&scope=a"),
            "invalid_request",
        ),
        (
            "the grant twice",
            format!("{good}&{}", form[0]),
            "invalid_request",
        ),
        (
            "the client twice",
            format!("{good}&client_id=x"),
            "invalid_request",
        ),
        (
            "empty the second time",
            format!("{good}&audience="),
            "invalid_request",
        ),
        (
            "an unknown name twice",
            format!("{good}&x=1&x=2"),
            "invalid_request",
        ),
        (
            "escaped the second time",
            format!("{good}&%63lient_id=x"),
            "invalid_request",
        ),
        ("NUL", format!("{good}&scope=a%00b"), "invalid_request"),
        (
            "NUL in a name",
            format!("{good}&scope%00=a"),
            "invalid_request",
        ),
        ("not UTF-8", format!("{good}&scope=%ff"), "invalid_request"),
        (
            "overlong",
            format!("{good}&scope=%c0%80"),
            "invalid_request",
        ),
        (
            "a surrogate",
            format!("{good}&scope=%ed%a0%80"),
            "invalid_request",
        ),
        // A list is another name, and a semicolon is a character.
        (
            "a list",
            good.replace("grant_type=", "grant_type[]="),
            "invalid_request",
        ),
        ("semicolons", form.join(";"), "invalid_request"),
        (
            "half an escape",
            good.replace("audience=", "audience=%"),
            "invalid_target",
        ),
        (
            "a hundred names",
            format!(
                "{good}{}",
                (0..100).map(|n| format!("&n{n}=1")).collect::<String>()
            ),
            "invalid_request",
        ),
    ] {
        let reply = world.post_as("oauth/token", FORM, body).await?;
        reply.assert_oauth_error(400, error, what);
    }
    assert_eq!(done(world).await, before);
    // A plus is a space, an empty value is none, an unknown name nothing.
    let body = format!("{good}&scope=read:reports+write%3Areports&resource=&auth0Client=x&a;b=c");
    let reply = world.post_as("oauth/token", FORM, body).await?;
    assert_eq!(reply.json()["scope"], "read:reports write:reports");
    assert_eq!(reply.headers["content-type"], JSON);
    assert_eq!(reply.headers["cache-control"], "no-store");
});

story!(in_10_two_requests_in_one_or_none, |world| {
    world.log_in().await?;
    let before = done(world).await;
    let body = client_credentials(world).to_string();
    let length = body.len();
    let head =
        format!("POST /oauth/token HTTP/1.1\r\nhost: vault.test\r\ncontent-type: {JSON}\r\n");
    let smuggled = format!("{head}content-length: {length}\r\n\r\n{body}");
    for (what, request) in [
        (
            "two lengths",
            format!("{head}content-length: 0\r\ncontent-length: {length}\r\n\r\n{body}"),
        ),
        (
            "a list of lengths",
            format!("{head}content-length: 0, {length}\r\n\r\n{body}"),
        ),
        (
            "a length with a sign",
            format!("{head}content-length: +{length}\r\n\r\n{body}"),
        ),
        (
            "a length in hexadecimal",
            format!("{head}content-length: 0x10\r\n\r\n{body}"),
        ),
        (
            "a chunk without a size",
            format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk of every size",
            format!(
                "{head}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{body}\r\n0\r\n\r\n"
            ),
        ),
        (
            "another encoding",
            format!("{head}transfer-encoding: gzip\r\n\r\n{body}"),
        ),
        (
            "a space before the colon",
            format!("{head}content-length : {length}\r\n\r\n{body}"),
        ),
        (
            "a folded header",
            format!("{head}x: a\r\n b\r\ncontent-length: {length}\r\n\r\n{body}"),
        ),
        (
            "NUL in a header",
            format!("{head}x: \0\r\ncontent-length: {length}\r\n\r\n{body}"),
        ),
        ("another version", smuggled.replace("HTTP/1.1", "HTTP/3.7")),
        (
            "lengths that differ with a request behind",
            format!(
                "{head}content-length: 2\r\ncontent-length: {}\r\n\r\n{{}}{smuggled}",
                length + 2
            ),
        ),
    ] {
        let answer = world.say(request.as_bytes()).await?;
        let statuses: Vec<&str> = answer.matches("HTTP/1.1 ").collect();
        assert_eq!(statuses.len(), 1, "{what}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
    }
    assert_eq!(done(world).await, before);
    let alone = smuggled.replace("host:", "connection: close\r\nhost:");
    let answer = world.say(alone.as_bytes()).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
});

story!(in_11_malformed_authorization, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let before = done(world).await;
    let body = client_credentials(world).to_string();
    let mut nameless = client_credentials(world);
    for name in ["client_id", "client_secret"] {
        nameless.as_object_mut().unwrap().remove(name);
    }
    let nameless = nameless.to_string();
    let big = format!("Bearer {}", "x".repeat(50_000));
    for value in [
        &b"%"[..],
        b"%zz %zz",
        b"Basic",
        b"Basic ",
        b"Basic %00",
        b"Bearer",
        b"Bearer a b",
        b"Negotiate YII=",
        b"Bearer \xff\xfe",
        b"Basic \xc3\xa9",
        b"\xe2\x98\x83",
        big.as_bytes(),
    ] {
        let value = reqwest::header::HeaderValue::from_bytes(value)?;
        let what = format!("{:.20}", String::from_utf8_lossy(value.as_bytes()));
        for body in [&body, &nameless] {
            let request = world
                .agent
                .request(Method::POST, &world.url("oauth/token"))
                .header("authorization", value.clone())
                .header("content-type", JSON)
                .body(body.clone());
            let reply = world.send(request).await?;
            reply.assert_oauth_error(401, "invalid_client", &what);
        }
        for path in [&format!("{ME}/accounts"), "userinfo"] {
            let request = world
                .agent
                .request(Method::GET, &world.url(path))
                .header("authorization", value.clone());
            assert_eq!(world.send(request).await?.status, 401, "{what} {path}");
        }
    }
    // Two headers, both good.
    for (path, value) in [
        (format!("{ME}/accounts"), &me),
        ("userinfo".to_owned(), &login.access_token),
    ] {
        let request = world
            .agent
            .request(Method::GET, &world.url(&path))
            .header("authorization", format!("Bearer {value}"))
            .header("authorization", format!("Bearer {value}"));
        assert_eq!(world.send(request).await?.status, 401, "{path}");
    }
    assert_eq!(done(world).await, before);
});

story!(in_14_paths_that_are_spelled_otherwise, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let before = done(world).await;
    let body = client_credentials(world).to_string();
    for path in [
        "//oauth/token",
        "/oauth//token",
        "/oauth/token/",
        "/oauth/./token",
        "/x/../oauth/token",
        "/oauth%2ftoken",
        "/oauth%5ctoken",
        "/oauth\\token",
        "/oauth/token;v=1",
        "/oauth;/token",
        "/oauth/token%00",
        "/oauth/token%20",
        "/OAuth/Token",
        "/oauth/%74oken",
        "oauth/token",
    ] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: vault.test\r\nconnection: close\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = world.say(request.as_bytes()).await?;
        assert!(
            answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"),
            "{path}: {answer}"
        );
    }
    // One token's accounts cannot be reached around their route.
    for path in [
        "/me/v1/connected-accounts/accounts/..%2f..%2f..%2f..%2foauth%2ftoken",
        "/me/v1/connected-accounts/accounts/%2e%2e",
        "/me/v1/connected-accounts/accounts/cac_1%2F..%2F",
        "/me/v1/connected-accounts/accounts/cac_1;x",
        "/me/v1/connected-accounts//accounts/cac_1",
    ] {
        let request = format!(
            "DELETE {path} HTTP/1.1\r\nhost: vault.test\r\nconnection: close\r\nauthorization: Bearer {me}\r\n\r\n"
        );
        let answer = world.say(request.as_bytes()).await?;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(
            answer.contains("application/problem+json"),
            "{path}: {answer}"
        );
    }
    assert_eq!(done(world).await, before);
});

story!(in_16_in_17_compressed_bodies_and_long_addresses, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let body = client_credentials(world).to_string();
    for coding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"] {
        for path in [
            "oauth/token",
            "oauth/revoke",
            "oauth/par",
            "me/v1/connected-accounts/connect",
        ] {
            let request = world
                .agent
                .request(Method::POST, &world.url(path))
                .bearer_auth(&me)
                .header("content-type", JSON)
                .header("content-encoding", coding)
                .body(body.clone());
            let reply = world.send(request).await?;
            assert_eq!(reply.status, 415, "{coding} {path}");
        }
    }
    let many = (0..500).map(|n| format!("p{n}=1&")).collect::<String>();
    for path in [
        "oauth/token",
        "authorize",
        "userinfo",
        "me/v1/connected-accounts/accounts",
    ] {
        for (length, statuses) in [(60_000, &["414"][..]), (100_000, &["414", "431"])] {
            let request = format!(
                "GET /{path}?{} HTTP/1.1\r\nhost: vault.test\r\nconnection: close\r\nauthorization: Bearer {me}\r\n\r\n",
                "a".repeat(length)
            );
            let answer = world.say(request.as_bytes()).await?;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(statuses.contains(&status), "{path} {length}: {answer}");
        }
    }
    let reply = world
        .agent
        .request(Method::GET, &format!("{}?{many}", world.url("authorize")));
    assert_eq!(world.send(reply).await?.status, 400);
    // The token endpoint reads no query, however long: secrets do not belong there (RFC 6749 §2.3.1).
    let everything: Vec<String> = form_of(&client_credentials(world))
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let path = format!("oauth/token?{}", everything.join("&"));
    let reply = world.post_as(&path, FORM, "").await?;
    reply.assert_oauth_error(400, "invalid_request", "everything in the query");
});

story!(in_23_text_that_means_something_elsewhere, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let tables = "select (select count(*) from users) + (select count(*) from clients)
                       + (select count(*) from accounts) + (select count(*) from refresh_tokens)";
    let before = (done(world).await, world.count(tables, params![]).await);
    let texts = [
        "' or '1'='1",
        "'; drop table users; --",
        "\" or \"\"=\"",
        "%",
        "_",
        "*)(uid=*))(|(uid=*",
        "{{7*7}}",
        "${jndi:ldap://127.0.0.1/a}",
        "$(id)",
        "../../../../etc/passwd",
        "<script>alert(1)</script>",
        "{\"$gt\":\"\"}",
        "\\",
        "1e309",
        "-1",
        "null",
        "ᴀ＠ı\u{202e}",
    ];
    for text in texts {
        let mut token = client_credentials(world);
        let mut refresh = world.refresh_exchange(&login.refresh_token);
        let names = |body: &Value| -> Vec<String> {
            let optional = ["scope", "login_hint", "min_ttl", "resource"].map(str::to_owned);
            body.as_object()
                .unwrap()
                .keys()
                .cloned()
                .chain(optional)
                .collect()
        };
        for body in [&mut token, &mut refresh] {
            for name in names(body) {
                // Without a meaning in this grant, a parameter is ignored.
                let ignored = body["grant_type"] == json!(grant::TOKEN_VAULT) && name == "resource"
                    || body["grant_type"] == json!(grant::CLIENT_CREDENTIALS)
                        && ["login_hint", "min_ttl", "scope"].contains(&&*name);
                if ignored {
                    continue;
                }
                let mut body = body.clone();
                body[&name] = json!(text);
                let reply = world.post_as("oauth/token", JSON, body.to_string()).await?;
                assert!(
                    (400..404).contains(&reply.status),
                    "{name} {text}: {} {}",
                    reply.status,
                    reply.text
                );
            }
        }
        for name in ["connection", "redirect_uri"] {
            let mut body = json!({ "connection": "sandbox", "redirect_uri": WEB_CALLBACK });
            body[name] = json!(text);
            let reply = post_me(world, "connect", &me, body.to_string()).await?;
            reply.assert_problem(400, &format!("{name} {text}"));
        }
    }
    let after = (done(world).await, world.count(tables, params![]).await);
    assert_eq!(after, before);
});

story!(in_25_in_26_headers_that_change_nothing, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let accounts = format!("{ME}/accounts");
    let long = "x".repeat(40_000);
    let plain = world
        .agent
        .expect(Method::GET, &world.url(&accounts), Some(&me), None)
        .await?;
    for (name, value) in [
        ("accept", long.as_str()),
        ("accept", "text/html;q=0"),
        ("accept-language", long.as_str()),
        ("accept-language", "../../../../etc/passwd"),
        ("range", "bytes=0-1"),
        ("if-none-match", "*"),
        ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
        // IN-13: nobody is let through for what they call themselves.
        ("user-agent", "kube-probe/1.30"),
        ("x-forwarded-host", "evil.test"),
        ("x-original-url", "/oauth/token"),
        ("x-http-method-override", "DELETE"),
        ("auth0-client", "not base64"),
    ] {
        let request = world
            .agent
            .request(Method::GET, &world.url(&accounts))
            .bearer_auth(&me)
            .header(name, value);
        let reply = world.send(request).await?;
        assert_eq!((reply.status, reply.json()), (200, plain.clone()), "{name}");
        let request = world
            .agent
            .request(Method::GET, &world.url(&accounts))
            .header(name, value);
        assert_eq!(world.send(request).await?.status, 401, "{name}");
        let body = world.refresh_exchange(&login.refresh_token).to_string();
        let request = world
            .agent
            .request(Method::POST, &world.url("oauth/token"))
            .header("content-type", JSON)
            .header(name, value)
            .body(body);
        let reply = world.send(request).await?;
        assert_eq!(reply.status, 200, "{name}");
        assert_eq!(reply.headers["cache-control"], "no-store");
        assert!(!reply.headers.contains_key("etag"));
    }
});

story!(in_28_tk_58_numbers_at_their_edges, |world| {
    let login = world.connected().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let good = world.refresh_exchange(&login.refresh_token);
    for (min_ttl, status) in [
        (json!(0), 200),
        (json!("59"), 200),
        (json!(86_400), 200),
        (json!(86_401), 400),
        (json!(-1), 400),
        (json!("+1"), 400),
        (json!("1 "), 400),
        (json!(1.5), 400),
        (json!("1e18"), 400),
        (json!(1e18), 400),
        (json!(true), 400),
        (json!(i64::from(i32::MAX)), 400),
        (json!(i64::MAX), 400),
        (json!(u64::MAX), 400),
        (json!("18446744073709551616"), 400),
        // Absent.
        (json!(""), 200),
        (Value::Null, 200),
    ] {
        let mut body = good.clone();
        body["min_ttl"] = min_ttl.clone();
        let reply = world.post_as("oauth/token", JSON, body.to_string()).await?;
        if status == 400 {
            reply.assert_oauth_error(400, "invalid_request", &min_ttl.to_string());
        } else {
            assert_eq!(reply.status, status, "{min_ttl}: {}", reply.text);
            assert!(reply.json()["expires_in"].is_u64());
        }
    }
    for take in [
        "0",
        "21",
        "-1",
        "1.0",
        "2147483648",
        "9223372036854775808",
        "18446744073709551616",
        "",
    ] {
        let path = format!("{ME}/accounts?take={take}");
        let request = world
            .agent
            .request(Method::GET, &world.url(&path))
            .bearer_auth(&me);
        world.send(request).await?.assert_problem(400, take);
    }
});
