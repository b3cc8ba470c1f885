//! A client: an application registered here, with what it may do.

use jiff::Timestamp;
use oauth::grant;
use oauth::redirect_uri::{ClientKind, RegisteredRedirectUri};
use seal::{Algorithm, SecretString, TokenKind, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Batch, Row, Statement, WriteError, params};

use crate::{Error, Fault, Reason, Refusal, Vault};

/// What kind of program a client is (contract 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppType {
    /// Installed on the user's device.
    Native,
    /// A machine without users of its own.
    NonInteractive,
    /// A web application with a server.
    RegularWeb,
    /// The client of an API, for exchanges of the access tokens that the API receives.
    ResourceServer,
    /// A program in the browser.
    Spa,
}

/// How a client authenticates at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rotation {
    /// It stays the same.
    #[serde(rename = "non-rotating")]
    NonRotating,
    /// Each use brings the next one.
    #[serde(rename = "rotating")]
    Rotating,
}

/// What a client's refresh tokens can do (contract 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshTokenPolicy {
    /// Whether they rotate.
    pub rotation_type: Rotation,
    /// Seconds for which a used one still brings its successor, once the successor was not used: a retry after a lost
    /// answer. At most 60.
    pub leeway: u64,
    /// Seconds from login until the last of a family ends.
    pub token_lifetime: u64,
    /// The other APIs that they are good for.
    pub policies: Vec<ResourcePolicy>,
}

impl Default for RefreshTokenPolicy {
    fn default() -> Self {
        Self {
            rotation_type: Rotation::NonRotating,
            leeway: 30,
            token_lifetime: 365 * 24 * 3600,
            policies: Vec::new(),
        }
    }
}

/// An API that a refresh token is good for beside the one it was issued for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePolicy {
    /// The API.
    pub audience: String,
    /// The scopes at most.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivilegedGrant {
    /// The connection's name.
    pub connection: String,
    /// The scopes at most.
    pub scopes: Vec<String>,
}

/// What a client's key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    /// `private_key_jwt`.
    ClientAuthentication,
    /// Worker requests.
    PrivilegedAccess,
}

impl KeyPurpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::ClientAuthentication => "client_authentication",
            Self::PrivilegedAccess => "privileged_access",
        }
    }
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
    /// Set while it may do nothing.
    pub disabled_at: Option<Timestamp>,
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
        }
    }
}

/// A client that has shown who it is. A public one has only said so.
#[derive(Debug, Clone)]
pub struct AuthenticatedClient {
    pub(crate) client: Client,
}

