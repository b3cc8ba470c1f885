//! `/authorize` and pushed requests: who is answered, where, and after asking what (threats AU-*).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{PASSWORD, SPA_CALLBACK, Setup, USERNAME, WEB_CALLBACK, World, jwt_claims, story};
use anyhow::Result;
use headless::{Agent, Stop};
use oauth::grant;
use reqwest::Method;
use serde_json::{Value, json};
use store::params;
use vault::{AppType, NewClient, TokenEndpointAuthMethod};
use web::WebOptions;

/// Every redirect stops the browser.
const ANYWHERE: &str = "";

/// The first answer to an authorize URL, in a browser that has been nowhere yet.
async fn first_answer(world: &World, url: &str) -> Result<Stop> {
    world.browser().open_any(url, ANYWHERE).await
}

/// The same for a change of the web client's request.
async fn answer_to(world: &mut World, change: &[(&str, &str)]) -> Result<Stop> {
    let (url, _) = world.authorize_url(change)?;
    first_answer(world, &url).await
}

/// A page of ours that says no, and nothing that leads to a client.
fn assert_page(stop: &Stop, what: &str) {
    assert!(!stop.page.is_empty(), "{what} led to {}", stop.url);
    assert_eq!(stop.status, 400, "{what}: {}", stop.page);
    assert!(!stop.page.contains("<form"), "{what}");
}

/// The login page is next.
fn assert_login(world: &World, stop: &Stop, what: &str) {
    let login = world.url("u/login?state=");
    assert!(
        stop.url.as_str().starts_with(&login),
        "{what}: {}",
        stop.url
    );
}

/// An error at the web client's redirect URI, with its state and our name, each once.
fn assert_refused(world: &World, stop: &Stop, error: &str, what: &str) {
    assert!(
        stop.url.as_str().starts_with(WEB_CALLBACK),
        "{what}: {} {}",
        stop.url,
        stop.page
    );
    assert_eq!(stop.parameter("error").as_deref(), Some(error), "{what}");
    assert!(stop.parameter("error_description").is_some(), "{what}");
    assert_eq!(stop.parameter("code"), None, "{what}");
    assert_eq!(stop.parameter("state").as_deref(), Some("client-state"));
    assert_named_once(world, stop);
}

/// RFC 9207: exactly one `iss`, and it is ours.
fn assert_named_once(world: &World, stop: &Stop) {
    let named: Vec<String> = stop
        .url
        .query_pairs()
        .filter(|(name, _)| name == "iss")
        .map(|(_, value)| value.into_owned())
        .collect();
    assert_eq!(named, [world.url("")], "{}", stop.url);
}

/// A client of somebody else, which may log users in.
fn third_party() -> NewClient {
    NewClient {
        name: "Somebody else's".to_owned(),
        is_first_party: false,
        grant_types: vec![
            grant::AUTHORIZATION_CODE.to_owned(),
            grant::REFRESH_TOKEN.to_owned(),
        ],
        callbacks: vec![WEB_CALLBACK.to_owned()],
        ..NewClient::default()
    }
}

/// Pushes the web client's request.
async fn push(world: &mut World, change: &[(&str, &str)]) -> Result<(Value, String)> {
    let (url, verifier) = world.authorize_url(change)?;
    let mut body: serde_json::Map<String, Value> = url::Url::parse(&url)?
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), json!(value)))
        .collect();
    body.insert("client_secret".to_owned(), json!(world.clients.web.secret));
    let url = world.url("oauth/par");
    let body = Value::Object(body);
    let (status, answer) = world
        .agent
        .call(Method::POST, &url, None, Some(&body))
        .await?;
    assert_eq!(status, 201, "{answer}");
    Ok((answer, verifier))
}

/// The authorize URL of a pushed request.
fn pushed_url(world: &World, client_id: &str, pushed: &Value) -> String {
    let fields = [
        ("client_id", client_id),
        ("request_uri", pushed["request_uri"].as_str().unwrap()),
    ];
    url::Url::parse_with_params(&world.url("authorize"), fields)
        .unwrap()
        .into()
}

