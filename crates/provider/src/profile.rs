//! A strategy: what is known of a provider before any connection to it exists. Data, one TOML file each.
//!
//! Every field has the meaning that its comment gives; `docs/providers.md` tells the same to people who write a file.
//! What stands in a file is checked as a whole by [`Profile::read`]: a placeholder nobody fills, an endpoint that is not
//! https, a variable that a stranger could point anywhere are errors that name the field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::identity::Reference;
use crate::template;

/// How a client shows its secret to the provider. Exactly one is ever used in a request (RFC 6749 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthentication {
    /// `Authorization: Basic`, both halves form-encoded first (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// In the body, whatever its format: a form, JSON or the query.
    ClientSecretPost,
    /// Only the client id.
    None,
    /// A JWT signed with the connection's private key (RFC 7523 §2.2), its audience the provider alone.
    PrivateKeyJwt,
    /// `Authorization: Basic` with the secret as the user name and no password, as Stripe has it.
    SecretAsUsername,
}

/// What a provider is like.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The strategy's name: the file's name.
    pub strategy: String,
    /// What people read.
    pub display_name: String,
    /// The provider's own page about this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub documentation: String,
    /// Where an application is registered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub registration: String,
    /// What to look out for when registering, in one to three sentences.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// Facts that no page of the provider was seen for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unverified: Vec<String>,
    /// Whether the endpoints come from the issuer's metadata (OpenID Connect Discovery 1.0).
    #[serde(default)]
    pub discovery: bool,
    /// The scopes of a connection that names none.
    #[serde(default)]
    pub default_scopes: Vec<String>,
    /// How the client authenticates where neither options nor metadata say.
    pub client_authentication: ClientAuthentication,
    /// For `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_assertion: Option<ClientAssertion>,
    /// What differs from tenant to tenant, by name. A `{name}` in an endpoint, a parameter or a header stands for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// Where the provider listens.
    #[serde(default)]
    pub endpoints: Endpoints,
    /// The authorization request.
    #[serde(default)]
    pub authorization: Authorization,
    /// The request that redeems a code; refreshing uses it too unless `refresh.request` is there.
    #[serde(default)]
    pub token: TokenRequest,
    /// A second request after a code was redeemed, to `endpoints.exchange`: its answer's access token takes the place of
    /// the first, as where a token of an hour is exchanged for one of 60 days. May hold `{access_token}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<TokenRequest>,
    /// What refreshing does.
    #[serde(default)]
    pub refresh: Refresh,
    /// Where things are in a token answer.
    #[serde(default)]
    pub answer: Answer,
    /// Who an account is.
    #[serde(default)]
    pub identity: IdentityCall,
    /// How a grant is given back.
    #[serde(default)]
    pub revocation: Revocation,
    /// What the provider's error codes mean, where the standard does not say or the provider means something else. A
    /// finer code (`answer.error_detail`) is looked up before `error`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub errors: BTreeMap<String, ErrorClass>,
    /// The provider's own API.
    #[serde(default)]
    pub api: Api,
    /// Rules that data cannot say, each by the name of its code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<Code>,
}

/// Rules that are code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The callback carries `hmac`, an HMAC-SHA-256 with the client secret over its other parameters (Shopify).
    ShopifyCallbackHmac,
}

/// The claims of a client assertion that a provider wants otherwise than RFC 7523 §3.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientAssertion {
    /// `iss`, where it is not the client id. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `aud`, where it is not the issuer or the token endpoint. A template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The algorithm. Default: RS256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
}

/// Something that differs from tenant to tenant or from account to account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// What it is and where people find it.
    pub description: String,
    /// Where it is learned.
    pub from: VariableSource,
    /// What it looks like.
    pub kind: VariableKind,
    /// The callback's query parameter, or the JSON pointer into the token answer. Default: the variable's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The value where nobody gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The only values there are. For a URL, its hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// How the value, or the host of a URL, must end, beginning with a dot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suffixes: Vec<String>,
    /// Whether it may stay unknown. A learned variable that is required and missing ends the connect flow.
    #[serde(default)]
    pub optional: bool,
}

