//! Connecting an account: whose consent counts, what ends a flow, and that nothing is redeemed or stored before it is
//! complete (threats CN-*, R-30 to R-36, UP-16, UP-19).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use acceptance::{
    LoggedIn, PASSWORD, Refused, SPA_CALLBACK, Setup, USERNAME, WEB_CALLBACK, World, story,
};
use anyhow::{Context, Result};
use headless::{Agent, Stop};
use reqwest::Method;
use sandbox::{Behaviour, InjectedFailure};
use serde_json::{Value, json};
use store::params;
use web::WebOptions;

const EVE: (&str, &str) = ("eve@example.com", PASSWORD);

/// Every redirect stops the browser.
const ANYWHERE: &str = "";

/// Somebody who is logged in, with the browser and the tokens.
struct Person {
    agent: Agent,
    login: LoggedIn,
    /// For the My Account API.
    me: String,
}

async fn person(world: &mut World, name_and_password: (&str, &str)) -> Result<Person> {
    let mut agent = world.browser();
    let login = world.log_in_as(&mut agent, name_and_password).await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    Ok(Person { agent, login, me })
}

async fn dana(world: &mut World) -> Result<Person> {
    person(world, (USERNAME, PASSWORD)).await
}

async fn eve(world: &mut World) -> Result<Person> {
    world.another_user(EVE.0).await;
    person(world, EVE).await
}

async fn accounts(world: &World) -> i64 {
    world
        .count("select count(*) from accounts", params![])
        .await
}

/// No account, no code of the provider, and the provider was never asked to redeem one.
async fn assert_nothing_happened(world: &World) {
    assert_eq!(accounts(world).await, 0);
    assert_eq!(world.sandbox.calls().redeem_code, 0);
}

/// An error at the client's redirect URI, and nothing else there.
fn assert_refused(stop: &Stop, error: &str, what: &str) {
    assert!(
        stop.url.as_str().starts_with(WEB_CALLBACK),
        "{what}: {} {}",
        stop.url,
        stop.page
    );
    let names: Vec<String> = stop
        .url
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect();
    assert_eq!(names, ["error", "error_description", "state"], "{what}");
    assert_eq!(stop.parameter("error").as_deref(), Some(error), "{what}");
    assert_eq!(
        stop.parameter("state").as_deref(),
        Some("connect-state"),
        "{what}"
    );
}

/// A page of ours that says no and leads nowhere.
fn assert_page(stop: &Stop, what: &str) {
    assert_eq!(stop.status, 400, "{what}: {} {}", stop.url, stop.page);
    assert!(!stop.page.contains("<form"), "{what}");
}

/// Goes from the provider's login page to its redirect back to the vault, without following it.
async fn through_provider(world: &World, agent: &mut Agent, provider: &Stop) -> Result<String> {
    let back = world.url("connect/callback/");
    let login = agent.open(provider.url.as_str(), &back).await?;
    let alice = [
        ("username", "alice@sandbox.example"),
        ("password", "sandbox password"),
    ];
    let consent = agent.submit(&login, &alice, &back).await?;
    let stop = agent.submit(&consent, &[], &back).await?;
    Ok(stop.url.into())
}

/// An address at the vault that answers a flow as the provider would, with these parameters and the flow's `state`.
fn provider_answer(provider: &Stop, answer: &[(&str, &str)]) -> String {
    let mut url = url::Url::parse(&provider.parameter("redirect_uri").unwrap()).unwrap();
    url.query_pairs_mut()
        .extend_pairs(answer)
        .append_pair("state", &provider.parameter("state").unwrap());
    url.into()
}

async fn complete_with(
    world: &mut World,
    me: &str,
    body: &Value,
) -> Result<std::result::Result<Value, Refused>> {
    world.me(Method::POST, "complete", me, Some(body)).await
}

story!(the_code_is_redeemed_at_complete_and_not_before, |world| {
    let mut dana = dana(world).await?;
    let started = world.start_connect(&dana.me).await?;
    let connect = world.connect_url(&started)?;
    let page = dana.agent.open(&connect, WEB_CALLBACK).await?;
    // The page says who wants what, for whom, and where it leads.
    for shown in ["Web", "Sandbox", USERNAME, "app.test", "files.read"] {
        assert!(page.page.contains(shown), "{shown}: {}", page.page);
    }
    assert_eq!(world.sandbox.calls().authorize, 0);
    let stop = world.consent(&mut dana.agent, &started, "alice").await?;
    assert_eq!(stop.parameter("state").as_deref(), Some("connect-state"));
    let names: Vec<String> = stop
        .url
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect();
    // Contract 2.6: no `code`, and nothing in the fragment.
    assert_eq!(names, ["connect_code", "state"]);
    assert_eq!(stop.url.fragment(), None);
    assert_nothing_happened(world).await;
    let code = stop.answer("connect_code")?;
    assert!((1..=46).contains(&code.len()));
    let account = world.complete(&dana.me, &started, &code).await?.unwrap();
    assert_eq!(account["connection"], "sandbox");
    assert_eq!(world.sandbox.calls().redeem_code, 1);
    // Once more is a conflict, and redeems nothing.
    let again = world
        .complete(&dana.me, &started, &code)
        .await?
        .unwrap_err();
    assert_eq!(again.status, 409);
    assert_eq!(world.sandbox.calls().redeem_code, 1);
    assert_eq!(accounts(world).await, 1);
    // Nothing of the flow is kept but that it was.
    let kept = world
        .count(
            "select count(*) from connect_flows where secrets is not null or connect_code_hash is not null",
            params![],
        )
        .await;
    assert_eq!(kept, 0);
});

