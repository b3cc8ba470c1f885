//! What a server process tells the load generator: where it listens and what to ask it, as one line of JSON.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use clap::ValueEnum;
use http::Method;
use oauth::grant;
use seal::{Algorithm, SigningKey, SystemEntropy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::form_urlencoded;
use vault::Clock as _;

use crate::stock;

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exchange {
    /// The user's refresh token, by the web application that holds it.
    Refresh,
    /// The user's access token, by the API that it was sent to.
    Access,
    /// A signed request for an absent user, by a background worker.
    Worker,
}

impl Exchange {
    pub(crate) const ALL: [Self; 3] = [Self::Refresh, Self::Access, Self::Worker];
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refresh => "refresh token",
            Self::Access => "access token",
            Self::Worker => "privileged worker",
        })
    }
}

/// What else the vault answers for its clients and administrators; the floor has nothing like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Errand {
    /// The refresh token grant: a new access token and a new ID token.
    RefreshGrant,
    /// The client credentials grant: a new access token.
    ClientCredentials,
    /// An exchange that has to refresh, one after the other: it asks for more life than any token has left.
    Refresh,
    /// The same by a thousand callers at once, ten times.
    Herd,
    /// A user's connected accounts.
    Accounts,
    /// A hundred users by cursor, from the middle of the list on.
    Users,
}

impl Errand {
    pub(crate) const ALL: [Self; 6] = [
        Self::RefreshGrant,
        Self::ClientCredentials,
        Self::Refresh,
        Self::Herd,
        Self::Accounts,
        Self::Users,
    ];
}

impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RefreshGrant => "grant: refresh token",
            Self::ClientCredentials => "grant: client credentials",
            Self::Refresh => "exchange that must refresh",
            Self::Herd => "a herd of 1000, ten times",
            Self::Accounts => "a user's accounts",
            Self::Users => "100 users by cursor",
        })
    }
}

/// A server that is ready.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it shows there, as DER: with it, it speaks TLS.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) refresh: Target,
    pub(crate) access: Target,
    pub(crate) worker: Target,
    /// In the order of [`Errand::ALL`]; none at the floor.
    pub(crate) errands: Vec<Ask>,
}

/// A request that may be sent again and again.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) path: String,
    /// For `Authorization: Bearer`.
    pub(crate) bearer: Option<String>,
    /// A POST of this form; without one, a GET.
    pub(crate) form: Option<String>,
}

impl Ask {
    /// As many of it as are wanted.
    pub(crate) fn again_and_again(&self) -> Arc<Requests> {
        self.with(Bodies::Repeated(self.body()))
    }

    /// So many of it.
    pub(crate) fn times(&self, count: usize) -> Arc<Requests> {
        self.with(Bodies::Once(vec![self.body(); count]))
    }

    fn body(&self) -> Bytes {
        self.form.clone().unwrap_or_default().into()
    }

    fn with(&self, bodies: Bodies) -> Arc<Requests> {
        Arc::new(Requests {
            method: match self.form {
                Some(_) => Method::POST,
                None => Method::GET,
            },
            path: self.path.clone(),
            bearer: self.bearer.clone(),
            bodies,
        })
    }
}

/// What to send for one exchange: by which client, about what.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) connection: String,
    pub(crate) subject: Subject,
}

/// Where subject tokens come from.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Subject {
    /// The same one again and again.
    AccessToken(String),
    /// The same one again and again.
    RefreshToken(String),
    /// Signed here, each once.
    Worker(WorkerKey),
}

/// The worker's signing key and what it signs.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WorkerKey {
    pub(crate) pem: String,
    pub(crate) kid: String,
    pub(crate) issuer: String,
    pub(crate) user_id: String,
    /// Ask for users of [`crate::stock`] by chance, so many of them, instead of the one above.
    pub(crate) among: Option<u64>,
}

/// What workers sign with here: quick to sign, so that a minute is enough for all of a phase's requests.
pub(crate) const WORKER_ALGORITHM: Algorithm = Algorithm::Es256;