/// Where a variable is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableSource {
    /// From the query of the provider's answer to the browser; kept with the account.
    Callback,
    /// From the connection's options.
    Configuration,
    /// From the token answer; kept with the account.
    TokenAnswer,
}

/// What a variable looks like; anything else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableKind {
    /// A DNS name.
    Host,
    /// One part of a DNS name, or of a path: letters, digits, hyphens and underscores.
    Label,
    /// 1 to 255 printable characters. Only after the host of an endpoint.
    Text,
    /// An https URL of a host, without query; a slash at its end is cut off.
    Url,
}

/// Where a provider listens. Each is an https URL and a template.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoints {
    /// `iss` of ID tokens, and of the answer to the browser where `authorization.iss` says so. A placeholder that is no
    /// variable is a claim of the ID token, as Entra's `{tid}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where people consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<String>,
    /// Where codes are redeemed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where the token of a code is exchanged for another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// Where refresh tokens are redeemed, where that is another place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// Where a grant is given back. May hold `{access_token}` and `{refresh_token}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<String>,
    /// RFC 7662.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introspection: Option<String>,
    /// Who an account is. May hold `{access_token}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userinfo: Option<String>,
    /// The keys of ID tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
}

/// The authorization request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// Parameters that every request has. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Our names for parameters, and the provider's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// Parameters that must not be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<String>,
    /// What stands between scopes.
    pub scope_separator: String,
    /// A second scope parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_scope: Option<SecondScope>,
    /// Whether PKCE (RFC 7636, S256) is used.
    pub pkce: bool,
    /// Whether a nonce is sent and expected in the ID token.
    pub nonce: bool,
    /// Whether the answer carries `iss` (RFC 9207), so that one without is not the provider's.
    pub iss: bool,
    /// The parameter of the answer that is the code.
    pub code_parameter: String,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            parameters: BTreeMap::new(),
            rename: BTreeMap::new(),
            omit: Vec::new(),
            scope_separator: " ".to_owned(),
            second_scope: None,
            pkce: true,
            nonce: false,
            iss: false,
            code_parameter: "code".to_owned(),
        }
    }
}

/// A second parameter for some of the scopes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondScope {
    /// The parameter.
    pub parameter: String,
    /// Scopes with this prefix go there, without it. It is how people and callers write them.
    pub prefix: String,
}

/// The format of a request's parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFormat {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// `application/json`, one object of texts.
    Json,
    /// In the query; no body.
    Query,
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// DELETE.
    Delete,
    /// GET.
    Get,
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

/// A request to a token endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenRequest {
    /// The method.
    pub method: HttpMethod,
    /// Where the parameters go.
    pub body: BodyFormat,
    /// Parameters that every request has; they win over the standard's own. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Our names for parameters, and the provider's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// Parameters that must not be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<String>,
    /// Further headers. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// What happens to a refresh token that is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshClass {
    /// There is none: when the access token ends, its user has to connect again.
    None,
    /// The access token itself is handed in for a later one.
    Renewal,
    /// A new one comes and the old one ends, at once or after `replay_window`.
    Rotating,
    /// It stays, or the old one stays good beside a new one: asking twice does no harm.
    Stable,
    /// Nobody knows; taken for rotating.
    #[default]
    Unknown,
}

/// Whether an access token for less can be had from the same refresh token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Downscope {
    /// No.
    #[default]
    None,
    /// One access token is good for one resource; `scope` on a refresh says which (Entra). The resource of a scope is
    /// what stands before its last slash.
    Resource,
    /// `scope` on a refresh narrows (RFC 6749 §6).
    Scope,
}

