//! What stories do over and over: log in, connect, exchange. Each goes over HTTP like anybody else's.

use anyhow::{Context, Result, anyhow, bail};
use headless::{Agent, MOST_HOPS, Stop};
use oauth::grant;
use oauth::pkce::{CodeChallenge, CodeVerifier};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use seal::{Algorithm, SigningKey, SystemEntropy};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;
use vault::{AppType, Clock as _, KeyPurpose, NewClient, SubjectType, TokenEndpointAuthMethod};

use crate::world::{DEMO_API, PASSWORD, USERNAME, WEB_CALLBACK, World};

/// What a login brings.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// For the demo API.
    pub access_token: String,
    /// For everything else.
    pub refresh_token: String,
    /// Who it was.
    pub id_token: String,
}

/// What an exchange brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanged {
    /// The provider's token.
    pub access_token: String,
    /// Seconds left.
    pub expires_in: u64,
    /// What it is good for.
    pub scope: String,
}

/// An answer that said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The code: `error`, or of a problem its `title`.
    pub error: String,
    /// The sentence.
    pub description: String,
}

/// An answer with its headers, for requests that no errand makes.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Reply {
    /// The body, which is JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// A refusal as contract 7.6 wants it: JSON without a charset, a code with a sentence, nothing to keep in a cache,
    /// and no challenge.
    pub fn assert_oauth_error(&self, status: u16, error: &str, what: &str) {
        assert_eq!(self.status, status, "{what}: {}", self.text);
        assert_eq!(self.headers["content-type"], "application/json", "{what}");
        assert_eq!(self.headers["cache-control"], "no-store", "{what}");
        assert!(!self.headers.contains_key("www-authenticate"), "{what}");
        let body = self.json();
        assert_eq!(body["error"], error, "{what}: {body}");
        assert!(
            body["error_description"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{what}: {body}"
        );
    }

    /// A problem as the My Account API tells it (contract 2.4).
    pub fn assert_problem(&self, status: u16, what: &str) {
        assert_eq!(self.status, status, "{what}: {}", self.text);
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{what}"
        );
        assert_eq!(self.json()["status"], status, "{what}");
    }
}

impl World {
    /// Sends a request that no errand makes. A refusal's body is looked through for secrets like any other.
    pub async fn send(&mut self, request: RequestBuilder) -> Result<Reply> {
        let answer = request.send().await?;
        let reply = Reply {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.text().await?,
        };
        if reply.status >= 400 {
            self.leaks.error(&reply.text);
        }
        Ok(reply)
    }

    /// Makes the same exchange many times at once and returns the answers as they came. Unlike [`World::exchange`] it
    /// looks at nothing but for secrets.
    pub async fn exchange_at_once(&mut self, body: &Value, number: usize) -> Result<Vec<Reply>> {
        let url = self.url("oauth/token");
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..number {
            let request = self
                .agent
                .request(Method::POST, &url)
                .header("content-type", "application/json")
                .body(body.to_string());
            asked.spawn(async move {
                let answer = request.send().await?;
                anyhow::Ok(Reply {
                    status: answer.status().as_u16(),
                    headers: answer.headers().clone(),
                    text: answer.text().await?,
                })
            });
        }
        let mut replies = Vec::with_capacity(number);
        while let Some(reply) = asked.join_next().await {
            let reply = reply??;
            if reply.status >= 400 {
                self.leaks.error(&reply.text);
            }
            replies.push(reply);
        }
        Ok(replies)
    }

