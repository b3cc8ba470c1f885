//! Every profile of the catalogue against what its vendor documents: the client that production uses, over real sockets,
//! against the simulator that plays the fixture.
//!
//! `FIXTURE=github cargo test -p sandbox --test providers` runs those whose name begins so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, narrowed by one variable"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use oauth::params::Params;
use provider::{
    AuthorizationRequest, Catalogue, CodeGrant, ConnectionOptions, ConnectionSettings, FailureKind,
    OutboundPolicy, ProviderClient, RefreshClass, RefreshGrant, RevokedTokens, TokenAnswer,
};
use sandbox::{Behaviour, CLIENT_ID, CLIENT_SECRET, Fixture, Sandbox, SandboxConfig};
use seal::{SecretString, SystemEntropy};

const REDIRECT_URI: &str = "https://vault.example/connect/callback/c1";
const START: i64 = 1_800_000_000;

/// A simulator, a client and a clock.
struct Stage {
    sandbox: Sandbox,
    client: ProviderClient,
    clock: Arc<AtomicI64>,
    browser: reqwest::Client,
}

impl Stage {
    async fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let clock = Arc::new(AtomicI64::new(START));
        let told = Arc::clone(&clock);
        let sandbox = Sandbox::new(SandboxConfig {
            base_url: origin.clone(),
            clients: vec![],
            accounts: vec![],
            behaviour: Behaviour::default(),
            entropy: Arc::new(SystemEntropy),
            clock: Arc::new(move || Timestamp::from_second(told.load(Ordering::SeqCst)).unwrap()),
            state_file: None,
        });
        let router = sandbox.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let policy = OutboundPolicy {
            allowed_origins: vec![origin],
            ..OutboundPolicy::default()
        };
        Self {
            sandbox,
            client: ProviderClient::new(
                policy,
                Catalogue::built_in().unwrap(),
                Arc::new(SystemEntropy),
            )
            .unwrap(),
            clock,
            browser: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
                .unwrap(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.load(Ordering::SeqCst)).unwrap()
    }

