//! The pages in front of people: consent, login, sign-up, logout, and what a browser is told beside them (threats WB-*,
//! LG-20, LG-22, AU-40).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{PASSWORD, Setup, USERNAME, WEB_CALLBACK, World, story};
use anyhow::Result;
use headless::{Agent, Stop};
use oauth::grant;
use reqwest::Method;
use reqwest::header::HeaderMap;
use store::params;
use vault::{NewClient, TokenEndpointAuthMethod};

/// Every redirect stops the browser.
const ANYWHERE: &str = "";
const HOST: &str = "vault.test";
const SESSION: &str = "__Host-tv_session";
const BROWSER: &str = "__Host-tv_browser";
const DANA: [(&str, &str); 2] = [("username", USERNAME), ("password", PASSWORD)];

/// A client of somebody else.
fn third_party(name: &str) -> NewClient {
    NewClient {
        name: name.to_owned(),
        is_first_party: false,
        grant_types: vec![grant::AUTHORIZATION_CODE.to_owned()],
        callbacks: vec![WEB_CALLBACK.to_owned()],
        ..NewClient::default()
    }
}

/// What the world's browser, logged in, sees of a client's request.
async fn ask(world: &mut World, client_id: &str, change: &[(&str, &str)]) -> Result<Stop> {
    let mut all = vec![("client_id", client_id)];
    all.extend(change);
    let (url, _) = world.authorize_url(&all)?;
    world.agent.open_any(&url, WEB_CALLBACK).await
}

fn asks_for_consent(stop: &Stop) -> bool {
    stop.page.contains("value=\"accept\"")
}

/// Whether a browser is logged in, asked without showing a page.
async fn is_logged_in(world: &mut World, agent: &mut Agent) -> Result<bool> {
    let (url, _) = world.authorize_url(&[("prompt", "none")])?;
    let stop = agent.open_any(&url, WEB_CALLBACK).await?;
    Ok(stop.parameter("code").is_some())
}

/// A login page in a browser that has been nowhere yet.
async fn login_page(world: &mut World) -> Result<(Agent, Stop)> {
    let (url, _) = world.authorize_url(&[])?;
    let mut agent = world.browser();
    let page = agent.open(&url, WEB_CALLBACK).await?;
    Ok((agent, page))
}

/// A page's text without what differs between any two pages: its tokens and what was typed.
fn comparable(stop: &Stop, typed: &str) -> String {
    let mut text = stop.page.clone();
    for name in ["csrf", "state"] {
        if let Some(value) = stop.field(name) {
            text = text.replace(&value, "…");
        }
    }
    text.replace(&format!("value=\"{typed}\""), "value=\"…\"")
}

/// A form as it is sent, with headers of the story's own.
async fn send_form(
    world: &World,
    url: &str,
    headers: &[(&str, &str)],
    fields: &[(&str, &str)],
) -> Result<(u16, HeaderMap, String)> {
    let mut request = world.agent.request(Method::POST, url).form(fields);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Ok((status, headers, answer.text().await?))
}

fn cookie_line(agent: &Agent) -> String {
    [SESSION, BROWSER]
        .iter()
        .filter_map(|name| Some(format!("{name}={}", agent.cookie(HOST, name)?)))
        .collect::<Vec<_>>()
        .join("; ")
}

story!(wb_01_02_consent_is_given_by_its_own_form_only, |world| {
    world.log_in().await?;
    let client = world.register(third_party("Somebody else's")).await;
    let client_id = client.client.client_id.clone();
    let page = ask(world, &client_id, &[]).await?;
    assert!(asks_for_consent(&page));
    // who, what, and where it leads.
    for shown in ["Somebody else&#39;s", "Reports", "read:reports", "app.test"] {
        assert!(page.page.contains(shown), "{shown}: {}", page.page);
    }
    let state = page.field("state").unwrap();
    let own = page.field("csrf").unwrap();
    // WB-02: looking, however the address is decorated, changes nothing.
    for query in [
        "&approve=1",
        "&action=accept",
        "&consent=true&action=accept",
    ] {
        let url = world.url(&format!("u/consent?state={state}{query}"));
        let stop = world.agent.open_any(&url, ANYWHERE).await?;
        assert!(asks_for_consent(&stop), "{query}");
    }
    // WB-01: without a token, with one of another form, of another browser, or cut.
    let (mut other, login) = login_page(world).await?;
    let others_login = login.field("csrf").unwrap();
    world.log_in_as(&mut other, (USERNAME, PASSWORD)).await?;
    let (url, _) = world.authorize_url(&[("client_id", &client_id)])?;
    let others_page = other.open(&url, WEB_CALLBACK).await?;
    let others = others_page.field("csrf").unwrap();
    assert_ne!(own, others);
    let post = world.url("u/consent");
    for csrf in ["", "x", &others, &others_login, &own[..own.len() - 1]] {
        let fields = [
            ("csrf", csrf),
            ("state", state.as_str()),
            ("action", "accept"),
        ];
        let stop = world.agent.post(&post, &fields, ANYWHERE).await?;
        assert_eq!(stop.status, 403, "{csrf}");
        assert!(!stop.page.contains("<form"), "{csrf}");
    }
    let consents = world
        .count("select count(*) from consents", params![])
        .await;
    assert_eq!(consents, 0);
    // Its own form does.
    let stop = world.agent.submit(&page, &[], WEB_CALLBACK).await?;
    stop.answer("code")?;
    assert_eq!(
        world
            .count("select count(*) from consents", params![])
            .await,
        1
    );
});

