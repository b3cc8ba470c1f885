//! A client: an application registered here, with what it may do.

use std::collections::BTreeMap;

use jiff::Timestamp;
use oauth::grant;
use oauth::redirect_uri::{ClientKind, RegisteredRedirectUri};
use schemars::JsonSchema;
use seal::{Algorithm, SecretString, TokenKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Batch, Row, Statement, WriteError, params};

use crate::account::column;
use crate::document::wrong;
use crate::token_set::after;
use crate::{Error, Fault, Reason, Refusal, Vault};

/// What kind of program a client is (contract 4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppType {
    /// Installed on the user's device.
    Native,
    /// A machine without users of its own.
    NonInteractive,
    /// A web application with a server.
    #[default]
    RegularWeb,
    /// The client of an API, for exchanges of the access tokens that the API receives.
    ResourceServer,
    /// A program in the browser.
    Spa,
}

/// How a client authenticates at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenEndpointAuthMethod {
    /// By a secret in `Authorization: Basic`; the body is accepted as well (contract 7.3).
    ClientSecretBasic,
    /// By a secret in the body; Basic is accepted as well (contract 7.3).
    ClientSecretPost,
    /// Not at all: a public client.
    None,
    /// By a signed assertion (RFC 7523).
    PrivateKeyJwt,
}

/// Whether a refresh token is replaced when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rotation {
    /// It stays the same.
    #[serde(rename = "non-rotating")]
    NonRotating,
    /// Each use brings the next one.
    #[serde(rename = "rotating")]
    Rotating,
}

/// Whether refresh tokens end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Expiration {
    /// After `token_lifetime`, or unused after `idle_token_lifetime`.
    #[default]
    #[serde(rename = "expiring")]
    Expiring,
    /// Never.
    #[serde(rename = "non-expiring")]
    NonExpiring,
}

/// What a client's refresh tokens can do (contract 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RefreshTokenSettings")]
pub struct RefreshTokenPolicy {
    /// Whether they rotate.
    pub rotation_type: Rotation,
    /// Whether they end.
    #[serde(default)]
    pub expiration_type: Expiration,
    /// Seconds for which a used one still brings its successor, once the successor was not used: a retry after a lost
    /// answer. At most 60.
    #[serde(default = "default_leeway")]
    #[schemars(range(max = 60))]
    pub leeway: u64,
    /// Seconds from login until the last of a family ends.
    #[serde(default = "default_lifetime")]
    #[schemars(range(min = 1, max = 3_153_600_000_u64))]
    pub token_lifetime: u64,
    /// Whether `token_lifetime` does not count.
    #[serde(default)]
    pub infinite_token_lifetime: bool,
    /// Seconds after which one that was not used ends.
    #[serde(default = "default_idle_lifetime")]
    #[schemars(range(min = 1, max = 3_153_600_000_u64))]
    pub idle_token_lifetime: u64,
    /// Whether `idle_token_lifetime` does not count.
    #[serde(default = "yes")]
    pub infinite_idle_token_lifetime: bool,
    /// The other APIs that they are good for.
    #[serde(default, deserialize_with = "list_or_null")]
    #[schemars(length(max = 50))]
    pub policies: Vec<ResourcePolicy>,
}

fn default_leeway() -> u64 {
    30
}

fn default_lifetime() -> u64 {
    365 * 24 * 3600
}

fn default_idle_lifetime() -> u64 {
    30 * 24 * 3600
}

fn yes() -> bool {
    true
}

/// Tools send null for an empty list (contract 4.1).
fn list_or_null<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ResourcePolicy>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Default for RefreshTokenPolicy {
    fn default() -> Self {
        Self {
            rotation_type: Rotation::NonRotating,
            expiration_type: Expiration::Expiring,
            leeway: default_leeway(),
            token_lifetime: default_lifetime(),
            infinite_token_lifetime: false,
            idle_token_lifetime: default_idle_lifetime(),
            infinite_idle_token_lifetime: true,
            policies: Vec::new(),
        }
    }
}

