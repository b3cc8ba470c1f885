//! A strategy: what is known of a provider before any connection to it exists. Data, one TOML file each.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// How a client shows its secret to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// `Authorization: Basic` (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// In the body.
    ClientSecretPost,
    /// Only the client id.
    None,
}

/// What a provider is like.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The strategy's name.
    pub strategy: String,
    /// What people read.
    pub display_name: String,
    /// Whether the endpoints come from the issuer's metadata, and ID tokens are to be expected.
    pub discovery: bool,
    /// How the client authenticates where neither options nor metadata say.
    pub client_authentication: ClientAuthentication,
    /// The scopes of a connection that names none.
    #[serde(default)]
    pub default_scopes: Vec<String>,
    /// Whether PKCE is used towards the provider. Default: yes.
    #[serde(default = "yes")]
    pub pkce: bool,
    /// What stands between scopes. Default: a space.
    #[serde(default = "space")]
    pub scope_separator: String,
    /// Error codes, beside `invalid_grant`, that end an account's validity.
    #[serde(default)]
    pub definite_errors: Vec<String>,
    /// Seconds that an access token lives when the provider does not say; none: it has no end.
    #[serde(default)]
    pub assumed_lifetime: Option<u64>,
}

fn yes() -> bool {
    true
}

fn space() -> String {
    " ".to_owned()
}

const FILES: &[&str] = &[
    include_str!("../providers/oauth2.toml"),
    include_str!("../providers/oidc.toml"),
    include_str!("../providers/sandbox.toml"),
];

// A file that does not parse is left out here and fails the test below, so it never ships.
static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    FILES
        .iter()
        .filter_map(|file| toml::from_str(file).ok())
        .collect()
});

/// The profile of a strategy.
pub fn profile(strategy: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.strategy == strategy)
}

/// Every strategy, in alphabetical order.
pub fn strategies() -> impl Iterator<Item = &'static str> {
    PROFILES.iter().map(|profile| profile.strategy.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_profile_and_every_strategy_is_there_once() {
        for file in FILES {
            toml::from_str::<Profile>(file).unwrap();
        }
        let names: Vec<&str> = strategies().collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert_eq!(names.len(), FILES.len());
    }
}