/// What refreshing does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Refresh {
    /// What happens to a used refresh token.
    pub class: RefreshClass,
    /// Seconds within which a used refresh token works once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_window: Option<u64>,
    /// Whether a refresh ends access tokens that were handed out, at once or soon: then there is no refresh before it is
    /// needed.
    pub invalidates_access_token: bool,
    /// Seconds of life that are left when the provider first allows a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// Seconds of life that are left when an access token counts as stale, where the deployment's margin is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<u64>,
    /// Seconds without a refresh after which the refresh token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_lifetime: Option<u64>,
    /// Seconds after the user's consent at which it ends whatever happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute_lifetime: Option<u64>,
    /// The most refreshes a minute and client id that the provider takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Whether the granted scopes are repeated in every refresh.
    pub repeat_scope: bool,
    /// Whether there are narrower tokens.
    pub downscope: Downscope,
    /// With `downscope = "resource"`: the resource of scopes that name none. Scopes without a slash that OpenID Connect
    /// defines (`openid`, `profile`, `email`, `offline_access`) belong to every resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_resource: Option<String>,
    /// The request, where it differs from the one that redeems a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<TokenRequest>,
}

/// Where things are in a token answer, as JSON pointers (RFC 6901). Several: the first that is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// What all other pointers begin at.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// A member of the whole answer that is `true` when it worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<String>,
    /// The provider's error code, anywhere in the whole answer. Its presence is a failure whatever the status says.
    pub error: Vec<String>,
    /// Values of `error` that are no error.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_error: Vec<String>,
    /// A finer code, anywhere in the whole answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_detail: Vec<String>,
    /// Whether a server error (5xx) with an error code means what it says.
    pub errors_are_server_errors: bool,
    /// The access token.
    pub access_token: Vec<String>,
    /// The refresh token.
    pub refresh_token: Vec<String>,
    /// The ID token.
    pub id_token: Vec<String>,
    /// What was granted: a text with spaces or commas, or a list.
    pub scope: Vec<String>,
    /// Whether `token_type` may say anything. Else it is `Bearer` or absent.
    pub any_token_type: bool,
    /// Seconds until the access token ends: a number, or a text that is one.
    pub expires_in: Vec<String>,
    /// The time at which it ends: seconds or milliseconds since 1970, or RFC 3339.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expires_at: Vec<String>,
    /// Seconds until the refresh token ends.
    pub refresh_token_expires_in: Vec<String>,
    /// The time at which it ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refresh_token_expires_at: Vec<String>,
    /// Seconds that an access token lives when the provider does not say; none: it has no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assumed_lifetime: Option<u64>,
    /// Whether the end is asked for at the introspection endpoint when the answer does not say.
    pub introspect_expiry: bool,
    /// Further tokens of the same grant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<FurtherToken>,
}

impl Default for Answer {
    fn default() -> Self {
        let at = |pointers: &[&str]| {
            pointers
                .iter()
                .map(|pointer| (*pointer).to_owned())
                .collect()
        };
        Self {
            root: String::new(),
            success: None,
            error: at(&["/error"]),
            no_error: Vec::new(),
            error_detail: Vec::new(),
            errors_are_server_errors: false,
            access_token: at(&["/access_token"]),
            refresh_token: at(&["/refresh_token"]),
            id_token: at(&["/id_token"]),
            scope: at(&["/scope"]),
            any_token_type: false,
            expires_in: at(&["/expires_in"]),
            expires_at: Vec::new(),
            refresh_token_expires_in: at(&["/refresh_token_expires_in", "/refresh_expires_in"]),
            refresh_token_expires_at: Vec::new(),
            assumed_lifetime: None,
            introspect_expiry: false,
            further: Vec::new(),
        }
    }
}

/// A further token of the same grant, such as Slack's user token beside its bot token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FurtherToken {
    /// Its name.
    pub name: String,
    /// What its pointers begin at, from the answer's root: access token, refresh token, scope and lifetime have their
    /// usual names below it.
    pub at: String,
    /// What its scopes begin with, as people and callers write them.
    pub scope_prefix: String,
}

