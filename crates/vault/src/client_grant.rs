//! A client grant: which scopes of an API a client may have, for users or for itself.

use oauth::scope::Scope;
use store::{Batch, Row, Statement, WriteError, params};

use crate::api::{self, AccessPolicy, Api};
use crate::client::Client;
use crate::{Error, Reason, Refusal, Vault};

/// For whom the tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectType {
    /// For the client itself.
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
    /// [`Reason::InvalidBody`] when there is such a grant already.
    pub async fn create_client_grant(
        &self,
        client_id: &str,
        audience: &str,
        subject_type: SubjectType,
        scopes: Vec<String>,
    ) -> Result<(), Error> {
        let insert = Statement::new(
            "insert into client_grants (id, client_id, audience, subject_type, scopes, created_at)
             values ($1, $2, $3, $4, $5, $6)",
            params![
                seal::random_id(self.entropy.as_ref(), "cgr_"),
                client_id,
                audience,
                subject_type.as_str(),
                scopes.join(" "),
                self.now(),
            ],
        )
        .exactly(1);
        match self.db.write(Batch::new().with(insert)).await {
            Ok(_) => Ok(()),
            Err(WriteError::UniqueViolation { .. }) => Err(Refusal::new(Reason::InvalidBody)
                .describe("The client has a grant for this API and subject_type already.")
                .into()),
            Err(error) => Err(error.into()),
        }
    }
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