impl RefreshTokenPolicy {
    /// When a family ends that begins now.
    pub(crate) fn family_end(&self, now: Timestamp) -> Timestamp {
        if self.expiration_type == Expiration::NonExpiring || self.infinite_token_lifetime {
            return Timestamp::MAX;
        }
        after(now, self.token_lifetime)
    }

    /// When a token that is made or used now ends of idleness; None: it does not.
    pub(crate) fn idle_end(&self, now: Timestamp) -> Option<Timestamp> {
        if self.expiration_type == Expiration::NonExpiring || self.infinite_idle_token_lifetime {
            return None;
        }
        Some(after(now, self.idle_token_lifetime))
    }
}

/// An API that a refresh token is good for beside the one it was issued for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RefreshTokenResourcePolicy")]
pub struct ResourcePolicy {
    /// The API.
    #[schemars(length(min = 1, max = 600))]
    pub audience: String,
    /// The scopes at most.
    #[serde(default)]
    #[schemars(length(max = 250), inner(length(min = 1, max = 280)))]
    pub scope: Vec<String>,
}

/// What a client may do for users who are not there (contract 2.1, privileged worker).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivilegedAccess {
    /// Addresses and CIDR ranges that the client may call from; none: nowhere.
    pub ip_allowlist: Vec<String>,
    /// Connections with the scopes that the client may see there; none: nothing.
    pub grants: Vec<PrivilegedGrant>,
}

/// One connection of a [`PrivilegedAccess`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivilegedGrant {
    /// The connection's name.
    #[schemars(length(min = 1, max = 128))]
    pub connection: String,
    /// The scopes at most.
    #[serde(default)]
    #[schemars(length(max = 20), inner(length(min = 1, max = 255)))]
    pub scopes: Vec<String>,
}

/// A registered client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Ours to choose, so that it never looks like a user (threats R-19).
    pub client_id: String,
    /// What people read.
    pub name: String,
    /// What kind of program it is.
    pub app_type: AppType,
    /// Whether it belongs to whoever runs this deployment: no consent page, and exchanges allowed.
    pub is_first_party: bool,
    /// How it authenticates.
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// The algorithm of its ID tokens.
    pub id_token_alg: Algorithm,
    /// The grants it may use.
    pub grant_types: Vec<String>,
    /// Its redirect URIs.
    pub callbacks: Vec<String>,
    /// Where its users may be sent after logging out.
    pub allowed_logout_urls: Vec<String>,
    /// Origins beside those of its callbacks whose scripts may call the token endpoint.
    pub allowed_origins: Vec<String>,
    /// The API that it represents.
    pub resource_server_identifier: Option<String>,
    /// What its refresh tokens can do.
    pub refresh_token: RefreshTokenPolicy,
    /// What it may do for absent users.
    pub privileged_access: Option<PrivilegedAccess>,
    /// What people and their tools read of it, and later switches.
    pub profile: ClientProfile,
    /// Set while it may do nothing.
    pub disabled_at: Option<Timestamp>,
    /// Counts changes.
    pub revision: u64,
}

/// What people and their tools read of a client, and the switches that came later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientProfile {
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<String>,
    /// Free to use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub client_metadata: BTreeMap<String, String>,
    /// Seconds that its ID tokens live; 10 hours where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token_lifetime: Option<u64>,
    /// Whether it has to push its authorization requests (RFC 9126 §6).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub require_pushed_authorization_requests: bool,
    /// Set on clients of the days before OpenID Connect; they cannot exchange.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_oidc_conformant: bool,
    /// Whether browsers may call with cookies of ours; kept for tools, nothing here does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cross_origin_authentication: bool,
    /// Origins of silent logins; kept for tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub web_origins: Vec<String>,
}

/// What it takes to register a client.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// What people read: 1 to 150 characters.
    pub name: String,
    /// What kind of program it is.
    pub app_type: AppType,
    /// Whether it is one of ours.
    pub is_first_party: bool,
    /// How it authenticates.
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// The algorithm of its ID tokens.
    pub id_token_alg: Algorithm,
    /// The grants it may use.
    pub grant_types: Vec<String>,
    /// Its redirect URIs.
    pub callbacks: Vec<String>,
    /// Where its users may be sent after logging out.
    pub allowed_logout_urls: Vec<String>,
    /// Further origins of its scripts.
    pub allowed_origins: Vec<String>,
    /// The API that it represents.
    pub resource_server_identifier: Option<String>,
    /// What its refresh tokens can do.
    pub refresh_token: RefreshTokenPolicy,
    /// What it may do for absent users.
    pub privileged_access: Option<PrivilegedAccess>,
    /// What people and their tools read of it, and later switches.
    pub profile: ClientProfile,
}

