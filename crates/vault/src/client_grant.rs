//! A client grant: which scopes of an API a client may have, for users or for itself.

use jiff::Timestamp;
use oauth::scope::Scope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Batch, Row, Statement, WriteError, params};

use crate::api::{self, AccessPolicy, Api};
use crate::client::Client;
use crate::{Error, Fault, Reason, Refusal, Vault};

/// For whom the tokens are.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SubjectType {
    /// For the client itself.
    #[default]
    Client,
    /// For users of the client.
    User,
}

impl SubjectType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::User => "user",
        }
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        [Self::Client, Self::User]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Fault::Internal("client_grants.subject_type".to_owned()))
    }
}

/// A grant as it stands in the database.
#[derive(Debug, Clone)]
pub(crate) struct ClientGrant {
    /// `cgr_…`.
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) audience: String,
    pub(crate) subject_type: SubjectType,
    pub(crate) scopes: Scope,
    /// Whether it covers whatever scopes the API has.
    pub(crate) allow_all_scopes: bool,
    pub(crate) revision: u64,
}

/// What an administrator sets of a grant (contract 4.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = example())]
pub struct ClientGrantSettings {
    /// Whose grant it is.
    #[schemars(length(min = 1, max = 64), extend("x-immutable" = true))]
    pub client_id: String,
    /// The identifier of the API.
    #[schemars(length(min = 1, max = 255), extend("x-immutable" = true))]
    pub audience: String,
    /// The scopes that the client may have there.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 280)))]
    pub scope: Vec<String>,
    /// For whom the tokens are.
    #[serde(default)]
    #[schemars(extend("x-immutable" = true))]
    pub subject_type: SubjectType,
    /// Whether the client may have every scope that the API has, now and later.
    #[serde(default)]
    pub allow_all_scopes: bool,
    /// Organizations are not built: `deny` only.
    #[serde(default, skip_serializing)]
    #[schemars(extend("enum" = ["deny", null]))]
    pub organization_usage: Option<String>,
    /// Organizations are not built: false only.
    #[serde(default, skip_serializing)]
    #[schemars(extend("enum" = [false, null]))]
    pub allow_any_organization: Option<bool>,
    /// Not built: none only.
    #[serde(default, skip_serializing)]
    #[schemars(length(max = 0))]
    pub authorization_details_types: Option<Vec<String>>,
}

/// A grant as the Management API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClientGrant")]
pub struct ClientGrantView {
    /// `cgr_…`.
    pub id: String,
    /// What was set.
    #[serde(flatten)]
    pub settings: ClientGrantSettings,
}

impl ClientGrantSettings {
    /// What is set of a grant.
    pub(crate) fn of(grant: &ClientGrant) -> Self {
        Self {
            client_id: grant.client_id.clone(),
            audience: grant.audience.clone(),
            scope: grant.scopes.iter().map(str::to_owned).collect(),
            subject_type: grant.subject_type,
            allow_all_scopes: grant.allow_all_scopes,
            organization_usage: None,
            allow_any_organization: None,
            authorization_details_types: None,
        }
    }
}

impl ClientGrantView {
    pub(crate) fn of(grant: &ClientGrant) -> Self {
        Self {
            id: grant.id.clone(),
            settings: ClientGrantSettings::of(grant),
        }
    }
}

fn example() -> Value {
    json!({
        "client_id": "cl_0123456789",
        "audience": "https://vault.example/me/",
        "scope": ["create:me:connected_accounts", "read:me:connected_accounts"],
        "subject_type": "user",
    })
}

/// An API with the scopes that a client may have there.
pub(crate) struct Reach {
    pub(crate) api: Api,
    pub(crate) scope: Scope,
}

/// The scopes of an API that a client may have, by the API's policy and the client's grant.
fn allowed_scopes(
    client: &Client,
    api: &Api,
    subject_type: SubjectType,
    granted: Option<Scope>,
) -> Result<Scope, Refusal> {
    let policy = match subject_type {
        SubjectType::Client => api.client_policy,
        SubjectType::User => api.user_policy,
    };
    match (policy, granted) {
        (AccessPolicy::AllowAll, _) => Ok(api.all_scopes()),
        (AccessPolicy::RequireClientGrant, Some(granted)) => Ok(granted),
        (AccessPolicy::DenyAll | AccessPolicy::RequireClientGrant, _) => {
            Err(Refusal::new(Reason::ApiNotAllowed).describe(format!(
                "Client {} is not authorized to access resource server {}.",
                client.client_id,
                printable(&api.identifier),
            )))
        }
    }
}

impl Vault {
    /// What a client may have at the API of an audience; None where there is no such API. Asked at every use and not
    /// only at login: a grant that was taken back gives nothing any more (threats R-42).
    ///
    /// # Errors
    /// [`Reason::ApiNotAllowed`].
    pub(crate) async fn reach(
        &self,
        client: &Client,
        audience: &str,
        subject_type: SubjectType,
    ) -> Result<Option<Reach>, Error> {
        let mut rows = self
            .db
            .read_all(vec![
                api::by_identifier_statement(audience),
                scopes_statement(&client.client_id, audience, subject_type),
            ])
            .await?
            .into_iter();
        let mut next = || rows.next().and_then(|rows| rows.into_iter().next());
        let Some(api) = next().map(|row| api::from_row(&row)).transpose()? else {
            return Ok(None);
        };
        let granted = next().map(|row| granted_scope(&row, &api)).transpose()?;
        let scope = allowed_scopes(client, &api, subject_type, granted)?;
        Ok(Some(Reach { api, scope }))
    }

