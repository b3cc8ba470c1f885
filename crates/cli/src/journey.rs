//! A person's way through the vault without a browser.
//!
//! `demo` tells it step by step; `dev-token` uses it to fetch the tokens that the printed `curl` lines need.

use anyhow::{Context, Result, anyhow, bail};
use headless::{Agent, MOST_HOPS};
use oauth::grant;
use reqwest::{Method, Url};
use seal::{Algorithm, SigningKey};
use serde_json::{Value, json};
use vault::Clock;

use crate::dev_file::{DevFile, SandboxLogin};

/// The tokens that a login brings.
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    pub(crate) id_token: String,
}

/// One user's errands at one development deployment.
pub(crate) struct Journey<'a> {
    pub(crate) dev: &'a DevFile,
    pub(crate) agent: Agent,
}

impl<'a> Journey<'a> {
    pub(crate) fn new(dev: &'a DevFile) -> Result<Self> {
        let ca = std::fs::read(&dev.ca_file)
            .with_context(|| format!("cannot read {}", dev.ca_file.display()))?;
        Ok(Self {
            dev,
            agent: Agent::trusting(&ca)?,
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.dev.issuer)
    }

    fn redirect_uri(&self) -> Result<&'a str> {
        self.dev
            .clients
            .web
            .redirect_uri
            .as_deref()
            .context("dev.json: clients.web.redirect_uri")
    }

    /// Logs the demo user in at the web application, for its API.
    pub(crate) async fn log_in(&mut self) -> Result<Tokens> {
        let web = &self.dev.clients.web;
        let redirect_uri = self.redirect_uri()?;
        let verifier =
            seal::random_id(&seal::SystemEntropy, "") + &seal::random_id(&seal::SystemEntropy, "");
        let challenge = challenge_of(&verifier)?;
        let authorize = Url::parse_with_params(
            &self.url("authorize"),
            [
                ("response_type", "code"),
                ("client_id", &web.client_id),
                ("redirect_uri", redirect_uri),
                ("scope", "openid profile email offline_access"),
                ("audience", web.audience.as_deref().unwrap_or_default()),
                ("state", "demo"),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
            ],
        )?;
        let mut stop = self.agent.open(authorize.as_str(), redirect_uri).await?;
        if stop.asks_for_password() {
            let user = &self.dev.user;
            stop = self
                .agent
                .submit(
                    &stop,
                    &[("username", &user.username), ("password", &user.password)],
                    redirect_uri,
                )
                .await?;
        }
        let code = stop.answer("code")?;
        let answer = self
            .token(json!({
                "grant_type": "authorization_code",
                "client_id": web.client_id,
                "client_secret": web.client_secret,
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            }))
            .await?;
        Ok(Tokens {
            access_token: member(&answer, "access_token")?,
            refresh_token: member(&answer, "refresh_token")?,
            id_token: member(&answer, "id_token")?,
        })
    }

    /// An access token for the My Account API, from the login's refresh token.
    pub(crate) async fn my_account_token(&self, refresh_token: &str) -> Result<String> {
        let web = &self.dev.clients.web;
        let answer = self
            .token(json!({
                "grant_type": "refresh_token",
                "client_id": web.client_id,
                "client_secret": web.client_secret,
                "refresh_token": refresh_token,
                "audience": self.url("me/"),
                "scope": "create:me:connected_accounts read:me:connected_accounts delete:me:connected_accounts",
            }))
            .await?;
        member(&answer, "access_token")
    }

    /// The demo administrator's access token for the Management API.
    pub(crate) async fn management_token(&self) -> Result<String> {
        let management = &self.dev.management;
        let answer = self
            .token(json!({
                "grant_type": grant::CLIENT_CREDENTIALS,
                "client_id": management.client_id,
                "client_secret": management.client_secret,
                "audience": management.audience,
            }))
            .await?;
        member(&answer, "access_token")
    }

    /// Connects an account of the sandbox: ask, consent in the browser, complete.
    pub(crate) async fn connect(
        &mut self,
        my_account_token: &str,
        login: &SandboxLogin,
    ) -> Result<Value> {
        let started = self.start_connect(my_account_token).await?;
        let connect_code = self.consent(&started, login).await?;
        self.complete(my_account_token, &started, &connect_code)
            .await
    }

    pub(crate) async fn start_connect(&self, my_account_token: &str) -> Result<Value> {
        self.agent
            .expect(
                Method::POST,
                &self.url("me/v1/connected-accounts/connect"),
                Some(my_account_token),
                Some(&json!({
                    "connection": self.dev.sandbox.connection,
                    "redirect_uri": self.redirect_uri()?,
                    "state": "demo",
                })),
            )
            .await
    }

