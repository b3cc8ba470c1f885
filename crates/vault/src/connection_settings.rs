//! A connection as an administrator sets and sees it (contract 4.2).
//!
//! Options are read in the words of Auth0's strategies and in those of the standards, and answered in the words of the
//! strategy. A secret goes in and never comes out.

use std::collections::BTreeMap;

use provider::{ClientAuthentication, ConnectionOptions, RefreshClass};
use schemars::JsonSchema;
use seal::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::connection::Connection;
use crate::document::wrong;
use crate::{Error, Refusal};

/// What an administrator sets of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = example())]
pub struct ConnectionSettings {
    /// What clients call it.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z0-9._-]+$"), extend("x-immutable" = true))]
    pub name: String,
    /// Which provider it is: `tokenvault providers` lists them.
    #[schemars(length(min = 1, max = 64), extend("x-immutable" = true))]
    pub strategy: String,
    /// What people read. Default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))]
    pub display_name: Option<String>,
    /// How the provider knows this deployment, and what it is asked for.
    #[serde(default)]
    pub options: ConnectionOptionsSettings,
    /// Whether accounts may be connected and exchanged.
    #[serde(default)]
    pub connected_accounts: ConnectedAccountsSwitch,
    /// Kept for tools that set it: nobody logs in through a connection.
    #[serde(default)]
    pub authentication: Switch,
    /// Free to use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 10), inner(length(max = 255)))]
    pub metadata: BTreeMap<String, String>,
    /// Ids of the clients that may use it. Tools of today use `/connections/{id}/clients`.
    #[serde(default, skip_serializing)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 64)))]
    pub enabled_clients: Option<Vec<String>>,
    /// Of no meaning here. Taken from tools that send it.
    #[serde(default, skip_serializing)]
    #[schemars(length(max = 100), inner(length(max = 128)))]
    pub realms: Option<Vec<String>>,
    /// Of no meaning here. Taken from tools that send it.
    #[serde(default, skip_serializing)]
    pub is_domain_connection: Option<bool>,
    /// Of no meaning here: there are no login buttons. Taken from tools that send it.
    #[serde(default, skip_serializing)]
    pub show_as_button: Option<bool>,
}

/// A purpose of a connection that can be switched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Whether it is on.
    pub active: bool,
}

/// Whether and how accounts are connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectedAccountsSwitch {
    /// Whether accounts may be connected and exchanged.
    pub active: bool,
    /// Whether an account may be connected that the provider gives no id for; at most one a user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing_user_id: bool,
    /// Not built: false only.
    #[serde(default, skip_serializing)]
    #[schemars(extend("enum" = [false, null]))]
    pub cross_app_access: Option<bool>,
}

impl Default for ConnectedAccountsSwitch {
    fn default() -> Self {
        Self {
            active: true,
            allow_missing_user_id: false,
            cross_app_access: None,
        }
    }
}

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// With spaces between.
    One(#[schemars(length(max = 10_000))] String),
    /// A list.
    Many(#[schemars(length(max = 200), inner(length(min = 1, max = 280)))] Vec<String>),
}

impl OneOrMany {
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Self::One(text) => text
                .split([' ', ','])
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect(),
            Self::Many(words) => words.clone(),
        }
    }
}

/// A parameter that every authorization request gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamParameter {
    /// Its value. An `alias`, which takes it from the request, is not built.
    #[schemars(length(max = 2048))]
    pub value: String,
}

/// Auth0's place of the PKCE switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PkceSettings {
    /// `plain` is not built.
    #[schemars(extend("enum" = ["auto", "S256", "disabled"]))]
    pub pkce: String,
}

/// A provider's metadata, written down (OpenID Connect Discovery §3). Members that are not named here are of no meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderMetadata {
    issuer: Option<String>,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    userinfo_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    jwks_uri: Option<String>,
}

/// Options of a connection. What is absent comes from the strategy or from the provider's metadata.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "ConnectionOptions")]
pub struct ConnectionOptionsSettings {
    /// Our client id at the provider.
    #[schemars(length(min = 1, max = 1024))]
    pub client_id: String,
    /// Our client secret at the provider; for `private_key_jwt` the private key in PEM. It is never shown. Where a change
    /// of the options leaves it out, it stays; an address of the provider changes only together with it.
    #[serde(skip_serializing)]
    #[schemars(length(min = 1, max = 16384))]
    pub client_secret: Option<String>,
    /// The secret that is tried where the provider refuses the first, while one replaces the other. It is never shown.
    #[serde(skip_serializing)]
    #[schemars(length(min = 1, max = 16384))]
    pub next_client_secret: Option<String>,
    /// The scopes that are asked for where a connect request names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<OneOrMany>,
    /// Scopes beside those of `scope`, to which they are added.
    #[serde(skip_serializing)]
    pub freeform_scopes: Option<OneOrMany>,
    /// Values for the strategy's variables, such as `tenant` or `domain`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 20), inner(length(max = 1024)))]
    pub variables: BTreeMap<String, String>,