/// How the provider is asked who an account is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityCall {
    /// The method of the userinfo request.
    pub method: HttpMethod,
    /// The header that carries the access token.
    pub header: String,
    /// What stands before the token in it; nothing where empty.
    pub scheme: String,
    /// Further headers. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A JSON body, for example a GraphQL query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The account's immutable id at the provider. Alternatives, the first that is there; `a+b` joins two with a colon.
    pub subject: Vec<Reference>,
    /// What people log in with there.
    pub login: Vec<Reference>,
    /// The e-mail address.
    pub email: Vec<Reference>,
    /// What the person is called.
    pub name: Vec<Reference>,
    /// The organisation, workspace, team or tenant that the account belongs to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organization: Vec<Reference>,
    /// What has to be so, else the account is not one of those that the connection is for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Requirement>,
    /// Whether an account without an id may be connected; at most one a user.
    pub allow_missing: bool,
}

/// A fact about an account that has to have a certain value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The fact.
    pub at: Reference,
    /// The value, whatever its case. A template.
    pub is: String,
}

impl Default for IdentityCall {
    fn default() -> Self {
        let at = |names: &[&str]| -> Vec<Reference> {
            names
                .iter()
                .filter_map(|name| Reference::parse(name))
                .collect()
        };
        Self {
            method: HttpMethod::Get,
            header: "Authorization".to_owned(),
            scheme: "Bearer".to_owned(),
            headers: BTreeMap::new(),
            json: None,
            subject: at(&[
                "id_token:/sub",
                "userinfo:/sub",
                "userinfo:/id",
                "userinfo:/user_id",
            ]),
            login: at(&[
                "id_token:/preferred_username",
                "userinfo:/preferred_username",
                "userinfo:/login",
                "userinfo:/username",
            ]),
            email: at(&["id_token:/email", "userinfo:/email"]),
            name: at(&["id_token:/name", "userinfo:/name", "userinfo:/display_name"]),
            organization: Vec::new(),
            required: Vec::new(),
            allow_missing: false,
        }
    }
}

/// Which token a revocation names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedToken {
    /// The access token.
    AccessToken,
    /// The refresh token where there is one, else the access token.
    #[default]
    RefreshToken,
}

/// Who a revocation request comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationAuthentication {
    /// The token that is revoked, as a bearer token.
    Bearer,
    /// The client, as at the token endpoint.
    #[default]
    Client,
    /// The client, by `Authorization: Basic`, whatever the token endpoint takes.
    ClientSecretBasic,
    /// Nobody: the token is enough.
    None,
}

/// How a grant is given back (RFC 7009, or what the provider has instead).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Revocation {
    /// The method.
    pub method: HttpMethod,
    /// Where the parameters go.
    pub body: BodyFormat,
    /// Which token is named.
    pub token: RevokedToken,
    /// The parameter that holds the token; empty where the URL or the authentication already does.
    pub parameter: String,
    /// Whether `token_type_hint` is sent.
    pub hint: bool,
    /// Further parameters. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Further headers. Templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Who asks.
    pub authentication: RevocationAuthentication,
    /// Error codes that say that there is nothing left to end, beside `invalid_grant` and `invalid_token`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Whether it ends the user's grant as a whole rather than one token.
    pub ends_grant: bool,
}

impl Default for Revocation {
    fn default() -> Self {
        Self {
            method: HttpMethod::Post,
            body: BodyFormat::Form,
            token: RevokedToken::RefreshToken,
            parameter: "token".to_owned(),
            hint: true,
            parameters: BTreeMap::new(),
            headers: BTreeMap::new(),
            authentication: RevocationAuthentication::Client,
            gone: Vec::new(),
            ends_grant: true,
        }
    }
}

