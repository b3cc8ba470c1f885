//! A person's way through the vault without a browser: forms are read and sent, redirects are followed, cookies kept.
//!
//! `demo` tells it step by step; `dev token` uses it to fetch the tokens that the printed `curl` lines need.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use oauth::grant;
use reqwest::{Client, Method, StatusCode, Url, header};
use seal::{Algorithm, SigningKey};
use serde_json::{Value, json};
use vault::Clock;

use crate::dev_file::{DevFile, SandboxLogin};

/// The most pages one errand may lead through.
const MOST_HOPS: usize = 20;

/// A user agent without JavaScript: a cookie jar and a reader of forms.
pub(crate) struct Agent {
    http: Client,
    /// By host and name.
    cookies: BTreeMap<(String, String), String>,
}

/// An answer that stopped the agent: a page, or a redirect to somewhere it was told not to follow.
pub(crate) struct Stop {
    pub(crate) url: Url,
    pub(crate) page: String,
}

/// A form of a page: where it goes and what it already holds. Its first button is the main choice.
struct Form {
    action: Url,
    method: Method,
    fields: Vec<(String, String)>,
    names: Vec<String>,
}

impl Agent {
    /// An agent that trusts the local authority in `ca_file`.
    pub(crate) fn new(ca_file: &Path) -> Result<Self> {
        let pem =
            std::fs::read(ca_file).with_context(|| format!("cannot read {}", ca_file.display()))?;
        let http = Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&pem)?])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            cookies: BTreeMap::new(),
        })
    }

    /// Opens a URL and goes on until a page, or a redirect to `until`.
    pub(crate) async fn open(&mut self, url: &str, until: &str) -> Result<Stop> {
        self.send(Method::GET, Url::parse(url)?, None, until).await
    }

    /// Fills in the first form of a page and presses its first button.
    pub(crate) async fn submit(
        &mut self,
        stop: &Stop,
        values: &[(&str, &str)],
        until: &str,
    ) -> Result<Stop> {
        let form = Form::first(stop)?;
        let mut fields = form.fields;
        for (name, value) in values {
            if !form.names.iter().any(|known| known == name) {
                bail!(
                    "the form at {} has no field '{name}'",
                    without_query(&stop.url)
                );
            }
            fields.retain(|(known, _)| known != name);
            fields.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.send(form.method, form.action, Some(fields), until)
            .await
    }

    async fn send(
        &mut self,
        mut method: Method,
        mut url: Url,
        mut fields: Option<Vec<(String, String)>>,
        until: &str,
    ) -> Result<Stop> {
        for _ in 0..MOST_HOPS {
            let host = url.host_str().unwrap_or_default().to_owned();
            let cookies: Vec<String> = self
                .cookies
                .iter()
                .filter(|((owner, _), _)| *owner == host)
                .map(|((_, name), value)| format!("{name}={value}"))
                .collect();
            let mut request = self.http.request(method.clone(), url.clone());
            if !cookies.is_empty() {
                request = request.header(header::COOKIE, cookies.join("; "));
            }
            if let Some(fields) = &fields {
                request = match method {
                    Method::GET => request.query(fields),
                    _ => request
                        .header(header::ORIGIN, url.origin().ascii_serialization())
                        .form(fields),
                };
            }
            let answer = request
                .send()
                .await
                .with_context(|| format!("asking {}", without_query(&url)))?;
            for cookie in answer.headers().get_all(header::SET_COOKIE) {
                self.keep_cookie(&host, cookie.to_str()?);
            }
            let status = answer.status();
            if status.is_redirection() {
                let location = answer
                    .headers()
                    .get(header::LOCATION)
                    .context("a redirect without Location")?
                    .to_str()?;
                let next = url.join(location)?;
                if next.as_str().starts_with(until) {
                    return Ok(Stop {
                        url: next,
                        page: String::new(),
                    });
                }
                (method, url, fields) = (Method::GET, next, None);
                continue;
            }
            let page = answer.text().await?;
            if status != StatusCode::OK {
                bail!(
                    "{} answered {status}: {}",
                    without_query(&url),
                    heading(&page)
                );
            }
            return Ok(Stop { url, page });
        }
        bail!("too many redirects, the last to {}", without_query(&url))
    }

    fn keep_cookie(&mut self, host: &str, text: &str) {
        let mut parts = text.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let gone =
            value.is_empty() || parts.any(|part| part.trim().eq_ignore_ascii_case("max-age=0"));
        let key = (host.to_owned(), name.trim().to_owned());
        if gone {
            self.cookies.remove(&key);
        } else {
            self.cookies.insert(key, value.trim().to_owned());
        }
    }

    /// A call of an API: JSON in, JSON out, with the status.
    pub(crate) async fn call(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, url);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("asking {url}"))?;
        let status = answer.status();
        let text = answer.text().await?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok((status, body))
    }

    /// The same, where anything but success is a failure of the errand.
    pub(crate) async fn expect(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value> {
        let (status, answer) = self.call(method, url, bearer, body).await?;
        if !status.is_success() {
            bail!("{url} answered {status}: {answer}");
        }
        Ok(answer)
    }
}