story!(wb_04_consent_is_for_one_client_and_its_scopes, |world| {
    world.log_in().await?;
    let first = world.register(third_party("First")).await;
    let second = world.register(third_party("Second")).await;
    let (first, second) = (
        first.client.client_id.clone(),
        second.client.client_id.clone(),
    );
    // No is an answer, and is not remembered as a yes. Anything but the button that says yes is a no.
    for action in ["deny", "", "Accept"] {
        let page = ask(world, &first, &[]).await?;
        let stop = world
            .agent
            .submit_any(&page, &[("action", action)], WEB_CALLBACK)
            .await?;
        assert_eq!(stop.parameter("error").as_deref(), Some("access_denied"));
        assert_eq!(stop.parameter("state").as_deref(), Some("client-state"));
        assert_eq!(stop.parameter("iss"), Some(world.url("")));
        assert_eq!(stop.parameter("code"), None);
        // The question is answered; its page is over.
        let again = world.agent.submit_any(&page, &[], ANYWHERE).await?;
        assert_eq!(again.status, 400);
    }
    let page = ask(world, &first, &[]).await?;
    let stop = world.agent.submit(&page, &[], WEB_CALLBACK).await?;
    stop.answer("code")?;
    // Remembered for this client and these scopes, or fewer.
    ask(world, &first, &[]).await?.answer("code")?;
    ask(world, &first, &[("scope", "openid read:reports")])
        .await?
        .answer("code")?;
    // More scopes, another API, another client, prompt=consent: asked again.
    for (client_id, change) in [
        (&first, ("scope", "openid read:reports write:reports")),
        (&first, ("audience", "")),
        (&first, ("prompt", "consent")),
        (&second, ("state", "client-state")),
    ] {
        let stop = ask(world, client_id, &[change]).await?;
        assert!(asks_for_consent(&stop), "{change:?} {}", stop.url);
    }
    // Another user is asked as well.
    world.another_user("eve@example.com").await;
    let mut other = world.browser();
    let (url, _) = world.authorize_url(&[("client_id", &first)])?;
    let login = other.open(&url, WEB_CALLBACK).await?;
    let eve = [("username", "eve@example.com"), ("password", PASSWORD)];
    let page = other.submit(&login, &eve, WEB_CALLBACK).await?;
    assert!(asks_for_consent(&page));
    // anybody can pretend to be a public client, so its consent is never remembered.
    let public = world
        .register(NewClient {
            token_endpoint_auth_method: TokenEndpointAuthMethod::None,
            ..third_party("Public")
        })
        .await;
    for _ in 0..2 {
        let page = ask(world, &public.client.client_id, &[]).await?;
        assert!(asks_for_consent(&page));
        world
            .agent
            .submit(&page, &[], WEB_CALLBACK)
            .await?
            .answer("code")?;
    }
    // A client of ours needs none, unless it asks to be consented to.
    let web = world.clients.web.client.client_id.clone();
    ask(world, &web, &[]).await?.answer("code")?;
    let page = ask(world, &web, &[("prompt", "consent")]).await?;
    assert!(asks_for_consent(&page));
});

story!(consent_needs_the_one_who_gives_it, |world| {
    world.log_in().await?;
    let client = world.register(third_party("Somebody")).await;
    let client_id = client.client.client_id.clone();
    // Logged out between the page and its button.
    let page = ask(world, &client_id, &[]).await?;
    world
        .execute("update sessions set revoked_at = 1", params![])
        .await;
    let stop = world.agent.submit_any(&page, &[], WEB_CALLBACK).await?;
    assert!(stop.asks_for_password(), "{}", stop.url);
    // After logging in the question comes again: that button was nobody's.
    let page = world.agent.submit(&stop, &DANA, WEB_CALLBACK).await?;
    assert!(asks_for_consent(&page));
    // Blocked between the page and its button.
    world.vault.block_user(&world.user.id).await.unwrap();
    let stop = world.agent.submit_any(&page, &[], WEB_CALLBACK).await?;
    assert!(stop.asks_for_password(), "{}", stop.url);
    assert_eq!(
        world
            .count("select count(*) from consents", params![])
            .await,
        0
    );
});