story!(what_the_provider_is_asked, |world| {
    let mut dana = dana(world).await?;
    let verifier = "v".repeat(43);
    let challenge = oauth::pkce::CodeChallenge::from_verifier(
        &oauth::pkce::CodeVerifier::parse(&verifier).unwrap(),
    );
    let body = json!({
        "connection": "sandbox",
        "redirect_uri": WEB_CALLBACK,
        "state": "connect-state",
        "scopes": ["openid", "files.read"],
        "code_challenge": challenge.as_str(),
        "code_challenge_method": "S256",
        "authorization_params": { "login_hint": "alice@sandbox.example", "prompt": "consent" },
    });
    let started = world
        .me(Method::POST, "connect", &dana.me, Some(&body))
        .await?
        .unwrap();
    let provider = world.to_provider(&mut dana.agent, &started).await?;
    let asked = |name: &str| provider.parameter(name).unwrap();
    assert_eq!(asked("response_type"), "code");
    assert_eq!(asked("login_hint"), "alice@sandbox.example");
    assert_eq!(asked("prompt"), "consent");
    // offline_access stays where the connection has it.
    assert_eq!(asked("scope"), "openid files.read offline_access");
    assert_eq!(asked("code_challenge_method"), "S256");
    // R-34, R-35: our own challenge, nonce and state, of 128 bits and more, not the client's.
    assert_ne!(asked("code_challenge"), challenge.as_str());
    assert_ne!(asked("state"), "connect-state");
    assert!(asked("state").len() >= 22 && asked("nonce").len() >= 22);
    assert!(asked("redirect_uri").starts_with(&world.url("connect/callback/")));

    let back = through_provider(world, &mut dana.agent, &provider).await?;
    let stop = dana.agent.open_any(&back, WEB_CALLBACK).await?;
    let code = stop.answer("connect_code")?;
    let mut body = json!({
        "auth_session": started["auth_session"],
        "connect_code": code,
        "redirect_uri": WEB_CALLBACK,
    });
    // The client's own PKCE: missing, wrong, right.
    let refused = complete_with(world, &dana.me, &body).await?.unwrap_err();
    assert_eq!(refused.status, 400);
    body["code_verifier"] = json!("w".repeat(43));
    let refused = complete_with(world, &dana.me, &body).await?.unwrap_err();
    assert_eq!(refused.status, 400);
    assert_nothing_happened(world).await;
    body["code_verifier"] = json!(verifier);
    complete_with(world, &dana.me, &body).await?.unwrap();
    assert_eq!(world.sandbox.calls().redeem_code, 1);
});

story!(cn_01_the_attacker_never_gets_the_connect_code, |world| {
    let eve = eve(world).await?;
    let mut dana = dana(world).await?;
    let started = world.start_connect(&eve.me).await?;
    let connect = world.connect_url(&started)?;
    // The victim, logged in, opens the attacker's link: asked to log in as the one who started it.
    let page = dana.agent.open(&connect, WEB_CALLBACK).await?;
    assert!(page.asks_for_password());
    assert!(page.page.contains("another user"), "{}", page.page);
    assert_eq!(page.field("username").as_deref(), Some(EVE.0));
    // Logging in as herself once more changes nothing.
    let own = [("username", USERNAME), ("password", PASSWORD)];
    let page = dana.agent.submit(&page, &own, WEB_CALLBACK).await?;
    assert!(page.asks_for_password());
    // Even the button pressed for her, with the token of a connect page of her own, ends the flow instead.
    let own_flow = world.start_connect(&dana.me).await?;
    let own_page = dana
        .agent
        .open(&world.connect_url(&own_flow)?, WEB_CALLBACK)
        .await?;
    let forged = [
        ("csrf", own_page.field("csrf").unwrap()),
        (
            "ticket",
            started["connect_params"]["ticket"]
                .as_str()
                .unwrap()
                .to_owned(),
        ),
        ("action", "continue".to_owned()),
    ];
    let forged: Vec<(&str, &str)> = forged
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let post = world.url("connected-accounts/connect");
    let stop = dana.agent.post(&post, &forged, WEB_CALLBACK).await?;
    assert_refused(&stop, "access_denied", "the victim's button");
    // Without the code there is nothing to complete with.
    let body = json!({ "auth_session": started["auth_session"], "redirect_uri": WEB_CALLBACK });
    let refused = complete_with(world, &eve.me, &body).await?.unwrap_err();
    assert_eq!(refused.status, 400);
    let guess = world.complete(&eve.me, &started, &"g".repeat(40)).await?;
    assert!(matches!(guess.unwrap_err().status, 403 | 409));
    assert_eq!(world.sandbox.calls().authorize, 0);
    assert_nothing_happened(world).await;
});

story!(the_right_user_may_log_in_on_the_way, |world| {
    let mut eve = eve(world).await?;
    let dana = dana(world).await?;
    let started = world.start_connect(&dana.me).await?;
    let connect = world.connect_url(&started)?;
    // A browser of somebody else, and one of nobody.
    for agent in [&mut eve.agent, &mut world.browser()] {
        let started = world.start_connect(&dana.me).await?;
        let connect = world.connect_url(&started)?;
        let page = agent.open(&connect, WEB_CALLBACK).await?;
        assert!(page.asks_for_password());
        // A wrong password shows the page again, and the ticket still works.
        let wrong = [("username", USERNAME), ("password", "not hers at all")];
        let page = agent.submit_any(&page, &wrong, WEB_CALLBACK).await?;
        assert_eq!(page.status, 401);
        assert!(page.asks_for_password());
        let right = [("username", USERNAME), ("password", PASSWORD)];
        let page = agent.submit(&page, &right, WEB_CALLBACK).await?;
        assert!(page.page.contains("value=\"continue\""), "{}", page.page);
        let stop = world.consent(agent, &started, "alice").await?;
        let code = stop.answer("connect_code")?;
        world.complete(&dana.me, &started, &code).await?.unwrap();
    }
    let others = world
        .count(
            "select count(*) from accounts where user_id <> $1",
            params![&world.user.id],
        )
        .await;
    assert_eq!((accounts(world).await, others), (1, 0));
    // A session that was revoked is no session.
    let mut agent = world.browser();
    world.log_in_as(&mut agent, (USERNAME, PASSWORD)).await?;
    world
        .execute(
            "update sessions set revoked_at = $1",
            params![world.vault.now()],
        )
        .await;
    let page = agent.open(&connect, WEB_CALLBACK).await?;
    assert!(page.asks_for_password());
});

