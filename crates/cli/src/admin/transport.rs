//! The two ways to the Management API.

use std::path::Path;

use anyhow::{Context, Result};
use axum::body::Body;
use axum::http::{Request, header};
use oauth::grant;
use reqwest::Method;
use seal::SecretString;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tower::ServiceExt as _;

/// What is wrong where the vault was asked and said no, or was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It said no.
    #[error("{0}")]
    Refused(Refused),
    /// It was not reached, or did not answer as a vault does.
    #[error("{0}")]
    Unreachable(String),
}

/// What the vault said.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    /// The fields that are wrong: their places (RFC 6901) and rules.
    pub(crate) fields: Vec<(String, String)>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)?;
        for (field, rule) in self.fields.iter().skip(1) {
            let field = field.trim_start_matches('/').replace('/', ".");
            write!(f, "\n  {field}: {rule}")?;
        }
        Ok(())
    }
}

impl Failure {
    fn of(status: u16, body: &Value) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let fields = body.get("validation_errors").and_then(Value::as_array);
        let fields = fields.into_iter().flatten().map(|error| {
            let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            (part("pointer").to_owned(), part("detail").to_owned())
        });
        Self::Refused(Refused {
            status,
            code: text("errorCode")
                .or_else(|| text("error"))
                .unwrap_or("no code")
                .to_owned(),
            message: text("message")
                .or_else(|| text("error_description"))
                .unwrap_or("The vault refused without a reason.")
                .to_owned(),
            fields: fields.collect(),
        })
    }

    /// What the command ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 6,
            Self::Refused(refused) => match refused.status {
                404 => 3,
                401 | 403 => 4,
                409 => 5,
                400..=499 => 7,
                _ => 6,
            },
        }
    }
}

/// A way to one vault.
pub(crate) enum Transport {
    /// Over the network, as a client of the vault.
    Http(HttpTransport),
    /// In this process, beside the database and its master key.
    Local(axum::Router),
}

/// A running vault and the client to be there.
pub(crate) struct HttpTransport {
    client: reqwest::Client,
    /// The issuer, with a slash at its end.
    issuer: String,
    client_id: String,
    client_secret: SecretString,
    /// Asked for once a command; it lives for longer.
    token: OnceCell<SecretString>,
}

impl HttpTransport {
    pub(crate) fn new(
        client: reqwest::Client,
        issuer: String,
        client_id: String,
        client_secret: SecretString,
    ) -> Self {
        Self {
            client,
            issuer,
            client_id,
            client_secret,
            token: OnceCell::new(),
        }
    }

    async fn token(&self) -> Result<&SecretString> {
        self.token
            .get_or_try_init(async || {
                let answer = post_json(
                    &self.client,
                    &format!("{}oauth/token", self.issuer),
                    &json!({
                        "grant_type": grant::CLIENT_CREDENTIALS,
                        "client_id": self.client_id,
                        "client_secret": self.client_secret.reveal(),
                        "audience": format!("{}api/v2/", self.issuer),
                    }),
                )
                .await
                .context("getting a token for the Management API")?;
                let token = answer
                    .get("access_token")
                    .and_then(Value::as_str)
                    .ok_or_else(|| {
                        Failure::Unreachable("the token endpoint gave no access token".to_owned())
                    })?;
                Ok(SecretString::new(token.to_owned()))
            })
            .await
    }
}

/// A client for a vault: it trusts one more authority where a file names it, and follows no redirects.
pub(crate) fn http_client(ca_file: Option<&Path>) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(60))
        .tls_info(true)
        .user_agent(concat!("tokenvault/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        for certificate in reqwest::Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("{} has no certificate", path.display()))?
        {
            builder = builder.add_root_certificate(certificate);
        }
    }
    Ok(builder.build()?)
}

/// Posts a document and returns the one that comes back.
pub(crate) async fn post_json(client: &reqwest::Client, url: &str, body: &Value) -> Result<Value> {
    let request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string());
    answer_of(url, request).await
}

async fn answer_of(url: &str, request: reqwest::RequestBuilder) -> Result<Value> {
    let unreachable = |error: reqwest::Error| {
        // With the causes: 'certificate' or 'refused' is what helps.
        let mut text = format!("{url} does not answer");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Failure::Unreachable(text)
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let bytes = response.bytes().await.map_err(unreachable)?;
    read_answer(status, &bytes)
}

fn read_answer(status: u16, bytes: &[u8]) -> Result<Value> {
    let value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(bytes).map_err(|_| {
            Failure::Unreachable(format!("an answer that is no JSON (status {status})"))
        })?
    };
    if (200..300).contains(&status) {
        Ok(value)
    } else {
        Err(Failure::of(status, &value).into())
    }
}

impl Transport {
    /// Calls the Management API: `path` is what comes after `/api/v2/`. An answer without a body is null.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        match self {
            Self::Http(http) => {
                let url = format!("{}api/v2/{path}", http.issuer);
                let mut request = http
                    .client
                    .request(method, &url)
                    .bearer_auth(http.token().await?.reveal());
                if let Some(body) = body {
                    request = request
                        .header(header::CONTENT_TYPE, "application/json")
                        .body(body.to_string());
                }
                answer_of(&url, request).await
            }
            Self::Local(router) => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(format!("/api/v2/{path}"))
                    .extension(web::LocalAdministrator);
                if body.is_some() {
                    request = request.header(header::CONTENT_TYPE, "application/json");
                }
                let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
                let response = router.clone().oneshot(request.body(body)?).await?;
                let status = response.status().as_u16();
                let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await?;
                read_answer(status, &bytes)
            }
        }
    }

    /// Reads.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Reads a list by cursor, at most so many items.
    pub(crate) async fn list(&self, path: &str, name: &str, most: usize) -> Result<Vec<Value>> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut from: Option<String> = None;
        while items.len() < most {
            let take = (most - items.len()).min(100);
            let mut part = format!("{path}{separator}take={take}");
            if let Some(from) = &from {
                part = format!("{part}&from={}", encoded(from));
            }
            let mut answer = self.get(&part).await?;
            match answer.get_mut(name).map(Value::take) {
                Some(Value::Array(more)) => items.extend(more),
                _ => break,
            }
            match answer.get("next").and_then(Value::as_str) {
                Some(next) => from = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(items)
    }
}

/// A text as part of a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}
