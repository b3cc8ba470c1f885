//! A client as an administrator sets and sees it: contract 4.1, to the letter.
//!
//! The document says the same as [`Client`] and its keys, in the words of the wire. Nothing in it is a secret; the secret
//! of a client is shown once, by whoever made or rotated it.

use std::collections::BTreeMap;

use oauth::grant;
use schemars::JsonSchema;
use seal::Algorithm;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{
    AppType, Client, ClientProfile, NewClient, PrivilegedAccess, PrivilegedGrant,
    RefreshTokenPolicy, TokenEndpointAuthMethod,
};
use crate::client_key::{ClientKey, KeyPurpose, NewCredential};
use crate::document::wrong;
use crate::{Refusal, id_token};

/// What an administrator sets of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = example())]
pub struct ClientSettings {
    /// What people read.
    #[schemars(length(min = 1, max = 150), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))]
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 140))]
    pub description: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub logo_uri: Option<String>,
    /// What kind of program it is.
    #[serde(default)]
    pub app_type: AppType,
    /// Whether it belongs to whoever runs this deployment: no consent page, and exchanges allowed.
    #[serde(default = "yes")]
    pub is_first_party: bool,
    /// Whether it speaks OpenID Connect as it is written. Exchanges need it.
    #[serde(default = "yes")]
    pub oidc_conformant: bool,
    /// How it authenticates. Absent where `client_authentication_methods` says it; by default `none` for `native` and
    /// `spa`, else `client_secret_post`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<SecretAuthMethod>,
    /// How it authenticates without a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_authentication_methods: Option<ClientAuthenticationMethods>,
    /// The grants that it may use. Default: what its `app_type` needs.
    #[serde(default)]
    #[schemars(length(max = 20), inner(length(min = 1, max = 200)))]
    pub grant_types: Vec<String>,
    /// Its redirect URIs, compared letter by letter.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 2048)))]
    pub callbacks: Vec<String>,
    /// Where its users may be sent after logging out.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 2048)))]
    pub allowed_logout_urls: Vec<String>,
    /// Origins beside those of its callbacks whose scripts may call the token endpoint and the My Account API.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 255)))]
    pub allowed_origins: Vec<String>,
    /// Kept for tools that set it; silent logins are not built.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 255)))]
    pub web_origins: Vec<String>,
    /// Kept for tools; no cookie of this server counts across origins.
    #[serde(default)]
    pub cross_origin_authentication: bool,
    /// The API that it represents: for `app_type` `resource_server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 600), extend("x-immutable" = true))]
    pub resource_server_identifier: Option<String>,
    /// Its ID tokens.
    #[serde(default)]
    pub jwt_configuration: JwtConfiguration,
    /// Its refresh tokens.
    #[serde(default)]
    pub refresh_token: RefreshTokenPolicy,
    /// What it may do for users who are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_vault_privileged_access: Option<PrivilegedAccessSettings>,
    /// Whether it has to push its authorization requests (RFC 9126 §6).
    #[serde(default)]
    pub require_pushed_authorization_requests: bool,
    /// Whether it may do nothing, for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Free to use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10), inner(length(max = 255)))]
    pub client_metadata: BTreeMap<String, String>,
}

/// How a client with or without a secret authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretAuthMethod {
    /// By a secret in `Authorization: Basic`; the body is accepted as well.
    ClientSecretBasic,
    /// By a secret in the body; Basic is accepted as well.
    ClientSecretPost,
    /// Not at all: a public client.
    None,
}

/// Authentication without a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthenticationMethods {
    /// By an assertion that it signs (RFC 7523).
    pub private_key_jwt: CredentialList,
}

/// The keys of a purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialList {
    /// One, or two while one replaces the other.
    #[schemars(length(min = 1, max = 2))]
    pub credentials: Vec<CredentialRef>,
}

/// A key that is registered, or one that shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CredentialRef {
    /// A registered one.
    Known(CredentialId),
    /// A new one.
    New(Box<NewCredential>),
}

/// Names a registered key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialId {
    /// `key_…`.
    #[schemars(length(min = 1, max = 64))]
    pub id: String,
}

/// What a client's ID tokens are like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtConfiguration {
    /// What they are signed with.
    #[serde(default = "rs256")]
    #[schemars(extend("enum" = ["EdDSA", "ES256", "RS256"]))]
    pub alg: String,
    /// Seconds that they live.
    #[serde(default = "ten_hours")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub lifetime_in_seconds: u64,
    /// Of no meaning here: secrets are random texts. Taken from tools that send it.
    #[serde(default, skip_serializing)]
    pub secret_encoded: bool,
}

/// What a client may do for users who are not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivilegedAccessSettings {
    /// The keys that it signs its requests with.
    #[serde(default)]
    #[schemars(length(max = 2))]
    pub credentials: Vec<CredentialRef>,
    /// Addresses and CIDR ranges of IPv4 and IPv6 that it may call from; none: nowhere.
    #[serde(default)]
    #[schemars(length(max = 10), inner(length(min = 1, max = 64)))]
    pub ip_allowlist: Vec<String>,
    /// Connections with the scopes that it may see there; none: nothing.
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub grants: Vec<PrivilegedGrant>,
}