impl Form {
    fn first(stop: &Stop) -> Result<Self> {
        let nothing = || {
            anyhow!(
                "there is no form at {}: {}",
                without_query(&stop.url),
                heading(&stop.page)
            )
        };
        let start = stop.page.find("<form").ok_or_else(nothing)?;
        let rest = stop.page.get(start..).unwrap_or_default();
        let form = rest.split("</form>").next().unwrap_or_default();
        let head = form.split('>').next().unwrap_or_default();
        let action = stop
            .url
            .join(&attribute(head, "action").unwrap_or_default())?;
        let method = match attribute(head, "method").as_deref() {
            Some(method) if method.eq_ignore_ascii_case("post") => Method::POST,
            _ => Method::GET,
        };
        let mut fields = Vec::new();
        let mut names = Vec::new();
        let mut button = None;
        for tag in form.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap_or_default();
            let Some(name) = attribute(tag, "name") else {
                continue;
            };
            let value = attribute(tag, "value").unwrap_or_default();
            if tag.starts_with("input") {
                names.push(name.clone());
                fields.push((name, value));
            } else if tag.starts_with("button") && button.is_none() {
                button = Some((name, value));
            }
        }
        fields.extend(button);
        Ok(Self {
            action,
            method,
            fields,
            names,
        })
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = tag.get(start..)?.split('"').next()?;
    Some(
        value
            .replace("&#38;", "&")
            .replace("&amp;", "&")
            .replace("&#34;", "\"")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&#60;", "<")
            .replace("&lt;", "<"),
    )
}

/// What a page says first, to put into an error.
fn heading(page: &str) -> String {
    let text = page
        .split_once("<h1")
        .and_then(|(_, rest)| rest.split_once('>'))
        .and_then(|(_, rest)| rest.split_once("</h1>"))
        .map_or(page, |(text, _)| text);
    text.trim().chars().take(300).collect()
}

fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

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
        Ok(Self {
            dev,
            agent: Agent::new(&dev.ca_file)?,
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
        if stop.page.contains("name=\"password\"") {
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
        let code = answer_parameter(&stop, "code")?;
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
                return answer_parameter(&stop, "connect_code");
            }
            let values = if stop.page.contains("name=\"password\"") {
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

fn challenge_of(verifier: &str) -> Result<String> {
    let verifier = oauth::pkce::CodeVerifier::parse(verifier)
        .map_err(|refusal| anyhow!("{}", refusal.description))?;
    Ok(oauth::pkce::CodeChallenge::from_verifier(&verifier)
        .as_str()
        .to_owned())
}

fn answer_parameter(stop: &Stop, name: &str) -> Result<String> {
    let mut found = None;
    for (key, value) in stop.url.query_pairs() {
        if key == "error" {
            bail!(
                "the answer is an error: {}",
                stop.url.query().unwrap_or_default()
            );
        }
        if key == name {
            found = Some(value.into_owned());
        }
    }
    found.with_context(|| {
        format!(
            "no '{name}' at {}: {}",
            without_query(&stop.url),
            heading(&stop.page)
        )
    })
}

pub(crate) fn member(answer: &Value, name: &str) -> Result<String> {
    answer
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("the answer has no '{name}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_its_first_button() {
        let stop = Stop {
            url: Url::parse("https://vault.example/u/login?state=1").unwrap(),
            page: r#"<h1>Log in</h1><form method="post" action="/u/login?a=1&amp;b=2">
                <input type="hidden" name="csrf" value="t&#34;k"><input name="username" value="">
                <button name="action" value="default">Go</button>
                <button name="action" value="other">No</button></form>"#
                .to_owned(),
        };
        let form = Form::first(&stop).unwrap();
        assert_eq!(form.method, Method::POST);
        assert_eq!(
            form.action.as_str(),
            "https://vault.example/u/login?a=1&b=2"
        );
        assert_eq!(
            form.fields,
            [
                ("csrf".to_owned(), "t\"k".to_owned()),
                ("username".to_owned(), String::new()),
                ("action".to_owned(), "default".to_owned()),
            ]
        );
    }
}
