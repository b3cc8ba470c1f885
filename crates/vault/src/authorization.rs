//! An authorization: what one user allowed one client at one login. Codes, refresh tokens and access tokens hang on it;
//! revoking it ends them all.

use jiff::Timestamp;
use oauth::scope::Scope;
use store::{Batch, Row, Statement, params};

use crate::{Caller, Error, Event, EventKind, Vault};

/// What the standard scopes are; they belong to no API.
pub(crate) const OIDC_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// An authorization with what decides whether it lives.
#[derive(Debug, Clone)]
pub(crate) struct Authorization {
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) user_id: String,
    pub(crate) session_id: Option<String>,
    /// The API that was asked for; None: only userinfo.
    pub(crate) audience: Option<String>,
    pub(crate) scope: Scope,
    pub(crate) auth_time: Timestamp,
    /// Whether anything may be had by it.
    pub(crate) is_live: bool,
}

impl Authorization {
    /// The standard scopes among those granted.
    pub(crate) fn oidc_scope(&self) -> Scope {
        oidc_part(&self.scope)
    }
}

/// The standard scopes among these.
pub(crate) fn oidc_part(scope: &Scope) -> Scope {
    scope
        .iter()
        .filter(|word| OIDC_SCOPES.contains(word))
        .collect()
}

// The columns of an authorization `z`, in the order that `from_row_at` reads them.
macro_rules! authorization_columns {
    () => {
        concat!(
            "z.id, z.client_id, z.user_id, z.session_id, z.audience, z.scope, z.auth_time, ",
            $crate::authorization::is_live!()
        )
    };
}
pub(crate) use authorization_columns;

// Whether anything may be had by an authorization `z`. It never outlives its user or client, and without `offline_access`
// it ends with its session. Where it is known that the client is not disabled, that is not asked again.
//
// What is only asked for whether it stands is no join: both engines pay for every column of a row at every join that it
// goes through. The session is looked up only where the scope does not decide; `like` would take other words for it.
macro_rules! is_live {
    () => {
        $crate::authorization::is_live!(
            "and exists (select 1 from clients l where l.client_id = z.client_id and l.disabled_at is null)"
        )
    };
    (known client) => {
        $crate::authorization::is_live!("")
    };
    ($client_stands:literal) => {
        concat!(
            "case when z.revoked_at is null
                   and exists (select 1 from users u where u.id = z.user_id and u.blocked_at is null) ",
            $client_stands,
            "      and ({position}(' ' || z.scope || ' ', ' offline_access ') > 0
                        or exists (select 1 from sessions y where y.id = z.session_id and y.revoked_at is null))
                  then 1 else 0 end"
        )
    };
}
pub(crate) use is_live;

/// How many columns `authorization_columns` names.
pub(crate) const AUTHORIZATION_COLUMNS: usize = 8;

/// Reads the columns from the one at `first` on.
pub(crate) fn from_row_at(row: &Row, first: usize) -> Result<Authorization, Error> {
    Ok(Authorization {
        id: row.text(first)?.to_owned(),
        client_id: row.text(first + 1)?.to_owned(),
        user_id: row.text(first + 2)?.to_owned(),
        session_id: row.opt_text(first + 3)?.map(str::to_owned),
        audience: row.opt_text(first + 4)?.map(str::to_owned),
        scope: Scope::from_stored(row.text(first + 5)?),
        auth_time: row.timestamp(first + 6)?,
        is_live: row.bool(first + 7)?,
    })
}

/// A new authorization of a session.
pub(crate) fn insert_statement(
    id: &str,
    client_id: &str,
    session: &crate::Session,
    audience: Option<&str>,
    scope: &Scope,
    now: Timestamp,
) -> Statement {
    Statement::new(
        "insert into authorizations (id, client_id, user_id, session_id, audience, scope, auth_time, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            id,
            client_id,
            session.user_id.as_str(),
            session.id.as_str(),
            audience,
            scope.to_string(),
            session.auth_time,
            now,
        ],
    )
    .exactly(1)
}

impl Vault {
    /// Ends an authorization and all that hangs on it, for a cause that its client did not ask for.
    pub(crate) async fn end_authorization(
        &self,
        authorization: &Authorization,
        cause: &'static str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let now = self.now();
        let event = Event::succeeded(EventKind::TokenRevocation)
            .client(&*authorization.client_id)
            .user(&*authorization.user_id)
            .detail("authorization_id", authorization.id.as_str())
            .detail("cause", cause);
        self.db
            .write(
                Batch::new()
                    .with(revoke_statement(&authorization.id, cause, now))
                    .with(self.audit_statement(&event, caller, now)),
            )
            .await?;
        Ok(())
    }
}

/// Ends an authorization and all that hangs on it. Ending it twice keeps the first reason.
/// Ends what one user allowed one client.
pub(crate) fn revoke_at_client_statement(
    user_id: &str,
    client_id: &str,
    reason: &'static str,
    now: Timestamp,
) -> Statement {
    Statement::new(
        "update authorizations set revoked_at = $3, revoked_reason = $4
          where user_id = $1 and client_id = $2 and revoked_at is null",
        params![user_id, client_id, now, reason],
    )
}

/// Ends what one user allowed the clients that they consented to.
pub(crate) fn revoke_consented_statement(
    user_id: &str,
    reason: &'static str,
    now: Timestamp,
) -> Statement {
    Statement::new(
        "update authorizations set revoked_at = $2, revoked_reason = $3
          where user_id = $1 and revoked_at is null
            and client_id in (select n.client_id from consents n where n.user_id = $1)",
        params![user_id, now, reason],
    )
}

/// Ends what was allowed in one session.
pub(crate) fn revoke_of_session_statement(
    session_id: &str,
    reason: &'static str,
    now: Timestamp,
) -> Statement {
    Statement::new(
        "update authorizations set revoked_at = $2, revoked_reason = $3 where session_id = $1 and revoked_at is null",
        params![session_id, now, reason],
    )
}

/// Ends whatever one user allowed, at every client.
pub(crate) fn revoke_of_user_statement(
    user_id: &str,
    reason: &'static str,
    now: Timestamp,
) -> Statement {
    Statement::new(
        "update authorizations set revoked_at = $2, revoked_reason = $3 where user_id = $1 and revoked_at is null",
        params![user_id, now, reason],
    )
}

pub(crate) fn revoke_statement(id: &str, reason: &'static str, now: Timestamp) -> Statement {
    Statement::new(
        "update authorizations set revoked_at = $2, revoked_reason = $3 where id = $1 and revoked_at is null",
        params![id, now, reason],
    )
}
