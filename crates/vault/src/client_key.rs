//! A public key of a client: what it signs assertions or worker requests with (contract 4.1, credentials).
//!
//! A key serves one purpose at a time, so that a signature made for one can never be shown as the other.

use jiff::Timestamp;
use schemars::JsonSchema;
use seal::{Algorithm, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Batch, Row, Statement, WriteError, params};

use crate::document::wrong;
use crate::flow::authenticate_client::ALGORITHMS;
use crate::{Error, Fault, Reason, Refusal, Vault};

/// What a client's key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    /// `private_key_jwt`.
    ClientAuthentication,
    /// Worker requests.
    PrivilegedAccess,
    /// Registered, and for nothing yet.
    Unassigned,
}

impl KeyPurpose {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ClientAuthentication => "client_authentication",
            Self::PrivilegedAccess => "privileged_access",
            Self::Unassigned => "unassigned",
        }
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        [
            Self::ClientAuthentication,
            Self::PrivilegedAccess,
            Self::Unassigned,
        ]
        .into_iter()
        .find(|purpose| purpose.as_str() == text)
        .ok_or_else(|| Fault::Internal("client_keys.purpose".to_owned()))
    }
}

/// A registered key.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// `key_…`.
    pub id: String,
    /// Whose it is.
    pub client_id: String,
    /// What it is for.
    pub purpose: KeyPurpose,
    /// The header's `kid` of what it signs.
    pub kid: String,
    /// What it signs with.
    pub alg: Algorithm,
    /// What people read.
    pub name: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// The key itself (RFC 7517).
    pub public_jwk: Value,
}

/// A key to be registered (contract 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCredential {
    /// What people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub name: Option<String>,
    /// `public_key`; there are no others.
    #[serde(default)]
    pub credential_type: CredentialType,
    /// The public key or a certificate, in PEM.
    #[schemars(length(min = 1, max = 8192))]
    pub pem: String,
    /// What it signs with. Default: RS256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["EdDSA", "ES256", "ES384", "PS256", "PS384", "RS256", "RS384", null]))]
    pub alg: Option<String>,
    /// The `kid` of what it signs. Default: the key's thumbprint (RFC 7638).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-zA-Z_-]{10,64}$"))]
    pub kid: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether to take the end of the certificate in `pem`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parse_expiry_from_cert: bool,
}

/// What kind of credential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialType {
    /// A public key.
    #[default]
    PublicKey,
}

/// A key as the Management API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Credential")]
pub struct CredentialView {
    /// `key_…`.
    pub id: String,
    /// What people read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `public_key`.
    pub credential_type: CredentialType,
    /// The header's `kid`.
    pub kid: String,
    /// What it signs with.
    pub alg: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What can change of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialSettings {
    /// When it ends; null for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl ClientKey {
    /// What an administrator sees.
    pub fn view(&self) -> CredentialView {
        CredentialView {
            id: self.id.clone(),
            name: self.name.clone(),
            credential_type: CredentialType::PublicKey,
            kid: self.kid.clone(),
            alg: self.alg.as_str(),
            purpose: self.purpose.as_str(),
            created_at: self.created_at,
            expires_at: self.expires_at,
        }
    }
}

impl ClientKey {
    /// The document that would register it.
    pub(crate) fn credential(&self) -> Result<NewCredential, Error> {
        let key = VerifyingKey::from_jwk(&self.public_jwk)
            .map_err(|_| Fault::Internal("client_keys.public_jwk".to_owned()))?;
        credential_of(
            &key,
            self.name.clone(),
            self.alg,
            &self.kid,
            self.expires_at,
        )
    }
}

/// A key in the one form that it is written in: with all that follows from it said.
fn credential_of(
    key: &VerifyingKey,
    name: Option<String>,
    algorithm: Algorithm,
    kid: &str,
    expires_at: Option<Timestamp>,
) -> Result<NewCredential, Error> {
    let pem = key
        .to_public_pem()
        .map_err(|_| Fault::Internal("a public key that has no PEM".to_owned()))?;
    Ok(NewCredential {
        name,
        credential_type: CredentialType::PublicKey,
        pem,
        alg: Some(algorithm.as_str().to_owned()),
        kid: Some(kid.to_owned()),
        expires_at,
        parse_expiry_from_cert: false,
    })
}

impl NewCredential {
    /// The key in it, under its `kid`, with its end.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] points at `field` and below.
    pub(crate) fn parse(&self, field: &str) -> Result<ParsedCredential, Refusal> {
        let at = |name: &str| match field {
            "" => name.to_owned(),
            field => format!("{field}.{name}"),
        };
        let algorithm = match &self.alg {
            None => Algorithm::Rs256,
            Some(alg) => Algorithm::from_str(alg)
                .filter(|algorithm| ALGORITHMS.contains(algorithm))
                .ok_or_else(|| wrong(&at("alg"), "an algorithm that keys here may have"))?,
        };
        let key = VerifyingKey::from_public_pem(&self.pem, algorithm).map_err(|error| {
            wrong(
                &at("pem"),
                format!("a public key or certificate in PEM that fits alg ({error})"),
            )
        })?;
        let expires_at = if self.parse_expiry_from_cert {
            let end = seal::certificate_end(&self.pem)
                .ok_or_else(|| wrong(&at("pem"), "a certificate, for parse_expiry_from_cert"))?;
            Some(end)
        } else {
            self.expires_at
        };
        let kid = self.kid.clone().unwrap_or_else(|| key.thumbprint());
        Ok(ParsedCredential {
            name: self.name.clone(),
            key: key.with_kid(&kid),
            kid,
            algorithm,
            expires_at,
        })
    }
}

/// A [`NewCredential`] whose key was read.
pub(crate) struct ParsedCredential {
    name: Option<String>,
    key: VerifyingKey,
    kid: String,
    algorithm: Algorithm,
    expires_at: Option<Timestamp>,
}

impl ParsedCredential {
    /// The same credential, as [`ClientKey::credential`] would write it.
    pub(crate) fn credential(&self) -> Result<NewCredential, Error> {
        credential_of(
            &self.key,
            self.name.clone(),
            self.algorithm,
            &self.kid,
            self.expires_at,
        )
    }