impl AuthenticatedClient {
    /// Who it is.
    pub fn client_id(&self) -> &str {
        &self.client.client_id
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

impl NewClient {
    fn check(&self) -> Result<(), Refusal> {
        let invalid = |text: String| Err(Refusal::new(Reason::InvalidBody).describe(text));
        if !(1..=150).contains(&self.name.chars().count())
            || self.name.chars().any(char::is_control)
        {
            return invalid("name: 1 to 150 characters.".to_owned());
        }
        if let Some(unknown) = self
            .grant_types
            .iter()
            .position(|grant_type| !grant::ALL.contains(&grant_type.as_str()))
        {
            return invalid(format!(
                "grant_types: entry {unknown} is not a grant type of this server."
            ));
        }
        for (field, uris) in [
            ("callbacks", &self.callbacks),
            ("allowed_logout_urls", &self.allowed_logout_urls),
        ] {
            for (index, uri) in uris.iter().enumerate() {
                if let Err(why) = RegisteredRedirectUri::parse(uri, kind_of(self.app_type)) {
                    return invalid(format!("{field}: entry {index}: {}", why.0));
                }
            }
        }
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            let is_origin = url::Url::parse(origin)
                .is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if !is_origin {
                return invalid(format!(
                    "allowed_origins: entry {index} is not scheme://host[:port]."
                ));
            }
        }
        if self.refresh_token.leeway > 60 || self.refresh_token.token_lifetime == 0 {
            return invalid(
                "refresh_token: leeway is at most 60, token_lifetime at least 1.".to_owned(),
            );
        }
        if self.token_endpoint_auth_method == TokenEndpointAuthMethod::None
            && (self.privileged_access.is_some() || self.may_use_confidential_grant())
        {
            return invalid(
                "A client without authentication cannot have this grant or privileged access."
                    .to_owned(),
            );
        }
        match &self.privileged_access {
            Some(access) => access.check(),
            None => Ok(()),
        }
    }

    fn may_use_confidential_grant(&self) -> bool {
        [
            grant::CLIENT_CREDENTIALS,
            grant::TOKEN_EXCHANGE,
            grant::TOKEN_VAULT,
        ]
        .iter()
        .any(|grant_type| self.grant_types.iter().any(|known| known == grant_type))
    }
}

impl PrivilegedAccess {
    /// The limits of contract 2.11.
    fn check(&self) -> Result<(), Refusal> {
        let invalid = |text: &'static str| Err(Refusal::new(Reason::InvalidBody).describe(text));
        let is_network = |entry: &String| {
            entry.parse::<std::net::IpAddr>().is_ok() || entry.parse::<ipnet::IpNet>().is_ok()
        };
        if self.ip_allowlist.len() > 10 || !self.ip_allowlist.iter().all(is_network) {
            return invalid("privileged_access.ip_allowlist: at most 10 addresses or CIDR ranges.");
        }
        let scopes: usize = self.grants.iter().map(|grant| grant.scopes.len()).sum();
        if self.grants.len() > 5 || scopes > 20 {
            return invalid(
                "privileged_access.grants: at most 5 connections and 20 scopes in all.",
            );
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
        new.check()?;
        let now = self.now();
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
            disabled_at: None,
        };
        let mut batch = Batch::new().with(insert(&client, now)?);
        let secret = match client.token_endpoint_auth_method {
            TokenEndpointAuthMethod::ClientSecretBasic
            | TokenEndpointAuthMethod::ClientSecretPost => {
                let minted = seal::mint(TokenKind::ClientSecret, self.entropy.as_ref(), &self.ring);
                batch = batch.with(
                    Statement::new(
                        "insert into client_secrets (id, client_id, hash, created_at) values ($1, $2, $3, $4)",
                        params![minted.id, client.client_id.as_str(), minted.hash, now],
                    )
                    .exactly(1),
                );
                Some(minted.token)
            }
            TokenEndpointAuthMethod::None | TokenEndpointAuthMethod::PrivateKeyJwt => None,
        };
        match self.db.write(batch).await {
            Ok(_) => Ok((client, secret)),
            Err(WriteError::UniqueViolation { .. }) => Err(Refusal::new(Reason::InvalidBody)
                .describe("resource_server_identifier: another client represents this API already.")
                .into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Registers a public key of a client and returns its `kid`: the one in the JWK, or its thumbprint.
    pub async fn create_client_key(
        &self,
        client_id: &str,
        purpose: KeyPurpose,
        algorithm: Algorithm,
        public_jwk: &Value,
        expires_at: Option<Timestamp>,
    ) -> Result<String, Error> {
        let key = VerifyingKey::from_jwk(public_jwk)
            .ok()
            .filter(|key| key.supports(algorithm))
            .ok_or_else(|| {
                Refusal::new(Reason::InvalidBody).describe(
                    "public_jwk: not a public key that this server accepts for the algorithm.",
                )
            })?;
        let kid = key.kid().map_or_else(|| key.thumbprint(), str::to_owned);
        let insert = Statement::new(
            "insert into client_keys (id, client_id, purpose, kid, alg, public_jwk, created_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            params![
                seal::random_id(self.entropy.as_ref(), "key_"),
                client_id,
                purpose.as_str(),
                kid.as_str(),
                algorithm.as_str(),
                // Only the public members, whatever the caller sent.
                key.to_jwk().to_string(),
                self.now(),
                expires_at,
            ],
        )
        .exactly(1);
        match self.db.write(Batch::new().with(insert)).await {
            Ok(_) => Ok(kid),
            Err(WriteError::UniqueViolation { .. }) => Err(Refusal::new(Reason::InvalidBody)
                .describe("kid: the client has a key of that name already.")
                .into()),
            Err(error) => Err(error.into()),
        }
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
         l.refresh_token, l.privileged_access, l.disabled_at"
    };
}

/// How many columns `client_columns` names.
pub(crate) const CLIENT_COLUMNS: usize = 14;

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

/// The client of an id with its secret of a lookup id, if it has that one.
pub(crate) fn with_secret_statement(client_id: &str, secret_id: &str, now: Timestamp) -> Statement {
    Statement::new(
        concat!(
            "select ",
            client_columns!(),
            ", s.hash
             from clients l
             left join client_secrets s
               on s.client_id = l.client_id and s.id = $2 and (s.expires_at is null or s.expires_at > $3)
             where l.client_id = $1"
        ),
        params![client_id, secret_id, now],
    )
}

/// The keys with which a client signs its assertions.
pub(crate) fn assertion_keys_statement(client_id: &str, now: Timestamp) -> Statement {
    Statement::new(
        "select kid, alg, public_jwk from client_keys
          where client_id = $1 and purpose = 'client_authentication' and (expires_at is null or expires_at > $2)
          order by created_at desc
          limit 10",
        params![client_id, now],
    )
}

pub(crate) fn from_row(row: &Row) -> Result<Client, Error> {
    let word = |index: usize, column: &'static str| -> Result<Value, Error> {
        row.text(index)
            .map(|text| Value::String(text.to_owned()))
            .map_err(|_| Fault::Internal(format!("clients.{column}")).into())
    };
    let algorithm = row.text(5)?;
    Ok(Client {
        client_id: row.text(0)?.to_owned(),
        name: row.text(1)?.to_owned(),
        app_type: serde_json::from_value(word(2, "app_type")?)?,
        is_first_party: row.bool(3)?,
        token_endpoint_auth_method: serde_json::from_value(word(4, "token_endpoint_auth_method")?)?,
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
    })
}

fn insert(client: &Client, now: Timestamp) -> Result<Statement, Error> {
    let word = |value: Result<Value, serde_json::Error>| -> Result<String, Error> {
        Ok(value?.as_str().unwrap_or_default().to_owned())
    };
    Ok(Statement::new(
        "insert into clients (client_id, name, app_type, is_first_party, token_endpoint_auth_method, id_token_alg,
                              grant_types, callbacks, allowed_logout_urls, allowed_origins,
                              resource_server_identifier, refresh_token, privileged_access, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)",
        params![
            client.client_id.as_str(),
            client.name.as_str(),
            word(serde_json::to_value(client.app_type))?,
            client.is_first_party,
            word(serde_json::to_value(client.token_endpoint_auth_method))?,
            client.id_token_alg.as_str(),
            serde_json::to_string(&client.grant_types)?,
            serde_json::to_string(&client.callbacks)?,
            serde_json::to_string(&client.allowed_logout_urls)?,
            serde_json::to_string(&client.allowed_origins)?,
            client.resource_server_identifier.as_deref(),
            serde_json::to_string(&client.refresh_token)?,
            client.privileged_access.as_ref().map(serde_json::to_string).transpose()?,
            now,
        ],
    )
    .exactly(1))
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
        new.check().is_err()
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