impl Default for NewClient {
    fn default() -> Self {
        Self {
            name: String::new(),
            app_type: AppType::RegularWeb,
            is_first_party: true,
            token_endpoint_auth_method: TokenEndpointAuthMethod::ClientSecretPost,
            id_token_alg: Algorithm::Rs256,
            grant_types: Vec::new(),
            callbacks: Vec::new(),
            allowed_logout_urls: Vec::new(),
            allowed_origins: Vec::new(),
            resource_server_identifier: None,
            refresh_token: RefreshTokenPolicy::default(),
            privileged_access: None,
            profile: ClientProfile::default(),
        }
    }
}

impl Client {
    /// Whether the grant is enabled.
    pub fn may_use_grant(&self, grant_type: &str) -> bool {
        self.grant_types.iter().any(|known| known == grant_type)
    }

    /// Whether it can keep a secret.
    pub fn is_confidential(&self) -> bool {
        self.token_endpoint_auth_method != TokenEndpointAuthMethod::None
    }

    /// Whether an answer may go there.
    pub fn allows_redirect_uri(&self, requested: &str) -> bool {
        matches_any(&self.callbacks, self.kind(), requested)
    }

    /// Whether a user may be sent there after logging out.
    pub(crate) fn allows_logout_url(&self, requested: &str) -> bool {
        matches_any(&self.allowed_logout_urls, self.kind(), requested)
    }

    fn kind(&self) -> ClientKind {
        kind_of(self.app_type)
    }

    /// The client after a change; what names it stays.
    pub(crate) fn changed(&self, new: NewClient, disabled: bool, now: Timestamp) -> Self {
        Self {
            client_id: self.client_id.clone(),
            name: new.name,
            app_type: new.app_type,
            is_first_party: new.is_first_party,
            token_endpoint_auth_method: new.token_endpoint_auth_method,
            id_token_alg: new.id_token_alg,
            grant_types: new.grant_types,
            callbacks: new.callbacks,
            allowed_logout_urls: new.allowed_logout_urls,
            allowed_origins: new.allowed_origins,
            resource_server_identifier: self.resource_server_identifier.clone(),
            refresh_token: new.refresh_token,
            privileged_access: new.privileged_access,
            profile: new.profile,
            disabled_at: disabled.then(|| self.disabled_at.unwrap_or(now)),
            revision: self.revision,
        }
    }
}

fn kind_of(app_type: AppType) -> ClientKind {
    match app_type {
        AppType::Native => ClientKind::Native,
        _ => ClientKind::Web,
    }
}

fn matches_any(registered: &[String], kind: ClientKind, requested: &str) -> bool {
    registered
        .iter()
        .filter_map(|text| RegisteredRedirectUri::parse(text, kind).ok())
        .any(|registered| registered.matches(requested))
}