story!(cn_02_the_wrong_user_completes, |world| {
    let mut eve = eve(world).await?;
    let dana = dana(world).await?;
    let started = world.start_connect(&eve.me).await?;
    let stop = world.consent(&mut eve.agent, &started, "alice").await?;
    let code = stop.answer("connect_code")?;
    let refused = world
        .complete(&dana.me, &started, &code)
        .await?
        .unwrap_err();
    assert_eq!(refused.status, 403);
    assert_nothing_happened(world).await;
    let events = world.audited("connect.completed").await;
    let reason = Some("session_user_mismatch".to_owned());
    assert_eq!(events, [("refused".to_owned(), reason)]);
    // It changed nothing for the one it belongs to.
    world.complete(&eve.me, &started, &code).await?.unwrap();
    let owner = world
        .count(
            "select count(*) from accounts a join users u on u.id = a.user_id where u.username = $1",
            params![EVE.0],
        )
        .await;
    assert_eq!((owner, accounts(world).await), (1, 1));
});

story!(cn_04_a_connect_code_belongs_to_its_session, |world| {
    let mut eve = eve(world).await?;
    let mut dana = dana(world).await?;
    let hers = world.start_connect(&dana.me).await?;
    let stop = world.consent(&mut dana.agent, &hers, "alice").await?;
    let stolen = stop.answer("connect_code")?;
    let own = world.start_connect(&eve.me).await?;
    // Before the attacker's own flow went anywhere, and after.
    let refused = world.complete(&eve.me, &own, &stolen).await?.unwrap_err();
    assert_eq!(refused.status, 403);
    world.consent(&mut eve.agent, &own, "bob").await?;
    let refused = world.complete(&eve.me, &own, &stolen).await?.unwrap_err();
    assert_eq!(refused.status, 403);
    // Sessions that are none; another redirect URI; a verifier where there was no challenge.
    let session = hers["auth_session"].as_str().unwrap();
    for (session, redirect_uri, verifier, status) in [
        ("x", WEB_CALLBACK, None, 400),
        (&session[..session.len() - 1], WEB_CALLBACK, None, 400),
        (session, SPA_CALLBACK, None, 400),
        (session, WEB_CALLBACK, Some("v".repeat(43)), 400),
    ] {
        let mut body = json!({
            "auth_session": session,
            "connect_code": stolen,
            "redirect_uri": redirect_uri,
        });
        if let Some(verifier) = verifier {
            body["code_verifier"] = json!(verifier);
        }
        let refused = complete_with(world, &dana.me, &body).await?.unwrap_err();
        assert_eq!(refused.status, status, "{body}");
    }
    assert_nothing_happened(world).await;
    // The code ends after two minutes.
    world.advance(121);
    let refused = world.complete(&dana.me, &hers, &stolen).await?.unwrap_err();
    assert_eq!(refused.status, 403);
    assert_nothing_happened(world).await;
});

story!(
    cn_05_17_an_answer_belongs_to_a_flow_of_this_browser,
    |world| {
        let mut dana = dana(world).await?;
        let started = world.start_connect(&dana.me).await?;
        let provider = world.to_provider(&mut dana.agent, &started).await?;
        let back = through_provider(world, &mut dana.agent, &provider).await?;
        let path = provider.parameter("redirect_uri").unwrap();
        let state = provider.parameter("state").unwrap();
        let issuer = world.sandbox.base_url();
        // CORF: an attacker's code without a state, or with one that is not of this browser.
        for query in [
            String::new(),
            "?code=attackers".to_owned(),
            format!("?code=attackers&iss={issuer}"),
            "?code=attackers&state=".to_owned(),
            "?code=attackers&state=made-up".to_owned(),
            format!("?code=attackers&state={}", &state[..state.len() - 1]),
            format!("?code=attackers&state={state}&state={state}"),
        ] {
            let stop = dana
                .agent
                .open_any(&format!("{path}{query}"), ANYWHERE)
                .await?;
            assert_page(&stop, &query);
        }
        // The right answer in another browser, of nobody or of the same user.
        let mut second = world.browser();
        assert_page(&second.open_any(&back, ANYWHERE).await?, "nobody's browser");
        world.log_in_as(&mut second, (USERNAME, PASSWORD)).await?;
        assert_page(
            &second.open_any(&back, ANYWHERE).await?,
            "her other browser",
        );
        assert_nothing_happened(world).await;
        // None of that disturbed the flow. The answer is taken once.
        let stop = dana.agent.open_any(&back, ANYWHERE).await?;
        let code = stop.answer("connect_code")?;
        // The cookie has done its work: the same answer again is a stray one.
        assert_page(&dana.agent.open_any(&back, ANYWHERE).await?, "again");
        world.complete(&dana.me, &started, &code).await?.unwrap();
    }
);

