//! An API: a resource server registered here. Its identifier is the `aud` of the access tokens for it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use oauth::scope::Scope;
use schemars::JsonSchema;
use seal::Algorithm;
use serde::{Deserialize, Serialize};
use store::{Batch, Row, Statement, WriteError, params};

use crate::document::wrong;
use crate::{Error, Fault, Reason, Refusal, Settings, Vault};

/// Seconds that an access token may live: thirty days.
const MOST_TOKEN_LIFETIME: u64 = 30 * 24 * 3600;

/// Who may have tokens for an API (contract 4.3, `subject_type_authorization`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessPolicy {
    /// Everybody, all scopes.
    AllowAll,
    /// Nobody.
    DenyAll,
    /// Clients with a client grant, the scopes in it.
    RequireClientGrant,
}

impl AccessPolicy {
    fn as_str(self) -> &'static str {
        match self {
            Self::AllowAll => "allow_all",
            Self::DenyAll => "deny_all",
            Self::RequireClientGrant => "require_client_grant",
        }
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        [Self::AllowAll, Self::DenyAll, Self::RequireClientGrant]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| Fault::Internal(format!("apis: policy '{text}'")))
    }
}

/// A scope of an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ApiScope {
    /// The word (RFC 6749 §3.3).
    #[schemars(length(max = 280), regex(pattern = "^[\\x21\\x23-\\x5b\\x5d-\\x7e]+$"))]
    pub value: String,
    /// What people read about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 500))]
    pub description: String,
}

impl From<&str> for ApiScope {
    fn from(value: &str) -> Self {
        Self {
            value: value.to_owned(),
            description: String::new(),
        }
    }
}

/// A registered API.
#[derive(Debug, Clone)]
pub struct Api {
    /// `api_…`.
    pub id: String,
    /// The audience.
    pub identifier: String,
    /// What people read.
    pub name: String,
    /// Its scopes.
    pub scopes: Vec<ApiScope>,
    /// The algorithm of its access tokens.
    pub signing_alg: Algorithm,
    /// Seconds that its access tokens live.
    pub token_lifetime: u64,
    /// Whether refresh tokens may be issued for it.
    pub allow_offline_access: bool,
    /// Whether first-party clients need no consent for it.
    pub skip_consent: bool,
    /// Who may have tokens for users.
    pub user_policy: AccessPolicy,
    /// Who may have tokens for themselves.
    pub client_policy: AccessPolicy,
    /// Counts its changes.
    pub(crate) revision: u64,
}

/// What it takes to register an API.
#[derive(Debug, Clone)]
pub struct NewApi {
    /// The audience: 1 to 255 printable characters, best an https URL.
    pub identifier: String,
    /// What people read.
    pub name: String,
    /// Its scopes.
    pub scopes: Vec<ApiScope>,
    /// The algorithm of its access tokens; the deployment's where none is named.
    pub signing_alg: Option<Algorithm>,
    /// Seconds that its access tokens live.
    pub token_lifetime: u64,
    /// Whether refresh tokens may be issued for it.
    pub allow_offline_access: bool,
    /// Whether first-party clients need no consent for it.
    pub skip_consent: bool,
    /// Who may have tokens for users.
    pub user_policy: AccessPolicy,
    /// Who may have tokens for themselves.
    pub client_policy: AccessPolicy,
}

impl Default for NewApi {
    fn default() -> Self {
        Self {
            identifier: String::new(),
            name: String::new(),
            scopes: Vec::new(),
            signing_alg: None,
            token_lifetime: 24 * 3600,
            allow_offline_access: true,
            skip_consent: true,
            user_policy: AccessPolicy::AllowAll,
            client_policy: AccessPolicy::RequireClientGrant,
        }
    }
}

impl Api {
    /// All of its scopes.
    pub(crate) fn all_scopes(&self) -> Scope {
        self.scopes
            .iter()
            .map(|scope| scope.value.clone())
            .collect()
    }

    /// What people read about a scope.
    pub(crate) fn description_of(&self, scope: &str) -> &str {
        self.scopes
            .iter()
            .find(|known| known.value == scope)
            .map_or("", |known| known.description.as_str())
    }
}

impl Vault {
    /// Registers an API.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] names the field that is wrong; [`Reason::AlreadyExists`].
    pub async fn create_api(&self, new: NewApi) -> Result<Api, Error> {
        let (api, insert) = self.decide_registration_of_api(new)?;
        self.db
            .write(Batch::new().with(insert))
            .await
            .map_err(identifier_taken)?;
        Ok(api)
    }