    /// Where people consent (`oauth2`).
    #[serde(rename = "authorizationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub authorization_url: Option<String>,
    /// Where codes and refresh tokens are redeemed (`oauth2`).
    #[serde(rename = "tokenURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub token_url: Option<String>,
    /// Where the provider says who a token belongs to (`oauth2`).
    #[serde(rename = "userInfoURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub user_info_url: Option<String>,

    /// The provider's issuer; its metadata is below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub issuer: Option<String>,
    /// The address of the provider's metadata, in place of its issuer.
    #[serde(skip_serializing)]
    #[schemars(
        length(max = 2048),
        regex(pattern = "/\\.well-known/openid-configuration$")
    )]
    pub discovery_url: Option<String>,
    /// The provider's metadata, in place of its address.
    #[serde(skip_serializing)]
    pub oidc_metadata: Option<ProviderMetadata>,
    /// Where people consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub authorization_endpoint: Option<String>,
    /// Where codes and refresh tokens are redeemed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub token_endpoint: Option<String>,
    /// Where the provider says who a token belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub userinfo_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub revocation_endpoint: Option<String>,
    /// The keys of ID tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub jwks_uri: Option<String>,
    /// How our client authenticates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["client_secret_basic", "client_secret_post", "none", "private_key_jwt", "secret_as_username", null]))]
    pub token_endpoint_auth_method: Option<ClientAuthentication>,
    /// `kid` of our public key at the provider, for `private_key_jwt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub signing_key_id: Option<String>,
    /// The SHA-256 thumbprint of our certificate (`x5t#S256`), for `private_key_jwt` at Entra ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub certificate_thumbprint: Option<String>,
    /// Whether PKCE is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkce: Option<bool>,
    /// Whether PKCE is used (`oauth2`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkce_enabled: Option<bool>,
    /// Auth0's place of the PKCE switch (`oidc`).
    #[serde(skip_serializing)]
    pub connection_settings: Option<PkceSettings>,
    /// What stands between scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub scope_separator: Option<String>,
    /// Parameters that every authorization request gets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50))]
    pub upstream_params: BTreeMap<String, UpstreamParameter>,
    /// The same, as texts.
    #[serde(skip_serializing, alias = "authParams")]
    #[schemars(extend("maxProperties" = 50), inner(length(max = 2048)))]
    pub authorization_params: BTreeMap<String, String>,
    /// Seconds that an access token lives when the provider does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub assumed_lifetime: Option<u64>,
    /// What refreshing does, where this application was set up otherwise than the strategy assumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["none", "renewal", "rotating", "stable", "unknown", null]))]
    pub refresh_class: Option<RefreshClass>,
    /// Seconds within which a used refresh token works once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 31_536_000))]
    pub replay_window: Option<u64>,
    /// The member of the userinfo answer that is the account's id, as a JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub user_id_pointer: Option<String>,

    /// `back_channel` is the only type. Taken from tools that send it.
    #[serde(rename = "type", skip_serializing)]
    #[schemars(extend("enum" = ["back_channel", null]))]
    pub kind: Option<String>,
    /// Programs are not run here, so this is null only: `userinfo_endpoint` and `user_id_pointer` say who an account is.
    #[serde(skip_serializing)]
    pub scripts: Option<()>,
    /// Of no meaning here. Taken from tools that send it.
    #[serde(skip_serializing)]
    #[schemars(length(max = 2048))]
    pub icon_url: Option<String>,
    /// Of no meaning here. Taken from tools that send it.
    #[serde(skip_serializing)]
    #[schemars(length(max = 64))]
    pub set_user_root_attributes: Option<String>,
    /// Of no meaning here. Taken from tools that send it.
    #[serde(rename = "useOauthSpecScope", skip_serializing)]
    pub use_oauth_spec_scope: Option<bool>,
    /// Of no meaning here: connections switch in `connected_accounts`. Taken from tools that send it.
    #[serde(skip_serializing)]
    pub federated_connections_access_tokens: Option<Switch>,
    /// The place of `connected_accounts` of older tools; the other one counts.
    #[serde(skip_serializing)]
    pub connected_accounts: Option<Switch>,
}

/// A connection as the Management API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Connection")]
pub struct ManagedConnectionView {
    /// `con_…`.
    pub id: String,
    /// The redirect URI to register at the provider. Not in lists: tools send back what those say, and it cannot be set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// The clients that may use it.
    pub enabled_clients: Vec<String>,
    /// What was set.
    #[serde(flatten)]
    pub settings: ConnectionSettings,
}

