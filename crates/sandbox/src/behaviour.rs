//! The knobs: what real providers do differently, and what broken ones do wrong.

use serde::{Deserialize, Serialize};

/// What happens to a refresh token that is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// It stays, and no new one comes.
    #[default]
    None,
    /// A new one comes; the old one works as well.
    KeepOld,
    /// A new one comes; the old one works for so many seconds more.
    Grace(u64),
    /// A new one comes; the old one is refused.
    Strict,
    /// A new one comes; the old one is refused, and showing it ends the whole grant.
    StrictKillFamily,
}

/// How the lifetime of an access token is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiresIn {
    /// Not at all.
    Absent,
    /// As a number below zero.
    Negative,
    /// As a number.
    #[default]
    Number,
    /// As a number in quotes.
    Text,
}

/// One answer of the token endpoint that goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InjectedFailure {
    /// The status to answer with.
    pub status: u16,
    /// The body to answer with.
    pub body: String,
    /// The `Content-Type` to answer with; `application/json` when empty.
    pub content_type: String,
    /// A `Retry-After` header.
    pub retry_after: Option<String>,
    /// Whether the request was carried out before the answer got lost.
    pub after_processing: bool,
    /// Cut the connection off instead of answering.
    pub drop_connection: bool,
}

/// How the provider behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Seconds that an access token lives.
    pub access_token_lifetime: u64,
    /// How the lifetime is said.
    pub expires_in: ExpiresIn,
    /// What happens to a used refresh token.
    pub rotation: Rotation,
    /// Whether a refresh ends the access tokens before it.
    pub refresh_kills_old_access_token: bool,
    /// Whether a refresh answer leaves out the refresh token although there is a new one.
    pub omit_refresh_token_on_refresh: bool,
    /// Milliseconds that the token endpoint thinks before it answers.
    pub latency_ms: u64,
    /// The next answers of the token endpoint, first one first; then it works again.
    pub next_failures: Vec<InjectedFailure>,
    /// The next answers of the revocation endpoint, first one first; then it works again.
    pub next_revocation_failures: Vec<InjectedFailure>,
    /// Whether `scope` of a refresh is read over.
    pub ignores_narrower_scope: bool,
    /// What is granted instead of what was asked for.
    pub granted_scopes: Option<Vec<String>>,
    /// Whether the ID token is left out.
    pub omit_id_token: bool,
    /// Whether the ID token carries another nonce than the request's.
    pub wrong_nonce: bool,
    /// What the authorization answer carries as `iss` instead of the issuer; empty: nothing.
    pub iss_override: Option<String>,
    /// Whether userinfo speaks of somebody else.
    pub wrong_userinfo_subject: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            access_token_lifetime: 3600,
            expires_in: ExpiresIn::default(),
            rotation: Rotation::default(),
            refresh_kills_old_access_token: false,
            omit_refresh_token_on_refresh: false,
            latency_ms: 0,
            next_failures: Vec::new(),
            next_revocation_failures: Vec::new(),
            ignores_narrower_scope: false,
            granted_scopes: None,
            omit_id_token: false,
            wrong_nonce: false,
            iss_override: None,
            wrong_userinfo_subject: false,
        }
    }
}