    /// The browser's part: the ticket, the vault's question, the sandbox's login and consent.
    pub(crate) async fn consent(
        &mut self,
        started: &Value,
        login: &SandboxLogin,
    ) -> Result<String> {
        let redirect_uri = self.redirect_uri()?;
        let ticket = started
            .pointer("/connect_params/ticket")
            .and_then(Value::as_str)
            .context("no ticket")?;
        let connect =
            Url::parse_with_params(&member(started, "connect_uri")?, [("ticket", ticket)])?;
        let mut stop = self.agent.open(connect.as_str(), redirect_uri).await?;
        // Whatever is asked, in whatever order: a login gets the login, any other question its first button.
        for _ in 0..MOST_HOPS {
            if stop.url.as_str().starts_with(redirect_uri) {
                return stop.answer("connect_code");
            }
            let values = if stop.asks_for_password() {
                let at_vault = stop.url.as_str().starts_with(&self.dev.issuer);
                if at_vault {
                    vec![
                        ("username", self.dev.user.username.as_str()),
                        ("password", self.dev.user.password.as_str()),
                    ]
                } else {
                    vec![
                        ("username", login.username.as_str()),
                        ("password", login.password.as_str()),
                    ]
                }
            } else {
                vec![]
            };
            stop = self.agent.submit(&stop, &values, redirect_uri).await?;
        }
        bail!("the way through the sandbox does not end")
    }

    pub(crate) async fn complete(
        &self,
        my_account_token: &str,
        started: &Value,
        connect_code: &str,
    ) -> Result<Value> {
        self.agent
            .expect(
                Method::POST,
                &self.url("me/v1/connected-accounts/complete"),
                Some(my_account_token),
                Some(&json!({
                    "auth_session": member(started, "auth_session")?,
                    "connect_code": connect_code,
                    "redirect_uri": self.redirect_uri()?,
                })),
            )
            .await
    }

    /// The body of an exchange: the web application's with its refresh token, the API's with an access token, or the
    /// worker's with a request that it signs itself.
    pub(crate) fn exchange_body(&self, kind: Exchange<'_>) -> Result<Value> {
        let (client, subject_token, subject_token_type, requested_token_type) = match kind {
            Exchange::RefreshToken(token) => (
                &self.dev.clients.web,
                token.to_owned(),
                grant::TOKEN_TYPE_REFRESH_TOKEN,
                grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            ),
            Exchange::AccessToken(token) => (
                &self.dev.clients.api,
                token.to_owned(),
                grant::TOKEN_TYPE_ACCESS_TOKEN,
                grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            ),
            Exchange::Worker => (
                &self.dev.clients.worker,
                worker_request(self.dev)?,
                grant::TOKEN_TYPE_JWT,
                grant::TOKEN_TYPE_TOKEN_VAULT,
            ),
        };
        Ok(json!({
            "grant_type": grant::TOKEN_VAULT,
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "subject_token": subject_token,
            "subject_token_type": subject_token_type,
            "requested_token_type": requested_token_type,
            "connection": self.dev.sandbox.connection,
        }))
    }

    pub(crate) async fn token(&self, body: Value) -> Result<Value> {
        self.agent
            .expect(Method::POST, &self.url("oauth/token"), None, Some(&body))
            .await
    }
}

/// Which of the three.
#[derive(Clone, Copy)]
pub(crate) enum Exchange<'a> {
    AccessToken(&'a str),
    RefreshToken(&'a str),
    Worker,
}

/// A worker's signed request for the demo user, good for a minute and once.
pub(crate) fn worker_request(dev: &DevFile) -> Result<String> {
    let worker = &dev.clients.worker;
    let key_file = worker
        .private_key_file
        .as_deref()
        .context("dev.json: clients.worker.private_key_file")?;
    let pem = std::fs::read_to_string(key_file)
        .with_context(|| format!("cannot read {}", key_file.display()))?;
    let alg: Algorithm = worker
        .alg
        .as_deref()
        .and_then(Algorithm::from_str)
        .context("dev.json: clients.worker.alg")?;
    let now = vault::SystemClock.now().as_second();
    let claims = json!({
        "iss": worker.client_id,
        "sub": dev.user.user_id,
        "aud": dev.issuer,
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "jti": seal::random_id(&seal::SystemEntropy, ""),
        "audit_context": "demo: a nightly report for this user",
    });
    SigningKey::from_pem(alg, &pem)
        .and_then(|key| key.sign(worker.kid.as_deref(), "token-vault-req+jwt", &claims))
        .map_err(|error| anyhow!("the worker's key {}: {error}", key_file.display()))
}

/// The challenge of a verifier (RFC 7636, S256).
pub(crate) fn challenge_of(verifier: &str) -> Result<String> {
    let verifier = oauth::pkce::CodeVerifier::parse(verifier)
        .map_err(|refusal| anyhow!("{}", refusal.description))?;
    Ok(oauth::pkce::CodeChallenge::from_verifier(&verifier)
        .as_str()
        .to_owned())
}

pub(crate) fn member(answer: &Value, name: &str) -> Result<String> {
    answer
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("the answer has no '{name}'"))
}