/// What the settings say, in the words of the heart.
pub(crate) struct ConnectionParts {
    pub(crate) client_id: String,
    pub(crate) secret: Option<SecretString>,
    pub(crate) next_secret: Option<SecretString>,
    pub(crate) scopes: Vec<String>,
    pub(crate) options: ConnectionOptions,
}

fn example() -> Value {
    json!({
        "name": "github",
        "strategy": "github",
        "options": { "client_id": "Iv1.0123456789abcdef", "client_secret": "…", "scope": ["repo"] },
    })
}

/// Auth0's switches of Google's scopes; each is the scope's last part with `_` for `.`, but for those that
/// [`google_scope`] knows.
const GOOGLE_SWITCHES: [&str; 38] = [
    "calendar",
    "calendar_addons_execute",
    "calendar_events",
    "calendar_events_readonly",
    "calendar_settings_readonly",
    "contacts",
    "contacts_other_readonly",
    "contacts_readonly",
    "directory_readonly",
    "drive",
    "drive_activity",
    "drive_activity_readonly",
    "drive_appdata",
    "drive_file",
    "drive_metadata",
    "drive_metadata_readonly",
    "drive_photos_readonly",
    "drive_readonly",
    "drive_scripts",
    "email",
    "gmail",
    "gmail_compose",
    "gmail_insert",
    "gmail_labels",
    "gmail_metadata",
    "gmail_modify",
    "gmail_readonly",
    "gmail_send",
    "gmail_settings_basic",
    "gmail_settings_sharing",
    "offline_access",
    "profile",
    "tasks",
    "tasks_readonly",
    "youtube",
    "youtube_channelmemberships_creator",
    "youtube_readonly",
    "youtube_upload",
];

/// The scope of a switch; None where the strategy asks for it by itself.
fn google_scope(switch: &str) -> Option<String> {
    match switch {
        "offline_access" => None,
        "email" | "profile" => Some(switch.to_owned()),
        "gmail" => Some("https://mail.google.com/".to_owned()),
        "youtube_channelmemberships_creator" => {
            Some("https://www.googleapis.com/auth/youtube.channel-memberships.creator".to_owned())
        }
        _ => Some(format!(
            "https://www.googleapis.com/auth/{}",
            switch.replace('_', ".")
        )),
    }
}

impl ConnectionSettings {
    /// Reads what tools say in other words: absent members are absent, and Google's switches are scopes.
    pub(crate) fn complete(body: &mut Map<String, Value>, strategy: &str) {
        body.retain(|_, value| !value.is_null());
        let Some(Value::Object(options)) = body.get_mut("options") else {
            return;
        };
        options.retain(|name, value| !value.is_null() || name == "scripts");
        if strategy != "google-oauth2" {
            return;
        }
        let mut switched: Vec<Value> = Vec::new();
        for switch in GOOGLE_SWITCHES {
            if options.get(switch).is_some_and(Value::is_boolean)
                && options.remove(switch) == Some(Value::Bool(true))
                && let Some(scope) = google_scope(switch)
            {
                switched.push(scope.into());
            }
        }
        options.remove("allowed_audiences");
        if switched.is_empty() {
            return;
        }
        match options.get_mut("scope") {
            Some(Value::Array(scopes)) => {
                switched.retain(|scope| !scopes.contains(scope));
                scopes.append(&mut switched);
            }
            Some(_) => {}
            None => {
                options.insert("scope".to_owned(), switched.into());
            }
        }
    }

    /// What is set of a connection; its secrets are not.
    pub(crate) fn of(connection: &Connection) -> Result<Self, Error> {
        let options = connection.options()?;
        let is_custom = connection.strategy == "oauth2";
        let standard = |url: &Option<String>| url.clone().filter(|_| !is_custom);
        let custom = |url: &Option<String>| url.clone().filter(|_| is_custom);
        Ok(Self {
            name: connection.name.clone(),
            strategy: connection.strategy.clone(),
            display_name: (connection.display_name != connection.name)
                .then(|| connection.display_name.clone()),
            options: ConnectionOptionsSettings {
                client_id: connection.client_id.clone(),
                scope: (!connection.scopes.is_empty())
                    .then(|| OneOrMany::Many(connection.scopes.clone())),
                authorization_url: custom(&options.authorization_endpoint),
                token_url: custom(&options.token_endpoint),
                user_info_url: custom(&options.userinfo_endpoint),
                authorization_endpoint: standard(&options.authorization_endpoint),
                token_endpoint: standard(&options.token_endpoint),
                userinfo_endpoint: standard(&options.userinfo_endpoint),
                pkce_enabled: options.pkce.filter(|_| is_custom),
                pkce: options.pkce.filter(|_| !is_custom),
                variables: options.variables,
                issuer: options.issuer,
                revocation_endpoint: options.revocation_endpoint,
                jwks_uri: options.jwks_uri,
                token_endpoint_auth_method: options.token_endpoint_auth_method,
                signing_key_id: options.signing_key_id,
                certificate_thumbprint: options.certificate_thumbprint,
                scope_separator: options.scope_separator,
                upstream_params: options
                    .authorization_params
                    .into_iter()
                    .map(|(name, value)| (name, UpstreamParameter { value }))
                    .collect(),
                assumed_lifetime: options.assumed_lifetime,
                refresh_class: options.refresh_class,
                replay_window: options.replay_window,
                user_id_pointer: options.user_id_pointer,
                ..ConnectionOptionsSettings::default()
            },
            connected_accounts: ConnectedAccountsSwitch {
                active: connection.connected_accounts_active,
                allow_missing_user_id: options.allow_missing_user_id,
                cross_app_access: None,
            },
            authentication: Switch {
                active: connection.authentication_active,
            },
            metadata: connection.metadata.clone(),
            enabled_clients: None,
            realms: None,
            is_domain_connection: None,
            show_as_button: None,
        })
    }