    /// Decides a new API; its row is refused where there is one of the identifier.
    pub(crate) fn decide_registration_of_api(
        &self,
        new: NewApi,
    ) -> Result<(Api, Statement), Error> {
        let is_identifier = (1..=255).contains(&new.identifier.len())
            && new.identifier.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_identifier {
            return Err(wrong("identifier", "1 to 255 printable characters without spaces").into());
        }
        check_scopes(&new.scopes)?;
        let api = Api {
            id: seal::random_id(self.entropy.as_ref(), "api_"),
            identifier: new.identifier,
            name: new.name,
            scopes: new.scopes,
            signing_alg: new.signing_alg.unwrap_or(self.settings.access_token_alg),
            token_lifetime: new.token_lifetime.clamp(1, MOST_TOKEN_LIFETIME),
            allow_offline_access: new.allow_offline_access,
            skip_consent: new.skip_consent,
            user_policy: new.user_policy,
            client_policy: new.client_policy,
            revision: 1,
        };
        let insert = insert(&api, self.now())?.exactly(1);
        Ok((api, insert))
    }

    /// The API of an identifier.
    pub async fn find_api(&self, identifier: &str) -> Result<Option<Api>, Error> {
        self.first(by_identifier_statement(identifier))
            .await?
            .as_ref()
            .map(from_row)
            .transpose()
    }

    /// Makes the APIs that every deployment has: My Account and Management. Their scopes are this program's to say.
    /// Several nodes may do it at once.
    pub(crate) async fn ensure_own_apis(&self) -> Result<(), Error> {
        let mut batch = Batch::new();
        for mut api in own_apis(&self.settings) {
            api.id = seal::random_id(self.entropy.as_ref(), "api_");
            let scopes = serde_json::to_string(&api.scopes)?;
            batch = batch.with(insert(&api, self.now())?).with(Statement::new(
                "update apis set scopes = $2 where identifier = $1 and scopes <> $2",
                params![api.identifier, scopes],
            ));
        }
        self.db.write(batch).await?;
        Ok(())
    }
}

fn own_apis(settings: &Settings) -> [Api; 2] {
    let scopes = |words: &[(&str, &str)]| {
        words
            .iter()
            .map(|(value, description)| ApiScope {
                value: (*value).to_owned(),
                description: (*description).to_owned(),
            })
            .collect()
    };
    let my_account = Api {
        id: String::new(),
        identifier: settings.issuer.me_audience(),
        name: "My Account".to_owned(),
        scopes: scopes(&[
            ("create:me:connected_accounts", "Connect accounts for you"),
            ("delete:me:connected_accounts", "Disconnect your accounts"),
            (
                "read:me:connected_accounts",
                "See which accounts you have connected",
            ),
        ]),
        signing_alg: settings.access_token_alg,
        token_lifetime: 24 * 3600,
        allow_offline_access: true,
        skip_consent: true,
        user_policy: AccessPolicy::RequireClientGrant,
        // A client without a user has no account (contract 1, row 19).
        client_policy: AccessPolicy::DenyAll,
        revision: 1,
    };
    let management = Api {
        identifier: settings.issuer.management_audience(),
        name: "Management".to_owned(),
        scopes: scopes(crate::administrator::MANAGEMENT_SCOPES),
        allow_offline_access: false,
        skip_consent: false,
        user_policy: AccessPolicy::DenyAll,
        client_policy: AccessPolicy::RequireClientGrant,
        ..my_account.clone()
    };
    [my_account, management]
}

// The columns of `apis`, in the order that `from_row` reads them.
macro_rules! api_columns {
    () => {
        "p.identifier, p.name, p.scopes, p.signing_alg, p.token_lifetime, p.allow_offline_access, p.skip_consent,
         p.user_policy, p.client_policy, p.id, p.revision"
    };
}

pub(crate) fn by_identifier_statement(identifier: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            api_columns!(),
            " from apis p where p.identifier = $1"
        ),
        params![identifier],
    )
}

pub(crate) fn from_row(row: &Row) -> Result<Api, Error> {
    Ok(Api {
        identifier: row.text(0)?.to_owned(),
        name: row.text(1)?.to_owned(),
        scopes: serde_json::from_str(row.text(2)?)?,
        signing_alg: Algorithm::from_str(row.text(3)?)
            .ok_or_else(|| Fault::Internal("apis.signing_alg".to_owned()))?,
        token_lifetime: u64::try_from(row.int(4)?)
            .map_err(|_| Fault::Internal("apis.token_lifetime".to_owned()))?,
        allow_offline_access: row.bool(5)?,
        skip_consent: row.bool(6)?,
        user_policy: AccessPolicy::parse(row.text(7)?)?,
        client_policy: AccessPolicy::parse(row.text(8)?)?,
        id: row.text(9)?.to_owned(),
        revision: u64::try_from(row.int(10)?)
            .map_err(|_| Fault::Internal("apis.revision".to_owned()))?,
    })
}