    fn settings(&self, fixture: &Fixture, secret: &str) -> Result<ConnectionSettings, String> {
        let mut options: ConnectionOptions = serde_json::from_value(serde_json::Value::Object(
            fixture.connection.options.clone(),
        ))
        .map_err(|error| format!("connection.options: {error}"))?;
        options.variables = fixture.connection.variables.clone();
        options.simulator = Some(self.sandbox.simulator_url(&fixture.name));
        let settings = ConnectionSettings {
            strategy: fixture.strategy.clone(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: Some(SecretString::new(secret.to_owned())),
            options,
        };
        settings
            .check(self.client.catalogue())
            .map_err(|error| format!("the connection's settings: {error}"))?;
        Ok(settings)
    }

    /// Sends a person through consent and returns the query of the provider's answer.
    async fn consent(&self, fixture: &Fixture, url: &str, action: &str) -> Result<Params, String> {
        let page = self
            .browser
            .get(url)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let text = page.text().await.map_err(|error| error.to_string())?;
        let request = text
            .split("name=\"request\" value=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .ok_or_else(|| format!("authorization: {}", words(&text)))?;
        let form = [("request", request), ("action", action)];
        let answer = self
            .browser
            .post(format!(
                "{}/simulator/decide",
                self.sandbox.simulator_url(&fixture.name)
            ))
            .form(&form)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let location = answer
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .ok_or("consent leads nowhere")?;
        let (place, query) = location.split_once('?').ok_or("the answer has no query")?;
        if place != REDIRECT_URI {
            return Err(format!("the answer goes to {place}"));
        }
        Params::from_query(query).map_err(|_| "the answer's query is malformed".to_owned())
    }

    async fn is_live(&self, fixture: &Fixture, token: &SecretString) -> bool {
        self.browser
            .get(format!(
                "{}/simulator/token",
                self.sandbox.simulator_url(&fixture.name)
            ))
            .bearer_auth(token.reveal())
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
    }

    async fn refresh(
        &self,
        settings: &ConnectionSettings,
        refresh_token: &SecretString,
        access_token: &SecretString,
        variables: &BTreeMap<String, String>,
        further: Option<&str>,
    ) -> Result<TokenAnswer, provider::Failure> {
        let grant = RefreshGrant {
            refresh_token,
            access_token,
            scopes: None,
            granted: &[],
            redirect_uri: REDIRECT_URI,
            variables,
            further,
        };
        self.client.refresh(settings, &grant, self.now()).await
    }
}

/// A page without its markup.
fn words(html: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in html.split("</style>").last().unwrap_or_default().chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {found:?} and must be {expected:?}"))
    }
}

async fn play(stage: &Stage, fixture: &Fixture) -> Result<(), String> {
    let said = |what: &'static str| {
        move |failure: provider::Failure| {
            format!(
                "{what}: {failure} ({:?}, status {:?}, {:?})",
                failure.kind, failure.status, failure.provider_error
            )
        }
    };
    let expect = &fixture.expect;
    let key;
    let secret = if fixture.token.proof_is_assertion() {
        key = seal::SigningKey::generate(seal::Algorithm::Rs256)
            .unwrap()
            .to_pem()
            .unwrap();
        key.reveal()
    } else {
        CLIENT_SECRET
    };
    let settings = stage.settings(fixture, secret)?;
    let profile = Arc::clone(stage.client.profile(&settings).map_err(said("profile"))?);
    let verifier =
        oauth::pkce::CodeVerifier::parse("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
    let asked = |nonce: &str| AuthorizationRequest {
        redirect_uri: REDIRECT_URI.to_owned(),
        state: SecretString::new("a state".to_owned()),
        scopes: fixture.connection.scopes.clone(),
        code_challenge: Some(
            oauth::pkce::CodeChallenge::from_verifier(&verifier)
                .as_str()
                .to_owned(),
        ),
        nonce: Some(nonce.to_owned()),
        extra: vec![],
    };

    // Somebody says no.
    let url = stage
        .client
        .authorization_url(&settings, &asked("n1"), stage.now())
        .await
        .map_err(said("authorization_url"))?;
    let refused = stage.consent(fixture, &url, "deny").await?;
    same("error", &refused.get("error"), &Some("access_denied"))?;

    // Somebody says yes.
    let query = stage.consent(fixture, &url, "accept").await?;
    let callback = stage
        .client
        .read_callback(&settings, &query)
        .map_err(said("callback"))?;
    let grant = CodeGrant {
        code: &callback.code,
        redirect_uri: REDIRECT_URI,
        code_verifier: Some(&SecretString::new(
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".to_owned(),
        )),
        variables: &callback.variables,
    };
    if !fixture.token.proof_is_assertion() && fixture.token.proves_client() {
        let wrong = stage.settings(fixture, "another-secret")?;
        let failure = stage
            .client
            .redeem_code(&wrong, &grant, stage.now())
            .await
            .err()
            .ok_or("a wrong client secret is accepted")?;
        same(
            "the class of a wrong client secret",
            &failure.kind,
            &FailureKind::ClientMisconfigured,
        )?;
    }
    let tokens = stage
        .client
        .redeem_code(&settings, &grant, stage.now())
        .await
        .map_err(said("redeem_code"))?;
    same("expires_in", &tokens.expires_in, &expect.expires_in)?;
    same(
        "refresh_token_expires_in",
        &tokens.refresh_token_expires_in,
        &expect.refresh_token_expires_in,
    )?;
    let scopes: BTreeSet<&String> = match &tokens.scopes {
        Some(scopes) => scopes.iter().collect(),
        None => fixture.connection.scopes.iter().collect(),
    };
    let granted = expect.scopes.as_ref().unwrap_or(&fixture.connection.scopes);
    same("scopes", &scopes, &granted.iter().collect())?;
    let further: Vec<&str> = tokens
        .further
        .iter()
        .map(|token| token.name.as_str())
        .collect();
    same(
        "further",
        &further,
        &expect.further.iter().map(String::as_str).collect(),
    )?;
    let mut variables = callback.variables.clone();
    variables.extend(tokens.variables.clone());
    same("variables", &variables, &expect.variables)?;

    // Who it is.
    let identity = stage
        .client
        .identify(&settings, &tokens, Some("n1"), &variables, stage.now())
        .await
        .map_err(said("identify"))?;
    same("subject", &identity.subject, &expect.subject)?;
    same("login", &identity.login, &expect.login)?;
    same("email", &identity.email, &expect.email)?;
    same("name", &identity.name, &expect.name)?;
    same("organization", &identity.organization, &expect.organization)?;

    // Across the end of the token.
    let mut last = (
        tokens.access_token.duplicate(),
        tokens.refresh_token.as_ref().map(SecretString::duplicate),
    );
    let class = settings.refresh_class(&profile);
    match &fixture.refresh {
        None => same("the refresh class", &class, &RefreshClass::None)?,
        Some(facts) => {
            let shown = if facts.renews_access_token {
                Some(tokens.access_token.duplicate())
            } else {
                tokens.refresh_token.as_ref().map(SecretString::duplicate)
            };
            let shown = shown.ok_or("there is no refresh token")?;
            let life = i64::try_from(fixture.access_token_lifetime.unwrap_or(3600)).unwrap();
            // One that renews itself must still live.
            stage.clock.fetch_add(
                if facts.renews_access_token {
                    life / 2
                } else {
                    life + 1
                },
                Ordering::SeqCst,
            );
            let fresh = stage
                .refresh(
                    &settings,
                    &shown,
                    &tokens.access_token,
                    &variables,
                    tokens.stands_for_whole.as_deref(),
                )
                .await
                .map_err(said("refresh"))?;
            if fresh.access_token.reveal() == tokens.access_token.reveal() {
                return Err("a refresh brought the same token".to_owned());
            }
            same(
                "expires_in after a refresh",
                &fresh.expires_in,
                &expect.expires_in,
            )?;
            if let Some(scopes) = &fresh.scopes {
                same(
                    "scopes after a refresh",
                    &scopes.iter().collect::<BTreeSet<_>>(),
                    &granted.iter().collect(),
                )?;
            }
            let rotates = fresh.refresh_token.is_some();
            same(
                "whether a new refresh token comes",
                &rotates,
                &facts.call.answer.contains("<refresh_token"),
            )?;
            let again = stage
                .refresh(&settings, &shown, &fresh.access_token, &variables, None)
                .await;
            last = (
                fresh.access_token,
                fresh
                    .refresh_token
                    .or(tokens.refresh_token.as_ref().map(SecretString::duplicate)),
            );
            match (facts.is_strict(), again) {
                (true, Ok(_)) => {
                    return Err("a used refresh token works again at a strict provider".to_owned());
                }
                (true, Err(failure)) => {
                    same(
                        "the class of a used refresh token",
                        &failure.kind,
                        &FailureKind::ReauthorizationRequired,
                    )?;
                    same("the class of the profile", &class, &RefreshClass::Rotating)?;
                }
                (false, again) => {
                    let again = again.map_err(said("a refresh again"))?;
                    if class == RefreshClass::Rotating && settings.replay_window(&profile).is_none()
                    {
                        return Err("the old refresh token still works, and the profile has no replay_window".to_owned());
                    }
                    last = (again.access_token, again.refresh_token.or(last.1));
                }
            }
            if facts.ends_access_tokens && !profile.refresh.invalidates_access_token {
                return Err(
                    "a refresh ends access tokens, and the profile has no invalidates_access_token"
                        .to_owned(),
                );
            }
            let narrow = profile.refresh.downscope != provider::Downscope::None;
            same("whether a refresh narrows", &narrow, &facts.narrows)?;
            if let (true, Some(scope), Some(refresh_token)) = (narrow, granted.first(), &last.1) {
                let scopes = [scope.clone()];
                let grant = RefreshGrant {
                    refresh_token,
                    access_token: &last.0,
                    scopes: Some(&scopes),
                    granted,
                    redirect_uri: REDIRECT_URI,
                    variables: &variables,
                    further: None,
                };
                let narrowed = stage
                    .client
                    .refresh(&settings, &grant, stage.now())
                    .await
                    .map_err(said("a refresh that narrows"))?;
                same(
                    "the scopes of a narrow token",
                    &narrowed.scopes.unwrap_or_default(),
                    &scopes.to_vec(),
                )?;
                let next = narrowed.refresh_token.or(last.1.take());
                last = (narrowed.access_token, next);
            }
            for token in &tokens.further {
                if let Some(refresh_token) = &token.refresh_token {
                    let fresh = stage
                        .refresh(
                            &settings,
                            refresh_token,
                            &token.access_token,
                            &variables,
                            Some(&token.name),
                        )
                        .await
                        .map_err(said("refresh of a further token"))?;
                    if let Some(scopes) = &fresh.scopes {
                        let place = profile
                            .answer
                            .further
                            .iter()
                            .find(|known| known.name == token.name);
                        let prefix = place.map_or("", |place| &place.scope_prefix);
                        if !scopes.iter().all(|scope| scope.starts_with(prefix)) {
                            return Err(format!(
                                "scopes of {} without their prefix: {scopes:?}",
                                token.name
                            ));
                        }
                    }
                }
            }
        }
    }

    // Giving it back.
    let (access_token, refresh_token) = last;
    let revoked = stage
        .client
        .revoke(
            &settings,
            &RevokedTokens {
                access_token: &access_token,
                refresh_token: refresh_token.as_ref(),
                variables: &variables,
            },
            stage.now(),
        )
        .await
        .map_err(said("revoke"))?;
    same(
        "whether the provider can revoke",
        &revoked,
        &fixture.revocation.is_some(),
    )?;
    if revoked {
        same(
            "whether the access token lives after that",
            &stage.is_live(fixture, &access_token).await,
            &false,
        )?;
        let again = stage
            .client
            .revoke(
                &settings,
                &RevokedTokens {
                    access_token: &access_token,
                    refresh_token: refresh_token.as_ref(),
                    variables: &variables,
                },
                stage.now(),
            )
            .await
            .map_err(said("revoke what is revoked"))?;
        same("whether revoking twice is done", &again, &true)?;
        let shown = if class == RefreshClass::Renewal {
            Some(&access_token)
        } else {
            refresh_token.as_ref()
        };
        if let (Some(_), Some(shown)) = (&fixture.refresh, shown) {
            let failure = stage
                .refresh(&settings, shown, &access_token, &variables, None)
                .await
                .err()
                .ok_or("a revoked refresh token works")?;
            same(
                "the class of a revoked refresh token",
                &failure.kind,
                &FailureKind::ReauthorizationRequired,
            )?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_profile_speaks_as_its_vendor_documents() {
    let wanted = std::env::var("FIXTURE").unwrap_or_default();
    let mut wrong = Vec::new();
    let mut played = 0;
    for fixture in Fixture::all().filter(|fixture| fixture.name.starts_with(&wanted)) {
        let stage = Stage::new().await;
        played += 1;
        if let Err(error) = play(&stage, fixture).await {
            wrong.push(format!("{}: {error}", fixture.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {played} fixtures:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!("{played} fixtures");
    assert!(played > 0, "no fixture begins with '{wanted}'");
}

#[test]
fn every_provider_of_the_catalogue_has_a_fixture() {
    let played: BTreeSet<&str> = Fixture::all()
        .map(|fixture| fixture.strategy.as_str())
        .collect();
    let catalogue = Catalogue::built_in().unwrap();
    let missing: Vec<&str> = catalogue
        .iter()
        .map(|profile| profile.strategy.as_str())
        // Generic, and the sandbox itself: the stories and the real counterparts test them.
        .filter(|strategy| !matches!(*strategy, "oauth2" | "oidc" | "sandbox"))
        .filter(|strategy| !played.contains(strategy))
        .collect();
    assert!(missing.is_empty(), "no fixture for {}", missing.join(", "));
}
