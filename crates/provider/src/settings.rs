//! What one connection adds to its strategy: client id, secret, options.

use std::collections::BTreeMap;
use std::sync::Arc;

use seal::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::catalogue::Catalogue;
use crate::client_assertion;
use crate::profile::{ClientAuthentication, Profile, RefreshClass, VariableSource};

/// A connection as the outbound client needs it.
#[derive(Debug)]
pub struct ConnectionSettings {
    /// The strategy.
    pub strategy: String,
    /// Our client id at the provider.
    pub client_id: String,
    /// Our client secret at the provider, where it gave one; for `private_key_jwt` the private key in PEM (PKCS#8).
    pub client_secret: Option<SecretString>,
    /// The options.
    pub options: ConnectionOptions,
}

/// Options of a connection. What is absent comes from the strategy or from the provider's metadata. The spellings of
/// Auth0's custom OAuth2 connections are read too (contract 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionOptions {
    /// Values for the strategy's variables, such as `tenant` or `domain`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
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
    /// `kid` of our public key at the provider, for `private_key_jwt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key_id: Option<String>,
    /// The SHA-256 thumbprint of our certificate (`x5t#S256`), for `private_key_jwt` at Entra ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_thumbprint: Option<String>,
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
    /// What refreshing does, where this application was set up otherwise than the strategy assumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_class: Option<RefreshClass>,
    /// Seconds within which a used refresh token works once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_window: Option<u64>,
    /// The member of the userinfo answer that is the account's id, as a JSON pointer; `sub`, `id` or `user_id` when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id_pointer: Option<String>,
    /// Lets an account be connected that the provider gives no id for; at most one a user.
    pub allow_missing_user_id: bool,
    /// The base address of a simulator: a request for `https://HOST/PATH` goes to `SIMULATOR/HOST/PATH` instead. For
    /// development and tests; the address has to be among the allowed origins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulator: Option<String>,
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
    #[error("strategy '{0}' is unknown; tokenvault providers lists those there are")]
    Strategy(String),
    /// A field that a text may not have.
    #[error("{0} is empty or too long")]
    Length(&'static str),
    /// A parameter that is ours to set.
    #[error("options.authorization_params must not set '{0}'")]
    ReservedParameter(String),
    /// A variable that the strategy does not have, or not from here.
    #[error("options.variables.{0} is none of this strategy's variables")]
    UnknownVariable(String),
    /// A variable without a value.
    #[error("options.variables.{0} is missing: {1}")]
    MissingVariable(String, String),
    /// A value that the variable does not take.
    #[error("options.variables.{0} is not a value that it may have: {1}")]
    Variable(String, String),
    /// A key that cannot sign.
    #[error("client_secret is not a private key in PEM (PKCS#8) for private_key_jwt")]
    PrivateKey,
}

impl SettingsError {
    /// The field that is wrong, with dots.
    pub fn field(&self) -> String {
        match self {
            Self::Missing(name) | Self::Url(name) | Self::Length(name) => format!("options.{name}"),
            Self::Strategy(_) => "strategy".to_owned(),
            Self::ReservedParameter(name) => format!("options.authorization_params.{name}"),
            Self::UnknownVariable(name)
            | Self::MissingVariable(name, _)
            | Self::Variable(name, _) => format!("options.variables.{name}"),
            Self::PrivateKey => "options.client_secret".to_owned(),
        }
    }
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

impl ConnectionOptions {
    /// Whether an account may be connected that the provider gives no id for.
    pub fn allows_missing_user_id(&self, profile: &Profile) -> bool {
        self.allow_missing_user_id || profile.identity.allow_missing
    }