/// The world's own browser, where the user is logged in, with `prompt=none`: the answer without any page.
async fn silent(world: &mut World, change: &[(&str, &str)]) -> Result<Stop> {
    let mut all = vec![("prompt", "none")];
    all.extend(change);
    let (url, _) = world.authorize_url(&all)?;
    world.agent.open_any(&url, ANYWHERE).await
}

story!(au_01_an_unknown_or_disabled_client_gets_a_page, |world| {
    for client_id in ["nobody", "", &"x".repeat(300)] {
        let stop = answer_to(world, &[("client_id", client_id)]).await?;
        assert_page(&stop, client_id);
    }
    let client_id = world.clients.web.client.client_id.clone();
    world
        .execute(
            "update clients set disabled_at = $1 where client_id = $2",
            params![world.vault.now(), client_id],
        )
        .await;
    assert_page(&answer_to(world, &[]).await?, "disabled");
});

story!(
    au_02_04_05_an_unregistered_redirect_uri_gets_a_page,
    |world| {
        for redirect_uri in [
            // AU-02: missing, and simply another.
            "",
            "https://app.test/",
            "https://app.test/callback/../evil",
            "https://app.test/callback?x=1",
            "https://app.test/callback#f",
            // AU-04: what a parser and a browser read differently.
            "https://app.test@evil.test/callback",
            "https://evil.test\\@app.test/callback",
            "https://app.test/call\tback",
            "https://app.test/callback\n",
            "https://app.test/callback ",
            "https://app.test\\callback",
            // AU-05: the same to a parser, but not byte for byte.
            "HTTPS://app.test/callback",
            "https://App.test/callback",
            "https://app.test./callback",
            "https://app.test:443/callback",
            "https://app.test/%63allback",
            "https://xn--pp-xka.test/callback",
            "javascript:alert(1)",
        ] {
            let stop = answer_to(world, &[("redirect_uri", redirect_uri)]).await?;
            assert_page(&stop, redirect_uri);
            assert!(!stop.page.contains("evil.test"), "{redirect_uri}");
        }
    }
);

story!(au_07_what_cannot_be_registered, |world| {
    for redirect_uri in [
        "http://app.test/callback",
        "com.example.app:/callback",
        "https://*.app.test/callback",
        "https://app.test/callback#fragment",
        "javascript:alert(1)",
    ] {
        let refused = world
            .vault
            .create_client(NewClient {
                name: "Unfit".to_owned(),
                callbacks: vec![redirect_uri.to_owned()],
                ..NewClient::default()
            })
            .await;
        match refused {
            Err(vault::Error::Refused(refusal)) => assert_eq!(refusal.status(), 400),
            other => panic!("{redirect_uri}: {other:?}"),
        }
    }
});

story!(
    au_08_a_native_client_may_vary_the_port_of_a_loopback_address,
    |world| {
        let native = world
            .register(NewClient {
                name: "Installed".to_owned(),
                app_type: AppType::Native,
                token_endpoint_auth_method: TokenEndpointAuthMethod::None,
                grant_types: vec![grant::AUTHORIZATION_CODE.to_owned()],
                callbacks: vec![
                    "http://127.0.0.1/cb".to_owned(),
                    "http://[::1]/cb".to_owned(),
                ],
                ..NewClient::default()
            })
            .await;
        for (redirect_uri, expected) in [
            ("http://127.0.0.1/cb", true),
            ("http://127.0.0.1:51004/cb", true),
            ("http://[::1]:51004/cb", true),
            ("http://localhost:51004/cb", false),
            ("http://127.1:51004/cb", false),
            ("http://0.0.0.0:51004/cb", false),
            ("http://127.0.0.1.evil.test/cb", false),
            ("http://127.0.0.1:51004/other", false),
        ] {
            let change = [
                ("client_id", native.client.client_id.as_str()),
                ("redirect_uri", redirect_uri),
            ];
            let stop = answer_to(world, &change).await?;
            if expected {
                assert_login(world, &stop, redirect_uri);
            } else {
                assert_page(&stop, redirect_uri);
            }
        }
    }
);

