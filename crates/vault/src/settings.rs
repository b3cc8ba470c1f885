//! What a deployment is told at start, with defaults that are safe.

use std::collections::BTreeMap;
use std::time::Duration;

use seal::Algorithm;

/// The issuer: an https URL of an origin, ending in a slash. Everything that names this deployment derives from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(String);

/// Why a text is not an issuer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not an issuer: it must be https://HOST[:PORT]/ without path, query or fragment")]
pub struct InvalidIssuer(String);

impl Issuer {
    /// Takes `https://host[:port]` with or without the slash at the end.
    pub fn parse(text: &str) -> Result<Self, InvalidIssuer> {
        let invalid = || InvalidIssuer(text.chars().take(200).collect());
        let url = url::Url::parse(text).map_err(|_| invalid())?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if url.scheme() != "https" || url.host_str().is_none() || !bare {
            return Err(invalid());
        }
        // SDKs compare byte for byte: what is configured must already be the normal form.
        let normal = url.to_string();
        if normal != text && normal != format!("{text}/") {
            return Err(invalid());
        }
        Ok(Self(normal))
    }

    /// The issuer as it stands in `iss`, with its slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The origin: the issuer without its slash.
    pub fn origin(&self) -> &str {
        self.0.trim_end_matches('/')
    }

    /// The host with its port where it is not 443: what Auth0's SDKs call the domain.
    pub fn domain(&self) -> &str {
        self.origin().trim_start_matches("https://")
    }

    /// An absolute URL of this deployment; `path` begins without a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The audience of the My Account API.
    pub fn me_audience(&self) -> String {
        self.url("me/")
    }

    /// The audience of the Management API.
    pub fn management_audience(&self) -> String {
        self.url("api/v2/")
    }

    /// The audience of a token that is good for nothing but `/userinfo`.
    pub fn userinfo_audience(&self) -> String {
        self.url("userinfo")
    }
}

/// What happens when an exchange leaves open which of a user's accounts it means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccountSelection {
    /// The most recently connected, as Auth0 does it.
    #[default]
    Latest,
    /// A refusal with the candidates.
    Required,
}

/// Lifetimes, limits and switches. Every duration is wall time.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who we are.
    pub issuer: Issuer,
    /// This process among its siblings; only for leases and logs.
    pub node: String,
    /// Whether people may make their own users. Default: no.
    pub sign_up: bool,
    /// The algorithm of access tokens whose API names none. Default: RS256.
    pub access_token_alg: Algorithm,
    /// How long a signing key signs before the next one takes over. Default: 90 days.
    pub signing_key_lifetime: Duration,
    /// An authorization code's life. Default: 60 s (ASVS 10.4.2).
    pub code_lifetime: Duration,
    /// A pushed authorization request's life. Default: 90 s.
    pub pushed_request_lifetime: Duration,
    /// How long a login or consent may take. Default: 30 min.
    pub interaction_lifetime: Duration,
    /// How long a session lives at most. Default: 7 days.
    pub session_lifetime: Duration,
    /// How long a session lives unused. Default: 3 days.
    pub session_idle_lifetime: Duration,
    /// A ticket's and its connect flow's life until the browser starts. Default: 300 s.
    pub ticket_lifetime: Duration,
    /// How long the way through the provider may take after that. Default: 10 min.
    pub connect_flow_lifetime: Duration,
    /// A connect code's life. Default: 120 s.
    pub connect_code_lifetime: Duration,
    /// Failed logins of one account before it waits. Default: 10.
    pub login_failures_per_account: u32,
    /// Failed logins from one address before it waits. Default: 50.
    pub login_failures_per_address: u32,
    /// The time over which failed logins are counted, and the wait. Default: 10 min.
    pub login_window: Duration,
    /// How long a node may hold an account for a refresh without renewing. Default: 30 s.
    pub refresh_lease: Duration,
    /// How long a caller waits for somebody else's refresh. Default: 15 s.
    pub refresh_wait: Duration,
    /// A token with less life than this is refreshed before it is handed out. Default: 30 s.
    pub refresh_margin: Duration,
    /// A token with less life than this is refreshed behind the answer. Default: 120 s.
    pub refresh_ahead: Duration,
    /// How long a caller waits for a refresh while the token it could have still lives. Default: 500 ms.
    pub refresh_patience: Duration,
    /// The most refreshes a second and client id at a provider that states no limit of its own. Default: 100.
    pub refreshes_per_second: u32,
    /// What happens when an exchange leaves open which account it means. Default: the most recently connected.
    pub account_selection: AccountSelection,
    /// Where a refreshed token set is kept, sealed, while the database does not take it. None: in memory only.
    pub rescue_directory: Option<std::path::PathBuf>,
    /// Simulators that stand in for providers, by strategy: connections of the strategy ask there. For development.
    /// Default: none.
    pub simulators: BTreeMap<String, String>,
}

impl Settings {
    /// The defaults for an issuer.
    pub fn new(issuer: Issuer, node: impl Into<String>) -> Self {
        Self {
            issuer,
            node: node.into(),
            sign_up: false,
            access_token_alg: Algorithm::Rs256,
            signing_key_lifetime: Duration::from_secs(90 * 24 * 3600),
            code_lifetime: Duration::from_secs(60),
            pushed_request_lifetime: Duration::from_secs(90),
            interaction_lifetime: Duration::from_secs(30 * 60),
            session_lifetime: Duration::from_secs(7 * 24 * 3600),
            session_idle_lifetime: Duration::from_secs(3 * 24 * 3600),
            ticket_lifetime: Duration::from_secs(300),
            connect_flow_lifetime: Duration::from_secs(600),
            connect_code_lifetime: Duration::from_secs(120),
            login_failures_per_account: 10,
            login_failures_per_address: 50,
            login_window: Duration::from_secs(600),
            refresh_lease: Duration::from_secs(30),
            refresh_wait: Duration::from_secs(15),
            refresh_margin: Duration::from_secs(30),
            refresh_ahead: Duration::from_secs(120),
            refresh_patience: Duration::from_millis(500),
            refreshes_per_second: 100,
            account_selection: AccountSelection::Latest,
            rescue_directory: None,
            simulators: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_https_origin_with_one_slash() {
        for (text, expected) in [
            ("https://vault.example/", Some("https://vault.example/")),
            ("https://vault.example", Some("https://vault.example/")),
            ("https://localhost:8443", Some("https://localhost:8443/")),
            ("https://vault.example:443/", None),
            ("https://Vault.example/", None),
            ("http://vault.example/", None),
            ("https://vault.example/tenant/", None),
            ("https://vault.example/?a", None),
            ("https://user@vault.example/", None),
            ("vault.example", None),
        ] {
            assert_eq!(
                Issuer::parse(text).ok().as_ref().map(Issuer::as_str),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_derives_from_the_issuer() {
        let issuer = Issuer::parse("https://localhost:8443").unwrap();
        assert_eq!(issuer.domain(), "localhost:8443");
        assert_eq!(issuer.me_audience(), "https://localhost:8443/me/");
        assert_eq!(issuer.origin(), "https://localhost:8443");
    }
}