story!(cn_07_two_tabs_do_not_mix, |world| {
    let mut dana = dana(world).await?;
    let mut flows = Vec::new();
    for _ in 0..2 {
        let started = world.start_connect(&dana.me).await?;
        let provider = world.to_provider(&mut dana.agent, &started).await?;
        flows.push((started, provider));
    }
    // Another browser of hers has the cookie of a flow of its own only.
    let mut second = world.browser();
    world.log_in_as(&mut second, (USERNAME, PASSWORD)).await?;
    let own = world.start_connect(&dana.me).await?;
    world.to_provider(&mut second, &own).await?;
    for (started, provider) in flows.iter().rev() {
        let back = through_provider(world, &mut dana.agent, provider).await?;
        assert_page(&second.open_any(&back, ANYWHERE).await?, "mixed");
        let stop = dana.agent.open_any(&back, ANYWHERE).await?;
        let code = stop.answer("connect_code")?;
        // The code of one tab with the session of the other.
        for (other, _) in &flows {
            if other["auth_session"] != started["auth_session"] {
                let refused = world.complete(&dana.me, other, &code).await?.unwrap_err();
                assert!(matches!(refused.status, 403 | 409), "{refused:?}");
            }
        }
        world.complete(&dana.me, started, &code).await?.unwrap();
    }
    assert_eq!(world.sandbox.calls().redeem_code, 2);
});

