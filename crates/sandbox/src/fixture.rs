//! What a vendor's documentation says that its token endpoint asks and answers: one TOML file a provider, or several
//! where an application can be set up in several ways. Written from the vendor's pages, never from what our own client
//! sends or our own parser reads; `docs/providers.md` explains the format to people who write one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::behaviour::Rotation;

/// One provider as it documents itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// Its name: the file's name.
    pub name: String,
    /// What people read.
    pub title: String,
    /// The strategy whose profile it is for.
    pub strategy: String,
    /// The vendor's pages.
    pub documentation: Vec<String>,
    /// What no page was seen for.
    #[serde(default)]
    pub unverified: Vec<String>,
    /// What a connection to it is configured with.
    #[serde(default)]
    pub connection: ConnectionFacts,
    /// The authorization request and its answer.
    pub authorization: AuthorizationFacts,
    /// Redeeming a code.
    pub token: CallFacts,
    /// Exchanging the token of a code for another; absent where there is no such thing.
    pub exchange: Option<CallFacts>,
    /// Refreshing; absent where there is none.
    pub refresh: Option<RefreshFacts>,
    /// Who it is.
    pub userinfo: Option<CallFacts>,
    /// ID tokens.
    pub id_token: Option<IdTokenFacts>,
    /// Giving a grant back; absent where there is no way to.
    pub revocation: Option<CallFacts>,
    /// RFC 7662.
    pub introspection: Option<CallFacts>,
    /// How errors are said.
    #[serde(default)]
    pub errors: Errors,
    /// Seconds that an access token lives; absent: it has no end.
    pub access_token_lifetime: Option<u64>,
    /// Seconds that a refresh token lives, for `<refresh_token_expires_in>`.
    pub refresh_token_lifetime: Option<u64>,
    /// What the vault must make of it.
    pub expect: Expectation,
}

/// What a connection is configured with.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionFacts {
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Values for the strategy's variables.
    pub variables: BTreeMap<String, String>,
    /// Any other option of the connection.
    pub options: serde_json::Map<String, serde_json::Value>,
}

/// The authorization request. Names on the left are ours, for `names`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationFacts {
    /// Where people are sent.
    pub url: String,
    /// Parameters that must be there with exactly this value; `*` is any.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Parameters that must not be there.
    #[serde(default)]
    pub absent: Vec<String>,
    /// What the provider calls `client_id`, `redirect_uri`, `state`, `scope`, `second_scope`, `code_challenge`.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
    /// The query of the answer. Default: `code` and `state`.
    #[serde(default = "code_and_state")]
    pub answer: BTreeMap<String, String>,
    /// Whether the answer is signed as Shopify does it.
    #[serde(default)]
    pub shopify_hmac: bool,
}

fn code_and_state() -> BTreeMap<String, String> {
    ["code", "state"]
        .into_iter()
        .map(|name| (name.to_owned(), format!("<{name}>")))
        .collect()
}

/// How the client proves itself in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// `Authorization: Basic` with client id and secret.
    Basic,
    /// `Authorization: Bearer` with a token of the grant.
    Bearer,
    /// `client_assertion`.
    Assertion,
    /// `client_id` and `client_secret` (or what the provider calls them) among the parameters.
    Parameters,
    /// Nothing.
    None,
    /// `Authorization: Basic` with the secret as the user name.
    SecretAsUsername,
}

/// A call to the provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallFacts {
    /// Where. `*` stands for any text without a slash, `<access_token>` and `<refresh_token>` for a live one.
    pub url: String,
    /// The method.
    #[serde(default = "post")]
    pub method: String,
    /// `form`, `json` or `query`.
    #[serde(default = "form")]
    pub body: String,
    /// How the client proves itself. Any other way beside it is an error.
    pub proof: Proof,
    /// What the provider calls `client_id` and `client_secret`.
    #[serde(default)]
    pub names: BTreeMap<String, String>,
    /// Parameters that must be there with exactly this value; `*` is any, `<code>`, `<refresh_token>`,
    /// `<access_token>` a live one of this client, `<redirect_uri>` the one of the authorization request,
    /// `<code_verifier>` the one of its challenge, `<account>` in a revocation that names the account and no token.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Parameters that must not be there.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Headers that must be there with exactly this value; `*` is any. `<access_token>` is a live one.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Texts that the body must hold, for calls that are not made of parameters.
    #[serde(default)]
    pub body_holds: Vec<String>,
    /// The status of the answer.
    #[serde(default = "ok")]
    pub status: u16,
    /// The answer, with placeholders.
    #[serde(default)]
    pub answer: String,
}