    /// Seconds that an access token lives where nobody says.
    pub fn assumed_lifetime(&self, profile: &Profile) -> Option<u64> {
        self.assumed_lifetime.or(profile.answer.assumed_lifetime)
    }
}

impl ConnectionSettings {
    /// Checks everything that can be checked without asking the provider.
    pub fn check(&self, catalogue: &Catalogue) -> Result<(), SettingsError> {
        let profile = self.profile(catalogue)?;
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
        let endpoints = &profile.endpoints;
        if profile.discovery && options.issuer.is_none() && endpoints.issuer.is_none() {
            return Err(SettingsError::Missing("issuer"));
        }
        if !profile.discovery {
            for (name, url, known) in [
                (
                    "authorization_endpoint",
                    &options.authorization_endpoint,
                    &endpoints.authorization,
                ),
                ("token_endpoint", &options.token_endpoint, &endpoints.token),
            ] {
                if url.is_none() && known.is_none() {
                    return Err(SettingsError::Missing(name));
                }
            }
        }
        self.check_variables(profile)?;
        if self.authentication(profile) == ClientAuthentication::PrivateKeyJwt {
            client_assertion::signing_key(self, profile).map_err(|_| SettingsError::PrivateKey)?;
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

    fn check_variables(&self, profile: &Profile) -> Result<(), SettingsError> {
        let given = &self.options.variables;
        for (name, value) in given {
            match profile.variables.get(name) {
                None => return Err(SettingsError::UnknownVariable(shown(name))),
                Some(variable) if !variable.takes(value) => {
                    return Err(SettingsError::Variable(
                        name.clone(),
                        variable.description.clone(),
                    ));
                }
                Some(_) => {}
            }
        }
        for (name, variable) in &profile.variables {
            let needed = variable.from == VariableSource::Configuration
                && variable.default.is_none()
                && !variable.optional;
            if needed && !given.contains_key(name) {
                return Err(SettingsError::MissingVariable(
                    name.clone(),
                    variable.description.clone(),
                ));
            }
        }
        Ok(())
    }

    /// The profile of the strategy.
    pub fn profile<'a>(&self, catalogue: &'a Catalogue) -> Result<&'a Arc<Profile>, SettingsError> {
        catalogue
            .get(&self.strategy)
            .ok_or_else(|| SettingsError::Strategy(shown(&self.strategy)))
    }

    /// How the client authenticates where the provider's metadata does not say.
    pub(crate) fn authentication(&self, profile: &Profile) -> ClientAuthentication {
        self.options
            .token_endpoint_auth_method
            .unwrap_or(profile.client_authentication)
    }

    /// What refreshing does to this connection's refresh tokens.
    pub fn refresh_class(&self, profile: &Profile) -> RefreshClass {
        self.options.refresh_class.unwrap_or(profile.refresh.class)
    }

    /// How long a used refresh token works once more, in seconds.
    pub fn replay_window(&self, profile: &Profile) -> Option<u64> {
        self.options.replay_window.or(profile.refresh.replay_window)
    }

    /// The variables that are known: the strategy's defaults, the options, and what was learned for one account.
    pub(crate) fn variables(
        &self,
        profile: &Profile,
        learned: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        for (name, variable) in &profile.variables {
            let value = learned
                .get(name)
                .or_else(|| self.options.variables.get(name))
                // What was learned is checked again: it comes from outside, by way of the database.
                .filter(|value| variable.takes(value))
                .or(variable.default.as_ref());
            if let Some(value) = value {
                known.insert(name.clone(), variable.normal(value));
            }
        }
        known
    }
}

/// What of a stranger's text can stand in a sentence.
fn shown(text: &str) -> String {
    text.chars()
        .filter(char::is_ascii_graphic)
        .take(64)
        .collect()
}

impl ConnectionOptions {
    pub(crate) fn urls(&self) -> [(&'static str, &Option<String>); 7] {
        [
            ("authorization_endpoint", &self.authorization_endpoint),
            ("issuer", &self.issuer),
            ("jwks_uri", &self.jwks_uri),
            ("revocation_endpoint", &self.revocation_endpoint),
            ("simulator", &self.simulator),
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
        settings.check(&Catalogue::built_in().unwrap())
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