/// Rules that hold for a client as a whole. Each refusal points at its field, by the name that the Management API has for
/// it (contract 4.1).
pub(crate) fn check(client: &NewClient) -> Result<(), Refusal> {
    if !(1..=150).contains(&client.name.chars().count())
        || client.name.chars().any(char::is_control)
    {
        return Err(wrong("name", "1 to 150 characters"));
    }
    for (index, grant_type) in client.grant_types.iter().enumerate() {
        if !grant::ALL.contains(&grant_type.as_str()) {
            return Err(wrong(
                &format!("grant_types.{index}"),
                format!("one of: {}", grant::ALL.join(", ")),
            ));
        }
    }
    for (field, uris) in [
        ("callbacks", &client.callbacks),
        ("allowed_logout_urls", &client.allowed_logout_urls),
    ] {
        for (index, uri) in uris.iter().enumerate() {
            if let Err(why) = RegisteredRedirectUri::parse(uri, kind_of(client.app_type)) {
                return Err(wrong(&format!("{field}.{index}"), why.0));
            }
        }
    }
    for (field, origins) in [
        ("allowed_origins", &client.allowed_origins),
        ("web_origins", &client.profile.web_origins),
    ] {
        for (index, origin) in origins.iter().enumerate() {
            let is_origin = url::Url::parse(origin)
                .is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if !is_origin {
                return Err(wrong(&format!("{field}.{index}"), "scheme://host[:port]"));
            }
        }
    }
    if client.refresh_token.leeway > 60 {
        return Err(wrong("refresh_token.leeway", "at most 60"));
    }
    if client.refresh_token.token_lifetime == 0 {
        return Err(wrong("refresh_token.token_lifetime", "at least 1"));
    }
    if (client.app_type == AppType::ResourceServer) != client.resource_server_identifier.is_some() {
        return Err(wrong(
            "resource_server_identifier",
            "the identifier of an API, for app_type resource_server and no other",
        ));
    }
    let may = |grant_type: &str| client.grant_types.iter().any(|known| known == grant_type);
    if client.token_endpoint_auth_method == TokenEndpointAuthMethod::None {
        if client.privileged_access.is_some() {
            return Err(wrong(
                "token_vault_privileged_access",
                "only for clients that authenticate (token_endpoint_auth_method)",
            ));
        }
        if [
            grant::CLIENT_CREDENTIALS,
            grant::TOKEN_EXCHANGE,
            grant::TOKEN_VAULT,
        ]
        .into_iter()
        .any(may)
        {
            return Err(wrong(
                "grant_types",
                "client credentials and token exchange are only for clients that authenticate (token_endpoint_auth_method)",
            ));
        }
    }
    // Contract 1, row 17.
    if may(grant::TOKEN_VAULT) && !client.is_first_party {
        return Err(wrong(
            "is_first_party",
            "true, for a client with the Token Vault grant",
        ));
    }
    if may(grant::TOKEN_VAULT) && client.profile.not_oidc_conformant {
        return Err(wrong(
            "oidc_conformant",
            "true, for a client with the Token Vault grant",
        ));
    }
    match &client.privileged_access {
        Some(access) => access.check(),
        None => Ok(()),
    }
}

impl PrivilegedAccess {
    /// The limits of contract 2.11.
    fn check(&self) -> Result<(), Refusal> {
        if self.ip_allowlist.len() > 10 {
            return Err(wrong(
                "token_vault_privileged_access.ip_allowlist",
                "at most 10 entries",
            ));
        }
        for (index, entry) in self.ip_allowlist.iter().enumerate() {
            if entry.parse::<std::net::IpAddr>().is_err() && entry.parse::<ipnet::IpNet>().is_err()
            {
                return Err(wrong(
                    &format!("token_vault_privileged_access.ip_allowlist.{index}"),
                    "an IPv4 or IPv6 address or a CIDR range",
                ));
            }
        }
        let scopes: usize = self.grants.iter().map(|grant| grant.scopes.len()).sum();
        if self.grants.len() > 5 || scopes > 20 {
            return Err(wrong(
                "token_vault_privileged_access.grants",
                "at most 5 connections and 20 scopes in all",
            ));
        }
        for (index, grant) in self.grants.iter().enumerate() {
            if self
                .grants
                .iter()
                .take(index)
                .any(|other| other.connection == grant.connection)
            {
                return Err(wrong(
                    &format!("token_vault_privileged_access.grants.{index}.connection"),
                    "each connection once",
                ));
            }
        }
        Ok(())
    }
}

impl Vault {
    /// Registers a client; the secret, where it has one, is seen only here.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] names the field that is wrong.
    pub async fn create_client(
        &self,
        new: NewClient,
    ) -> Result<(Client, Option<SecretString>), Error> {
        let (client, statements, secret) = self.decide_registration(new, self.now())?;
        let batch = statements.into_iter().fold(Batch::new(), Batch::with);
        match self.db.write(batch).await {
            Ok(_) => Ok((client, secret)),
            Err(WriteError::UniqueViolation { .. }) => Err(represented_already().into()),
            Err(error) => Err(error.into()),
        }
    }

