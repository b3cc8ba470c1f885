//! A custom connection whose provider turns on us after an account was connected: what the application hears, and that
//! the account stays as it was and its token is given for as long as it lives (threats F-11, F-46, F-47, SS-11, SS-19,
//! UP-01 to UP-14). How each answer is cut is tested where it is cut, in `provider`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "stories"
)]

use std::time::Duration;

use acceptance::{PASSWORD, Refused, Rogue, Says, Setup, USERNAME, WEB_CALLBACK, World, story};
use anyhow::Result;
use headless::Stop;
use provider::ConnectionOptions;
use reqwest::Method;
use seal::{Algorithm, SecretString, SigningKey};
use serde_json::{Value, json};
use store::params;
use vault::{NewConnection, Reason};

/// In everything that a hostile answer says. The world looks for it in the database, the log and the bodies of errors.
const MARK: &str = "ZXQ-SAID-BY-THE-PROVIDER";
const CLIENT_ID: &str = "client-at-the-rogue";
/// Seconds that its access tokens live.
const LIFE: u64 = 3600;

/// The user at a custom connection named `rogue`.
struct Custom {
    me: String,
    /// The exchange of the user's account there.
    exchange: Value,
    /// What the connection was given so far.
    tokens: u32,
}

impl Custom {
    /// Makes the connection and logs the user in.
    async fn new(world: &mut World, strategy: &str, options: ConnectionOptions) -> Result<Self> {
        world.secret(MARK);
        let new = NewConnection {
            name: "rogue".to_owned(),
            strategy: strategy.to_owned(),
            display_name: "Rogue".to_owned(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: Some(SecretString::new("secret-at-the-rogue".to_owned())),
            options,
            scopes: vec!["files.read".to_owned()],
        };
        let connection = world.vault.create_connection(new).await.unwrap();
        let web = world.clients.web.client.client_id.clone();
        world
            .vault
            .enable_connection(&connection.id, &web)
            .await
            .unwrap();
        let login = world.log_in().await?;
        let me = world.my_account_token(&login.refresh_token).await?;
        let mut exchange = world.refresh_exchange(&login.refresh_token);
        exchange["connection"] = json!("rogue");
        Ok(Self {
            me,
            exchange,
            tokens: 0,
        })
    }

    /// One with every endpoint at the rogue, which names `sub` at userinfo.
    async fn oauth2(world: &mut World) -> Result<Self> {
        let at = |path: &str| Some(format!("{}{path}", world.rogue.origin));
        let options = ConnectionOptions {
            authorization_endpoint: at("/authorize"),
            token_endpoint: at("/token"),
            userinfo_endpoint: at("/userinfo"),
            ..ConnectionOptions::default()
        };
        world
            .rogue
            .say("/userinfo", Says::json(&json!({ "sub": "somebody" })));
        Self::new(world, "oauth2", options).await
    }

    /// Lets the token endpoint give a new pair; returns the access token.
    fn be_honest(&mut self, world: &mut World, id_token: Option<String>) -> String {
        self.tokens += 1;
        let access_token = format!("rogue-access-token-{}", self.tokens);
        let refresh_token = format!("rogue-refresh-token-{}", self.tokens);
        world.secret(&access_token);
        world.secret(&refresh_token);
        let mut answer = json!({
            "access_token": access_token,
            "refresh_token": refresh_token,
            "token_type": "Bearer",
            "expires_in": LIFE,
        });
        if let Some(id_token) = id_token {
            answer["id_token"] = json!(id_token);
        }
        world.rogue.say("/token", Says::json(&answer));
        access_token
    }

    /// Starts a flow, and goes to the provider's door.
    async fn start(&self, world: &mut World) -> Result<(Value, headless::Agent, Stop)> {
        let body = json!({ "connection": "rogue", "redirect_uri": WEB_CALLBACK, "state": "s" });
        let started = world
            .me(Method::POST, "connect", &self.me, Some(&body))
            .await?
            .unwrap();
        let url = world.connect_url(&started)?;
        let until = world.rogue.origin.clone();
        let mut agent = world.browser();
        let login = agent.open(&url, &until).await?;
        let person = [("username", USERNAME), ("password", PASSWORD)];
        let consent = agent.submit(&login, &person, &until).await?;
        let stop = agent.submit_any(&consent, &[], &until).await?;
        Ok((started, agent, stop))
    }

    /// Comes back from the provider with a code, and completes.
    async fn finish(
        &self,
        world: &mut World,
        (started, mut agent, stop): (Value, headless::Agent, Stop),
    ) -> Result<std::result::Result<Value, Refused>> {
        let mut back = url::Url::parse(&stop.parameter("redirect_uri").unwrap())?;
        back.query_pairs_mut()
            .append_pair("code", "code-of-the-rogue")
            .append_pair("state", &stop.parameter("state").unwrap());
        let stop = agent.open_any(back.as_str(), WEB_CALLBACK).await?;
        let code = stop.answer("connect_code")?;
        world.complete(&self.me, &started, &code).await
    }

    /// Connects the account, anew if it was before.
    async fn connect(&self, world: &mut World) -> Result<std::result::Result<Value, Refused>> {
        let gone = self.start(world).await?;
        self.finish(world, gone).await
    }

    /// From an account that was connected just now with `token`, over a refresh that fails while the token lives and one
    /// that fails afterwards, to a provider that works again.
    async fn fails_to_refresh(
        &mut self,
        world: &mut World,
        token: &str,
        expected: (u16, &str, &str),
        what: &str,
    ) -> Result<()> {
        let before = world.rogue.heard().len();
        // Past the margin: it is refreshed first, and that fails.
        world.advance(LIFE - 20);
        let exchanged = world.exchange(&self.exchange).await?;
        let exchanged = exchanged.unwrap_or_else(|refused| panic!("{what}: {refused:?}"));
        assert_eq!(
            exchanged.access_token, token,
            "{what}: served while it lives"
        );
        assert_eq!(exchanged.expires_in, 20, "{what}");
        assert!(
            world.rogue.heard().len() > before,
            "{what}: nobody was asked"
        );
        // Nobody waits for it as long as there is a token that lives.
        world.vault.land().await;
        // Past its end there is nothing to serve.
        world.advance(30);
        let (status, error, reason) = expected;
        let refused = world.exchange(&self.exchange).await?.unwrap_err();
        assert_eq!(
            (refused.status, refused.error.as_str()),
            (status, error),
            "{what}"
        );
        assert!(!refused.description.contains(MARK), "{what}: {refused:?}");
        let audited = world.audited("provider.refresh").await;
        assert_eq!(
            audited[audited.len() - 2..],
            [(); 2].map(|()| ("failed".to_owned(), Some(reason.to_owned()))),
            "{what}"
        );
        assert_active(world, what).await;
        // The user has not noticed anything.
        let fresh = self.be_honest(world, None);
        world.advance(30);
        let exchanged = world.exchange(&self.exchange).await?;
        let exchanged = exchanged.unwrap_or_else(|refused| panic!("{what}: {refused:?}"));
        assert_eq!(exchanged.access_token, fresh, "{what}");
        Ok(())
    }
}

/// One account, and nobody has to connect it again.
async fn assert_active(world: &World, what: &str) {
    let active = "select count(*) from accounts where status = 'active' and status_reason is null";
    assert_eq!(world.count(active, params![]).await, 1, "{what}");
    let all = "select count(*) from accounts";
    assert_eq!(world.count(all, params![]).await, 1, "{what}");
}

const CUT: (u16, &str, &str) = (503, "temporarily_unavailable", "outcome_unknown");
const NONSENSE: (u16, &str, &str) = (502, "server_error", "invalid_response");
const JSON: &str = "content-type: application/json\r\n";

/// What a hostile token endpoint says, and what comes of it.
fn hostile_answers(
    elsewhere: &str,
) -> Vec<(&'static str, Says, (u16, &'static str, &'static str))> {
    let ok = |headers: &str, body: &[u8]| Says::http("200 OK", headers, body);
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\n{JSON}{more}\r\n\r\n").into_bytes();
    let token = format!(r#"{{"access_token":"{MARK}","expires_in":3600}}"#);
    let page = format!("<!doctype html><title>{MARK}</title>");
    let deep = format!(
        r#"{{"access_token":"{MARK}","x":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let flood: String = (0..5000).map(|n| format!("x-{n}: {MARK}\r\n")).collect();
    let redirect = format!("location: {elsewhere}/token\r\n");
    let error = format!(
        r#"{{"error":"<script>","error_description":"{MARK}","error_uri":"https://evil.test/{MARK}"}}"#
    );
    vec![
        (
            "endless chunks",
            Says::Endlessly(
                head("transfer-encoding: chunked"),
                format!("18\r\n{MARK}\r\n").into_bytes(),
            ),
            CUT,
        ),
        (
            "100 MB",
            Says::Endlessly(
                head("content-length: 100000000"),
                MARK.as_bytes().repeat(100),
            ),
            CUT,
        ),
        (
            "compressed",
            ok(
                &format!("{JSON}content-encoding: gzip\r\n"),
                token.as_bytes(),
            ),
            CUT,
        ),
        ("a flood of headers", ok(&flood, token.as_bytes()), CUT),
        (
            "broken chunks",
            Says::Bytes(
                [
                    head("transfer-encoding: chunked"),
                    format!("zz\r\n{token}").into_bytes(),
                ]
                .concat(),
            ),
            CUT,
        ),
        ("the end at once", Says::Bytes(Vec::new()), CUT),
        (
            "the end in the middle",
            Says::Bytes([head("content-length: 9999"), token.clone().into_bytes()].concat()),
            CUT,
        ),
        (
            "a failure that says what ends accounts",
            Says::http("500 Oops", JSON, br#"{"error":"invalid_grant"}"#),
            CUT,
        ),
        (
            "a page",
            ok("content-type: text/html\r\n", page.as_bytes()),
            NONSENSE,
        ),
        (
            "a page for an error",
            Says::http("400 Bad Request", "", page.as_bytes()),
            NONSENSE,
        ),
        (
            "an error that is markup",
            Says::http("400 Bad Request", JSON, error.as_bytes()),
            NONSENSE,
        ),
        ("10,000 levels", ok(JSON, deep.as_bytes()), NONSENSE),
        (
            "invalid UTF-8",
            ok(JSON, b"{\"access_token\":\"\xff\xfe\"}"),
            NONSENSE,
        ),
        (
            "a header in a token",
            ok(JSON, br#"{"access_token":"a\r\nx: y"}"#),
            NONSENSE,
        ),
        (
            "no token",
            ok(JSON, format!(r#"{{"ok":false,"x":"{MARK}"}}"#).as_bytes()),
            NONSENSE,
        ),
        (
            "a redirect by which a token would come",
            Says::http("307 Temporary Redirect", &redirect, b""),
            NONSENSE,
        ),
        (
            "a redirect with a token in its body",
            Says::http("302 Found", &format!("{JSON}{redirect}"), token.as_bytes()),
            NONSENSE,
        ),
        (
            "a refusal of us",
            Says::http("401 Unauthorized", JSON, br#"{"error":"invalid_client"}"#),
            (502, "server_error", "client_misconfigured"),
        ),
    ]
}

story!(
    f_11_up_01_a_token_endpoint_that_turns_hostile_ends_no_account,
    |world| {
        let mut custom = Custom::oauth2(world).await?;
        let elsewhere = Rogue::start().await;
        elsewhere.say(
            "/token",
            Says::json(&json!({ "access_token": "elsewhere" })),
        );
        let mut cases = hostile_answers(&elsewhere.origin);
        // The sandbox may be called, but not because somebody else says so.
        let (_, redirect, expected) = hostile_answers(world.sandbox.base_url())
            .into_iter()
            .find(|(what, ..)| what.starts_with("a redirect by"))
            .unwrap();
        cases.push(("a redirect to another provider", redirect, expected));
        for (what, says, expected) in cases {
            let token = custom.be_honest(world, None);
            custom.connect(world).await?.unwrap();
            world.rogue.say("/token", says);
            custom
                .fails_to_refresh(world, &token, expected, what)
                .await?;
        }
        assert!(elsewhere.heard().is_empty(), "{:?}", elsewhere.heard());
        let calls = world.sandbox.calls();
        assert_eq!((calls.refresh, calls.redeem_code), (0, 0));
    }
);

story!(
    up_01_a_token_endpoint_that_falls_silent_holds_nobody_up,
    Setup {
        deadline: Duration::from_millis(500),
        ..Setup::default()
    },
    |world| {
        let mut custom = Custom::oauth2(world).await?;
        let early = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
        for (what, says) in [
            ("silence", Says::Nothing),
            (
                "early hints without an end",
                Says::Endlessly(early.clone(), early),
            ),
        ] {
            let token = custom.be_honest(world, None);
            custom.connect(world).await?.unwrap();
            world.rogue.say("/token", says);
            let story = custom.fails_to_refresh(world, &token, CUT, what);
            // Two deadlines and a lot of patience; a call that nobody ends would take the 15 s of refresh_wait twice.
            tokio::time::timeout(Duration::from_secs(10), story).await??;
        }
    }
);

story!(
    up_04_a_hostile_answer_to_a_code_connects_nothing_and_takes_nothing_away,
    |world| {
        let mut custom = Custom::oauth2(world).await?;
        let token = custom.be_honest(world, None);
        custom.connect(world).await?.unwrap();
        let elsewhere = Rogue::start().await;
        let honest_userinfo = Says::json(&json!({ "sub": "somebody else" }));
        for path in ["/token", "/userinfo"] {
            for (case, says, (_, _, reason)) in hostile_answers(&elsewhere.origin) {
                let what = format!("{path}: {case}");
                custom.be_honest(world, None);
                world.rogue.say("/userinfo", honest_userinfo.clone());
                world.rogue.say(path, says);
                let before = world.rogue.heard().len();
                let refused = custom.connect(world).await?.unwrap_err();
                let status = match (path, case, reason) {
                    // Something was said, but not who it is.
                    ("/userinfo", "no token" | "a header in a token", _) => 400,
                    (_, _, "outcome_unknown") => 503,
                    _ => 502,
                };
                assert_eq!(refused.status, status, "{what}: {refused:?}");
                assert!(!refused.description.contains(MARK), "{what}: {refused:?}");
                assert_eq!(world.rogue.heard()[before], "/token", "{what}");
                assert_active(world, &what).await;
                let exchanged = world.exchange(&custom.exchange).await?.unwrap();
                assert_eq!(exchanged.access_token, token, "{what}");
            }
        }
        assert!(elsewhere.heard().is_empty(), "{:?}", elsewhere.heard());
    }
);

/// Options of a connection that discovers everything else.
fn discovered(world: &World) -> ConnectionOptions {
    ConnectionOptions {
        issuer: Some(world.rogue.origin.clone()),
        ..ConnectionOptions::default()
    }
}

/// What an honest provider publishes.
fn metadata(origin: &str) -> Value {
    json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "jwks_uri": format!("{origin}/jwks"),
    })
}

const METADATA: &str = "/.well-known/openid-configuration";
const REFUSED: (u16, &str, &str) = (503, "temporarily_unavailable", "outbound_refused");

story!(
    ss_19_metadata_that_turns_inward_after_connecting_leads_nowhere,
    |world| {
        let origin = world.rogue.origin.clone();
        let key = SigningKey::generate(Algorithm::Es256)?;
        let keys = json!({ "keys": [key.public_jwk("k1")] });
        world.rogue.say("/jwks", Says::json(&keys));
        world.rogue.say(METADATA, Says::json(&metadata(&origin)));
        let options = discovered(world);
        let mut custom = Custom::new(world, "oidc", options).await?;
        // Nobody allowed this one, and it would gladly answer.
        let inside = Rogue::start().await;
        inside.say("/token", Says::json(&json!({ "access_token": "inside" })));
        let with = |member: &str, value: String| {
            let mut changed = metadata(&origin);
            changed[member] = json!(value);
            Says::json(&changed)
        };
        let cases = [
            (
                "this host",
                with("token_endpoint", format!("{}/token", inside.origin)),
                REFUSED,
            ),
            (
                "a metadata service",
                with(
                    "token_endpoint",
                    "https://169.254.169.254/latest/".to_owned(),
                ),
                REFUSED,
            ),
            (
                "a name that leads to this host",
                with("token_endpoint", "https://localhost/token".to_owned()),
                REFUSED,
            ),
            (
                "http",
                with("token_endpoint", "http://provider.test/token".to_owned()),
                REFUSED,
            ),
            (
                "a file",
                with("token_endpoint", "file:///etc/passwd".to_owned()),
                REFUSED,
            ),
            (
                "another issuer",
                with("issuer", format!("https://{MARK}.test")),
                NONSENSE,
            ),
            (
                "a redirect",
                Says::http(
                    "302 Found",
                    &format!("location: {}/\r\n", inside.origin),
                    b"",
                ),
                NONSENSE,
            ),
        ];
        for (what, says, expected) in cases {
            world.rogue.say(METADATA, Says::json(&metadata(&origin)));
            let gone = custom.start(world).await?;
            let now = vault::Clock::now(&*world.clock).as_second();
            let claims = json!({
                "iss": origin,
                "aud": CLIENT_ID,
                "sub": "somebody",
                "nonce": gone.2.parameter("nonce"),
                "iat": now,
                "exp": now + 60,
            });
            let id_token = key.sign(Some("k1"), "JWT", &claims)?;
            let token = custom.be_honest(world, Some(id_token));
            custom.finish(world, gone).await?.unwrap();
            world.rogue.say(METADATA, says);
            world.advance(LIFE - 20);
            let exchanged = world.exchange(&custom.exchange).await?.unwrap();
            assert_eq!(
                exchanged.access_token, token,
                "{what}: served while it lives"
            );
            world.advance(30);
            let refused = world.exchange(&custom.exchange).await?.unwrap_err();
            assert_eq!(
                (refused.status, refused.error.as_str()),
                (expected.0, expected.1),
                "{what}"
            );
            for said in ["127.0.0.1", "169.254", "localhost", "passwd", MARK] {
                assert!(!refused.description.contains(said), "{what}: {refused:?}");
            }
            let audited = world.audited("provider.refresh").await;
            let (outcome, reason) = audited.last().unwrap();
            assert_eq!(
                (outcome.as_str(), reason.as_deref()),
                ("failed", Some(expected.2)),
                "{what}"
            );
            assert_active(world, what).await;
            // What is believed again is not older than ten minutes.
            world.rogue.say(METADATA, Says::json(&metadata(&origin)));
            let fresh = custom.be_honest(world, None);
            world.advance(600);
            let exchanged = world.exchange(&custom.exchange).await?.unwrap();
            assert_eq!(exchanged.access_token, fresh, "{what}");
        }
        assert!(inside.heard().is_empty(), "{:?}", inside.heard());
    }
);

story!(
    f_47_ss_01_an_inner_address_is_refused_where_it_is_configured,
    |world| {
        world.secret(MARK);
        let inside = Rogue::start().await;
        for (url, why) in [
            (format!("{}/x", inside.origin), "the address is not https"),
            (
                inside.origin.replace("http:", "https:"),
                "the address has a port other than 443, and its origin is not allowed",
            ),
            (
                "https://127.0.0.1/x".to_owned(),
                "the address is not public",
            ),
            (
                "https://169.254.169.254/x".to_owned(),
                "the address is not public",
            ),
            (
                "https://[::ffff:7f00:1]/x".to_owned(),
                "the address is not public",
            ),
            ("https://0x7f.1/x".to_owned(), "the address is not public"),
            (
                "http://provider.test/x".to_owned(),
                "the address is not https",
            ),
        ] {
            for option in [
                "authorization_endpoint",
                "issuer",
                "jwks_uri",
                "revocation_endpoint",
                "token_endpoint",
                "userinfo_endpoint",
            ] {
                let mut options = json!({
                    "authorization_endpoint": "https://provider.test/authorize",
                    "token_endpoint": "https://provider.test/token",
                });
                options[option] = json!(url);
                let made = world
                    .vault
                    .create_connection(NewConnection {
                        name: "inside".to_owned(),
                        strategy: "oauth2".to_owned(),
                        display_name: String::new(),
                        client_id: CLIENT_ID.to_owned(),
                        client_secret: None,
                        options: serde_json::from_value(options)?,
                        scopes: Vec::new(),
                    })
                    .await;
                let Err(vault::Error::Refused(refusal)) = made else {
                    panic!("{option}: {url}: {made:?}");
                };
                assert_eq!(refusal.reason(), Reason::InvalidBody);
                assert_eq!(refusal.description(), format!("options.{option}: {why}."));
            }
        }
        assert!(inside.heard().is_empty(), "{:?}", inside.heard());
        let made = "select count(*) from connections where name = 'inside'";
        assert_eq!(world.count(made, params![]).await, 0);
    }
);