/// What an error code of the provider means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Our client id, secret or configuration.
    ClientMisconfigured,
    /// Sent, and nobody knows what came of it.
    OutcomeUnknown,
    /// Nothing happened; try later.
    ProviderUnavailable,
    /// Too many requests.
    RateLimited,
    /// The user has to connect again.
    ReauthorizationRequired,
    /// The grant does not cover what was asked for.
    ScopeMissing,
}

/// The provider's API, for people who read `tokenvault providers show`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// The hosts at which the access token may be used. Templates; a leading `*.` stands for every name below.
    pub hosts: Vec<String>,
    /// How the token is sent there, where that is not `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Why a file is no profile. Names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProfile {
    /// Not TOML, an unknown field, a wrong type.
    #[error("{0}")]
    Toml(String),
    /// A rule that the types cannot say.
    #[error("{field}: {rule}")]
    Rule {
        /// The field, as it is written in the file.
        field: String,
        /// What is wrong with it.
        rule: String,
    },
}

impl Profile {
    /// Reads a file and checks it as a whole.
    ///
    /// # Errors
    /// [`InvalidProfile`], with the field's name.
    pub fn read(text: &str) -> Result<Self, InvalidProfile> {
        let profile: Self =
            toml::from_str(text).map_err(|error| InvalidProfile::Toml(error.to_string()))?;
        profile.check()?;
        Ok(profile)
    }

    /// Whether an ID token is to be expected and verified.
    pub(crate) fn has_id_token(&self) -> bool {
        self.discovery || self.endpoints.jwks.is_some()
    }

    /// The request that refreshes.
    pub(crate) fn refresh_request(&self) -> &TokenRequest {
        self.refresh.request.as_ref().unwrap_or(&self.token)
    }