story!(au_10_two_redirect_uris_get_a_page, |world| {
    let (url, _) = world.authorize_url(&[])?;
    for second in [WEB_CALLBACK, "https://evil.test/"] {
        let stop = first_answer(world, &format!("{url}&redirect_uri={second}")).await?;
        assert_page(&stop, second);
    }
    // One in the body, one in the query.
    let fields: Vec<(String, String)> = url::Url::parse(&url)?
        .query_pairs()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let post = world.url("authorize");
    let stop = world.browser().post(&post, &fields, ANYWHERE).await?;
    assert_login(world, &stop, "a request as a form");
    let post = format!("{post}?redirect_uri=https%3A%2F%2Fevil.test%2F");
    let stop = world.browser().post(&post, &fields, ANYWHERE).await?;
    assert_page(&stop, "body and query");
});

story!(
    au_11_the_redirect_uri_of_another_client_gets_a_page,
    |world| {
        let spa = world.clients.spa.client.client_id.clone();
        let stop = answer_to(world, &[("client_id", &spa)]).await?;
        assert_page(&stop, "web's URI with the client of the single page");
        let stop = answer_to(world, &[("redirect_uri", SPA_CALLBACK)]).await?;
        assert_page(&stop, "the single page's URI with the web client");
    }
);

story!(
    au_13_14_16_19_20_a_malformed_request_is_answered_at_the_client,
    |world| {
        let (short, long) = ("a".repeat(42), "a".repeat(129));
        let padded = format!("{}=", "a".repeat(43));
        for (change, error) in [
            (("code_challenge", ""), "invalid_request"),
            (("code_challenge_method", "plain"), "invalid_request"),
            (("code_challenge_method", ""), "invalid_request"),
            (("code_challenge_method", "s256"), "invalid_request"),
            (("code_challenge", short.as_str()), "invalid_request"),
            (("code_challenge", long.as_str()), "invalid_request"),
            (("code_challenge", padded.as_str()), "invalid_request"),
            (("response_type", ""), "invalid_request"),
            (("response_type", "token"), "unsupported_response_type"),
            (("response_type", "id_token"), "unsupported_response_type"),
            (("response_type", "code token"), "unsupported_response_type"),
            (("response_mode", "fragment"), "invalid_request"),
            (("response_mode", "web_message"), "invalid_request"),
            (("request", "a.b.c"), "request_not_supported"),
            (("prompt", "none login"), "invalid_request"),
            (("max_age", "-1"), "invalid_request"),
            (("audience", "https://unknown.test/"), "invalid_target"),
        ] {
            let stop = answer_to(world, &[change]).await?;
            assert_refused(world, &stop, error, &format!("{change:?}"));
        }
        let refused = world.audited("authorize").await;
        assert_eq!(refused.len(), 17);
        assert!(refused.iter().all(|(outcome, _)| outcome == "refused"));
    }
);

story!(
    au_22_what_a_client_brings_is_never_mistaken_for_the_answer,
    |world| {
        // The client registered, in good faith or not, a URI that looks like an answer already.
        let looks_answered = "https://app.test/callback?iss=evil&code=evil&error=evil";
        let client = world
            .register(NewClient {
                is_first_party: true,
                callbacks: vec![looks_answered.to_owned()],
                ..third_party()
            })
            .await;
        let state = "s&iss=https://evil.test&code=evil#x";
        let change = [
            ("client_id", client.client.client_id.as_str()),
            ("redirect_uri", looks_answered),
            ("state", state),
        ];
        let (url, _) = world.authorize_url(&change)?;
        let mut agent = world.browser();
        let stop = world.pass(&mut agent, &url, WEB_CALLBACK).await?;
        let pairs: Vec<(String, String)> = stop.url.query_pairs().into_owned().collect();
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["iss", "code", "error", "code", "state", "iss"]);
        assert_eq!(pairs[4].1, state);
        assert_eq!(pairs[5].1, world.url(""));
        assert!(pairs[3].1.len() > 20);
        assert_eq!(stop.url.fragment(), None);
        // The same of an error.
        let (url, _) = world.authorize_url(&[change[0], change[1], ("prompt", "none")])?;
        let stop = first_answer(world, &url).await?;
        let tail = stop.url.query().unwrap().split_once("error=evil&").unwrap();
        assert!(tail.1.starts_with("error=login_required&"), "{}", tail.1);
    }
);