story!(wb_05_a_clients_name_cannot_pretend, |world| {
    world.log_in().await?;
    for (name, shown) in [
        ("Goo\u{200b}gle\u{202e}", "Google".to_owned()),
        (
            "<b onmouseover=alert(1)>Google</b>",
            "&#60;b onmouseover=alert(1)&#62;Google&#60;/b&#62;".to_owned(),
        ),
        (&"x".repeat(150), format!("{}…", "x".repeat(79))),
    ] {
        let client = world.register(third_party(name)).await;
        let client_id = client.client.client_id.clone();
        let page = ask(world, &client_id, &[]).await?;
        assert!(
            page.page.contains(&format!("<em>{shown}</em>")),
            "{}",
            page.page
        );
        assert!(page.page.contains("app.test"));
        assert!(!page.page.contains("<b ") && !page.page.contains('\u{202e}'));
    }
    let too_long = world
        .vault
        .create_client(third_party(&"x".repeat(500)))
        .await;
    assert!(too_long.is_err());
});

story!(wb_07_a_form_from_another_site_changes_nothing, |world| {
    world.log_in().await?;
    let client = world.register(third_party("Somebody")).await;
    let client_id = client.client.client_id.clone();
    let consent = ask(world, &client_id, &[]).await?;
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let started = world.start_connect(&me).await?;
    let connect = world.connect_url(&started)?;
    let connect = world.agent.open(&connect, WEB_CALLBACK).await?;
    let logout = world.url("oidc/logout");
    let logout = world.agent.open(&logout, WEB_CALLBACK).await?;
    let (other, login) = login_page(world).await?;
    let sign_up = world.url(&format!("u/signup?state={}", login.field("state").unwrap()));
    let mut signing_up = world.browser();
    let sign_up = signing_up.open(&sign_up, WEB_CALLBACK).await?;
    let ours = cookie_line(&world.agent);
    for (path, page, context, cookies, also) in [
        (
            "u/consent",
            &consent,
            "state",
            &ours,
            [("action", "accept"), ("x", "")],
        ),
        (
            "connected-accounts/connect",
            &connect,
            "ticket",
            &ours,
            [("action", "continue"), ("x", "")],
        ),
        (
            "oidc/logout",
            &logout,
            "csrf",
            &ours,
            [("action", "logout"), ("x", "")],
        ),
        ("u/login", &login, "state", &cookie_line(&other), DANA),
        (
            "u/signup",
            &sign_up,
            "state",
            &cookie_line(&signing_up),
            [
                ("username", "new@example.com"),
                ("password", "a good password"),
            ],
        ),
    ] {
        let csrf = page.field("csrf").unwrap();
        let value = page.field(context).unwrap();
        let mut fields = also.to_vec();
        if context != "csrf" {
            fields.push((context, &value));
        }
        let url = world.url(path);
        // The browser itself says where the form was; the token and the cookies may be right.
        for said in [
            [("sec-fetch-site", "cross-site"), ("origin", "null")],
            [
                ("sec-fetch-site", "same-site"),
                ("origin", "https://other.vault.test"),
            ],
            [
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://evil.test"),
            ],
            [("x", "y"), ("origin", "https://vault.test.evil.test")],
        ] {
            let mut headers = said.to_vec();
            headers.push(("cookie", cookies));
            let mut fields = fields.clone();
            fields.push(("csrf", &csrf));
            let (status, answered, _) = send_form(world, &url, &headers, &fields).await?;
            assert_eq!(status, 403, "{path} {said:?}");
            assert!(!answered.contains_key("set-cookie"), "{path} {said:?}");
        }
        // Without cookies, as SameSite=Lax sends a cross-site form; without the token.
        let same = [
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://vault.test"),
        ];
        let mut with_token = fields.clone();
        with_token.push(("csrf", &csrf));
        let (status, _, _) = send_form(world, &url, &same, &with_token).await?;
        assert_eq!(status, 403, "{path} without cookies");
        let mut headers = same.to_vec();
        headers.push(("cookie", cookies));
        let (status, _, _) = send_form(world, &url, &headers, &fields).await?;
        assert_eq!(status, 403, "{path} without its token");
    }
    for (sql, expected) in [
        ("select count(*) from consents", 0),
        ("select count(*) from users", 1),
        (
            "select count(*) from connect_flows where state <> 'opened'",
            0,
        ),
        (
            "select count(*) from sessions where revoked_at is not null",
            0,
        ),
    ] {
        assert_eq!(world.count(sql, params![]).await, expected, "{sql}");
    }
    // With everything right the last of them works.
    let csrf = logout.field("csrf").unwrap();
    let headers = [
        ("sec-fetch-site", "same-origin"),
        ("origin", "null"),
        ("cookie", ours.as_str()),
    ];
    let url = world.url("oidc/logout");
    let (status, _, _) = send_form(world, &url, &headers, &[("csrf", &csrf)]).await?;
    assert_eq!(status, 200);
});