/// Requests that are ready to be sent and differ in their bodies at most.
pub(crate) struct Requests {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// For `Authorization: Bearer`.
    pub(crate) bearer: Option<String>,
    bodies: Bodies,
}

enum Bodies {
    /// Each may be sent once.
    Once(Vec<Bytes>),
    /// May be sent again and again.
    Repeated(Bytes),
}

impl Requests {
    /// The body of the request with this number; None when there are no more.
    pub(crate) fn body(&self, number: usize) -> Option<Bytes> {
        match &self.bodies {
            Bodies::Once(bodies) => bodies.get(number).cloned(),
            Bodies::Repeated(body) => Some(body.clone()),
        }
    }
}

impl Target {
    /// Makes at least `count` requests, so that making them costs nothing in the measured time.
    pub(crate) async fn prepare(&self, path: &str, count: usize) -> Result<Arc<Requests>> {
        Ok(Arc::new(Requests {
            method: Method::POST,
            path: path.to_owned(),
            bearer: None,
            bodies: self.bodies(count).await?,
        }))
    }

    async fn bodies(&self, count: usize) -> Result<Bodies> {
        let (token, token_type, requested) = match &self.subject {
            Subject::AccessToken(token) => (
                token,
                grant::TOKEN_TYPE_ACCESS_TOKEN,
                grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            ),
            Subject::RefreshToken(token) => (
                token,
                grant::TOKEN_TYPE_REFRESH_TOKEN,
                grant::TOKEN_TYPE_FEDERATED_CONNECTION,
            ),
            Subject::Worker(key) => {
                let signed = sign_many(key.clone(), self.client_id.clone(), count).await?;
                let bodies = signed
                    .iter()
                    .map(|jwt| self.body(jwt, grant::TOKEN_TYPE_JWT, grant::TOKEN_TYPE_TOKEN_VAULT))
                    .collect();
                return Ok(Bodies::Once(bodies));
            }
        };
        Ok(Bodies::Repeated(self.body(token, token_type, requested)))
    }

    fn body(&self, subject_token: &str, subject_token_type: &str, requested: &str) -> Bytes {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", grant::TOKEN_VAULT)
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", &self.client_secret)
            .append_pair("subject_token", subject_token)
            .append_pair("subject_token_type", subject_token_type)
            .append_pair("requested_token_type", requested)
            .append_pair("connection", &self.connection)
            .finish()
            .into()
    }
}

/// Signs on every core.
async fn sign_many(key: WorkerKey, client_id: String, count: usize) -> Result<Vec<String>> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..threads {
        let (key, client_id) = (key.clone(), client_id.clone());
        tasks.spawn_blocking(move || sign_some(&key, &client_id, count.div_ceil(threads)));
    }
    let mut signed = Vec::with_capacity(count + threads);
    while let Some(some) = tasks.join_next().await {
        signed.extend(some??);
    }
    Ok(signed)
}

fn sign_some(key: &WorkerKey, client_id: &str, count: usize) -> Result<Vec<String>> {
    let signing = SigningKey::from_pem(WORKER_ALGORITHM, &key.pem)
        .map_err(|error| anyhow!("the worker's key: {error}"))?;
    (0..count)
        .map(|_| {
            let now = vault::SystemClock.now().as_second();
            let user_id = match key.among {
                Some(users) => stock::user_id(stock::random() % users.max(1)),
                None => key.user_id.clone(),
            };
            let claims = json!({
                "iss": client_id,
                "sub": user_id,
                "aud": key.issuer,
                "iat": now,
                "exp": now + 60,
                "jti": seal::random_id(&SystemEntropy, ""),
                "audit_context": "a nightly report for this user",
            });
            signing
                .sign(Some(&key.kid), "token-vault-req+jwt", &claims)
                .map_err(|error| anyhow!("signing a worker's request: {error}"))
        })
        .collect()
}