story!(au_23_only_the_client_itself_pushes_its_request, |world| {
    let (url, _) = world.authorize_url(&[])?;
    let good: Value = Value::Object(
        url::Url::parse(&url)?
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), json!(value)))
            .collect(),
    );
    let web = world.clients.web.secret.clone();
    let par = world.url("oauth/par");
    let mut bodies = Vec::new();
    for change in [
        json!({}),
        json!({ "client_secret": "wrong" }),
        json!({ "client_id": "nobody", "client_secret": "wrong" }),
        json!({ "client_id": world.clients.api.client.client_id, "client_secret": web }),
    ] {
        let mut body = good.clone();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let (status, answer) = world
            .agent
            .call(Method::POST, &par, None, Some(&body))
            .await?;
        assert_eq!(status, 401, "{change}");
        assert_eq!(answer["error"], "invalid_client");
        bodies.push(answer.to_string());
    }
    // 'No such client' and 'wrong secret' are one answer.
    assert_eq!(bodies[1], bodies[2]);
    // What is refused at /authorize is refused here, as JSON.
    for (name, value, error) in [
        ("redirect_uri", "https://evil.test/", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("response_type", "token", "unsupported_response_type"),
        // RFC 9126 §2.1: no pushed request inside a pushed request.
        (
            "request_uri",
            "urn:ietf:params:oauth:request_uri:x",
            "invalid_request",
        ),
    ] {
        let mut body = good.clone();
        body["client_secret"] = json!(web);
        body[name] = json!(value);
        let (status, answer) = world
            .agent
            .call(Method::POST, &par, None, Some(&body))
            .await?;
        assert_eq!(
            (status.as_u16(), &answer["error"]),
            (400, &json!(error)),
            "{name}"
        );
    }
    let (status, _) = world.agent.call(Method::GET, &par, None, None).await?;
    assert_eq!(status, 405);
    assert_eq!(
        world
            .count("select count(*) from pushed_requests", params![])
            .await,
        0
    );
});

story!(
    au_25_26_28_a_pushed_request_is_answered_once_for_one_client,
    |world| {
        let web = world.clients.web.client.client_id.clone();
        let (pushed, verifier) = push(world, &[]).await?;
        assert_eq!(pushed["expires_in"], 90);
        let request_uri = pushed["request_uri"].as_str().unwrap().to_owned();
        assert!(request_uri.starts_with("urn:ietf:params:oauth:request_uri:"));
        world.secret(request_uri.rsplit_once(':').unwrap().1);

        // AU-28: of client A with client B; without a client at all.
        let spa = world.clients.spa.client.client_id.clone();
        let stop = first_answer(world, &pushed_url(world, &spa, &pushed)).await?;
        assert_page(&stop, "another client");
        let stop = first_answer(world, &pushed_url(world, "", &pushed)).await?;
        assert_page(&stop, "no client");

        // AU-26: reloading before the login is done works, in another browser too.
        let url = pushed_url(world, &web, &pushed);
        let stop = first_answer(world, &url).await?;
        assert_login(world, &stop, "a pushed request");
        let mut agent = world.browser();
        let stop = agent.open_any(&url, ANYWHERE).await?;
        assert_login(world, &stop, "a reload");
        let stop = world.pass(&mut agent, &url, WEB_CALLBACK).await?;
        assert_named_once(world, &stop);
        let code = stop.answer("code")?;
        let tokens = world.redeem_code(&code, &verifier).await?.unwrap();
        assert!(tokens["id_token"].is_string());

        // AU-25: after the answer it is used up, for this browser and for others.
        assert_page(&agent.open_any(&url, ANYWHERE).await?, "used");
        assert_page(&first_answer(world, &url).await?, "used, elsewhere");

        // Too late.
        let (pushed, _) = push(world, &[]).await?;
        let url = pushed_url(world, &web, &pushed);
        world.advance(91);
        assert_page(&first_answer(world, &url).await?, "expired");
    }
);