    /// What the settings say, in one way.
    ///
    /// # Errors
    /// [`crate::Reason::InvalidBody`] where they say one thing twice and differently.
    pub(crate) fn parts(&self, simulator: Option<String>) -> Result<ConnectionParts, Refusal> {
        let options = &self.options;
        let metadata = options.oidc_metadata.clone().unwrap_or_default();
        let discovered = options.discovery_url.as_ref().map(|url| {
            let issuer = url.strip_suffix(".well-known/openid-configuration");
            let issuer = issuer.unwrap_or(url);
            // An issuer is compared letter by letter; most have no slash at their end.
            issuer.strip_suffix('/').unwrap_or(issuer).to_owned()
        });
        let pkce_setting = options
            .connection_settings
            .as_ref()
            .and_then(|settings| match settings.pkce.as_str() {
                "S256" => Some(true),
                "disabled" => Some(false),
                _ => None,
            });
        let mut authorization_params = options.authorization_params.clone();
        for (name, parameter) in &options.upstream_params {
            authorization_params.insert(name.clone(), parameter.value.clone());
        }
        let mut scopes = options
            .scope
            .as_ref()
            .map(OneOrMany::words)
            .unwrap_or_default();
        for scope in options.freeform_scopes.iter().flat_map(OneOrMany::words) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let secret = |text: &Option<String>| text.clone().map(SecretString::new);
        Ok(ConnectionParts {
            client_id: options.client_id.clone(),
            secret: secret(&options.client_secret),
            next_secret: secret(&options.next_client_secret),
            scopes,
            options: ConnectionOptions {
                variables: options.variables.clone(),
                issuer: one("issuer", [&options.issuer, &metadata.issuer, &discovered])?,
                authorization_endpoint: one(
                    "authorization_endpoint",
                    [
                        &options.authorization_endpoint,
                        &options.authorization_url,
                        &metadata.authorization_endpoint,
                    ],
                )?,
                token_endpoint: one(
                    "token_endpoint",
                    [
                        &options.token_endpoint,
                        &options.token_url,
                        &metadata.token_endpoint,
                    ],
                )?,
                userinfo_endpoint: one(
                    "userinfo_endpoint",
                    [
                        &options.userinfo_endpoint,
                        &options.user_info_url,
                        &metadata.userinfo_endpoint,
                    ],
                )?,
                revocation_endpoint: one(
                    "revocation_endpoint",
                    [
                        &options.revocation_endpoint,
                        &metadata.revocation_endpoint,
                        &None,
                    ],
                )?,
                jwks_uri: one("jwks_uri", [&options.jwks_uri, &metadata.jwks_uri, &None])?,
                token_endpoint_auth_method: options.token_endpoint_auth_method,
                signing_key_id: options.signing_key_id.clone(),
                certificate_thumbprint: options.certificate_thumbprint.clone(),
                pkce: one(
                    "pkce",
                    [&options.pkce, &options.pkce_enabled, &pkce_setting],
                )?,
                scope_separator: options.scope_separator.clone(),
                authorization_params,
                assumed_lifetime: options.assumed_lifetime,
                refresh_class: options.refresh_class,
                replay_window: options.replay_window,
                user_id_pointer: options.user_id_pointer.clone(),
                allow_missing_user_id: self.connected_accounts.allow_missing_user_id,
                simulator,
            },
        })
    }
}

/// What is said in one of several places; in more than one only if it is the same.
fn one<T: Clone + PartialEq>(field: &str, places: [&Option<T>; 3]) -> Result<Option<T>, Refusal> {
    let mut said = places.into_iter().flatten();
    let first = said.next();
    if said.any(|other| Some(other) != first) {
        return Err(wrong(
            &format!("options.{field}"),
            "one value; the options say it in two places, and differently",
        ));
    }
    Ok(first.cloned())
}