/// A client as the Management API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Client")]
pub struct ClientView {
    /// `cl_…`.
    pub client_id: String,
    /// Only in the answer that makes or rotates it, never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// Always false: the deployment has no client of its own.
    pub global: bool,
    /// What was set.
    #[serde(flatten)]
    pub settings: ClientSettings,
}

impl Default for JwtConfiguration {
    fn default() -> Self {
        Self {
            alg: rs256(),
            lifetime_in_seconds: ten_hours(),
            secret_encoded: false,
        }
    }
}

fn yes() -> bool {
    true
}

fn rs256() -> String {
    Algorithm::Rs256.as_str().to_owned()
}

fn ten_hours() -> u64 {
    id_token::LIFETIME
}

fn example() -> Value {
    json!({
        "name": "Calendar agent",
        "app_type": "regular_web",
        "callbacks": ["https://agent.example/callback"],
        "grant_types": [grant::AUTHORIZATION_CODE, grant::REFRESH_TOKEN, grant::TOKEN_VAULT],
    })
}

/// A key of a client that is asked for, by its place in the document.
pub(crate) struct WantedKey<'a> {
    pub(crate) field: String,
    pub(crate) purpose: KeyPurpose,
    pub(crate) credential: &'a CredentialRef,
}

impl ClientSettings {
    /// Fills in what follows from the kind of program where a new client's document does not say it.
    pub(crate) fn complete(body: &mut Map<String, Value>) {
        let app_type = body
            .get("app_type")
            .and_then(Value::as_str)
            .unwrap_or("regular_web")
            .to_owned();
        if body.get("grant_types").is_none_or(Value::is_null) {
            let grants: &[&str] = match app_type.as_str() {
                "non_interactive" => &[grant::CLIENT_CREDENTIALS],
                "resource_server" => &[grant::TOKEN_VAULT],
                _ => &[grant::AUTHORIZATION_CODE, grant::REFRESH_TOKEN],
            };
            body.insert("grant_types".to_owned(), json!(grants));
        }
        let says_how = [
            "token_endpoint_auth_method",
            "client_authentication_methods",
        ]
        .iter()
        .any(|name| body.get(*name).is_some_and(|value| !value.is_null()));
        if !says_how {
            let method = match app_type.as_str() {
                "native" | "spa" => "none",
                _ => "client_secret_post",
            };
            body.insert("token_endpoint_auth_method".to_owned(), json!(method));
        }
        // An absent field and null are the same where there is nothing yet.
        body.retain(|_, value| !value.is_null());
    }

    /// What is set of a client.
    pub(crate) fn of(client: &Client, keys: &[ClientKey]) -> Self {
        let known = |purpose: KeyPurpose| -> Vec<CredentialRef> {
            keys.iter()
                .filter(|key| key.client_id == client.client_id && key.purpose == purpose)
                .map(|key| CredentialRef::Known(CredentialId { id: key.id.clone() }))
                .collect()
        };
        let (secret_method, methods) = match client.token_endpoint_auth_method {
            TokenEndpointAuthMethod::ClientSecretBasic => {
                (Some(SecretAuthMethod::ClientSecretBasic), None)
            }
            TokenEndpointAuthMethod::ClientSecretPost => {
                (Some(SecretAuthMethod::ClientSecretPost), None)
            }
            TokenEndpointAuthMethod::None => (Some(SecretAuthMethod::None), None),
            TokenEndpointAuthMethod::PrivateKeyJwt => (
                None,
                Some(ClientAuthenticationMethods {
                    private_key_jwt: CredentialList {
                        credentials: known(KeyPurpose::ClientAuthentication),
                    },
                }),
            ),
        };
        let profile = client.profile.clone();
        Self {
            name: client.name.clone(),
            description: profile.description,
            logo_uri: profile.logo_uri,
            app_type: client.app_type,
            is_first_party: client.is_first_party,
            oidc_conformant: !profile.not_oidc_conformant,
            token_endpoint_auth_method: secret_method,
            client_authentication_methods: methods,
            grant_types: client.grant_types.clone(),
            callbacks: client.callbacks.clone(),
            allowed_logout_urls: client.allowed_logout_urls.clone(),
            allowed_origins: client.allowed_origins.clone(),
            web_origins: profile.web_origins,
            cross_origin_authentication: profile.cross_origin_authentication,
            resource_server_identifier: client.resource_server_identifier.clone(),
            jwt_configuration: JwtConfiguration {
                alg: client.id_token_alg.as_str().to_owned(),
                lifetime_in_seconds: profile.id_token_lifetime.unwrap_or(id_token::LIFETIME),
                secret_encoded: false,
            },
            refresh_token: client.refresh_token.clone(),
            token_vault_privileged_access: client.privileged_access.as_ref().map(|access| {
                PrivilegedAccessSettings {
                    credentials: known(KeyPurpose::PrivilegedAccess),
                    ip_allowlist: access.ip_allowlist.clone(),
                    grants: access.grants.clone(),
                }
            }),
            require_pushed_authorization_requests: profile.require_pushed_authorization_requests,
            disabled: client.disabled_at.is_some(),
            client_metadata: profile.client_metadata,
        }
    }