story!(au_17_what_was_pushed_wins_over_the_query, |world| {
    let web = world.clients.web.client.client_id.clone();
    let (pushed, verifier) = push(world, &[]).await?;
    let url = format!(
        "{}&code_challenge={}&redirect_uri=https%3A%2F%2Fevil.test%2F&state=other&scope=openid",
        pushed_url(world, &web, &pushed),
        "A".repeat(43)
    );
    let mut agent = world.browser();
    let stop = world.pass(&mut agent, &url, WEB_CALLBACK).await?;
    assert_eq!(stop.parameter("state").as_deref(), Some("client-state"));
    let code = stop.answer("code")?;
    let tokens = world.redeem_code(&code, &verifier).await?.unwrap();
    assert!(tokens["scope"].as_str().unwrap().contains("read:reports"));
});

story!(
    a_changed_registration_ends_what_was_pushed_before,
    |world| {
        // enforced at use, not only when it was pushed.
        let web = world.clients.web.client.client_id.clone();
        let (pushed, _) = push(world, &[]).await?;
        world
            .execute(
                "update clients set callbacks = '[]' where client_id = $1",
                params![web.as_str()],
            )
            .await;
        let stop = first_answer(world, &pushed_url(world, &web, &pushed)).await?;
        assert_page(&stop, "a callback that is gone");
    }
);

story!(
    au_29_guessed_request_uris_are_counted,
    Setup {
        web: WebOptions {
            guesses_per_minute: 5,
            ..WebOptions::default()
        },
        ..Setup::default()
    },
    |world| {
        let web = world.clients.web.client.client_id.clone();
        let guess = json!({ "request_uri": "urn:ietf:params:oauth:request_uri:guessed" });
        let url = pushed_url(world, &web, &guess);
        for _ in 0..5 {
            assert_page(&first_answer(world, &url).await?, "a guess");
        }
        let stop = first_answer(world, &url).await?;
        assert_eq!(stop.status, 429);
        world.advance(60);
        assert_page(&first_answer(world, &url).await?, "a minute later");
    }
);

story!(au_31_only_the_server_knows_what_a_login_is_for, |world| {
    let (url, verifier) = world.authorize_url(&[])?;
    let mut agent = world.browser();
    let login = agent.open_any(&url, WEB_CALLBACK).await?;
    let csrf = login.field("csrf").unwrap();
    let state = login.field("state").unwrap();
    world.secret(&state);
    let post = world.url("u/login");
    let person = [
        ("csrf", csrf.as_str()),
        ("username", USERNAME),
        ("password", PASSWORD),
    ];
    // A state that was changed, cut or left out.
    let mut changed = state.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == 'A' { 'B' } else { 'A' });
    for state in ["", "x", &changed, &state[..state.len() - 1]] {
        let mut fields = person.to_vec();
        fields.push(("state", state));
        let mut other = world.browser();
        other.set_cookie(
            "vault.test",
            "__Host-tv_browser",
            agent.cookie("vault.test", "__Host-tv_browser").unwrap(),
        );
        let stop = other.post(&post, &fields, ANYWHERE).await?;
        assert_page(&stop, state);
    }
    // Fields that the form does not have change nothing.
    let mut fields = person.to_vec();
    fields.extend([
        ("state", state.as_str()),
        ("client_id", "other"),
        ("redirect_uri", "https://evil.test/"),
        ("response_type", "token"),
        ("scope", "write:reports"),
        ("return_to", "https://evil.test/"),
    ]);
    let stop = agent.post(&post, &fields, ANYWHERE).await?;
    assert!(stop.url.as_str().starts_with(WEB_CALLBACK), "{}", stop.url);
    assert_eq!(stop.status, 303);
    let code = stop.answer("code")?;
    let tokens = world.redeem_code(&code, &verifier).await?.unwrap();
    assert_eq!(
        tokens["scope"],
        "email offline_access openid profile read:reports"
    );
    // The back button: the page of a login that is over says so, and posting it again brings no second code.
    let back = world.url(&format!("u/login?state={state}"));
    assert_page(&agent.open_any(&back, ANYWHERE).await?, "back");
    let stop = agent
        .submit_any(
            &login,
            &[("username", USERNAME), ("password", PASSWORD)],
            ANYWHERE,
        )
        .await?;
    assert_page(&stop, "posted again");
    // A login that was begun too long ago.
    let (url, _) = world.authorize_url(&[])?;
    let mut agent = world.browser();
    let login = agent.open(&url, WEB_CALLBACK).await?;
    world.advance(30 * 60);
    let stop = agent
        .submit_any(
            &login,
            &[("username", USERNAME), ("password", PASSWORD)],
            ANYWHERE,
        )
        .await?;
    assert_page(&stop, "too late");
});