    /// The row of a new key.
    pub(crate) fn insert(
        &self,
        id: &str,
        client_id: &str,
        purpose: KeyPurpose,
        now: Timestamp,
    ) -> Statement {
        Statement::new(
            "insert into client_keys (id, client_id, purpose, kid, alg, public_jwk, name, created_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            params![
                id,
                client_id,
                purpose.as_str(),
                self.kid.as_str(),
                self.algorithm.as_str(),
                // Only the public members, whatever the caller sent.
                self.key.to_jwk().to_string(),
                self.name.as_deref(),
                now,
                self.expires_at,
            ],
        )
        .exactly(1)
    }
}

impl Vault {
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
                wrong(
                    "public_jwk",
                    "a public key that this server accepts for the algorithm",
                )
            })?;
        let kid = key.kid().map_or_else(|| key.thumbprint(), str::to_owned);
        let parsed = ParsedCredential {
            name: None,
            key,
            kid: kid.clone(),
            algorithm,
            expires_at,
        };
        let id = seal::random_id(self.entropy.as_ref(), "key_");
        let insert = parsed.insert(&id, client_id, purpose, self.now());
        match self.db.write(Batch::new().with(insert)).await {
            Ok(_) => Ok(kid),
            Err(WriteError::UniqueViolation { .. }) => Err(kid_taken().into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A client has one key of a name and purpose.
pub(crate) fn kid_taken() -> Refusal {
    Refusal::new(Reason::AlreadyExists).describe("kid: the client has a key of that name already.")
}

// The columns of `client_keys`, in the order that `from_row` reads them.
macro_rules! client_key_columns {
    () => {
        "k.id, k.client_id, k.purpose, k.kid, k.alg, k.name, k.created_at, k.expires_at, k.public_jwk"
    };
}

/// The keys of the clients from one id to another, both included.
pub(crate) fn of_clients_statement(first: &str, last: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            client_key_columns!(),
            " from client_keys k where k.client_id >= $1 and k.client_id <= $2 order by k.client_id, k.created_at, k.id"
        ),
        params![first, last],
    )
}

/// All keys of all clients, the older ones first.
pub(crate) fn all_statement() -> Statement {
    Statement::new(
        concat!(
            "select ",
            client_key_columns!(),
            " from client_keys k order by k.client_id, k.created_at, k.id"
        ),
        params![],
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

/// Gives a client's key another purpose.
pub(crate) fn assign_statement(client_id: &str, id: &str, purpose: KeyPurpose) -> Statement {
    Statement::new(
        "update client_keys set purpose = $3 where client_id = $1 and id = $2",
        params![client_id, id, purpose.as_str()],
    )
    .exactly(1)
}

/// Changes what may change of a key.
pub(crate) fn update_statement(
    client_id: &str,
    id: &str,
    name: Option<&str>,
    expires_at: Option<Timestamp>,
) -> Statement {
    Statement::new(
        "update client_keys set name = $3, expires_at = $4 where client_id = $1 and id = $2",
        params![client_id, id, name, expires_at],
    )
    .exactly(1)
}

/// Changes a key's end.
pub(crate) fn set_end_statement(
    client_id: &str,
    id: &str,
    expires_at: Option<Timestamp>,
) -> Statement {
    Statement::new(
        "update client_keys set expires_at = $3 where client_id = $1 and id = $2",
        params![client_id, id, expires_at],
    )
    .exactly(1)
}

/// Deletes a key.
pub(crate) fn delete_statement(client_id: &str, id: &str) -> Statement {
    Statement::new(
        "delete from client_keys where client_id = $1 and id = $2",
        params![client_id, id],
    )
    .exactly(1)
}

pub(crate) fn from_row(row: &Row) -> Result<ClientKey, Error> {
    Ok(ClientKey {
        id: row.text(0)?.to_owned(),
        client_id: row.text(1)?.to_owned(),
        purpose: KeyPurpose::parse(row.text(2)?)?,
        kid: row.text(3)?.to_owned(),
        alg: Algorithm::from_str(row.text(4)?)
            .ok_or_else(|| Fault::Internal("client_keys.alg".to_owned()))?,
        name: row.opt_text(5)?.map(str::to_owned),
        created_at: row.timestamp(6)?,
        expires_at: row.opt_timestamp(7)?,
        public_jwk: serde_json::from_str(row.text(8)?)?,
    })
}