    /// The keys that the client shall have, by purpose.
    pub(crate) fn wanted_keys(&self) -> Vec<WantedKey<'_>> {
        let authentication = self
            .client_authentication_methods
            .iter()
            .flat_map(|methods| {
                let list = &methods.private_key_jwt.credentials;
                list.iter()
                    .map(|credential| (KeyPurpose::ClientAuthentication, credential))
            });
        let privileged = self
            .token_vault_privileged_access
            .iter()
            .flat_map(|access| {
                let list = &access.credentials;
                list.iter()
                    .map(|credential| (KeyPurpose::PrivilegedAccess, credential))
            });
        let mut wanted: Vec<WantedKey<'_>> = Vec::new();
        for (purpose, credential) in authentication.chain(privileged) {
            let index = wanted.iter().filter(|key| key.purpose == purpose).count();
            let list = match purpose {
                KeyPurpose::ClientAuthentication => {
                    "client_authentication_methods.private_key_jwt.credentials"
                }
                KeyPurpose::PrivilegedAccess | KeyPurpose::Unassigned => {
                    "token_vault_privileged_access.credentials"
                }
            };
            wanted.push(WantedKey {
                field: format!("{list}.{index}"),
                purpose,
                credential,
            });
        }
        wanted
    }

    /// The keys in the document, in the order of [`Self::wanted_keys`].
    pub(crate) fn credentials_mut(&mut self) -> impl Iterator<Item = &mut CredentialRef> {
        let authentication = self
            .client_authentication_methods
            .iter_mut()
            .flat_map(|methods| methods.private_key_jwt.credentials.iter_mut());
        let privileged = self
            .token_vault_privileged_access
            .iter_mut()
            .flat_map(|access| access.credentials.iter_mut());
        authentication.chain(privileged)
    }

    /// What the rules of a client are asked about.
    ///
    /// # Errors
    /// [`crate::Reason::InvalidBody`] where the document says twice, or not at all, how the client authenticates.
    pub(crate) fn into_new_client(self) -> Result<NewClient, Refusal> {
        let method = match (
            self.token_endpoint_auth_method,
            &self.client_authentication_methods,
        ) {
            (None, Some(_)) => TokenEndpointAuthMethod::PrivateKeyJwt,
            (Some(SecretAuthMethod::ClientSecretBasic), None) => {
                TokenEndpointAuthMethod::ClientSecretBasic
            }
            (Some(SecretAuthMethod::ClientSecretPost), None) => {
                TokenEndpointAuthMethod::ClientSecretPost
            }
            (Some(SecretAuthMethod::None), None) => TokenEndpointAuthMethod::None,
            (None, None) | (Some(_), Some(_)) => {
                return Err(wrong(
                    "token_endpoint_auth_method",
                    "either this or client_authentication_methods; the other one null",
                ));
            }
        };
        let id_token_alg = Algorithm::from_str(&self.jwt_configuration.alg).ok_or_else(|| {
            wrong(
                "jwt_configuration.alg",
                "an algorithm that ID tokens may be signed with",
            )
        })?;
        let lifetime = self.jwt_configuration.lifetime_in_seconds;
        Ok(NewClient {
            name: self.name,
            app_type: self.app_type,
            is_first_party: self.is_first_party,
            token_endpoint_auth_method: method,
            id_token_alg,
            grant_types: self.grant_types,
            callbacks: self.callbacks,
            allowed_logout_urls: self.allowed_logout_urls,
            allowed_origins: self.allowed_origins,
            resource_server_identifier: self.resource_server_identifier,
            refresh_token: self.refresh_token,
            privileged_access: self
                .token_vault_privileged_access
                .map(|access| PrivilegedAccess {
                    ip_allowlist: access.ip_allowlist,
                    grants: access.grants,
                }),
            profile: ClientProfile {
                description: self.description,
                logo_uri: self.logo_uri,
                client_metadata: self.client_metadata,
                id_token_lifetime: (lifetime != id_token::LIFETIME).then_some(lifetime),
                require_pushed_authorization_requests: self.require_pushed_authorization_requests,
                not_oidc_conformant: !self.oidc_conformant,
                cross_origin_authentication: self.cross_origin_authentication,
                web_origins: self.web_origins,
            },
        })
    }
}

impl ClientView {
    pub(crate) fn of(client: &Client, keys: &[ClientKey]) -> Self {
        Self {
            client_id: client.client_id.clone(),
            client_secret: None,
            global: false,
            settings: ClientSettings::of(client, keys),
        }
    }
}