story!(au_32_prompt_none_asks_nobody, |world| {
    let stop = answer_to(world, &[("prompt", "none")]).await?;
    assert_refused(world, &stop, "login_required", "nobody is logged in");
    world.log_in().await?;
    let stop = silent(world, &[]).await?;
    assert_named_once(world, &stop);
    stop.answer("code")?;
    let other = world.register(third_party()).await;
    let client_id = other.client.client_id.as_str();
    let stop = silent(world, &[("client_id", client_id)]).await?;
    assert_refused(world, &stop, "consent_required", "no consent yet");
    // An old login does not do where a fresh one is wanted.
    world.advance(100);
    let stop = silent(world, &[("max_age", "99")]).await?;
    assert_refused(world, &stop, "login_required", "too old");
    silent(world, &[("max_age", "100")]).await?.answer("code")?;
});

story!(au_34_an_id_token_hint_names_who_is_expected, |world| {
    let dana = world.log_in().await?;
    world.another_user("eve@example.com").await;
    let mut other = world.browser();
    let eve = world
        .log_in_as(&mut other, ("eve@example.com", PASSWORD))
        .await?;
    let header_none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let unsigned = format!(
        "{header_none}.{}.",
        dana.id_token.split('.').nth(1).unwrap()
    );
    let mut tampered = dana.id_token.clone();
    tampered.truncate(tampered.len() - 8);
    let hint = dana.id_token.clone();
    silent(world, &[("id_token_hint", &hint)])
        .await?
        .answer("code")?;
    for (hint, error) in [
        (eve.id_token.as_str(), "login_required"),
        (unsigned.as_str(), "invalid_request"),
        (tampered.as_str(), "invalid_request"),
        // An access token is no ID token.
        (dana.access_token.as_str(), "invalid_request"),
        ("x", "invalid_request"),
    ] {
        let stop = silent(world, &[("id_token_hint", hint)]).await?;
        assert_refused(world, &stop, error, hint);
    }
    // An ID token that another client got.
    let spa = world.clients.spa.client.client_id.clone();
    let change = [
        ("client_id", spa.as_str()),
        ("redirect_uri", SPA_CALLBACK),
        ("id_token_hint", dana.id_token.as_str()),
    ];
    let stop = silent(world, &change).await?;
    assert_eq!(stop.parameter("error").as_deref(), Some("invalid_request"));
    // Where asking is allowed, the wrong user is asked to log in, and logging in as the wrong one again does not do.
    let (url, _) = world.authorize_url(&[("id_token_hint", &eve.id_token)])?;
    let login = world.agent.open(&url, WEB_CALLBACK).await?;
    assert!(login.asks_for_password());
    let wrong = [("username", USERNAME), ("password", PASSWORD)];
    let again = world.agent.submit(&login, &wrong, WEB_CALLBACK).await?;
    assert!(again.asks_for_password());
    let right = [("username", "eve@example.com"), ("password", PASSWORD)];
    let stop = world.agent.submit(&again, &right, WEB_CALLBACK).await?;
    stop.answer("code")?;
    // Expired, but ours: its end does not matter.
    world.advance(11 * 3600);
    silent(world, &[("id_token_hint", &eve.id_token)])
        .await?
        .answer("code")?;
});