story!(
    wb_08_a_login_makes_a_new_session_and_ends_the_old,
    |world| {
        // An attacker's own session, planted into the victim's browser.
        world.another_user("eve@example.com").await;
        let mut eve = world.browser();
        world
            .log_in_as(&mut eve, ("eve@example.com", PASSWORD))
            .await?;
        let planted = eve.cookie(HOST, SESSION).unwrap().to_owned();
        world.secret(&planted);
        world.advance(1);
        let (mut victim, _) = login_page(world).await?;
        victim.set_cookie(HOST, SESSION, &planted);
        let (url, _) = world.authorize_url(&[("prompt", "login")])?;
        let login = victim.open(&url, WEB_CALLBACK).await?;
        victim
            .submit(&login, &DANA, WEB_CALLBACK)
            .await?
            .answer("code")?;
        let fresh = victim.cookie(HOST, SESSION).unwrap().to_owned();
        world.secret(&fresh);
        assert_ne!(fresh, planted);
        // The planted one is dead, also where it came from; the new one is good.
        assert!(!is_logged_in(world, &mut eve).await?);
        assert!(is_logged_in(world, &mut victim).await?);
        // What is no session of ours is none, and does not stand in the way of a login.
        for forged in ["x", &planted[..planted.len() - 1], &"A".repeat(fresh.len())] {
            let (mut agent, login) = login_page(world).await?;
            agent.set_cookie(HOST, SESSION, forged);
            assert!(!is_logged_in(world, &mut agent).await?, "{forged}");
            agent
                .submit(&login, &DANA, WEB_CALLBACK)
                .await?
                .answer("code")?;
            assert_ne!(agent.cookie(HOST, SESSION), Some(forged));
        }
    }
);

story!(
    wb_09_11_a_password_is_not_sent_on_and_pages_keep_to_themselves,
    |world| {
        let (agent, login) = login_page(world).await?;
        let csrf = login.field("csrf").unwrap();
        let state = login.field("state").unwrap();
        let cookies = cookie_line(&agent);
        let mut fields = DANA.to_vec();
        fields.extend([("csrf", csrf.as_str()), ("state", state.as_str())]);
        let url = world.url("u/login");
        let headers = [("cookie", cookies.as_str())];
        let (status, headers, body) = send_form(world, &url, &headers, &fields).await?;
        // 303, so that the browser does not post the password to the client.
        assert_eq!((status, body.as_str()), (303, ""));
        let location = headers["location"].to_str()?;
        assert!(location.starts_with(WEB_CALLBACK));
        assert!(!location.contains("password") && !location.contains("csrf"));
        for (name, expected) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(headers[name], expected, "{name}");
        }
        // Every page, and every page that says no.
        let (url, _) = world.authorize_url(&[])?;
        let asked = world.agent.request(Method::GET, &url).send().await?;
        let login = world.url(
            asked.headers()["location"]
                .to_str()?
                .trim_start_matches('/'),
        );
        for url in [
            login.as_str(),
            &world.url("u/login?state=x"),
            &world.url("authorize"),
            &world.url("connected-accounts/connect?ticket=x"),
            &world.url("connect/callback/x?state=x"),
            &world.url("nothing"),
            &world.url(""),
        ] {
            let answer = world.agent.request(Method::GET, url).send().await?;
            let status = answer.status();
            let headers = answer.headers().clone();
            let page = answer.text().await?;
            assert!(page.contains("<h1>"), "{url} {status}");
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            let policy = header("content-security-policy");
            for part in [
                "default-src 'self'",
                "script-src 'none'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            ] {
                assert!(policy.contains(part), "{url}: {policy}");
            }
            assert_eq!(header("x-frame-options"), "DENY", "{url}");
            assert_eq!(header("referrer-policy"), "no-referrer", "{url}");
            assert_eq!(header("cache-control"), "no-store", "{url}");
            assert!(
                !page.contains("src=\"http") && !page.contains("href=\"http"),
                "{url}"
            );
            assert!(!page.contains("<script"), "{url}");
        }
    }
);

