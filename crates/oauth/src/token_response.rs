//! What the token endpoint answers (RFC 6749 §5.1, RFC 8693 §2.2.1).

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// A successful answer. `scope` is always there (contract 2.1); absent members are left out.
#[derive(Serialize)]
pub struct TokenResponse {
    /// The token.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: &'static str,
    /// Seconds that the token really lives on.
    pub expires_in: u64,
    /// What was really granted, joined with spaces.
    pub scope: String,
    /// RFC 8693: the kind of token that was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<&'static str>,
    /// OpenID Connect Core §3.1.3.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
    /// RFC 6749 §1.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Ours: what the provider's API is called with beside the token, such as `instance_url`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("token_type", &self.token_type)
            .field("expires_in", &self.expires_in)
            .field("scope", &self.scope)
            .field("issued_token_type", &self.issued_token_type)
            .finish_non_exhaustive()
    }
}