    /// Grants a client scopes of an API.
    ///
    /// # Errors
    /// [`Reason::AlreadyExists`] when there is such a grant already.
    pub async fn create_client_grant(
        &self,
        client_id: &str,
        audience: &str,
        subject_type: SubjectType,
        scopes: Vec<String>,
    ) -> Result<(), Error> {
        let grant = ClientGrant {
            id: seal::random_id(self.entropy.as_ref(), "cgr_"),
            client_id: client_id.to_owned(),
            audience: audience.to_owned(),
            subject_type,
            scopes: scopes.into_iter().collect(),
            allow_all_scopes: false,
            revision: 1,
        };
        let insert = insert_statement(&grant, self.now());
        self.db
            .write(Batch::new().with(insert))
            .await
            .map_err(granted_already)?;
        Ok(())
    }
}

/// What a unique index refused.
pub(crate) fn granted_already(error: WriteError) -> Error {
    match error {
        WriteError::UniqueViolation { .. } => Refusal::new(Reason::AlreadyExists)
            .describe("The client has a grant for this API and subject_type already.")
            .into(),
        error => error.into(),
    }
}

// The columns of `client_grants`, in the order that `from_row` reads them.
macro_rules! grant_columns {
    () => {
        "g.id, g.client_id, g.audience, g.subject_type, g.scopes, g.allow_all_scopes, g.revision"
    };
}

pub(crate) fn from_row(row: &Row) -> Result<ClientGrant, Error> {
    Ok(ClientGrant {
        id: row.text(0)?.to_owned(),
        client_id: row.text(1)?.to_owned(),
        audience: row.text(2)?.to_owned(),
        subject_type: SubjectType::parse(row.text(3)?)?,
        scopes: Scope::from_stored(row.text(4)?),
        allow_all_scopes: row.bool(5)?,
        revision: u64::try_from(row.int(6)?)
            .map_err(|_| Fault::Internal("client_grants.revision".to_owned()))?,
    })
}

/// The grant of an id.
pub(crate) fn by_id_statement(id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            grant_columns!(),
            " from client_grants g where g.id = $1"
        ),
        params![id],
    )
}

/// All grants.
pub(crate) fn all_statement() -> Statement {
    Statement::new(
        concat!("select ", grant_columns!(), " from client_grants g"),
        params![],
    )
}

/// Grants by id, one window; filters: client, audience and subject type, empty where they do not matter.
pub(crate) fn list_statements() -> (&'static str, &'static str) {
    (
        concat!(
            "select ",
            grant_columns!(),
            " from client_grants g
              where g.id > $1 and ($4 = '' or g.client_id = $4) and ($5 = '' or g.audience = $5)
                and ($6 = '' or g.subject_type = $6)
              order by g.id limit $2 offset $3"
        ),
        "select count(*) from client_grants g
          where ($1 = '' or g.client_id = $1) and ($2 = '' or g.audience = $2) and ($3 = '' or g.subject_type = $3)",
    )
}

pub(crate) fn insert_statement(grant: &ClientGrant, now: Timestamp) -> Statement {
    Statement::new(
        "insert into client_grants (id, client_id, audience, subject_type, scopes, allow_all_scopes, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        params![
            grant.id.as_str(),
            grant.client_id.as_str(),
            grant.audience.as_str(),
            grant.subject_type.as_str(),
            grant.scopes.to_string(),
            grant.allow_all_scopes,
            now,
        ],
    )
    .exactly(1)
}

/// Writes what changed, where nobody else has changed the grant since it was read.
pub(crate) fn update_statement(grant: &ClientGrant) -> Statement {
    Statement::new(
        "update client_grants set scopes = $3, allow_all_scopes = $4, revision = revision + 1
          where id = $1 and revision = $2",
        params![
            grant.id.as_str(),
            i64::try_from(grant.revision).unwrap_or(i64::MAX),
            grant.scopes.to_string(),
            grant.allow_all_scopes,
        ],
    )
    .exactly(1)
}

pub(crate) fn delete_statement(id: &str) -> Statement {
    Statement::new("delete from client_grants where id = $1", params![id]).exactly(1)
}

/// The scopes that a client was granted at an API; no row without a grant.
pub(crate) fn scopes_statement(
    client_id: &str,
    audience: &str,
    subject_type: SubjectType,
) -> Statement {
    Statement::new(
        "select scopes, allow_all_scopes from client_grants where client_id = $1 and audience = $2 and subject_type = $3",
        params![client_id, audience, subject_type.as_str()],
    )
}

/// What a row of [`scopes_statement`] grants of the scopes that the API has now.
pub(crate) fn granted_scope(row: &Row, api: &Api) -> Result<Scope, Error> {
    let all = api.all_scopes();
    if row.bool(1)? {
        return Ok(all);
    }
    Ok(Scope::from_stored(row.text(0)?).intersection(&all))
}

/// An identifier is printable ASCII; a description has no quotes and backslashes (RFC 6749 §5.2).
fn printable(identifier: &str) -> String {
    identifier.replace(['"', '\\'], "?")
}