story!(au_35_a_login_hint_is_escaped_and_cut, |world| {
    for (hint, shown) in [
        ("dana@example.com", "value=\"dana@example.com\""),
        (
            "\"><script>alert(1)</script>",
            "value=\"&#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;\"",
        ),
    ] {
        let (url, _) = world.authorize_url(&[("login_hint", hint)])?;
        let login = world.browser().open(&url, WEB_CALLBACK).await?;
        assert!(login.page.contains(shown), "{}", login.page);
        assert!(!login.page.contains("<script"));
    }
    let (url, _) = world.authorize_url(&[("login_hint", &"h".repeat(10_000))])?;
    let login = world.browser().open(&url, WEB_CALLBACK).await?;
    assert!(login.field("username").unwrap().len() <= 320);
});

story!(au_37_38_an_id_token_answers_its_request, |world| {
    let nonce = "n".repeat(384);
    // AU-38: claims are not supported, and ignored however they look.
    let claims = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let (url, verifier) =
        world.authorize_url(&[("nonce", &nonce), ("claims", &claims), ("max_age", "60")])?;
    let mut agent = world.browser();
    let began = world.vault.now().as_second();
    let stop = world.pass(&mut agent, &url, WEB_CALLBACK).await?;
    assert_eq!(stop.parameter("state").as_deref(), Some("client-state"));
    assert_named_once(world, &stop);
    world.advance(20);
    let code = stop.answer("code")?;
    let tokens = world.redeem_code(&code, &verifier).await?.unwrap();
    let id_token = jwt_claims(tokens["id_token"].as_str().unwrap());
    assert_eq!(id_token["nonce"], nonce);
    assert_eq!(id_token["iss"], world.url(""));
    assert_eq!(id_token["aud"], world.clients.web.client.client_id);
    assert_eq!(id_token["sub"], world.user.id);
    assert_eq!(id_token["auth_time"], began);
    assert_eq!(id_token["iat"], began + 20);
    assert_eq!(id_token["email"], USERNAME);
    let sid = id_token["sid"].as_str().unwrap();
    let live = world
        .count(
            "select count(*) from sessions where id = $1 and revoked_at is null",
            params![sid],
        )
        .await;
    assert_eq!(live, 1);
    // A nonce beyond all measure is an error, not a fault; an answer without state has none.
    let stop = answer_to(world, &[("nonce", &"n".repeat(2000))]).await?;
    assert_refused(world, &stop, "invalid_request", "a long nonce");
    let stop = answer_to(world, &[("prompt", "none"), ("state", "")]).await?;
    assert_eq!(stop.parameter("state"), None);
    assert_named_once(world, &stop);
});

story!(a_fresh_login_is_asked_for_and_then_enough, |world| {
    world.log_in().await?;
    world.advance(100);
    for change in [
        ("prompt", "login"),
        ("prompt", "select_account"),
        ("max_age", "99"),
        ("max_age", "0"),
    ] {
        let (url, verifier) = world.authorize_url(&[change])?;
        let login = world.agent.open(&url, WEB_CALLBACK).await?;
        assert!(login.asks_for_password(), "{change:?}");
        // Opening it again without logging in does not help.
        let login = world.agent.open(login.url.as_str(), WEB_CALLBACK).await?;
        assert!(login.asks_for_password(), "{change:?}");
        world.advance(100);
        let person = [("username", USERNAME), ("password", PASSWORD)];
        let stop = world.agent.submit(&login, &person, WEB_CALLBACK).await?;
        let code = stop.answer("code")?;
        let tokens = world.redeem_code(&code, &verifier).await?.unwrap();
        let id_token = jwt_claims(tokens["id_token"].as_str().unwrap());
        assert_eq!(id_token["auth_time"], world.vault.now().as_second());
        world.advance(100);
    }
});

