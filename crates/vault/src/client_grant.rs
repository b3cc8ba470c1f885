//! A client grant: which scopes of an API a client may have, for users or for itself.

use oauth::scope::Scope;
use store::{Batch, Statement, WriteError, params};

use crate::api::{AccessPolicy, Api};
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

/// The scopes of an API that a client may have, by the API's policy and the client's grant.
pub(crate) fn allowed_scopes(
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
        "select scopes from client_grants where client_id = $1 and audience = $2 and subject_type = $3",
        params![client_id, audience, subject_type.as_str()],
    )
}

/// An identifier is printable ASCII; a description has no quotes and backslashes (RFC 6749 §5.2).
fn printable(identifier: &str) -> String {
    identifier.replace(['"', '\\'], "?")
}