    /// Posts a body as it stands to a path of the vault.
    pub async fn post_as(
        &mut self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Reply> {
        let request = self
            .agent
            .request(Method::POST, &self.url(path))
            .header("content-type", content_type)
            .body(body);
        self.send(request).await
    }

    /// Says bytes to the first node that no HTTP library would say, and returns what it answers until it hangs up.
    pub async fn say(&mut self, bytes: &[u8]) -> Result<String> {
        self.say_with_a_break(bytes, b"").await
    }

    /// The same, with so long a break after the first bytes that the node has dealt with them: it answers another
    /// request meanwhile.
    pub async fn say_with_a_break(&mut self, first: &[u8], rest: &[u8]) -> Result<String> {
        let origin = self.origin();
        let mut stream = TcpStream::connect(origin.trim_start_matches("http://")).await?;
        // A server that has heard enough stops reading.
        let _ = stream.write_all(first).await;
        if !rest.is_empty() {
            let another = self.agent.request(Method::GET, &self.url("oauth/token"));
            self.send(another).await?;
            let _ = stream.write_all(rest).await;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        self.leaks.error(&answer);
        Ok(answer)
    }

    /// Registers a client that signs assertions with the returned key (ES256, `kid` `a1`) and may have tokens of its
    /// own for the demo API.
    pub async fn asserting_client(&mut self) -> (String, SigningKey) {
        let registered = self
            .register(NewClient {
                name: "Signs".to_owned(),
                token_endpoint_auth_method: TokenEndpointAuthMethod::PrivateKeyJwt,
                grant_types: vec![grant::CLIENT_CREDENTIALS.to_owned()],
                ..NewClient::default()
            })
            .await;
        let client_id = registered.client.client_id;
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        self.vault
            .create_client_key(
                &client_id,
                KeyPurpose::ClientAuthentication,
                Algorithm::Es256,
                &key.public_jwk("assertion-1"),
                None,
            )
            .await
            .unwrap();
        self.vault
            .create_client_grant(
                &client_id,
                DEMO_API,
                SubjectType::Client,
                vec!["read:reports".to_owned()],
            )
            .await
            .unwrap();
        (client_id, key)
    }

    /// The claims of a client's assertion, good at this moment.
    pub fn assertion_claims(&self, client_id: &str) -> Value {
        let now = self.clock.now().as_second();
        json!({
            "iss": client_id,
            "sub": client_id,
            "aud": self.url(""),
            "iat": now,
            "exp": now + 60,
            "jti": seal::random_id(&SystemEntropy, ""),
        })
    }

    /// The body of a client credentials request with an assertion.
    pub fn assertion_grant(&self, assertion: &str) -> Value {
        json!({
            "grant_type": grant::CLIENT_CREDENTIALS,
            "audience": DEMO_API,
            "client_assertion_type": grant::CLIENT_ASSERTION_TYPE,
            "client_assertion": assertion,
        })
    }

    /// Posts JSON to the token endpoint; secrets of request and answer are remembered.
    pub async fn token(&mut self, body: &Value) -> Result<std::result::Result<Value, Refused>> {
        for name in [
            "client_secret",
            "client_assertion",
            "code",
            "code_verifier",
            "refresh_token",
            "subject_token",
        ] {
            if let Some(secret) = body.get(name).and_then(Value::as_str) {
                self.leaks.secret(secret);
            }
        }
        let url = self.url("oauth/token");
        let (status, answer) = self
            .agent
            .call(Method::POST, &url, None, Some(body))
            .await?;
        self.sort(status, answer)
    }

    /// Calls the My Account API.
    pub async fn me(
        &mut self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<std::result::Result<Value, Refused>> {
        let url = self.url(&format!("me/v1/connected-accounts/{path}"));
        let (status, answer) = self.agent.call(method, &url, Some(token), body).await?;
        self.sort(status, answer)
    }

    /// A token for the Management API of a new client that was granted these scopes; all of them where none are named.
    pub async fn administrator(&mut self, scopes: &[&str]) -> Result<String> {
        let scopes: Vec<String> = match scopes {
            [] => vault::MANAGEMENT_SCOPES
                .iter()
                .map(|(scope, _)| (*scope).to_owned())
                .collect(),
            some => some.iter().map(|scope| (*scope).to_owned()).collect(),
        };
        let registered = self
            .register(NewClient {
                name: "An administrator".to_owned(),
                app_type: AppType::NonInteractive,
                grant_types: vec![grant::CLIENT_CREDENTIALS.to_owned()],
                ..NewClient::default()
            })
            .await;
        let audience = self.vault.settings().issuer.management_audience();
        self.vault
            .create_client_grant(
                &registered.client.client_id,
                &audience,
                SubjectType::Client,
                scopes,
            )
            .await
            .map_err(|error| anyhow!("{error:?}"))?;
        let answer = self
            .token(&json!({
                "grant_type": grant::CLIENT_CREDENTIALS,
                "client_id": registered.client.client_id,
                "client_secret": registered.secret,
                "audience": audience,
            }))
            .await?
            .map_err(|refused| anyhow!("{refused:?}"))?;
        Ok(answer["access_token"]
            .as_str()
            .context("access_token")?
            .to_owned())
    }

    /// Calls the Management API; secrets that it shows are remembered.
    pub async fn manage(
        &mut self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let url = self.url(&format!("api/v2/{path}"));
        let mut request = self.agent.request(method, &url).bearer_auth(token);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let reply = self.send(request).await?;
        if let Ok(answer) = serde_json::from_str::<Value>(&reply.text)
            && let Some(secret) = answer["client_secret"].as_str()
        {
            self.leaks.secret(secret);
        }
        Ok(reply)
    }

    fn sort(
        &mut self,
        status: StatusCode,
        answer: Value,
    ) -> Result<std::result::Result<Value, Refused>> {
        if status.is_success() {
            for name in ["access_token", "refresh_token", "id_token", "auth_session"] {
                if let Some(secret) = answer.get(name).and_then(Value::as_str) {
                    self.leaks.secret(secret);
                }
            }
            return Ok(Ok(answer));
        }
        self.leaks.error(&answer.to_string());
        let text = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| answer.get(*name)?.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Err(Refused {
            status: status.as_u16(),
            error: text(["error", "title"]),
            description: text(["error_description", "detail"]),
        }))
    }

    /// The authorize URL of the web client with PKCE, and the verifier. `change` replaces or adds parameters; an empty
    /// value leaves one out.
    pub fn authorize_url(&mut self, change: &[(&str, &str)]) -> Result<(String, String)> {
        let verifier = seal::random_id(&SystemEntropy, "") + &seal::random_id(&SystemEntropy, "");
        self.leaks.secret(&verifier);
        let parsed =
            CodeVerifier::parse(&verifier).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        let challenge = CodeChallenge::from_verifier(&parsed);
        let client_id = self.clients.web.client.client_id.clone();
        let mut fields: Vec<(&str, &str)> = vec![
            ("response_type", "code"),
            ("client_id", &client_id),
            ("redirect_uri", WEB_CALLBACK),
            ("scope", "openid profile email offline_access read:reports"),
            ("audience", DEMO_API),
            ("state", "client-state"),
            ("nonce", "client-nonce"),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        for (name, value) in change {
            fields.retain(|(known, _)| known != name);
            if !value.is_empty() {
                fields.push((name, value));
            }
        }
        let url = Url::parse_with_params(&self.url("authorize"), fields)?;
        Ok((url.into(), verifier))
    }

    /// Goes from an authorize URL to the client's callback, logging in and consenting where asked.
    pub async fn pass(&mut self, agent: &mut Agent, url: &str, until: &str) -> Result<Stop> {
        self.pass_as(agent, url, until, (USERNAME, PASSWORD)).await
    }

    /// The same as somebody else: a name and a password.
    pub async fn pass_as(
        &mut self,
        agent: &mut Agent,
        url: &str,
        until: &str,
        (username, password): (&str, &str),
    ) -> Result<Stop> {
        let mut stop = agent.open_any(url, until).await?;
        for _ in 0..MOST_HOPS {
            if stop.url.as_str().starts_with(until) || !stop.page.contains("<form") {
                return Ok(stop);
            }
            let values: &[(&str, &str)] = if stop.asks_for_password() {
                &[("username", username), ("password", password)]
            } else {
                &[]
            };
            stop = agent.submit_any(&stop, values, until).await?;
        }
        bail!("the way to {until} does not end")
    }

    /// The world's own browser, out of the way of the borrow checker; put back by whoever took it.
    fn take_agent(&mut self) -> Agent {
        let empty = self.browser();
        std::mem::replace(&mut self.agent, empty)
    }

    /// Logs the user in at the web client, in the world's own browser.
    pub async fn log_in(&mut self) -> Result<LoggedIn> {
        let mut agent = self.take_agent();
        let login = self.log_in_as(&mut agent, (USERNAME, PASSWORD)).await;
        self.agent = agent;
        login
    }

    /// Logs somebody in at the web client, in a browser of theirs.
    pub async fn log_in_as(&mut self, agent: &mut Agent, person: (&str, &str)) -> Result<LoggedIn> {
        self.leaks.secret(person.1);
        let (url, verifier) = self.authorize_url(&[])?;
        let stop = self.pass_as(agent, &url, WEB_CALLBACK, person).await?;
        let answer = self
            .redeem_code(&stop.answer("code")?, &verifier)
            .await?
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let text = |name: &str| {
            answer[name]
                .as_str()
                .map(str::to_owned)
                .context("a token is missing")
        };
        Ok(LoggedIn {
            access_token: text("access_token")?,
            refresh_token: text("refresh_token")?,
            id_token: text("id_token")?,
        })
    }

    /// Redeems an authorization code of the web client.
    pub async fn redeem_code(
        &mut self,
        code: &str,
        verifier: &str,
    ) -> Result<std::result::Result<Value, Refused>> {
        self.token(&json!({
            "grant_type": grant::AUTHORIZATION_CODE,
            "client_id": self.clients.web.client.client_id,
            "client_secret": self.clients.web.secret,
            "code": code,
            "redirect_uri": WEB_CALLBACK,
            "code_verifier": verifier,
        }))
        .await
    }

    /// Makes one more user, with the password of the first.
    pub async fn another_user(&mut self, username: &str) -> vault::User {
        self.vault
            .create_user(vault::NewUser {
                username: username.to_owned(),
                password: seal::SecretString::new(PASSWORD.to_owned()),
                email: None,
                name: None,
            })
            .await
            .unwrap()
    }

    /// A token for the My Account API with every scope.
    pub async fn my_account_token(&mut self, refresh_token: &str) -> Result<String> {
        let me = self.vault.settings().issuer.me_audience();
        let answer = self
            .token(&json!({
                "grant_type": grant::REFRESH_TOKEN,
                "client_id": self.clients.web.client.client_id,
                "client_secret": self.clients.web.secret,
                "refresh_token": refresh_token,
                "audience": me,
            }))
            .await?;
        let answer = answer.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        Ok(answer["access_token"]
            .as_str()
            .context("no access token")?
            .to_owned())
    }

    /// Starts a connect flow at the sandbox with the web client's callback.
    pub async fn start_connect(&mut self, me: &str) -> Result<Value> {
        self.start_connect_at(me, "sandbox", None).await
    }

    /// The same at another connection, and for other scopes than the connection's.
    pub async fn start_connect_at(
        &mut self,
        me: &str,
        connection: &str,
        scopes: Option<&[&str]>,
    ) -> Result<Value> {
        let mut body = json!({ "connection": connection, "redirect_uri": WEB_CALLBACK, "state": "connect-state" });
        if let Some(scopes) = scopes {
            body["scopes"] = json!(scopes);
        }
        let started = self.me(Method::POST, "connect", me, Some(&body)).await?;
        let started = started.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let ticket = started["connect_params"]["ticket"]
            .as_str()
            .context("no ticket")?;
        self.leaks.secret(ticket);
        Ok(started)
    }

    /// The browser's address of a started flow.
    pub fn connect_url(&self, started: &Value) -> Result<String> {
        let uri = started["connect_uri"].as_str().context("no connect_uri")?;
        let ticket = started["connect_params"]["ticket"]
            .as_str()
            .context("no ticket")?;
        Ok(Url::parse_with_params(uri, [("ticket", ticket)])?.into())
    }

    /// Goes through the vault's connect page, and stops at the redirect to the provider.
    pub async fn to_provider(&mut self, agent: &mut Agent, started: &Value) -> Result<Stop> {
        let url = self.connect_url(started)?;
        let until = self.sandbox.base_url().to_owned();
        let mut stop = agent.open(&url, &until).await?;
        if stop.asks_for_password() {
            let person = [("username", USERNAME), ("password", PASSWORD)];
            stop = agent.submit(&stop, &person, &until).await?;
        }
        agent.submit(&stop, &[], &until).await
    }

    /// Goes through the connect pages and the sandbox as one of its people, to the client's callback.
    pub async fn consent(
        &mut self,
        agent: &mut Agent,
        started: &Value,
        person: &str,
    ) -> Result<Stop> {
        let url = self.connect_url(started)?;
        self.consent_from(agent, &url, person).await
    }

    /// The same from an address on the way.
    pub async fn consent_from(
        &mut self,
        agent: &mut Agent,
        url: &str,
        person: &str,
    ) -> Result<Stop> {
        let issuer = self.url("");
        let person = format!("{person}@sandbox.example");
        let mut stop = agent.open_any(url, WEB_CALLBACK).await?;
        for _ in 0..MOST_HOPS {
            if stop.url.as_str().starts_with(WEB_CALLBACK) || !stop.page.contains("<form") {
                if let Some(code) = stop.parameter("connect_code") {
                    self.leaks.secret(&code);
                }
                return Ok(stop);
            }
            let at_vault = stop.url.as_str().starts_with(&issuer);
            let values: &[(&str, &str)] = match (stop.asks_for_password(), at_vault) {
                (true, true) => &[("username", USERNAME), ("password", PASSWORD)],
                (true, false) => &[("username", &person), ("password", "sandbox password")],
                (false, _) => &[],
            };
            stop = agent.submit_any(&stop, values, WEB_CALLBACK).await?;
        }
        bail!("the way through the sandbox does not end")
    }

    /// Completes a flow.
    pub async fn complete(
        &mut self,
        me: &str,
        started: &Value,
        connect_code: &str,
    ) -> Result<std::result::Result<Value, Refused>> {
        let body = json!({
            "auth_session": started["auth_session"],
            "connect_code": connect_code,
            "redirect_uri": WEB_CALLBACK,
        });
        self.me(Method::POST, "complete", me, Some(&body)).await
    }

    /// Connects a person's account of the sandbox for the user, from the start to the end; returns the account.
    pub async fn connect(&mut self, me: &str, person: &str) -> Result<Value> {
        let started = self.start_connect(me).await?;
        self.connect_started(me, &started, person).await
    }

    /// The same at the simulated provider of a connection, where there is one person only.
    pub async fn connect_at(
        &mut self,
        me: &str,
        connection: &str,
        scopes: Option<&[&str]>,
    ) -> Result<Value> {
        let started = self.start_connect_at(me, connection, scopes).await?;
        self.connect_started(me, &started, "nobody").await
    }

    async fn connect_started(&mut self, me: &str, started: &Value, person: &str) -> Result<Value> {
        let mut agent = self.take_agent();
        let stop = self.consent(&mut agent, started, person).await;
        self.agent = agent;
        let code = stop?.answer("connect_code")?;
        let account = self.complete(me, started, &code).await?;
        account.map_err(|refused| anyhow::anyhow!("{refused:?}"))
    }

    /// Logs in and connects alice: where most stories begin.
    pub async fn connected(&mut self) -> Result<LoggedIn> {
        let login = self.log_in().await?;
        let me = self.my_account_token(&login.refresh_token).await?;
        self.connect(&me, "alice").await?;
        Ok(login)
    }

    /// The body of a refresh token exchange by the web client.
    pub fn refresh_exchange(&self, refresh_token: &str) -> Value {
        self.exchange_body(
            (&self.clients.web.client.client_id, &self.clients.web.secret),
            refresh_token,
            grant::TOKEN_TYPE_REFRESH_TOKEN,
        )
    }

    /// The body of an access token exchange by the API's client.
    pub fn access_exchange(&self, access_token: &str) -> Value {
        self.exchange_body(
            (&self.clients.api.client.client_id, &self.clients.api.secret),
            access_token,
            grant::TOKEN_TYPE_ACCESS_TOKEN,
        )
    }

    /// The body of a worker exchange with a signed request.
    pub fn worker_exchange(&self, jwt: &str) -> Value {
        let mut body = self.exchange_body(
            (
                &self.clients.worker.client.client_id,
                &self.clients.worker.secret,
            ),
            jwt,
            grant::TOKEN_TYPE_JWT,
        );
        body["requested_token_type"] = json!(grant::TOKEN_TYPE_TOKEN_VAULT);
        body
    }

    fn exchange_body(
        &self,
        client: (&str, &str),
        subject_token: &str,
        subject_token_type: &str,
    ) -> Value {
        json!({
            "grant_type": grant::TOKEN_VAULT,
            "client_id": client.0,
            "client_secret": client.1,
            "subject_token": subject_token,
            "subject_token_type": subject_token_type,
            "requested_token_type": grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            "connection": "sandbox",
        })
    }

    /// The claims of a worker's request for the user, good at this moment.
    pub fn worker_claims(&self) -> Value {
        let now = self.clock.now().as_second();
        json!({
            "iss": self.clients.worker.client.client_id,
            "sub": self.user.id,
            "aud": self.url(""),
            "iat": now,
            "jti": seal::random_id(&SystemEntropy, ""),
            "audit_context": "the nightly report",
        })
    }

    /// Signs a worker's request.
    pub fn sign_worker(&self, claims: &Value) -> String {
        self.worker_key
            .sign(Some("worker-key-1"), "token-vault-req+jwt", claims)
            .unwrap()
    }

    /// Exchanges; an answer has every member that the contract names.
    pub async fn exchange(
        &mut self,
        body: &Value,
    ) -> Result<std::result::Result<Exchanged, Refused>> {
        let answer = match self.token(body).await? {
            Ok(answer) => answer,
            Err(refused) => return Ok(Err(refused)),
        };
        let text = |name: &str| {
            answer[name]
                .as_str()
                .with_context(|| format!("no {name}: {answer}"))
        };
        if text("token_type")? != "Bearer" || answer.get("refresh_token").is_some() {
            bail!("not an answer of an exchange");
        }
        text("issued_token_type")?;
        Ok(Ok(Exchanged {
            access_token: text("access_token")?.to_owned(),
            expires_in: answer["expires_in"]
                .as_u64()
                .context("expires_in is no number")?,
            scope: text("scope")?.to_owned(),
        }))
    }

    /// Whether the simulated provider of a fixture honours a token.
    pub async fn simulated_honours(&mut self, fixture: &str, token: &str) -> Result<bool> {
        let url = format!("{}/simulator/token", self.sandbox.simulator_url(fixture));
        let answer = self
            .agent
            .request(Method::GET, &url)
            .bearer_auth(token)
            .send()
            .await?;
        Ok(answer.status().is_success())
    }

    /// Whether the provider honours a token.
    pub async fn provider_honours(&self, token: &str) -> Result<bool> {
        let url = format!("{}/api/me", self.sandbox.base_url());
        let (status, _) = self
            .agent
            .call(Method::GET, &url, Some(token), None)
            .await?;
        Ok(status.is_success())
    }
}

/// The fields of a body, for a form that says the same.
pub fn form_of(body: &Value) -> Vec<(String, String)> {
    body.as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name.clone(), text.clone()),
            other => (name.clone(), other.to_string()),
        })
        .collect()
}

/// The claims of a JWT, unverified.
pub fn jwt_claims(text: &str) -> Map<String, Value> {
    seal::UnverifiedJws::parse(text)
        .unwrap()
        .unverified_claims()
        .clone()
}
