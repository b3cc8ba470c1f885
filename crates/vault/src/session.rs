//! A session: one browser in which a user is logged in. The cookie holds a minted token, the database its hash.

use jiff::Timestamp;
use schemars::JsonSchema;
use seal::{Purpose, SecretString, TokenKind};
use serde::Serialize;
use store::{Batch, Row, Statement, params};

use crate::token_set::after;
use crate::{Error, Vault};

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The `sid` of ID tokens.
    pub id: String,
    /// Who is logged in.
    pub user_id: String,
    /// When they logged in.
    pub auth_time: Timestamp,
}

/// A session as the Management API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct SessionView {
    /// The `sid` of ID tokens.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When they logged in.
    pub authenticated_at: Timestamp,
    /// When it ends unless it is used before.
    pub idle_expires_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
}

/// A session on its way into the database.
pub(crate) struct NewSession {
    pub(crate) session: Session,
    pub(crate) cookie: SecretString,
    pub(crate) insert: Statement,
}

impl Vault {
    /// A new session of a user, with a new id whatever the browser had before (threats WB-08).
    pub(crate) fn new_session(&self, user_id: &str, now: Timestamp) -> NewSession {
        let minted = seal::mint(TokenKind::LoginSession, self.entropy.as_ref(), &self.ring);
        let expires_at = after(now, self.settings.session_lifetime.as_secs());
        let idle_expires_at = after(now, self.settings.session_idle_lifetime.as_secs());
        let mac = self.ring.mac(
            Purpose::RowMac,
            "sessions",
            &mac_parts(&minted.id, user_id, &instant(now), &instant(expires_at)),
        );
        let insert = Statement::new(
            "insert into sessions (id, hash, mac, user_id, auth_time, created_at, expires_at, idle_expires_at)
             values ($1, $2, $3, $4, $5, $5, $6, $7)",
            params![minted.id.as_str(), minted.hash, mac, user_id, now, expires_at, idle_expires_at],
        )
        .exactly(1);
        NewSession {
            session: Session {
                id: minted.id,
                user_id: user_id.to_owned(),
                auth_time: now,
            },
            cookie: minted.token,
            insert,
        }
    }

    /// The session of a cookie, where it lives and its user may log in. Using it puts off its idle end.
    pub async fn find_session(&self, cookie: &str) -> Result<Option<Session>, Error> {
        let Some(presented) = seal::present(TokenKind::LoginSession, cookie) else {
            return Ok(None);
        };
        let Some(row) = self
            .db
            .read_one(
                "select s.hash, s.mac, s.user_id, s.auth_time, s.expires_at, s.idle_expires_at
                   from sessions s
                   join users u on u.id = s.user_id
                  where s.id = $1 and s.revoked_at is null and u.blocked_at is null",
                params![presented.id.as_str()],
            )
            .await?
        else {
            return Ok(None);
        };
        let now = self.now();
        let (user_id, auth_time, expires_at) = (row.text(2)?, row.timestamp(3)?, row.timestamp(4)?);
        let idle_expires_at = row.timestamp(5)?;
        let parts = (instant(auth_time), instant(expires_at));
        let is_ours = presented.matches(&self.ring, row.blob(0)?)
            && self.ring.mac_matches(
                Purpose::RowMac,
                "sessions",
                &mac_parts(&presented.id, user_id, &parts.0, &parts.1),
                row.blob(1)?,
            );
        if !is_ours || expires_at <= now || idle_expires_at <= now {
            return Ok(None);
        }
        let session = Session {
            id: presented.id.clone(),
            user_id: user_id.to_owned(),
            auth_time,
        };
        // One write a day and session is enough to tell a used one from one that is not.
        let idle = self.settings.session_idle_lifetime.as_secs();
        if after(now, idle - idle / 4) > idle_expires_at {
            self.db
                .write(Batch::new().with(Statement::new(
                    "update sessions set idle_expires_at = $2 where id = $1",
                    params![session.id.as_str(), after(now, idle)],
                )))
                .await?;
        }
        Ok(Some(session))
    }
}

/// Ends a session. What was issued in it without `offline_access` ends with it.
pub(crate) fn revoke_statement(session_id: &str, now: Timestamp) -> Statement {
    Statement::new(
        "update sessions set revoked_at = $2 where id = $1 and revoked_at is null",
        params![session_id, now],
    )
}

/// Ends every session of a user.
pub(crate) fn revoke_of_user_statement(user_id: &str, now: Timestamp) -> Statement {
    Statement::new(
        "update sessions set revoked_at = $2 where user_id = $1 and revoked_at is null",
        params![user_id, now],
    )
}

// The columns of a session that people see, in the order that `view_from_row` reads them.
macro_rules! session_view_columns {
    () => {
        "s.id, s.user_id, s.created_at, s.auth_time, s.idle_expires_at, s.expires_at"
    };
}

/// The live sessions of a user, by id, one window; filters: the user and now.
pub(crate) fn list_statements() -> (&'static str, &'static str) {
    (
        concat!(
            "select ",
            session_view_columns!(),
            " from sessions s
              where s.id > $1 and s.user_id = $4 and s.revoked_at is null and s.expires_at > $5
                and s.idle_expires_at > $5
              order by s.id limit $2 offset $3"
        ),
        "select count(*) from sessions s
          where s.user_id = $1 and s.revoked_at is null and s.expires_at > $2 and s.idle_expires_at > $2",
    )
}

/// A live session.
pub(crate) fn view_statement(id: &str, now: Timestamp) -> Statement {
    Statement::new(
        concat!(
            "select ",
            session_view_columns!(),
            " from sessions s
              where s.id = $1 and s.revoked_at is null and s.expires_at > $2 and s.idle_expires_at > $2"
        ),
        params![id, now],
    )
}

pub(crate) fn view_from_row(row: &Row) -> Result<SessionView, Error> {
    Ok(SessionView {
        id: row.text(0)?.to_owned(),
        user_id: row.text(1)?.to_owned(),
        created_at: row.timestamp(2)?,
        authenticated_at: row.timestamp(3)?,
        idle_expires_at: row.timestamp(4)?,
        expires_at: row.timestamp(5)?,
    })
}

fn instant(at: Timestamp) -> [u8; 8] {
    at.as_microsecond().to_be_bytes()
}

fn mac_parts<'a>(
    id: &'a str,
    user_id: &'a str,
    auth_time: &'a [u8; 8],
    expires_at: &'a [u8; 8],
) -> [&'a [u8]; 4] {
    [id.as_bytes(), user_id.as_bytes(), auth_time, expires_at]
}