/// Refuses scopes that are none, and one that stands twice.
pub(crate) fn check_scopes(scopes: &[ApiScope]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for (index, scope) in scopes.iter().enumerate() {
        let field = format!("scopes.{index}.value");
        let is_word = Scope::parse(&scope.value).is_ok_and(|parsed| parsed.iter().count() == 1);
        if !is_word {
            return Err(wrong(&field, "one word").into());
        }
        if !seen.insert(&scope.value) {
            return Err(wrong(&field, "a scope that does not stand there already").into());
        }
    }
    Ok(())
}

/// What a unique index refused.
pub(crate) fn identifier_taken(error: WriteError) -> Error {
    match error {
        WriteError::Expectation { .. } | WriteError::UniqueViolation { .. } => {
            Refusal::new(Reason::AlreadyExists)
                .describe("identifier: there is an API of that identifier already.")
                .into()
        }
        error => error.into(),
    }
}

// The client that represents an API, after the columns of the API.
macro_rules! represented_by {
    () => {
        ", (select min(l.client_id) from clients l where l.resource_server_identifier = p.identifier) from apis p "
    };
}

/// APIs with the clients that represent them, by identifier, one window. Filters: whether only some identifiers are
/// wanted, and which ten.
pub(crate) fn list_statements() -> (&'static str, &'static str) {
    (
        concat!(
            "select ",
            api_columns!(),
            represented_by!(),
            "where p.identifier > $1
               and ($4 = 0 or p.identifier in ($5, $6, $7, $8, $9, $10, $11, $12, $13, $14))
             order by p.identifier limit $2 offset $3"
        ),
        "select count(*) from apis p
          where ($1 = 0 or p.identifier in ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11))",
    )
}

/// All APIs, by identifier.
pub(crate) fn all_statement() -> Statement {
    Statement::new(
        concat!(
            "select ",
            api_columns!(),
            " from apis p order by p.identifier"
        ),
        params![],
    )
}

/// The API of an id or an identifier, with the client that represents it.
pub(crate) fn named_statement(name: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            api_columns!(),
            represented_by!(),
            "where p.id = $1 or p.identifier = $1"
        ),
        params![name],
    )
}

/// The client that represents an API, of a row that has it.
pub(crate) fn represented_by(row: &Row) -> Result<Option<String>, Error> {
    Ok(row.opt_text(11)?.map(str::to_owned))
}

/// Writes what changed, where nobody else has changed the API since it was read.
pub(crate) fn update_statement(api: &Api, now: Timestamp) -> Result<Statement, Error> {
    Ok(Statement::new(
        "update apis
            set name = $3, scopes = $4, signing_alg = $5, token_lifetime = $6, allow_offline_access = $7,
                skip_consent = $8, user_policy = $9, client_policy = $10, updated_at = $11, revision = revision + 1
          where identifier = $1 and revision = $2",
        params![
            api.identifier.as_str(),
            i64::try_from(api.revision).unwrap_or(i64::MAX),
            api.name.as_str(),
            serde_json::to_string(&api.scopes)?,
            api.signing_alg.as_str(),
            i64::try_from(api.token_lifetime).unwrap_or(i64::MAX),
            api.allow_offline_access,
            api.skip_consent,
            api.user_policy.as_str(),
            api.client_policy.as_str(),
            now,
        ],
    )
    .exactly(1))
}

/// Deletes an API with the grants for it, where no client represents it.
pub(crate) fn delete_statement(identifier: &str) -> Statement {
    Statement::new(
        "delete from apis
          where identifier = $1
            and not exists (select 1 from clients l where l.resource_server_identifier = $1)",
        params![identifier],
    )
    .exactly(1)
}

/// Does nothing where the API is there already; who wants it new says `exactly(1)`.
pub(crate) fn insert(api: &Api, now: Timestamp) -> Result<Statement, Error> {
    Ok(Statement::new(
        "insert into apis (identifier, id, name, scopes, signing_alg, token_lifetime, allow_offline_access,
                           skip_consent, user_policy, client_policy, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
         on conflict do nothing",
        params![
            api.identifier.as_str(),
            api.id.as_str(),
            api.name.as_str(),
            serde_json::to_string(&api.scopes)?,
            api.signing_alg.as_str(),
            i64::try_from(api.token_lifetime).unwrap_or(i64::MAX),
            api.allow_offline_access,
            api.skip_consent,
            api.user_policy.as_str(),
            api.client_policy.as_str(),
            now,
        ],
    ))
}