fn post() -> String {
    "POST".to_owned()
}

fn form() -> String {
    "form".to_owned()
}

fn ok() -> u16 {
    200
}

/// Refreshing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshFacts {
    /// The call.
    pub call: CallFacts,
    /// What happens to the refresh token.
    pub rotation: Rotation,
    /// Whether access tokens from before end.
    #[serde(default)]
    pub ends_access_tokens: bool,
    /// Whether it is the access token that is handed in.
    #[serde(default)]
    pub renews_access_token: bool,
    /// Whether `scope` narrows what the new access token is good for, and the answer says so in its member `scope`.
    #[serde(default)]
    pub narrows: bool,
}

/// ID tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdTokenFacts {
    /// Where the keys are.
    pub jwks: String,
    /// The claims as JSON, with placeholders; `iat`, `exp` and, where one was sent, `nonce` are added.
    pub claims: String,
}

/// An error answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorFacts {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// How errors are said. Where nothing is stated it is RFC 6749 §5.2.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// The client id or secret is wrong.
    pub invalid_client: Option<ErrorFacts>,
    /// The refresh token is dead.
    pub invalid_grant: Option<ErrorFacts>,
    /// A token that is shown at userinfo is dead.
    pub invalid_token: Option<ErrorFacts>,
    /// A token that shall be revoked is dead already; RFC 7009 has it as success.
    pub already_revoked: Option<ErrorFacts>,
}

/// What the vault must make of it: stated from the facts, compared with what it says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expectation {
    /// The account's id at the provider.
    pub subject: String,
    /// What people log in with.
    pub login: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// What the person is called.
    pub name: Option<String>,
    /// The organisation.
    pub organization: Option<String>,
    /// What is granted; what was asked for where it is not said.
    pub scopes: Option<Vec<String>>,
    /// Seconds that the access token lives.
    pub expires_in: Option<u64>,
    /// Seconds that the refresh token lives, where the answer says.
    pub refresh_token_expires_in: Option<u64>,
    /// What was learned.
    pub variables: BTreeMap<String, String>,
    /// The names of further tokens of the grant.
    pub further: Vec<String>,
}

impl CallFacts {
    /// Whether the account is named, not a token.
    pub(crate) fn names_account(&self) -> bool {
        self.parameters
            .values()
            .any(|expected| expected == "<account>")
    }

    /// Whether the client signs an assertion.
    pub fn proof_is_assertion(&self) -> bool {
        self.proof == Proof::Assertion
    }

    /// Whether a wrong client secret would be seen.
    pub fn proves_client(&self) -> bool {
        matches!(
            self.proof,
            Proof::Basic | Proof::Parameters | Proof::SecretAsUsername
        )
    }
}

impl RefreshFacts {
    /// Whether a used refresh token is refused at once.
    pub fn is_strict(&self) -> bool {
        matches!(self.rotation, Rotation::Strict | Rotation::StrictKillFamily)
    }
}

/// The files of `fixtures/`, by name.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/fixtures.rs"));

// A file that does not parse is left out here and fails the test below, so it never ships.
static FIXTURES: LazyLock<BTreeMap<&'static str, Fixture>> = LazyLock::new(|| {
    FILES
        .iter()
        .filter_map(|(name, text)| Some((*name, toml::from_str(text).ok()?)))
        .collect()
});

impl Fixture {
    /// Every fixture, in the order of their names.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FIXTURES.values()
    }

    /// Where it is played by the sandbox at `base_url`: a connection's option `simulator`.
    pub fn simulator(&self, base_url: &str) -> String {
        format!("{base_url}/as/{}", self.name)
    }

    /// The fixture of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        FIXTURES.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_fixture_of_its_own_name() {
        for (name, text) in FILES {
            let fixture: Fixture =
                toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(fixture.name, *name);
            assert!(
                fixture
                    .documentation
                    .iter()
                    .all(|page| page.starts_with("https://")),
                "{name}: documentation"
            );
            if let Some(id_token) = &fixture.id_token {
                let claims = id_token.claims.replace(['<', '>'], "");
                serde_json::from_str::<serde_json::Value>(&claims)
                    .unwrap_or_else(|error| panic!("{name}: id_token.claims: {error}"));
            }
        }
        assert_eq!(FIXTURES.len(), FILES.len());
    }
}