story!(cn_08_the_question_cannot_be_skipped, |world| {
    let mut dana = dana(world).await?;
    let started = world.start_connect(&dana.me).await?;
    let connect = world.connect_url(&started)?;
    let ticket = started["connect_params"]["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    // The step after the question by a direct link, and by a form that is not from the page.
    let page = dana
        .agent
        .open(&format!("{connect}&action=continue"), WEB_CALLBACK)
        .await?;
    assert!(page.page.contains("value=\"continue\""));
    let post = world.url("connected-accounts/connect");
    for csrf in ["", "made-up"] {
        let fields = [
            ("ticket", ticket.as_str()),
            ("action", "continue"),
            ("csrf", csrf),
        ];
        let stop = dana.agent.post(&post, &fields, ANYWHERE).await?;
        assert_eq!(stop.status, 403, "{}", stop.page);
    }
    // A cookie of the right name, set by hand, before the question was answered.
    let session = started["auth_session"].as_str().unwrap();
    let name = format!("__Host-tv_connect_{}", &session[..12]);
    dana.agent.set_cookie("vault.test", &name, "forced");
    let connection = world
        .vault
        .find_connection("sandbox")
        .await
        .unwrap()
        .unwrap();
    let callback = connection.callback_uri(&world.vault);
    let stop = dana
        .agent
        .open_any(&format!("{callback}?code=forced&state=forced"), ANYWHERE)
        .await?;
    assert_page(&stop, "before the question");
    assert_eq!(world.sandbox.calls().authorize, 0);
    assert_nothing_happened(world).await;
});

story!(cn_10_a_ticket_is_for_one_browser_once_and_soon, |world| {
    let mut dana = dana(world).await?;
    let started = world.start_connect(&dana.me).await?;
    let connect = world.connect_url(&started)?;
    // Looking twice is fine in the first browser; a second one comes too late.
    dana.agent.open(&connect, WEB_CALLBACK).await?;
    dana.agent.open(&connect, WEB_CALLBACK).await?;
    let mut second = world.browser();
    world.log_in_as(&mut second, (USERNAME, PASSWORD)).await?;
    let stop = second.open_any(&connect, WEB_CALLBACK).await?;
    assert_refused(&stop, "invalid_request", "a second browser");
    let provider = world.to_provider(&mut dana.agent, &started).await?;
    // Used twice.
    let stop = dana.agent.open_any(&connect, WEB_CALLBACK).await?;
    assert_refused(&stop, "invalid_request", "used twice");
    // None of it hurt the first browser.
    let back = through_provider(world, &mut dana.agent, &provider).await?;
    let stop = dana.agent.open_any(&back, WEB_CALLBACK).await?;
    stop.answer("connect_code")?;
    assert_nothing_happened(world).await;

    // Too late to open, and opened in time but answered too late.
    let started = world.start_connect(&dana.me).await?;
    assert_eq!(started["expires_in"], 300);
    world.advance(301);
    let connect = world.connect_url(&started)?;
    let stop = dana.agent.open_any(&connect, WEB_CALLBACK).await?;
    assert_refused(&stop, "invalid_request", "too late");
    let started = world.start_connect(&dana.me).await?;
    let connect = world.connect_url(&started)?;
    let page = dana.agent.open(&connect, WEB_CALLBACK).await?;
    world.advance(301);
    let stop = dana.agent.submit_any(&page, &[], WEB_CALLBACK).await?;
    assert_refused(&stop, "invalid_request", "pressed too late");
    // The way through the provider has ten minutes.
    let started = world.start_connect(&dana.me).await?;
    let provider = world.to_provider(&mut dana.agent, &started).await?;
    let back = through_provider(world, &mut dana.agent, &provider).await?;
    world.advance(601);
    let stop = dana.agent.open_any(&back, WEB_CALLBACK).await?;
    assert_refused(&stop, "invalid_request", "a long way");
    assert_nothing_happened(world).await;
});

story!(
    cn_10_guessed_tickets_are_counted,
    Setup {
        web: WebOptions {
            guesses_per_minute: 5,
            ..WebOptions::default()
        },
        ..Setup::default()
    },
    |world| {
        let connect = world.url("connected-accounts/connect?ticket=guess");
        for number in 0..5 {
            let stop = world
                .browser()
                .open_any(&format!("{connect}{number}"), ANYWHERE)
                .await?;
            assert_page(&stop, "a guess");
        }
        let stop = world.browser().open_any(&connect, ANYWHERE).await?;
        assert_eq!(stop.status, 429);
        // Somebody with a good ticket waits as well, as long as it is the same address; machines do not.
        let keys = world.url(".well-known/jwks.json");
        let (status, _) = world.agent.call(Method::GET, &keys, None, None).await?;
        assert_eq!(status, 200);
        world.advance(60);
        let stop = world.browser().open_any(&connect, ANYWHERE).await?;
        assert_page(&stop, "a minute later");
        world.log_in().await?;
    }
);

story!(cn_11_who_was_switched_off_gets_no_account, |world| {
    let mut dana = dana(world).await?;
    for (off, on) in [
        (
            "update users set blocked_at = 1",
            "update users set blocked_at = null",
        ),
        (
            "update clients set disabled_at = 1",
            "update clients set disabled_at = null",
        ),
        (
            "update connections set connected_accounts_active = 0",
            "update connections set connected_accounts_active = 1",
        ),
    ] {
        // Between the ticket and the browser, and between the browser and complete.
        let early = world.start_connect(&dana.me).await?;
        let late = world.start_connect(&dana.me).await?;
        let stop = world.consent(&mut dana.agent, &late, "alice").await?;
        let code = stop.answer("connect_code")?;
        world.execute(off, params![]).await;
        let connect = world.connect_url(&early)?;
        let stop = dana.agent.open_any(&connect, WEB_CALLBACK).await?;
        assert_refused(&stop, "access_denied", off);
        let refused = world.complete(&dana.me, &late, &code).await?.unwrap_err();
        // A blocked user's token is none any more: 401 before anything is looked at.
        assert!(matches!(refused.status, 401 | 403), "{off}: {refused:?}");
        assert_nothing_happened(world).await;
        world.execute(on, params![]).await;
    }
    // The client lost the connection; the user's session ended on the way.
    let late = world.start_connect(&dana.me).await?;
    let stop = world.consent(&mut dana.agent, &late, "alice").await?;
    let code = stop.answer("connect_code")?;
    let connection = world
        .vault
        .find_connection("sandbox")
        .await
        .unwrap()
        .unwrap();
    let web = world.clients.web.client.client_id.clone();
    world
        .vault
        .disable_connection(&connection.id, &web)
        .await
        .unwrap();
    let refused = world.complete(&dana.me, &late, &code).await?.unwrap_err();
    assert_eq!(refused.status, 403);
    let body = json!({ "connection": "sandbox", "redirect_uri": WEB_CALLBACK });
    let refused = world
        .me(Method::POST, "connect", &dana.me, Some(&body))
        .await?
        .unwrap_err();
    assert!(matches!(refused.status, 400 | 403), "{refused:?}");
    world
        .vault
        .enable_connection(&connection.id, &web)
        .await
        .unwrap();
    let started = world.start_connect(&dana.me).await?;
    let provider = world.to_provider(&mut dana.agent, &started).await?;
    let back = through_provider(world, &mut dana.agent, &provider).await?;
    world
        .execute("update sessions set revoked_at = 1", params![])
        .await;
    let stop = dana.agent.open_any(&back, WEB_CALLBACK).await?;
    assert_refused(&stop, "access_denied", "logged out on the way");
    assert_nothing_happened(world).await;
});

story!(another_user_logs_in_while_the_provider_asks, |world| {
    world.another_user(EVE.0).await;
    let mut dana = dana(world).await?;
    let started = world.start_connect(&dana.me).await?;
    let provider = world.to_provider(&mut dana.agent, &started).await?;
    let back = through_provider(world, &mut dana.agent, &provider).await?;
    // A login at the very instant of the request would count as one for it.
    world.advance(1);
    let (url, _) = world.authorize_url(&[("prompt", "login")])?;
    world
        .pass_as(&mut dana.agent, &url, WEB_CALLBACK, EVE)
        .await?;
    let stop = dana.agent.open_any(&back, WEB_CALLBACK).await?;
    assert_refused(&stop, "access_denied", "another user by now");
    assert_nothing_happened(world).await;
});

story!(
    cn_13_14_the_answer_of_one_connection_is_not_taken_for_anothers,
    |world| {
        let other = world.another_connection("sandbox-two").await;
        let honest = world
            .vault
            .find_connection("sandbox")
            .await
            .unwrap()
            .unwrap();
        assert_ne!(
            honest.callback_uri(&world.vault),
            other.callback_uri(&world.vault)
        );
        let mut dana = dana(world).await?;
        for (connection, elsewhere) in [("sandbox", &other), ("sandbox-two", &honest)] {
            let body = json!({
                "connection": connection,
                "redirect_uri": WEB_CALLBACK,
                "state": "connect-state",
            });
            let started = world
                .me(Method::POST, "connect", &dana.me, Some(&body))
                .await?
                .unwrap();
            let provider = world.to_provider(&mut dana.agent, &started).await?;
            let back = through_provider(world, &mut dana.agent, &provider).await?;
            // State, cookie and code are right; the place is the other connection's.
            let query = back.split_once('?').unwrap().1;
            let wrong = format!("{}?{query}", elsewhere.callback_uri(&world.vault));
            assert_page(&dana.agent.open_any(&wrong, ANYWHERE).await?, connection);
            let nowhere = world.url(&format!("connect/callback/unknown?{query}"));
            assert_page(&dana.agent.open_any(&nowhere, ANYWHERE).await?, "unknown");
            assert_nothing_happened(world).await;
            // At its own place it is taken.
            let stop = dana.agent.open_any(&back, ANYWHERE).await?;
            stop.answer("connect_code")?;
        }
    }
);

story!(cn_19_20_what_cannot_be_asked_for, |world| {
    let dana = dana(world).await?;
    for name in [
        "../sandbox",
        "sandbox/../sandbox",
        "Sandbox",
        "sаndbox",
        "sandbox\u{200b}",
        "sandbox ",
        "unknown",
        "%73andbox",
    ] {
        let body = json!({ "connection": name, "redirect_uri": WEB_CALLBACK });
        let refused = world
            .me(Method::POST, "connect", &dana.me, Some(&body))
            .await?
            .unwrap_err();
        // Contract 2.5: an unknown connection is a 400.
        assert_eq!(refused.status, 400, "{name}");
    }
    for redirect_uri in [
        "https://evil.test/",
        SPA_CALLBACK,
        "https://app.test/callback/",
        "https://app.test/callback?next=//evil.test",
        "https://app.test@evil.test/callback",
        "//evil.test",
        "javascript:alert(1)",
    ] {
        let body = json!({ "connection": "sandbox", "redirect_uri": redirect_uri });
        let refused = world
            .me(Method::POST, "connect", &dana.me, Some(&body))
            .await?
            .unwrap_err();
        assert_eq!(refused.status, 400, "{redirect_uri}");
    }
    let flows = world
        .count("select count(*) from connect_flows", params![])
        .await;
    assert_eq!(flows, 0);
});

story!(
    cn_22_23_one_provider_account_of_two_users_is_never_merged,
    |world| {
        // Her username and e-mail address are those that the provider knows of the account.
        let namesake = world.another_user("alice@sandbox.example").await;
        world
            .execute(
                "update users set email = username where id = $1",
                params![namesake.id.as_str()],
            )
            .await;
        let mut dana = dana(world).await?;
        let mut alice = person(world, ("alice@sandbox.example", PASSWORD)).await?;
        let mut ids = Vec::new();
        for somebody in [&mut dana, &mut alice] {
            let listed = world
                .me(Method::GET, "accounts", &somebody.me, None)
                .await?
                .unwrap();
            assert_eq!(listed["accounts"], json!([]), "linked by e-mail");
            let started = world.start_connect(&somebody.me).await?;
            let stop = world
                .consent(&mut somebody.agent, &started, "alice")
                .await?;
            let code = stop.answer("connect_code")?;
            let account = world
                .complete(&somebody.me, &started, &code)
                .await?
                .unwrap();
            ids.push(account["id"].as_str().context("no id")?.to_owned());
        }
        assert_ne!(ids[0], ids[1]);
        let mut tokens = Vec::new();
        for somebody in [&dana, &alice] {
            let body = world.refresh_exchange(&somebody.login.refresh_token);
            tokens.push(world.exchange(&body).await?.unwrap().access_token);
        }
        assert_ne!(tokens[0], tokens[1]);
        // One disconnects; the other stays.
        let path = format!("accounts/{}", ids[1]);
        world
            .me(Method::DELETE, &path, &alice.me, None)
            .await?
            .unwrap();
        let body = world.refresh_exchange(&dana.login.refresh_token);
        world.exchange(&body).await?.unwrap();
    }
);

story!(connecting_the_same_account_again_renews_it, |world| {
    let mut dana = dana(world).await?;
    let body = world.refresh_exchange(&dana.login.refresh_token);
    let mut seen: Vec<(Value, String)> = Vec::new();
    for scopes in [None, Some(json!(["openid", "profile"]))] {
        let mut request = json!({
            "connection": "sandbox",
            "redirect_uri": WEB_CALLBACK,
            "state": "connect-state",
        });
        if let Some(scopes) = &scopes {
            request["scopes"] = scopes.clone();
        }
        let started = world
            .me(Method::POST, "connect", &dana.me, Some(&request))
            .await?
            .unwrap();
        let stop = world.consent(&mut dana.agent, &started, "alice").await?;
        let code = stop.answer("connect_code")?;
        let account = world.complete(&dana.me, &started, &code).await?.unwrap();
        let exchanged = world.exchange(&body).await?.unwrap();
        if scopes.is_some() {
            // What was granted before is asked for again: a new grant replaces the old one at many providers.
            let granted = exchanged.scope.split(' ').collect::<Vec<_>>();
            for scope in ["openid", "profile", "offline_access", "email", "files.read"] {
                assert!(granted.contains(&scope), "{granted:?}");
            }
        }
        seen.push((account, exchanged.access_token));
        world.advance(50);
    }
    assert_eq!(seen[0].0["id"], seen[1].0["id"]);
    assert_eq!(seen[0].0["created_at"], seen[1].0["created_at"]);
    assert_ne!(seen[0].1, seen[1].1, "the new token set is used");
    assert_eq!(accounts(world).await, 1);
    // R-36: another account at the provider is another account here.
    let started = world.start_connect(&dana.me).await?;
    let stop = world.consent(&mut dana.agent, &started, "bob").await?;
    let code = stop.answer("connect_code")?;
    let other = world.complete(&dana.me, &started, &code).await?.unwrap();
    assert_ne!(other["id"], seen[0].0["id"]);
    assert_eq!(accounts(world).await, 2);
});

story!(cn_25_the_provider_s_error_is_not_repeated, |world| {
    let mut dana = dana(world).await?;
    let issuer = world.sandbox.base_url().to_owned();
    for (error, expected) in [
        ("access_denied", "access_denied"),
        ("consent_required", "access_denied"),
        ("server_error", "server_error"),
        ("<script>alert(1)</script>", "server_error"),
        ("invalid_request\r\nset-cookie: a=b", "server_error"),
    ] {
        let started = world.start_connect(&dana.me).await?;
        let provider = world.to_provider(&mut dana.agent, &started).await?;
        let back = provider_answer(
            &provider,
            &[
                ("error", error),
                ("error_description", "<b>visit https://evil.test\r\nx: y"),
                ("error_uri", "https://evil.test/"),
                ("iss", &issuer),
            ],
        );
        let stop = dana.agent.open_any(&back, WEB_CALLBACK).await?;
        assert_refused(&stop, expected, error);
        let said = stop.parameter("error_description").unwrap();
        assert!(!said.contains("evil") && !said.contains('<'), "{said}");
        assert!(said.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        // Whatever comes afterwards, the flow is over.
        let refused = world
            .complete(&dana.me, &started, "guess")
            .await?
            .unwrap_err();
        assert_eq!(refused.status, 409, "{error}");
    }
    // No code and no error is no answer either.
    let started = world.start_connect(&dana.me).await?;
    let provider = world.to_provider(&mut dana.agent, &started).await?;
    let back = provider_answer(&provider, &[("iss", &issuer)]);
    let stop = dana.agent.open_any(&back, WEB_CALLBACK).await?;
    assert_refused(&stop, "server_error", "nothing");
    assert_nothing_happened(world).await;
});

story!(the_person_says_no, |world| {
    let mut dana = dana(world).await?;
    // At our page: by the button, and by anything that is not the button that says yes.
    for action in ["cancel", "", "CONTINUE"] {
        let started = world.start_connect(&dana.me).await?;
        let connect = world.connect_url(&started)?;
        let page = dana.agent.open(&connect, WEB_CALLBACK).await?;
        let stop = dana
            .agent
            .submit_any(&page, &[("action", action)], WEB_CALLBACK)
            .await?;
        assert_refused(&stop, "access_denied", action);
        let stop = dana.agent.open_any(&connect, WEB_CALLBACK).await?;
        assert_refused(&stop, "invalid_request", "the ticket of a flow that ended");
    }
    assert_eq!(world.sandbox.calls().authorize, 0);
    // At the provider.
    let started = world.start_connect(&dana.me).await?;
    let provider = world.to_provider(&mut dana.agent, &started).await?;
    let login = dana.agent.open(provider.url.as_str(), WEB_CALLBACK).await?;
    let alice = [
        ("username", "alice@sandbox.example"),
        ("password", "sandbox password"),
    ];
    let consent = dana.agent.submit(&login, &alice, WEB_CALLBACK).await?;
    let stop = dana
        .agent
        .submit_any(&consent, &[("action", "deny")], WEB_CALLBACK)
        .await?;
    assert_refused(&stop, "access_denied", "at the provider");
    assert_nothing_happened(world).await;
    let refused = world.audited("connect.refused").await;
    assert!(refused.iter().all(|(outcome, _)| outcome == "refused"));
    assert!(refused.len() >= 4);
});

story!(cn_26_what_is_granted_is_what_is_kept, |world| {
    let mut dana = dana(world).await?;
    let body = world.refresh_exchange(&dana.login.refresh_token);
    for granted in [
        &["openid", "offline_access", "profile"][..],
        &[
            "openid",
            "offline_access",
            "files.read",
            "files.write",
            "admin",
        ][..],
    ] {
        let granted: Vec<String> = granted.iter().map(|scope| (*scope).to_owned()).collect();
        world.sandbox.set_behaviour(Behaviour {
            granted_scopes: Some(granted.clone()),
            ..Behaviour::default()
        });
        let started = world.start_connect(&dana.me).await?;
        let stop = world.consent(&mut dana.agent, &started, "alice").await?;
        let code = stop.answer("connect_code")?;
        let account = world.complete(&dana.me, &started, &code).await?.unwrap();
        assert_eq!(account["scopes"], json!(granted));
        let exchanged = world.exchange(&body).await?.unwrap();
        assert_eq!(exchanged.scope, granted.join(" "));
    }
});

story!(
    up_16_19_r_32_an_answer_that_does_not_fit_connects_nothing,
    |world| {
        let mut dana = dana(world).await?;
        // Refused at complete: the ID token answers another request, userinfo speaks of somebody else, there is none.
        let complete_fails = [
            Behaviour {
                wrong_nonce: true,
                ..Behaviour::default()
            },
            Behaviour {
                wrong_userinfo_subject: true,
                ..Behaviour::default()
            },
            Behaviour {
                omit_id_token: true,
                ..Behaviour::default()
            },
        ];
        for behaviour in complete_fails {
            let what = format!("{behaviour:?}");
            world.sandbox.set_behaviour(behaviour);
            let started = world.start_connect(&dana.me).await?;
            let stop = world.consent(&mut dana.agent, &started, "alice").await?;
            let code = stop.answer("connect_code")?;
            let refused = world
                .complete(&dana.me, &started, &code)
                .await?
                .unwrap_err();
            assert_eq!(refused.status, 502, "{what}");
            assert_eq!(accounts(world).await, 0, "{what}");
            // The code is spent: trying again is no way.
            world.sandbox.set_behaviour(Behaviour::default());
            let refused = world
                .complete(&dana.me, &started, &code)
                .await?
                .unwrap_err();
            assert_eq!(refused.status, 409, "{what}");
        }
        // Refused before anything is redeemed: another issuer than the provider's, or none where it promised one.
        let redeemed = world.sandbox.calls().redeem_code;
        for issuer in ["https://evil.test", "", "http://127.0.0.1/"] {
            world.sandbox.set_behaviour(Behaviour {
                iss_override: Some(issuer.to_owned()),
                ..Behaviour::default()
            });
            let started = world.start_connect(&dana.me).await?;
            let stop = world.consent(&mut dana.agent, &started, "alice").await?;
            assert_refused(&stop, "invalid_request", issuer);
            assert!(world.complete(&dana.me, &started, "guess").await?.is_err());
        }
        assert_eq!(world.sandbox.calls().redeem_code, redeemed);
        assert_eq!(accounts(world).await, 0);
    }
);

story!(a_token_endpoint_that_fails_connects_nothing, |world| {
    let mut dana = dana(world).await?;
    let failure = |status, body: &str| InjectedFailure {
        status,
        body: body.to_owned(),
        ..InjectedFailure::default()
    };
    let dropped = InjectedFailure {
        drop_connection: true,
        ..InjectedFailure::default()
    };
    for (failure, status) in [
        (failure(400, r#"{"error":"invalid_grant"}"#), 400),
        (failure(401, r#"{"error":"invalid_client"}"#), 502),
        (failure(200, "<html>"), 502),
        (failure(200, r#"{"ok":false}"#), 502),
        (failure(500, "oops"), 503),
        (failure(429, "{}"), 503),
        (dropped, 503),
    ] {
        let what = format!("{failure:?}");
        let started = world.start_connect(&dana.me).await?;
        let stop = world.consent(&mut dana.agent, &started, "alice").await?;
        let code = stop.answer("connect_code")?;
        world.sandbox.set_behaviour(Behaviour {
            next_failures: vec![failure],
            ..Behaviour::default()
        });
        let before = world.sandbox.calls().redeem_code;
        let refused = world
            .complete(&dana.me, &started, &code)
            .await?
            .unwrap_err();
        assert_eq!(refused.status, status, "{what}: {refused:?}");
        assert!(!refused.description.contains("oops"));
        let refused = world
            .complete(&dana.me, &started, &code)
            .await?
            .unwrap_err();
        assert_eq!(refused.status, 409, "{what}");
        // A code is never presented twice, whatever the first answer was.
        assert_eq!(world.sandbox.calls().redeem_code, before + 1, "{what}");
    }
    assert_eq!(accounts(world).await, 0);
    // The provider's code ends before the vault's does.
    world.sandbox.set_behaviour(Behaviour::default());
    let started = world.start_connect(&dana.me).await?;
    let stop = world.consent(&mut dana.agent, &started, "alice").await?;
    let code = stop.answer("connect_code")?;
    world.advance(61);
    let refused = world
        .complete(&dana.me, &started, &code)
        .await?
        .unwrap_err();
    assert_eq!(refused.status, 400);
    assert_eq!(accounts(world).await, 0);
});

story!(completing_many_times_at_once_redeems_once, |world| {
    let mut dana = dana(world).await?;
    let started = world.start_connect(&dana.me).await?;
    let stop = world.consent(&mut dana.agent, &started, "alice").await?;
    let code = stop.answer("connect_code")?;
    world.sandbox.set_behaviour(Behaviour {
        latency_ms: 100,
        ..Behaviour::default()
    });
    let body = json!({
        "auth_session": started["auth_session"],
        "connect_code": code,
        "redirect_uri": WEB_CALLBACK,
    });
    let url = world.url("me/v1/connected-accounts/complete");
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (agent, url, me, body) = (world.browser(), url.clone(), dana.me.clone(), body.clone());
        asked.spawn(async move { agent.call(Method::POST, &url, Some(&me), Some(&body)).await });
    }
    let mut statuses = Vec::new();
    while let Some(answer) = asked.join_next().await {
        statuses.push(answer??.0.as_u16());
    }
    statuses.sort_unstable();
    let mut expected = vec![409; 20];
    expected[0] = 201;
    assert_eq!(statuses, expected);
    assert_eq!(world.sandbox.calls().redeem_code, 1);
    assert_eq!(accounts(world).await, 1);
});

story!(a_double_click_goes_on_with_the_second, |world| {
    let login = world.log_in().await?;
    let me = world.my_account_token(&login.refresh_token).await?;
    let started = world.start_connect(&me).await?;
    let mut agent = world.browser();
    let url = world.connect_url(&started)?;
    let provider = world.sandbox.base_url().to_owned();
    let page = agent.open(&url, &provider).await?;
    let person = [
        ("username", acceptance::USERNAME),
        ("password", acceptance::PASSWORD),
    ];
    let page = agent.submit(&page, &person, &provider).await?;
    let first = agent.submit(&page, &[], &provider).await?;
    let second = agent.submit(&page, &[], &provider).await?;
    assert_ne!(first.parameter("state"), second.parameter("state"));
    let account = world
        .consent_from(&mut agent, second.url.as_str(), "alice")
        .await?;
    let code = account.answer("connect_code")?;
    world.complete(&me, &started, &code).await?.unwrap();
    // The answer to the first click belongs to nothing any more.
    let stray = world
        .consent_from(&mut agent, first.url.as_str(), "alice")
        .await?;
    assert_eq!(stray.status.as_u16(), 400);
});

story!(cn_26_scopes_that_nobody_asked_for_are_told, |world| {
    world.sandbox.set_behaviour(Behaviour {
        granted_scopes: Some(vec![
            "openid".to_owned(),
            "offline_access".to_owned(),
            "files.write".to_owned(),
        ]),
        ..Behaviour::default()
    });
    world.connected().await?;
    let row = world
        .db
        .read_one(
            "select details from audit where event = 'connect.completed'",
            params![],
        )
        .await?
        .unwrap();
    let details: Value = serde_json::from_str(row.text(0)?)?;
    assert_eq!(details["scope_excess"], "files.write");
});