story!(
    wb_14_cookies_are_the_hosts_own_and_hold_no_secret_of_the_vault,
    |world| {
        let (url, _) = world.authorize_url(&[])?;
        let login_at = {
            let answer = world.agent.request(Method::GET, &url).send().await?;
            // Nobody is logged in yet; the request itself sets no cookie.
            assert!(!answer.headers().contains_key("set-cookie"));
            world.url(
                answer.headers()["location"]
                    .to_str()?
                    .trim_start_matches('/'),
            )
        };
        let page = world.agent.request(Method::GET, &login_at).send().await?;
        let mut lines: Vec<String> = page
            .headers()
            .get_all("set-cookie")
            .iter()
            .map(|line| line.to_str().unwrap().to_owned())
            .collect();
        let (agent, login) = login_page(world).await?;
        let cookies = cookie_line(&agent);
        let csrf = login.field("csrf").unwrap();
        let state = login.field("state").unwrap();
        let mut fields = DANA.to_vec();
        fields.extend([("csrf", csrf.as_str()), ("state", state.as_str())]);
        let post = world.url("u/login");
        let (_, headers, _) = send_form(world, &post, &[("cookie", &cookies)], &fields).await?;
        lines.extend(
            headers
                .get_all("set-cookie")
                .iter()
                .map(|line| line.to_str().unwrap().to_owned()),
        );
        // The cookie of a connect flow.
        let person = world.log_in().await?;
        let me = world.my_account_token(&person.refresh_token).await?;
        let started = world.start_connect(&me).await?;
        let connect = world.connect_url(&started)?;
        let page = world.agent.open(&connect, WEB_CALLBACK).await?;
        let csrf = page.field("csrf").unwrap();
        let ticket = page.field("ticket").unwrap();
        let fields = [
            ("csrf", csrf.as_str()),
            ("ticket", ticket.as_str()),
            ("action", "continue"),
        ];
        let cookies = cookie_line(&world.agent);
        let post = world.url("connected-accounts/connect");
        let (status, headers, _) =
            send_form(world, &post, &[("cookie", &cookies)], &fields).await?;
        assert_eq!(status, 303);
        lines.push(headers["set-cookie"].to_str()?.to_owned());

        let names: Vec<&str> = lines
            .iter()
            .map(|line| line.split_once('=').unwrap().0)
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[..2], [BROWSER, SESSION]);
        assert!(names[2].starts_with("__Host-tv_connect_"));
        for line in &lines {
            for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(line.contains(attribute), "{attribute}: {line}");
            }
            assert!(!line.contains("Domain"), "{line}");
            assert!(line.len() < 4096);
            let value = line.split(';').next().unwrap().split_once('=').unwrap().1;
            assert!(
                !value.contains(USERNAME) && !value.starts_with("eyJ"),
                "{line}"
            );
            // Nothing of it stands in the database as it is, but the browser's id, which opens nothing.
            if !line.starts_with(BROWSER) {
                world.secret(value);
            }
        }
    }
);

story!(
    wb_19_nothing_says_where_to_go_but_the_registration,
    |world| {
        for name in ["return_to", "returnTo", "next", "redirect", "continue"] {
            for evil in [
                "//evil.test",
                "/\\evil.test",
                "/%2Fevil.test",
                "https:evil.test",
                "https://evil.test/",
            ] {
                let query: String = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair(name, evil)
                    .finish();
                for path in [
                    "",
                    "u/login",
                    "u/signup",
                    "u/consent",
                    "connected-accounts/connect",
                    "v2/logout",
                    "oidc/logout",
                ] {
                    let url = world.url(&format!("{path}?{query}"));
                    let stop = world.browser().open_any(&url, ANYWHERE).await?;
                    assert!(!stop.page.is_empty(), "{url} led to {}", stop.url);
                    assert!(!stop.page.contains("evil.test"), "{url}");
                }
            }
        }
        // On the way through a login it is ignored as well.
        let (url, _) = world.authorize_url(&[("return_to", "//evil.test")])?;
        let mut agent = world.browser();
        let login = agent.open(&url, WEB_CALLBACK).await?;
        assert!(!login.page.contains("evil.test"));
        let stop = agent.submit_any(&login, &DANA, ANYWHERE).await?;
        assert!(stop.url.as_str().starts_with(WEB_CALLBACK));
    }
);

story!(wb_20_methods_and_paths_that_do_not_exist, |world| {
    for (method, path, expected) in [
        ("TRACE", "", 405),
        ("TRACE", "authorize", 405),
        ("TRACE", "oauth/token", 405),
        ("OPTIONS", "authorize", 405),
        ("OPTIONS", "u/login", 405),
        ("PUT", "u/login", 405),
        ("DELETE", "authorize", 405),
        ("PROPFIND", "", 405),
        ("GET", "oauth/token", 405),
        ("GET", "assets", 404),
        ("GET", "assets/", 404),
        ("GET", "assets/../Cargo.toml", 404),
        ("GET", "assets/%2e%2e/Cargo.toml", 404),
        ("GET", "assets/form-post.js.map", 404),
        ("GET", "assets/style.css.map", 404),
        ("GET", ".env", 404),
        ("GET", ".git/config", 404),
        ("GET", "u", 404),
        ("GET", "u/", 404),
        ("GET", "U/LOGIN", 404),
        ("GET", "u/login/", 404),
    ] {
        let method = Method::from_bytes(method.as_bytes())?;
        let what = format!("{method} {path}");
        let answer = world
            .agent
            .request(method, &world.url(path))
            .header("x-probe", "reflected")
            .send()
            .await?;
        assert_eq!(answer.status(), expected, "{what}");
        assert_eq!(
            answer.headers().contains_key("allow"),
            expected == 405,
            "{what}"
        );
        // TRACE is not an echo.
        assert!(!answer.text().await?.contains("reflected"), "{what}");
    }
    world.log_in().await?;
});