    /// A new client: what is written for it, and its secret where it needs one.
    pub(crate) fn decide_registration(
        &self,
        new: NewClient,
        now: Timestamp,
    ) -> Result<(Client, Vec<Statement>, Option<SecretString>), Error> {
        check(&new)?;
        let client = Client {
            client_id: seal::random_id(self.entropy.as_ref(), "cl_"),
            name: new.name,
            app_type: new.app_type,
            is_first_party: new.is_first_party,
            token_endpoint_auth_method: new.token_endpoint_auth_method,
            id_token_alg: new.id_token_alg,
            grant_types: new.grant_types,
            callbacks: new.callbacks,
            allowed_logout_urls: new.allowed_logout_urls,
            allowed_origins: new.allowed_origins,
            resource_server_identifier: new.resource_server_identifier,
            refresh_token: new.refresh_token,
            privileged_access: new.privileged_access,
            profile: new.profile,
            disabled_at: None,
            revision: 1,
        };
        let mut statements = vec![insert(&client, now)?];
        let mut secret = None;
        if client.uses_secret() {
            let (insert, made) = self.new_secret_statement(&client.client_id, now);
            statements.push(insert);
            secret = Some(made);
        }
        Ok((client, statements, secret))
    }

    /// A new secret of a client and the statement that keeps its hash.
    pub(crate) fn new_secret_statement(
        &self,
        client_id: &str,
        now: Timestamp,
    ) -> (Statement, SecretString) {
        let minted = seal::mint(TokenKind::ClientSecret, self.entropy.as_ref(), &self.ring);
        let insert = Statement::new(
            "insert into client_secrets (id, client_id, hash, created_at) values ($1, $2, $3, $4)",
            params![minted.id, client_id, minted.hash, now],
        )
        .exactly(1);
        (insert, minted.token)
    }

    /// The client of an id.
    pub async fn find_client(&self, client_id: &str) -> Result<Option<Client>, Error> {
        self.first(by_id_statement(client_id))
            .await?
            .as_ref()
            .map(from_row)
            .transpose()
    }

    /// Whether scripts of an origin may call the endpoints meant for browsers: it is one of a client's allowed
    /// origins, or the origin of one of its callbacks.
    pub async fn is_allowed_origin(&self, origin: &str) -> Result<bool, Error> {
        let is_origin = origin.len() <= 255
            && url::Url::parse(origin)
                .is_ok_and(|url| url.origin().ascii_serialization() == origin);
        if !is_origin {
            return Ok(false);
        }
        // Lists are JSON texts: an entry begins after a quote and ends with a quote, or goes on with a path.
        let escaped = origin
            .replace('\\', "\\\\")
            .replace('%', "\\%")
            .replace('_', "\\_");
        let row = self
            .db
            .read_one(
                "select client_id from clients
                  where disabled_at is null
                    and (allowed_origins like $1 escape '\\' or callbacks like $1 escape '\\'
                         or callbacks like $2 escape '\\')
                  limit 1",
                params![format!("%\"{escaped}\"%"), format!("%\"{escaped}/%")],
            )
            .await?;
        Ok(row.is_some())
    }
}

// The columns of `clients`, in the order that `from_row` reads them.
macro_rules! client_columns {
    () => {
        "l.client_id, l.name, l.app_type, l.is_first_party, l.token_endpoint_auth_method, l.id_token_alg,
         l.grant_types, l.callbacks, l.allowed_logout_urls, l.allowed_origins, l.resource_server_identifier,
         l.refresh_token, l.privileged_access, l.disabled_at, l.profile, l.revision"
    };
}

/// How many columns `client_columns` names.
pub(crate) const CLIENT_COLUMNS: usize = 16;

pub(crate) fn by_id_statement(client_id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            client_columns!(),
            " from clients l where l.client_id = $1"
        ),
        params![client_id],
    )
}

/// A client's secret, as the database has it.
#[derive(Clone)]
pub(crate) struct StoredSecret {
    hash: Vec<u8>,
    expires_at: Option<Timestamp>,
}