    fn check(&self) -> Result<(), InvalidProfile> {
        let wrong = |field: &str, rule: &str| {
            Err(InvalidProfile::Rule {
                field: field.to_owned(),
                rule: rule.to_owned(),
            })
        };
        let is_name = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
                })
        };
        if !is_name(&self.strategy) {
            return wrong("strategy", "1 to 64 lower-case letters, digits and hyphens");
        }
        if self.display_name.is_empty() {
            return wrong("display_name", "is empty");
        }
        for (name, variable) in &self.variables {
            let field = format!("variables.{name}");
            if !is_name(name) || BUILT_IN.contains(&name.as_str()) {
                return wrong(&field, "is no name for a variable");
            }
            if variable
                .suffixes
                .iter()
                .any(|suffix| !suffix.starts_with('.') || suffix.len() < 3)
            {
                return wrong(&format!("{field}.suffixes"), "a suffix begins with a dot");
            }
            if let Some(default) = &variable.default
                && !variable.takes(default)
            {
                return wrong(&format!("{field}.default"), "is not a value of this kind");
            }
            if variable.from == VariableSource::TokenAnswer
                && variable.at.as_ref().is_some_and(|at| !at.starts_with('/'))
            {
                return wrong(
                    &format!("{field}.at"),
                    "is a JSON pointer for a token answer",
                );
            }
        }
        for (name, url) in self.endpoints.all() {
            if let Some(url) = url {
                self.check_endpoint(name, url)?;
            }
        }
        if !self.discovery {
            // Those of the custom strategies come from the connection's options.
            let own = self.endpoints.authorization.is_some() || self.endpoints.token.is_some();
            if own && (self.endpoints.authorization.is_none() || self.endpoints.token.is_none()) {
                return wrong("endpoints", "authorization and token belong together");
            }
        }
        let texts = [
            ("authorization.parameters", &self.authorization.parameters),
            ("token.parameters", &self.token.parameters),
            ("token.headers", &self.token.headers),
            ("identity.headers", &self.identity.headers),
            ("revocation.parameters", &self.revocation.parameters),
            ("revocation.headers", &self.revocation.headers),
        ];
        if self.exchange.is_some() != self.endpoints.exchange.is_some() {
            return wrong("exchange", "belongs together with endpoints.exchange");
        }
        for (name, text) in self.exchange.iter().flat_map(|request| &request.parameters) {
            self.check_template(&format!("exchange.parameters.{name}"), text)?;
        }
        for requirement in &self.identity.required {
            self.check_template("identity.required", &requirement.is)?;
        }
        let refresh = self.refresh.request.iter().flat_map(|request| {
            [
                ("refresh.request.parameters", &request.parameters),
                ("refresh.request.headers", &request.headers),
            ]
        });
        for (field, map) in texts.into_iter().chain(refresh) {
            for (name, text) in map {
                self.check_template(&format!("{field}.{name}"), text)?;
            }
        }
        if self.has_id_token() && !self.discovery && self.endpoints.issuer.is_none() {
            return wrong("endpoints.issuer", "is needed to verify ID tokens");
        }
        if self.authorization.nonce && !self.has_id_token() {
            return wrong(
                "authorization.nonce",
                "there is no ID token that could carry it",
            );
        }
        if self.answer.introspect_expiry && self.endpoints.introspection.is_none() {
            return wrong(
                "endpoints.introspection",
                "is needed by answer.introspect_expiry",
            );
        }
        let pointers = [
            &self.answer.error,
            &self.answer.error_detail,
            &self.answer.access_token,
            &self.answer.refresh_token,
            &self.answer.id_token,
            &self.answer.scope,
            &self.answer.expires_in,
            &self.answer.expires_at,
            &self.answer.refresh_token_expires_in,
            &self.answer.refresh_token_expires_at,
        ];
        let single = self
            .answer
            .success
            .iter()
            .chain(self.answer.further.iter().map(|further| &further.at))
            .chain(Some(&self.answer.root).filter(|root| !root.is_empty()));
        if !pointers
            .into_iter()
            .flatten()
            .chain(single)
            .all(|pointer| pointer.starts_with('/'))
        {
            return wrong("answer", "a JSON pointer begins with a slash");
        }
        if self
            .answer
            .further
            .iter()
            .any(|further| further.name.is_empty())
        {
            return wrong("answer.further.name", "is empty");
        }
        for (name, header) in [("identity.header", &self.identity.header)] {
            if http::HeaderName::try_from(header.as_str()).is_err() {
                return wrong(name, "is no header name");
            }
        }
        Ok(())
    }

    fn check_endpoint(&self, name: &str, text: &str) -> Result<(), InvalidProfile> {
        let field = format!("endpoints.{name}");
        let wrong = |rule: String| {
            Err(InvalidProfile::Rule {
                field: field.clone(),
                rule,
            })
        };
        let Some(placeholders) = template::placeholders(text) else {
            return wrong("a brace is left open".to_owned());
        };
        for placeholder in placeholders {
            if let Some(variable) = self.variables.get(placeholder) {
                let before = text
                    .split_once(&format!("{{{placeholder}}}"))
                    .map_or("", |(before, _)| before);
                if !template::in_authority(before) {
                    continue;
                }
                // It says where client secret and code go.
                let bounded = !variable.one_of.is_empty() || !variable.suffixes.is_empty();
                let followed =
                    text.split_once(&format!("{{{placeholder}}}"))
                        .is_some_and(|(_, after)| {
                            variable.kind == VariableKind::Label && after.starts_with('.')
                        });
                match (variable.from, variable.kind) {
                    (_, VariableKind::Text) => {
                        return wrong(format!(
                            "{{{placeholder}}} is a text and stands in the host"
                        ));
                    }
                    (VariableSource::Callback | VariableSource::TokenAnswer, _)
                        if !bounded && !followed =>
                    {
                        return wrong(format!(
                            "{{{placeholder}}} is learned from outside: it needs one_of or suffixes"
                        ));
                    }
                    _ => {}
                }
                continue;
            }
            let allowed = match name {
                "issuer" => true,
                "revocation" => BUILT_IN.contains(&placeholder),
                "userinfo" => matches!(placeholder, "access_token" | "client_id"),
                _ => false,
            };
            if !allowed {
                return wrong(format!("{{{placeholder}}} is no variable"));
            }
        }
        // Any value will do to see whether the rest is a URL.
        let stand_in = self
            .variables
            .iter()
            .map(|(name, variable)| {
                let value = match variable.kind {
                    VariableKind::Url => "https://v.example",
                    VariableKind::Host => "v.example",
                    VariableKind::Label | VariableKind::Text => "v",
                };
                (name.as_str(), value)
            })
            .chain(BUILT_IN.iter().map(|name| (*name, "v")))
            .chain(Some(("tid", "v")))
            .collect();
        let url = template::fill_url(text, &stand_in).and_then(|url| Url::parse(&url).ok());
        match url {
            Some(url) if url.scheme() == "https" && url.has_host() && url.fragment().is_none() => {
                Ok(())
            }
            _ => wrong("is not an https URL".to_owned()),
        }
    }

    fn check_template(&self, field: &str, text: &str) -> Result<(), InvalidProfile> {
        let wrong = |rule: String| {
            Err(InvalidProfile::Rule {
                field: field.to_owned(),
                rule,
            })
        };
        match template::placeholders(text) {
            None => wrong("a brace is left open".to_owned()),
            Some(names) => match names
                .into_iter()
                .find(|name| !self.variables.contains_key(*name) && !BUILT_IN.contains(name))
            {
                Some(name) => wrong(format!("{{{name}}} is neither a variable nor built in")),
                None => Ok(()),
            },
        }
    }
}