story!(lg_20_22_a_failed_login_tells_nothing, |world| {
    let blocked = world.another_user("blocked@example.com").await;
    world.vault.block_user(&blocked.id).await.unwrap();
    let mut pages = Vec::new();
    let long = "p".repeat(1025);
    for (username, password) in [
        (USERNAME, "not the password"),
        (USERNAME, "x"),
        (USERNAME, ""),
        (USERNAME, long.as_str()),
        ("nobody@example.com", PASSWORD),
        ("nobody@example.com", "x"),
        ("blocked@example.com", PASSWORD),
        ("no name at all", PASSWORD),
    ] {
        let (mut agent, login) = login_page(world).await?;
        let typed = [("username", username), ("password", password)];
        let stop = agent.submit_any(&login, &typed, WEB_CALLBACK).await?;
        assert_eq!(stop.status, 401, "{username}");
        assert!(stop.asks_for_password());
        assert!(!stop.page.contains(PASSWORD));
        assert!(agent.cookie(HOST, SESSION).is_none());
        // The name stays in the form, the password does not.
        assert_eq!(stop.field("username").as_deref(), Some(username));
        assert_eq!(stop.field("password").as_deref(), Some(""));
        pages.push(comparable(&stop, username));
    }
    for page in &pages {
        assert_eq!(*page, pages[0]);
    }
    let events = world.audited("login").await;
    assert_eq!(events.len(), 8);
    assert!(events.iter().all(|(outcome, reason)| {
        outcome == "refused" && reason.as_deref() == Some("login_failed")
    }));
    // Every way to type the name is the same name.
    for username in [
        "DANA@example.com",
        " dana@example.com ",
        "dana\u{ff20}example.com",
    ] {
        let (mut agent, login) = login_page(world).await?;
        let typed = [("username", username), ("password", PASSWORD)];
        agent
            .submit(&login, &typed, WEB_CALLBACK)
            .await?
            .answer("code")?;
    }
});

story!(
    guessing_passwords_of_one_account_ends_soon,
    Setup {
        settings: |settings| settings.login_failures_per_account = 3,
        ..Setup::default()
    },
    |world| {
        // An account that does not exist is throttled alike.
        let mut pages = Vec::new();
        for username in [USERNAME, "nobody@example.com"] {
            for _ in 0..3 {
                let (mut agent, login) = login_page(world).await?;
                let typed = [("username", username), ("password", "wrong password")];
                let stop = agent.submit_any(&login, &typed, WEB_CALLBACK).await?;
                assert_eq!(stop.status, 401);
            }
            // The right password does not help now, from any browser, in any spelling.
            for spelled in [username.to_owned(), username.to_uppercase()] {
                let (mut agent, login) = login_page(world).await?;
                let typed = [("username", spelled.as_str()), ("password", PASSWORD)];
                let stop = agent.submit_any(&login, &typed, WEB_CALLBACK).await?;
                assert_eq!(stop.status, 429);
                assert!(agent.cookie(HOST, SESSION).is_none());
                pages.push(comparable(&stop, &spelled));
            }
        }
        assert!(pages.iter().all(|page| *page == pages[0]));
        let reason = Some("login_throttled".to_owned());
        let throttled = world.audited("login").await;
        assert_eq!(
            throttled.iter().filter(|event| event.1 == reason).count(),
            4
        );
        // Somebody else logs in from the same address meanwhile; later so does she.
        world.another_user("eve@example.com").await;
        let mut other = world.browser();
        world
            .log_in_as(&mut other, ("eve@example.com", PASSWORD))
            .await?;
        world.advance(601);
        world.log_in().await?;
        // A success forgets the failures before it.
        for _ in 0..2 {
            for _ in 0..2 {
                let (mut agent, login) = login_page(world).await?;
                let typed = [("username", USERNAME), ("password", "wrong password")];
                let stop = agent.submit_any(&login, &typed, WEB_CALLBACK).await?;
                assert_eq!(stop.status, 401);
            }
            let mut agent = world.browser();
            world.log_in_as(&mut agent, (USERNAME, PASSWORD)).await?;
        }
    }
);

