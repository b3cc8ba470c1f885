//! An API as an administrator sets and sees it (contract 4.3).

use schemars::JsonSchema;
use seal::Algorithm;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::{AccessPolicy, Api, ApiScope, NewApi};
use crate::document::wrong;
use crate::{Refusal, Settings};

/// What an administrator sets of an API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = example())]
pub struct ApiSettings {
    /// The audience of its access tokens: printable characters, best an https URL.
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[\\x21-\\x7e]+$"), extend("x-immutable" = true))]
    pub identifier: String,
    /// What people read. Default: the identifier.
    #[schemars(
        length(min = 1, max = 200),
        regex(pattern = "^[^\\x00-\\x1f\\x7f<>]+$")
    )]
    pub name: String,
    /// Its scopes.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    pub scopes: Vec<ApiScope>,
    /// What its access tokens are signed with. Default: what the deployment signs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["EdDSA", "ES256", "RS256", null]))]
    pub signing_alg: Option<String>,
    /// Seconds that its access tokens live.
    #[serde(default = "a_day")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub token_lifetime: u64,
    /// Whether refresh tokens may be issued for it.
    #[serde(default)]
    pub allow_offline_access: bool,
    /// Whether first-party clients need no consent for it.
    #[serde(default = "yes")]
    pub skip_consent_for_verifiable_first_party_clients: bool,
    /// Who may have tokens for it.
    #[serde(default)]
    pub subject_type_authorization: SubjectTypeAuthorization,
    /// Of no meaning here: tokens come from the token endpoint only. Taken from tools that send it.
    #[serde(default, skip_serializing)]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub token_lifetime_for_web: Option<u64>,
    /// Access tokens are those of RFC 9068. Taken from tools that send it.
    #[serde(default, skip_serializing)]
    #[schemars(extend("enum" = ["access_token", "rfc9068_profile", null]))]
    pub token_dialect: Option<String>,
    /// Permissions of users by role are not built: false only.
    #[serde(default, skip_serializing)]
    #[schemars(extend("enum" = [false, null]))]
    pub enforce_policies: Option<bool>,
    /// Access tokens are bearer tokens: null only.
    #[serde(default, skip_serializing)]
    pub proof_of_possession: Option<()>,
    /// Not built: null only.
    #[serde(default, skip_serializing)]
    pub token_encryption: Option<()>,
    /// Not built: null only.
    #[serde(default, skip_serializing)]
    pub consent_policy: Option<()>,
    /// Not built: null only.
    #[serde(default, skip_serializing)]
    pub authorization_details: Option<()>,
    /// Not built: null only.
    #[serde(default, skip_serializing)]
    pub authorization_policy: Option<()>,
}

/// Who may have tokens for an API, for users and for themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectTypeAuthorization {
    /// Tokens for users.
    #[serde(default = "for_users")]
    pub user: Authorization,
    /// Tokens for clients themselves.
    #[serde(default = "for_clients")]
    pub client: Authorization,
}

/// Who may have tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The policy.
    pub policy: AccessPolicy,
}

/// An API as the Management API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ResourceServer")]
pub struct ApiView {
    /// `api_…`.
    pub id: String,
    /// Whether every deployment has it: it cannot go, and its name and scopes are fixed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_system: bool,
    /// The client that represents it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What was set.
    #[serde(flatten)]
    pub settings: ApiSettings,
}

impl Default for SubjectTypeAuthorization {
    fn default() -> Self {
        Self {
            user: for_users(),
            client: for_clients(),
        }
    }
}

fn for_users() -> Authorization {
    Authorization {
        policy: AccessPolicy::AllowAll,
    }
}

fn for_clients() -> Authorization {
    Authorization {
        policy: AccessPolicy::RequireClientGrant,
    }
}

fn yes() -> bool {
    true
}

fn a_day() -> u64 {
    24 * 3600
}

fn example() -> Value {
    json!({
        "identifier": "https://reports.example/",
        "name": "Reports",
        "scopes": [{ "value": "read:reports", "description": "Read your reports" }],
    })
}

/// The name under which tools look for an API that every deployment has; None for any other.
pub(crate) fn system_name(settings: &Settings, identifier: &str) -> Option<&'static str> {
    let issuer = &settings.issuer;
    if identifier == issuer.management_audience() {
        Some("Auth0 Management API")
    } else if identifier == issuer.me_audience() {
        Some("Auth0 My Account API")
    } else {
        None
    }
}

impl ApiSettings {
    /// Fills in what follows from other members of a new API's document.
    pub(crate) fn complete(body: &mut Map<String, Value>) {
        body.retain(|_, value| !value.is_null());
        if let (None, Some(identifier)) = (body.get("name"), body.get("identifier").cloned()) {
            body.insert("name".to_owned(), identifier);
        }
    }

    /// What is set of an API.
    pub(crate) fn of(api: &Api, settings: &Settings) -> Self {
        let name = system_name(settings, &api.identifier).unwrap_or(&api.name);
        Self {
            identifier: api.identifier.clone(),
            name: name.to_owned(),
            scopes: api.scopes.clone(),
            signing_alg: Some(api.signing_alg.as_str().to_owned()),
            token_lifetime: api.token_lifetime,
            allow_offline_access: api.allow_offline_access,
            skip_consent_for_verifiable_first_party_clients: api.skip_consent,
            subject_type_authorization: SubjectTypeAuthorization {
                user: Authorization {
                    policy: api.user_policy,
                },
                client: Authorization {
                    policy: api.client_policy,
                },
            },
            token_lifetime_for_web: None,
            token_dialect: None,
            enforce_policies: None,
            proof_of_possession: None,
            token_encryption: None,
            consent_policy: None,
            authorization_details: None,
            authorization_policy: None,
        }
    }

    /// The same without what is only taken and never kept.
    pub(crate) fn kept(self) -> Self {
        Self {
            token_lifetime_for_web: None,
            token_dialect: None,
            enforce_policies: None,
            ..self
        }
    }

    /// What the rules of an API are asked about.
    pub(crate) fn into_new_api(self) -> Result<NewApi, Refusal> {
        let signing_alg = match &self.signing_alg {
            None => None,
            Some(alg) => Some(Algorithm::from_str(alg).ok_or_else(|| {
                wrong(
                    "signing_alg",
                    "an algorithm that access tokens may be signed with",
                )
            })?),
        };
        Ok(NewApi {
            identifier: self.identifier,
            name: self.name,
            scopes: self.scopes,
            signing_alg,
            token_lifetime: self.token_lifetime,
            allow_offline_access: self.allow_offline_access,
            skip_consent: self.skip_consent_for_verifiable_first_party_clients,
            user_policy: self.subject_type_authorization.user.policy,
            client_policy: self.subject_type_authorization.client.policy,
        })
    }
}

impl ApiView {
    pub(crate) fn of(api: &Api, represented_by: Option<String>, settings: &Settings) -> Self {
        Self {
            id: api.id.clone(),
            is_system: system_name(settings, &api.identifier).is_some(),
            client_id: represented_by,
            settings: ApiSettings::of(api, settings),
        }
    }
}