story!(an_answer_as_a_form_is_a_page_that_posts_itself, |world| {
    for (change, name) in [
        (&[("response_mode", "form_post")][..], "code"),
        (
            &[("response_mode", "form_post"), ("prompt", "none")][..],
            "error",
        ),
    ] {
        let (url, verifier) = world.authorize_url(change)?;
        let mut agent = world.browser();
        let mut stop = agent.open_any(&url, ANYWHERE).await?;
        if stop.page.is_empty() {
            stop = agent.open(stop.url.as_str(), WEB_CALLBACK).await?;
            let person = [("username", USERNAME), ("password", PASSWORD)];
            stop = agent.submit(&stop, &person, WEB_CALLBACK).await?;
        }
        // It works without scripts too: one button.
        assert!(stop.page.contains(&format!("action=\"{WEB_CALLBACK}\"")));
        assert!(stop.page.contains("<button"));
        assert!(stop.page.contains("src=\"/assets/form-post.js\""));
        assert_eq!(stop.field("state").as_deref(), Some("client-state"));
        assert_eq!(stop.field("iss"), Some(world.url("")));
        let value = stop.field(name).unwrap();
        if name == "code" {
            world.redeem_code(&value, &verifier).await?.unwrap();
        } else {
            assert_eq!(value, "login_required");
        }
    }
    // The page may run that one script and nothing else; nothing of it is kept or sent on as a referrer.
    let (url, _) = world.authorize_url(&[("response_mode", "form_post"), ("prompt", "none")])?;
    let answer = world.agent.request(Method::GET, &url).send().await?;
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-security-policy").contains("script-src 'self'"));
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("referrer-policy"), "no-referrer");
});

story!(a_client_gets_no_more_scope_than_there_is, |world| {
    let (url, verifier) =
        world.authorize_url(&[("scope", "openid read:reports delete:everything admin")])?;
    let mut agent = world.browser();
    let stop = world.pass(&mut agent, &url, WEB_CALLBACK).await?;
    let code = stop.answer("code")?;
    let tokens = world.redeem_code(&code, &verifier).await?.unwrap();
    assert_eq!(tokens["scope"], "openid read:reports");
    assert!(tokens.get("refresh_token").is_none());
    // A client without the grant is told so before anybody logs in.
    let machine = world
        .register(NewClient {
            grant_types: vec![grant::CLIENT_CREDENTIALS.to_owned()],
            ..third_party()
        })
        .await;
    let change = [("client_id", machine.client.client_id.as_str())];
    let stop = answer_to(world, &change).await?;
    assert_refused(world, &stop, "unauthorized_client", "no code grant");
});

story!(a_blocked_user_or_a_revoked_session_cannot_go_on, |world| {
    world.log_in().await?;
    silent(world, &[]).await?.answer("code")?;
    world
        .execute(
            "update sessions set revoked_at = $1",
            params![world.vault.now()],
        )
        .await;
    let stop = silent(world, &[]).await?;
    assert_refused(world, &stop, "login_required", "a revoked session");
    world.log_in().await?;
    // Blocked between the login page and its answer.
    let (url, _) = world.authorize_url(&[])?;
    let mut agent: Agent = world.browser();
    let login = agent.open(&url, WEB_CALLBACK).await?;
    world.vault.block_user(&world.user.id).await.unwrap();
    let stop = silent(world, &[]).await?;
    assert_refused(world, &stop, "login_required", "a blocked user");
    let person = [("username", USERNAME), ("password", PASSWORD)];
    let stop = agent.submit_any(&login, &person, WEB_CALLBACK).await?;
    assert_eq!(stop.status, 401);
    assert!(stop.asks_for_password());
});

story!(a_session_ends_by_itself, |world| {
    world.log_in().await?;
    // Used now and then it lives, up to its longest life.
    for _ in 0..3 {
        world.advance(2 * 24 * 3600);
        silent(world, &[]).await?.answer("code")?;
    }
    world.advance(24 * 3600);
    let stop = silent(world, &[]).await?;
    assert_refused(world, &stop, "login_required", "a week old");
    world.log_in().await?;
    world.advance(3 * 24 * 3600);
    let stop = silent(world, &[]).await?;
    assert_refused(world, &stop, "login_required", "unused for three days");
});