/// What every template may hold beside variables, where it is known.
pub(crate) const BUILT_IN: [&str; 7] = [
    "access_token",
    "client_id",
    "client_secret",
    "redirect_uri",
    "refresh_token",
    "scope",
    "state",
];

impl Endpoints {
    /// Every endpoint by its name.
    pub(crate) fn all(&self) -> [(&'static str, &Option<String>); 9] {
        [
            ("authorization", &self.authorization),
            ("exchange", &self.exchange),
            ("introspection", &self.introspection),
            ("issuer", &self.issuer),
            ("jwks", &self.jwks),
            ("refresh", &self.refresh),
            ("revocation", &self.revocation),
            ("token", &self.token),
            ("userinfo", &self.userinfo),
        ]
    }
}

impl Variable {
    /// Whether `value` is one that this variable may have.
    pub fn takes(&self, value: &str) -> bool {
        let label = |text: &str| {
            (1..=63).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let host = |text: &str| text.len() <= 253 && text.split('.').all(label);
        let compared = match self.kind {
            VariableKind::Label => label(value).then(|| value.to_ascii_lowercase()),
            VariableKind::Host => host(value).then(|| value.to_ascii_lowercase()),
            VariableKind::Text => {
                let fits = (1..=255).contains(&value.chars().count())
                    && !value.chars().any(char::is_control);
                fits.then(|| value.to_owned())
            }
            VariableKind::Url => Url::parse(value).ok().and_then(|url| {
                let plain = url.scheme() == "https"
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && value.len() <= 512;
                url.host_str()
                    .filter(|_| plain)
                    .map(str::to_ascii_lowercase)
            }),
        };
        compared.is_some_and(|value| {
            let listed = self.one_of.is_empty() && self.suffixes.is_empty()
                || self
                    .one_of
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(&value))
                || self
                    .suffixes
                    .iter()
                    .any(|suffix| value.len() > suffix.len() && value.ends_with(suffix.as_str()));
            listed && !value.is_empty()
        })
    }