impl StoredSecret {
    /// From the columns that [`with_secret_statement`] adds; none where the client has no such secret.
    pub(crate) fn from_row(row: &Row) -> Result<Option<Self>, Error> {
        let Some(hash) = row.opt_blob(0)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            hash: hash.to_vec(),
            expires_at: row.opt_timestamp(1)?,
        }))
    }

    /// Its hash, until it ends.
    pub(crate) fn hash(&self, now: Timestamp) -> Option<&[u8]> {
        let is_over = self.expires_at.is_some_and(|end| end <= now);
        (!is_over).then_some(&*self.hash)
    }
}

/// The client of an id with its secret of a lookup id, if it has that one, and the configuration's mark.
pub(crate) fn with_secret_statement(client_id: &str, secret_id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            client_columns!(),
            ", s.hash, s.expires_at, (select m.mark from configuration_mark m)
             from clients l
             left join client_secrets s on s.client_id = l.client_id and s.id = $2
             where l.client_id = $1"
        ),
        params![client_id, secret_id],
    )
}

pub(crate) fn from_row(row: &Row) -> Result<Client, Error> {
    let stored = |index: usize, column: &'static str| -> Result<Value, Error> {
        row.text(index)
            .map(|text| Value::String(text.to_owned()))
            .map_err(|_| Fault::Internal(format!("clients.{column}")).into())
    };
    let algorithm = row.text(5)?;
    Ok(Client {
        client_id: row.text(0)?.to_owned(),
        name: row.text(1)?.to_owned(),
        app_type: serde_json::from_value(stored(2, "app_type")?)?,
        is_first_party: row.bool(3)?,
        token_endpoint_auth_method: serde_json::from_value(stored(
            4,
            "token_endpoint_auth_method",
        )?)?,
        id_token_alg: Algorithm::from_str(algorithm)
            .ok_or_else(|| Fault::Internal("clients.id_token_alg".to_owned()))?,
        grant_types: serde_json::from_str(row.text(6)?)?,
        callbacks: serde_json::from_str(row.text(7)?)?,
        allowed_logout_urls: serde_json::from_str(row.text(8)?)?,
        allowed_origins: serde_json::from_str(row.text(9)?)?,
        resource_server_identifier: row.opt_text(10)?.map(str::to_owned),
        refresh_token: serde_json::from_str(row.text(11)?)?,
        privileged_access: row.opt_text(12)?.map(serde_json::from_str).transpose()?,
        disabled_at: row.opt_timestamp(13)?,
        profile: serde_json::from_str(row.text(14)?)?,
        revision: u64::try_from(row.int(15)?)
            .map_err(|_| Fault::Internal("clients.revision".to_owned()))?,
    })
}

fn insert(client: &Client, now: Timestamp) -> Result<Statement, Error> {
    Ok(Statement::new(
        "insert into clients (client_id, name, app_type, is_first_party, token_endpoint_auth_method, id_token_alg,
                              grant_types, callbacks, allowed_logout_urls, allowed_origins,
                              resource_server_identifier, refresh_token, privileged_access, profile,
                              created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)",
        params![
            client.client_id.as_str(),
            client.name.as_str(),
            word(client.app_type)?,
            client.is_first_party,
            word(client.token_endpoint_auth_method)?,
            client.id_token_alg.as_str(),
            serde_json::to_string(&client.grant_types)?,
            serde_json::to_string(&client.callbacks)?,
            serde_json::to_string(&client.allowed_logout_urls)?,
            serde_json::to_string(&client.allowed_origins)?,
            client.resource_server_identifier.as_deref(),
            serde_json::to_string(&client.refresh_token)?,
            client.privileged_access.as_ref().map(serde_json::to_string).transpose()?,
            serde_json::to_string(&client.profile)?,
            now,
        ],
    )
    .exactly(1))
}