story!(
    guessing_from_one_address_ends_soon,
    Setup {
        settings: |settings| settings.login_failures_per_address = 3,
        ..Setup::default()
    },
    |world| {
        // A different account each time; many at once count as many.
        let (agent, login) = login_page(world).await?;
        let csrf = login.field("csrf").unwrap();
        let state = login.field("state").unwrap();
        let cookies = cookie_line(&agent);
        let mut asked = tokio::task::JoinSet::new();
        for number in 0..8 {
            let request = world
                .agent
                .request(Method::POST, &world.url("u/login"))
                .header("cookie", &cookies)
                .form(&[
                    ("csrf", csrf.as_str()),
                    ("state", state.as_str()),
                    ("username", &format!("user{number}")),
                    ("password", "wrong password"),
                ]);
            asked.spawn(async move { request.send().await });
        }
        let mut statuses = Vec::new();
        while let Some(answer) = asked.join_next().await {
            statuses.push(answer??.status().as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [401, 401, 401, 429, 429, 429, 429, 429]);
        // What the caller writes into a header is not its address.
        let headers = [
            ("cookie", cookies.as_str()),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        let mut fields = DANA.to_vec();
        fields.extend([("csrf", csrf.as_str()), ("state", state.as_str())]);
        let url = world.url("u/login");
        let (status, _, _) = send_form(world, &url, &headers, &fields).await?;
        assert_eq!(status, 429);
        world.advance(601);
        let (status, _, _) = send_form(world, &url, &headers, &fields).await?;
        assert_eq!(status, 303);
    }
);

story!(people_sign_up_where_they_may, |world| {
    let (url, verifier) = world.authorize_url(&[])?;
    let mut agent = world.browser();
    let login = agent.open(&url, WEB_CALLBACK).await?;
    assert!(login.page.contains("/u/signup?state="));
    let state = login.field("state").unwrap();
    let sign_up = world.url(&format!("u/signup?state={state}"));
    let page = agent.open(&sign_up, WEB_CALLBACK).await?;
    for (username, password, status) in [
        ("new@example.com", "short", 400),
        ("", "a good password", 400),
        ("two words", "a good password", 400),
        // One spelling for every way to type a name.
        ("DANA@EXAMPLE.COM", "a good password", 400),
    ] {
        let typed = [("username", username), ("password", password)];
        let stop = agent.submit_any(&page, &typed, WEB_CALLBACK).await?;
        assert_eq!(stop.status, status, "{username}");
        assert!(stop.asks_for_password());
        assert!(!stop.page.contains("a good password"));
    }
    assert_eq!(
        world.count("select count(*) from users", params![]).await,
        1
    );
    world.secret("a good password");
    let typed = [
        ("username", "New@example.com"),
        ("password", "a good password"),
    ];
    let stop = agent.submit(&page, &typed, WEB_CALLBACK).await?;
    let code = stop.answer("code")?;
    let tokens = world.redeem_code(&code, &verifier).await?.unwrap();
    let id_token = acceptance::jwt_claims(tokens["id_token"].as_str().unwrap());
    assert_eq!(id_token["email"], "new@example.com");
    assert_eq!(id_token["email_verified"], false);
    assert!(is_logged_in(world, &mut agent).await?);
    let mut other = world.browser();
    world
        .log_in_as(&mut other, ("new@example.com", "a good password"))
        .await?;
    // The form of a login that is over makes nobody.
    let typed = [
        ("username", "late@example.com"),
        ("password", "a good password"),
    ];
    let stop = agent.submit_any(&page, &typed, WEB_CALLBACK).await?;
    assert_eq!(stop.status, 400);
});

story!(
    nobody_signs_up_where_it_is_closed,
    Setup {
        settings: |settings| settings.sign_up = false,
        ..Setup::default()
    },
    |world| {
        let (mut agent, login) = login_page(world).await?;
        assert!(!login.page.contains("signup"));
        let state = login.field("state").unwrap();
        let sign_up = world.url(&format!("u/signup?state={state}"));
        let stop = agent.open_any(&sign_up, ANYWHERE).await?;
        assert!(stop.url.path().ends_with("/u/login"));
        // A form made by hand, with a token made for another form or for this one.
        let csrf = world
            .vault
            .form_token(agent.cookie(HOST, BROWSER).unwrap(), "/u/signup");
        let post = world.url("u/signup");
        for csrf in [login.field("csrf").unwrap(), csrf] {
            let fields = [
                ("csrf", csrf.as_str()),
                ("state", state.as_str()),
                ("username", "new@example.com"),
                ("password", "a good password"),
            ];
            let stop = agent.post(&post, &fields, ANYWHERE).await?;
            assert_eq!(stop.status, 403, "{}", stop.page);
            assert!(agent.cookie(HOST, SESSION).is_none());
        }
        assert_eq!(
            world.count("select count(*) from users", params![]).await,
            1
        );
    }
);

story!(
    au_40_logging_out_leads_only_where_it_was_registered,
    |world| {
        let web = world.clients.web.client.client_id.clone();
        let spa = world.clients.spa.client.client_id.clone();
        let home = "https://app.test/";
        // Auth0's endpoint needs no proof (contract 2.10).
        for (client_id, return_to, led) in [
            (web.as_str(), home, true),
            (web.as_str(), "https://evil.test/", false),
            (web.as_str(), "https://app.test/other", false),
            (web.as_str(), "https://app.test@evil.test/", false),
            (web.as_str(), "//evil.test", false),
            (web.as_str(), "javascript:alert(1)", false),
            // Registered, but by somebody else.
            (spa.as_str(), home, false),
            ("nobody", home, false),
            ("", home, false),
        ] {
            world.log_in().await?;
            let query = [
                ("client_id", client_id),
                ("returnTo", return_to),
                ("federated", ""),
            ];
            let url: String = url::Url::parse_with_params(&world.url("v2/logout"), query)?.into();
            let stop = world.agent.open_any(&url, ANYWHERE).await?;
            if led {
                assert_eq!((stop.url.as_str(), stop.status.as_u16()), (home, 302));
            } else {
                assert_eq!(stop.status, 200, "{return_to}");
                assert!(!stop.page.contains("evil.test"), "{return_to}");
            }
            assert!(world.agent.cookie(HOST, SESSION).is_none(), "{return_to}");
        }
        let ended = world.audited("logout").await;
        assert_eq!(ended.len(), 9);
    }
);

story!(au_40_without_proof_the_person_is_asked, |world| {
    let web = world.clients.web.client.client_id.clone();
    let home = "https://app.test/";
    let login = world.log_in().await?;
    let cookie = world.agent.cookie(HOST, SESSION).unwrap().to_owned();
    world.secret(&cookie);
    world.another_user("eve@example.com").await;
    let mut other = world.browser();
    let eve = world
        .log_in_as(&mut other, ("eve@example.com", PASSWORD))
        .await?;
    let sid = |token: &str| {
        acceptance::jwt_claims(token)["sid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut modified = login.id_token.clone();
    modified.truncate(modified.len() - 8);
    let address = |world: &World, extra: &[(&str, &str)]| -> Result<String> {
        let mut query = vec![
            ("client_id", web.as_str()),
            ("post_logout_redirect_uri", home),
            ("state", "s&t"),
        ];
        query.extend(extra);
        Ok(url::Url::parse_with_params(&world.url("oidc/logout"), query)?.into())
    };
    // No hint; one that was modified; one of another user; another session's id; an access token.
    for (name, value) in [
        ("x", "y"),
        ("id_token_hint", "x"),
        ("id_token_hint", modified.as_str()),
        ("id_token_hint", eve.id_token.as_str()),
        ("id_token_hint", login.access_token.as_str()),
        ("logout_hint", "x"),
        ("logout_hint", &sid(&eve.id_token)),
    ] {
        let url = address(world, &[(name, value)])?;
        let stop = world.agent.open_any(&url, ANYWHERE).await?;
        assert_eq!(stop.status, 200, "{name} led to {}", stop.url);
        assert!(stop.page.contains("value=\"logout\""), "{name}");
    }
    // A forged hint is worse than none at Auth0's endpoint too.
    let forged = world.url(&format!("v2/logout?client_id={web}&id_token_hint=x"));
    let stop = world.agent.open_any(&forged, ANYWHERE).await?;
    assert!(stop.page.contains("value=\"logout\""));
    let mut same = world.browser();
    same.set_cookie(HOST, SESSION, &cookie);
    assert!(
        is_logged_in(world, &mut same).await?,
        "asking ended nothing"
    );
    // The person says yes: logged out, and on to where it was registered.
    let url = address(world, &[])?;
    let page = world.agent.open(&url, ANYWHERE).await?;
    let stop = world.agent.submit_any(&page, &[], ANYWHERE).await?;
    assert_eq!(stop.url.as_str(), "https://app.test/?state=s%26t");
    assert_eq!(stop.status, 303);
    assert!(world.agent.cookie(HOST, SESSION).is_none());
    // The cookie is dead everywhere, not only forgotten here.
    assert!(!is_logged_in(world, &mut same).await?);
    // With proof nobody is asked: an ID token of the session, or its id.
    for by_token in [true, false] {
        let login = world.log_in().await?;
        let sid = sid(&login.id_token);
        let hint = if by_token {
            ("id_token_hint", login.id_token.as_str())
        } else {
            ("logout_hint", sid.as_str())
        };
        let url = address(world, &[hint])?;
        let stop = world.agent.open_any(&url, ANYWHERE).await?;
        assert_eq!(stop.url.as_str(), "https://app.test/?state=s%26t");
        let over = world
            .count(
                "select count(*) from sessions where id = $1 and revoked_at is not null",
                params![sid.as_str()],
            )
            .await;
        assert_eq!(over, 1);
    }
    // Asked and confirmed, an unregistered address is still not followed.
    world.log_in().await?;
    let url = address(world, &[])?.replace("app.test", "evil.test");
    let page = world.agent.open(&url, ANYWHERE).await?;
    let stop = world.agent.submit_any(&page, &[], ANYWHERE).await?;
    assert_eq!(stop.status, 200);
    assert!(!stop.page.contains("evil.test"));
    assert!(world.agent.cookie(HOST, SESSION).is_none());
});

story!(
    a_weak_hash_is_made_anew_when_its_password_is_known,
    |world| {
        // From the test program of Argon2's reference implementation: other parameters than ours, password "password".
        let weak = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        world
            .execute("update users set password_hash = $1", store::params![weak])
            .await;
        let same = "select count(*) from users where password_hash = $1";
        for (password, works, left) in [
            ("passwore", false, 1),
            ("password", true, 0),
            ("password", true, 0),
        ] {
            let login = world
                .vault
                .login(
                    acceptance::USERNAME,
                    seal::SecretString::new(password.to_owned()),
                    None,
                    &vault::Caller::default(),
                )
                .await;
            assert_eq!(login.is_ok(), works, "{password}");
            assert_eq!(
                world.count(same, store::params![weak]).await,
                left,
                "{password}"
            );
        }
    }
);