    /// The value as it is kept and put into templates.
    pub(crate) fn normal(&self, value: &str) -> String {
        match self.kind {
            VariableKind::Url => value.trim_end_matches('/').to_owned(),
            VariableKind::Host | VariableKind::Label | VariableKind::Text => value.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
        strategy = "shop"
        display_name = "Shop"
        client_authentication = "client_secret_post"
        [variables.shop]
        description = "The shop's name"
        from = "callback"
        kind = "host"
        suffixes = [".shop.example"]
        [endpoints]
        authorization = "https://shop.example/authorize"
        token = "https://{shop}/token"
    "#;

    #[test]
    fn a_file_is_read_with_its_defaults() {
        let profile = Profile::read(SHOP).unwrap();
        assert!(profile.authorization.pkce);
        assert_eq!(profile.authorization.scope_separator, " ");
        assert_eq!(profile.answer.access_token, ["/access_token"]);
        assert_eq!(profile.refresh.class, RefreshClass::Unknown);
    }

    #[test]
    fn what_a_stranger_could_point_anywhere_is_refused() {
        for (from, to, field) in [
            ("suffixes = [\".shop.example\"]", "", "endpoints.token"),
            ("kind = \"host\"", "kind = \"text\"", "endpoints.token"),
            (
                "https://{shop}/token",
                "http://{shop}/token",
                "endpoints.token",
            ),
            (
                "https://{shop}/token",
                "https://{store}/token",
                "endpoints.token",
            ),
            (
                "https://{shop}/token",
                "https://{shop/token",
                "endpoints.token",
            ),
            (
                "suffixes = [\".shop.example\"]",
                "suffixes = [\"shop.example\"]",
                "variables.shop.suffixes",
            ),
            ("strategy = \"shop\"", "strategy = \"Shop\"", "strategy"),
        ] {
            let error = Profile::read(&SHOP.replace(from, to)).unwrap_err();
            assert!(
                matches!(&error, InvalidProfile::Rule { field: found, .. } if found == field),
                "{to}: {error}"
            );
        }
        let error = Profile::read(&format!("{SHOP}\n[endpoint]\n")).unwrap_err();
        assert!(matches!(error, InvalidProfile::Toml(_)), "{error}");
    }

    #[test]
    fn variables_take_what_their_kind_allows() {
        let variable = |kind, one_of: &[&str], suffixes: &[&str]| Variable {
            description: String::new(),
            from: VariableSource::Callback,
            kind,
            at: None,
            default: None,
            one_of: one_of.iter().map(|text| (*text).to_owned()).collect(),
            suffixes: suffixes.iter().map(|text| (*text).to_owned()).collect(),
            optional: false,
        };
        let shop = variable(VariableKind::Host, &[], &[".shop.example"]);
        for (value, expected) in [
            ("acme.shop.example", true),
            ("ACME.shop.example", true),
            (".shop.example", false),
            ("acme.shop.example.evil.com", false),
            ("evil.com/.shop.example", false),
            ("evil.com#.shop.example", false),
            ("a@b.shop.example", false),
            ("a:443.shop.example", false),
            ("", false),
        ] {
            assert_eq!(shop.takes(value), expected, "{value}");
        }
        let server = variable(
            VariableKind::Url,
            &["accounts.zoho.com", "accounts.zoho.eu"],
            &[],
        );
        for (value, expected) in [
            ("https://accounts.zoho.eu", true),
            ("https://accounts.zoho.eu/", true),
            ("http://accounts.zoho.eu", false),
            ("https://accounts.zoho.eu.evil.com", false),
            ("https://evil.com/accounts.zoho.eu", false),
            ("https://accounts.zoho.eu@evil.com", false),
        ] {
            assert_eq!(server.takes(value), expected, "{value}");
        }
        let label = variable(VariableKind::Label, &[], &[]);
        assert!(label.takes("my-tenant_1"));
        assert!(!label.takes("a.b") && !label.takes("a/b") && !label.takes(""));
    }
}