/// Writes what changed, where nobody else has changed the client since it was read.
pub(crate) fn update_statement(client: &Client, now: Timestamp) -> Result<Statement, Error> {
    Ok(Statement::new(
        "update clients
            set name = $3, app_type = $4, is_first_party = $5, token_endpoint_auth_method = $6, id_token_alg = $7,
                grant_types = $8, callbacks = $9, allowed_logout_urls = $10, allowed_origins = $11,
                refresh_token = $12, privileged_access = $13, profile = $14, disabled_at = $15,
                updated_at = $16, revision = revision + 1
          where client_id = $1 and revision = $2",
        params![
            client.client_id.as_str(),
            column(client.revision),
            client.name.as_str(),
            word(client.app_type)?,
            client.is_first_party,
            word(client.token_endpoint_auth_method)?,
            client.id_token_alg.as_str(),
            serde_json::to_string(&client.grant_types)?,
            serde_json::to_string(&client.callbacks)?,
            serde_json::to_string(&client.allowed_logout_urls)?,
            serde_json::to_string(&client.allowed_origins)?,
            serde_json::to_string(&client.refresh_token)?,
            client.privileged_access.as_ref().map(serde_json::to_string).transpose()?,
            serde_json::to_string(&client.profile)?,
            client.disabled_at,
            now,
        ],
    )
    .exactly(1))
}

/// Ends a client's secrets at an instant, those that do not end before.
pub(crate) fn end_secrets_statement(client_id: &str, at: Timestamp) -> Statement {
    Statement::new(
        "update client_secrets set expires_at = $2
          where client_id = $1 and (expires_at is null or expires_at > $2)",
        params![client_id, at],
    )
}

/// Deletes a client's secrets.
pub(crate) fn delete_secrets_statement(client_id: &str) -> Statement {
    Statement::new(
        "delete from client_secrets where client_id = $1",
        params![client_id],
    )
}

/// Only one client represents an API.
pub(crate) fn represented_already() -> Refusal {
    Refusal::new(Reason::AlreadyExists)
        .describe("resource_server_identifier: another client represents this API already.")
}

/// Deletes a client with everything that hangs on it.
pub(crate) fn delete_statement(client_id: &str) -> Statement {
    Statement::new(
        "delete from clients where client_id = $1",
        params![client_id],
    )
    .exactly(1)
}

/// All clients.
pub(crate) fn all_statement() -> Statement {
    Statement::new(
        concat!("select ", client_columns!(), " from clients l"),
        params![],
    )
}

/// Clients by id, one window.
pub(crate) fn list_statements() -> (&'static str, &'static str) {
    (
        concat!(
            "select ",
            client_columns!(),
            " from clients l
               where l.client_id > $1 and ($4 = '' or l.app_type = $4) and ($5 < 0 or l.is_first_party = $5)
               order by l.client_id limit $2 offset $3"
        ),
        "select count(*) from clients l where ($1 = '' or l.app_type = $1) and ($2 < 0 or l.is_first_party = $2)",
    )
}

/// The word of an enum that serde writes as one.
fn word<T: Serialize>(value: T) -> Result<String, Error> {
    match serde_json::to_value(value)? {
        Value::String(word) => Ok(word),
        _ => Err(Fault::Internal("an enum that is no word".to_owned()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut NewClient)) -> bool {
        let mut new = NewClient {
            name: "App".to_owned(),
            ..NewClient::default()
        };
        change(&mut new);
        check(&new).is_err()
    }

    #[test]
    fn a_registration_is_checked() {
        assert!(!refused(|_| {}));
        assert!(refused(|new| new.name.clear()));
        assert!(refused(|new| new.name = "a\nb".to_owned()));
        assert!(refused(|new| new.grant_types = vec!["password".to_owned()]));
        assert!(refused(
            |new| new.callbacks = vec!["http://app.example/".to_owned()]
        ));
        assert!(refused(
            |new| new.allowed_origins = vec!["https://app.example/".to_owned()]
        ));
        assert!(refused(|new| new.refresh_token.leeway = 61));
        assert!(refused(|new| {
            new.token_endpoint_auth_method = TokenEndpointAuthMethod::None;
            new.grant_types = vec![grant::TOKEN_VAULT.to_owned()];
        }));
        assert!(refused(|new| {
            new.privileged_access = Some(PrivilegedAccess {
                ip_allowlist: vec!["fe80::1%eth0".to_owned()],
                grants: vec![],
            });
        }));
    }
}
