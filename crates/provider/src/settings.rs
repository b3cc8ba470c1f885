//! What one connection adds to its strategy: client id, secret, options.

use std::collections::BTreeMap;

use seal::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::profile::{ClientAuthentication, Profile, profile, strategies};

/// A connection as the outbound client needs it.
#[derive(Debug)]
pub struct ConnectionSettings {
    /// The strategy.
    pub strategy: String,
    /// Our client id at the provider.
    pub client_id: String,
    /// Our client secret at the provider, where it gave one.
    pub client_secret: Option<SecretString>,
    /// The options.
    pub options: ConnectionOptions,
}

/// Options of a connection. What is absent comes from the strategy or from the provider's metadata. The spellings of
/// Auth0's custom OAuth2 connections are read too (contract 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionOptions {
    /// The provider's issuer; its metadata is at `/.well-known/openid-configuration` below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where people consent.
    #[serde(alias = "authorizationURL", skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// Where codes and refresh tokens are redeemed.
    #[serde(alias = "tokenURL", skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// Where the provider says who a token belongs to.
    #[serde(alias = "userInfoURL", skip_serializing_if = "Option::is_none")]
    pub userinfo_endpoint: Option<String>,
    /// RFC 7009.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// The keys of ID tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// How our client authenticates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<ClientAuthentication>,
    /// Whether PKCE is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkce: Option<bool>,
    /// What stands between scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_separator: Option<String>,
    /// Parameters that every authorization request gets, for example `access_type`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub authorization_params: BTreeMap<String, String>,
    /// Seconds that an access token lives when the provider does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assumed_lifetime: Option<u64>,
    /// The member of the userinfo answer that is the account's id, as a JSON pointer; `sub`, `id` or `user_id` when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id_pointer: Option<String>,
    /// Lets an account be connected that the provider gives no id for; at most one a user.
    pub allow_missing_user_id: bool,
}

/// Why settings are not usable. Each names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A field that the strategy needs.
    #[error("options.{0} is missing, which this strategy needs")]
    Missing(&'static str),
    /// A URL that is not one, or not https.
    #[error("options.{0} is not an absolute http or https URL without user name and fragment")]
    Url(&'static str),
    /// A strategy that does not exist.
    #[error("strategy '{0}' is unknown; there are: {1}")]
    Strategy(String, String),
    /// A field that a text may not have.
    #[error("{0} is empty or too long")]
    Length(&'static str),
    /// A parameter that is ours to set.
    #[error("options.authorization_params must not set '{0}'")]
    ReservedParameter(String),
}

/// Parameters of an authorization request that nobody but the client itself sets.
pub(crate) const RESERVED: [&str; 11] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_type",
    "scope",
    "state",
];

impl ConnectionSettings {
    /// Checks everything that can be checked without asking the provider.
    pub fn check(&self) -> Result<(), SettingsError> {
        let profile = self.profile()?;
        if self.client_id.is_empty() || self.client_id.len() > 1024 {
            return Err(SettingsError::Length("client_id"));
        }
        let options = &self.options;
        for (name, url) in options.urls() {
            if let Some(url) = url
                && !is_endpoint(url)
            {
                return Err(SettingsError::Url(name));
            }
        }
        if profile.discovery && options.issuer.is_none() {
            return Err(SettingsError::Missing("issuer"));
        }
        if !profile.discovery {
            for (name, url) in [
                ("authorization_endpoint", &options.authorization_endpoint),
                ("token_endpoint", &options.token_endpoint),
            ] {
                if url.is_none() {
                    return Err(SettingsError::Missing(name));
                }
            }
        }
        match options
            .authorization_params
            .keys()
            .find(|name| RESERVED.contains(&name.as_str()))
        {
            Some(name) => Err(SettingsError::ReservedParameter(name.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn profile(&self) -> Result<&'static Profile, SettingsError> {
        profile(&self.strategy).ok_or_else(|| {
            let known: Vec<&str> = strategies().collect();
            let shown = self
                .strategy
                .chars()
                .filter(char::is_ascii_graphic)
                .take(64)
                .collect();
            SettingsError::Strategy(shown, known.join(", "))
        })
    }
}

impl ConnectionOptions {
    fn urls(&self) -> [(&'static str, &Option<String>); 6] {
        [
            ("authorization_endpoint", &self.authorization_endpoint),
            ("issuer", &self.issuer),
            ("jwks_uri", &self.jwks_uri),
            ("revocation_endpoint", &self.revocation_endpoint),
            ("token_endpoint", &self.token_endpoint),
            ("userinfo_endpoint", &self.userinfo_endpoint),
        ]
    }
}

/// http is refused later, by the guard, unless the origin is allowed for development.
fn is_endpoint(text: &str) -> bool {
    text.len() <= 2048
        && Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.fragment().is_none()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oauth2(change: impl Fn(&mut ConnectionSettings)) -> Result<(), SettingsError> {
        let mut settings = ConnectionSettings {
            strategy: "oauth2".to_owned(),
            client_id: "id".to_owned(),
            client_secret: None,
            options: ConnectionOptions {
                authorization_endpoint: Some("https://p.example/authorize?x=1".to_owned()),
                token_endpoint: Some("https://p.example/token".to_owned()),
                ..ConnectionOptions::default()
            },
        };
        change(&mut settings);
        settings.check()
    }

    #[test]
    fn settings_are_checked_by_name() {
        assert_eq!(oauth2(|_| {}), Ok(()));
        assert_eq!(
            oauth2(|s| s.options.token_endpoint = None),
            Err(SettingsError::Missing("token_endpoint"))
        );
        assert_eq!(
            oauth2(|s| s.client_id.clear()),
            Err(SettingsError::Length("client_id"))
        );
        assert_eq!(
            oauth2(|s| s.strategy = "oidc".to_owned()),
            Err(SettingsError::Missing("issuer"))
        );
        assert!(matches!(
            oauth2(|s| s.strategy = "myspace".to_owned()),
            Err(SettingsError::Strategy(..))
        ));
        assert!(matches!(
            oauth2(|s| {
                s.options
                    .authorization_params
                    .insert("redirect_uri".to_owned(), "x".to_owned());
            }),
            Err(SettingsError::ReservedParameter(_))
        ));
    }

    #[test]
    fn ss_13_other_schemes_are_no_endpoints() {
        for url in [
            "file:///etc/passwd",
            "gopher://x/",
            "dict://x/",
            "ftp://x/",
            "unix:/run/x",
            "jar:https://x!/",
            "data:,x",
            "https://user@p.example/",
            "https://p.example/#f",
            "p.example",
            "https://",
        ] {
            assert_eq!(
                oauth2(|s| s.options.userinfo_endpoint = Some(url.to_owned())),
                Err(SettingsError::Url("userinfo_endpoint")),
                "{url}"
            );
        }
    }

    #[test]
    fn auth0s_spellings_are_read() {
        let options: ConnectionOptions = serde_json::from_str(
            r#"{"authorizationURL":"https://p.example/a","tokenURL":"https://p.example/t"}"#,
        )
        .unwrap();
        assert_eq!(
            options.token_endpoint.as_deref(),
            Some("https://p.example/t")
        );
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(
            serde_json::from_str::<ConnectionOptions>(&text).unwrap(),
            options
        );
    }
}
