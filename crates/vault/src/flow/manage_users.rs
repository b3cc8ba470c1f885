//! Users, as an administrator looks after them (contract 4.4): what they are, and ending what they have.
//!
//! Nothing here shows a token. What is ended is ended in the database, so that the next request on any node is refused.

use jiff::Timestamp;
use schemars::JsonSchema;
use seal::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Batch, WriteError, params};

use crate::document::{object_of, wrong};
use crate::flow::manage_clients::ROUNDS;
use crate::listing::ListQuery;
use crate::refresh_token::{self, RefreshTokenView};
use crate::session::{self, SessionView};
use crate::user::{self, User, UserSearch, canonical_username, check_new_password};
use crate::user_settings::{UserSettings, UserView};
use crate::{
    Administrator, Caller, Document, Error, Event, EventKind, Listed, Patch, Reason, Refusal,
    Source, Vault, Window, account, authorization,
};

/// An account of a user as the Management API shows it (contract 4.4).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ConnectedAccount")]
pub struct UserAccountView {
    /// `cac_…`.
    pub id: String,
    /// The connection's name.
    pub connection: String,
    /// The connection's id.
    pub connection_id: String,
    /// The connection's strategy.
    pub strategy: String,
    /// Always `offline`.
    pub access_type: &'static str,
    /// What the provider granted.
    pub scopes: Vec<String>,
    /// When it was first connected.
    pub created_at: Timestamp,
    /// When the authorization ends unless it is renewed before, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// `active`, `reauthorization_required` or `outcome_unknown`.
    pub status: &'static str,
}

/// What is ended of what a user has.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RevokeAccess {
    /// Only this session and what was issued in it.
    #[schemars(length(max = 64))]
    pub session_id: Option<String>,
    /// Whether refresh tokens stay. Default: false.
    pub preserve_refresh_tokens: bool,
}

/// Reads a search: `email:a@b.c`, `email:a*`, `username:…`, `user_id:…`, or a word that is one of them. A value may stand in
/// quotes.
fn read_search(text: &str) -> Result<UserSearch, Refusal> {
    let wrong = || {
        wrong(
            "q",
            "email:ADDRESS, email:BEGINNING*, username:NAME, user_id:ID, or one of these values alone",
        )
    };
    let text = text.trim();
    if text.is_empty() {
        return Ok(UserSearch::All);
    }
    let (field, value) = match text.split_once(':') {
        Some((field, value)) => (Some(field), value),
        None => (None, text),
    };
    let value = value.trim_matches('"').to_owned();
    if value.is_empty() || value.contains([' ', '"', ':', '(', ')']) {
        return Err(wrong());
    }
    match (field, value.strip_suffix('*')) {
        (Some("email"), Some(prefix)) if !prefix.is_empty() && !prefix.contains('*') => {
            Ok(UserSearch::EmailPrefix(prefix.to_owned()))
        }
        (_, Some(_)) => Err(wrong()),
        (Some("email"), None) => Ok(UserSearch::Email(value)),
        (Some("username"), None) => Ok(UserSearch::Username(value)),
        (Some("user_id"), None) => Ok(UserSearch::Id(value)),
        (None, None) => Ok(UserSearch::Word(value)),
        (Some(_), None) => Err(wrong()),
    }
}

impl Vault {
    /// Users by id, those that a search finds: `email:ADDRESS`, `email:BEGINNING*`, `username:NAME`, `user_id:ID`, or one of
    /// these values alone.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] points at `q`; [`Reason::CursorInvalid`].
    pub async fn list_users(
        &self,
        search: Option<&str>,
        window: &Window,
    ) -> Result<Listed<UserView>, Error> {
        let search = read_search(search.unwrap_or_default())?;
        let (select, count, filters) = user::list_statements(&search);
        let query = ListQuery {
            name: "users",
            select,
            count,
            filtered_by: format!("{search:?}"),
            filters,
        };
        let listed = self
            .list(query, window, user::from_row, |user| &user.id)
            .await?;
        Ok(listed.map(|user| UserView::of(&user)))
    }

    /// One user.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_user(&self, id: &str) -> Result<UserView, Error> {
        Ok(UserView::of(&self.user_of_id(id).await?))
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`], [`Reason::AlreadyExists`].
    pub async fn register_user(
        &self,
        administrator: &Administrator,
        body: Value,
        caller: &Caller,
    ) -> Result<UserView, Error> {
        let mut body = object_of(body)?;
        body.retain(|_, value| !value.is_null());
        let settings = UserSettings::read(Value::Object(body), Source::Body)?;
        let now = self.now();
        let typed = settings.username.as_ref().or(settings.email.as_ref());
        let typed = typed.ok_or_else(|| wrong("email", "required, or a username"))?;
        let user = User {
            id: match &settings.user_id {
                Some(chosen) => format!("usr_{}", chosen.trim_start_matches("usr_")),
                None => seal::random_id(self.entropy.as_ref(), "usr_"),
            },
            username: username_of(typed)?,
            email: settings.email.clone(),
            name: settings.name.clone(),
            blocked_at: settings.blocked.then_some(now),
            created_at: now,
            updated_at: now,
            profile: settings.profile(),
            revision: 1,
        };
        let hash = self.hash_of(&settings).await?;
        let event = user_event(administrator, "created", &user.id);
        let batch = Batch::new()
            .with(user::insert_statement(&user, hash.as_deref())?)
            .with(self.audit_statement(&event, caller, now));
        self.db.write(batch).await.map_err(taken)?;
        Ok(UserView::of(&user))
    }

    /// Changes a user. Whoever is blocked is refused from the next request on; a new password ends what the one before
    /// began.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::InvalidBody`], [`Reason::AlreadyExists`], [`Reason::ChangedMeanwhile`].
    pub async fn change_user(
        &self,
        administrator: &Administrator,
        id: &str,
        body: Value,
        caller: &Caller,
    ) -> Result<UserView, Error> {
        let body = object_of(body)?;
        for _ in 0..ROUNDS {
            let before = self.user_of_id(id).await?;
            let known = UserSettings::of(&before);
            let mut change = body.clone();
            known.merge_metadata(&mut change);
            let patch: Patch<UserSettings> = Patch::read(Value::Object(change))?;
            let settings = patch.apply(&known)?;
            let now = self.now();
            let typed = settings.username.as_ref().or(settings.email.as_ref());
            let after = User {
                username: match typed {
                    Some(typed) => username_of(typed)?,
                    None => before.username.clone(),
                },
                email: settings.email.clone(),
                name: settings.name.clone(),
                blocked_at: settings.blocked.then(|| before.blocked_at.unwrap_or(now)),
                updated_at: now,
                profile: settings.profile(),
                ..before.clone()
            };
            let hash = self.hash_of(&settings).await?;
            let event = user_event(administrator, "updated", id).detail("fields", patch.names());
            let mut batch = Batch::new().with(user::update_statement(&after, hash.as_deref())?);
            if hash.is_some() {
                batch.push(session::revoke_of_user_statement(id, now));
                batch.push(authorization::revoke_of_user_statement(
                    id,
                    "password_changed",
                    now,
                ));
            }
            batch.push(self.audit_statement(&event, caller, now));
            match self.db.write(batch).await {
                Ok(_) => return self.view_user(id).await,
                Err(WriteError::Expectation { .. }) => {}
                Err(error) => return Err(taken(error)),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// Deletes a user with everything that they have. Their accounts are disconnected: each grant is given back at its
    /// provider, behind the answer.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::ChangedMeanwhile`] where accounts are connected all the while.
    pub async fn delete_user(
        &self,
        administrator: &Administrator,
        id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.user_of_id(id).await?;
        for _ in 0..ROUNDS {
            loop {
                let accounts = self.list_user_accounts(id, &Window::first(100)).await?;
                if accounts.items.is_empty() {
                    break;
                }
                for account in &accounts.items {
                    self.disconnect_for(administrator, id, &account.id, caller)
                        .await?;
                }
            }
            let event = user_event(administrator, "deleted", id);
            let batch = Batch::new()
                .with(user::delete_statement(id))
                .with(self.audit_statement(&event, caller, self.now()));
            match self.db.write(batch).await {
                Ok(_) => return Ok(()),
                // Somebody else deleted them, or they connected an account meanwhile.
                Err(WriteError::Expectation { .. }) => {
                    self.user_of_id(id).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Reason::ChangedMeanwhile.into())
    }

    /// The accounts of a user, by id.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::CursorInvalid`].
    pub async fn list_user_accounts(
        &self,
        user_id: &str,
        window: &Window,
    ) -> Result<Listed<UserAccountView>, Error> {
        self.user_of_id(user_id).await?;
        let (select, count) = account::list_statements();
        let query = ListQuery {
            name: "user_accounts",
            select,
            count,
            filtered_by: user_id.to_owned(),
            filters: params![user_id],
        };
        let now = self.now();
        self.list(
            query,
            window,
            |row| {
                let account = account::from_row(row)?;
                let at = account::ACCOUNT_COLUMNS;
                let view = account.view(row.text(at)?, now);
                Ok(UserAccountView {
                    connection_id: account.connection_id.clone(),
                    strategy: row.text(at + 1)?.to_owned(),
                    id: view.id,
                    connection: view.connection,
                    access_type: view.access_type,
                    scopes: view.scopes,
                    created_at: view.created_at,
                    expires_at: view.expires_at,
                    status: view.status,
                })
            },
            |view| &view.id,
        )
        .await
    }

    /// Disconnects an account of a user, as they could themselves.
    ///
    /// # Errors
    /// [`Reason::AccountUnknown`].
    pub async fn disconnect_for(
        &self,
        administrator: &Administrator,
        user_id: &str,
        account_id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut event = administrator
            .event(EventKind::AccountDisconnected, "disconnected", account_id)
            .account(account_id);
        event.user_id = Some(user_id.to_owned());
        let revocation_id = self
            .remove_account(user_id, account_id, &event, caller)
            .await?;
        self.give_back_behind(revocation_id);
        Ok(())
    }

    /// The live sessions of a user, by id.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::CursorInvalid`].
    pub async fn list_sessions(
        &self,
        user_id: &str,
        window: &Window,
    ) -> Result<Listed<SessionView>, Error> {
        self.user_of_id(user_id).await?;
        let (select, count) = session::list_statements();
        let query = ListQuery {
            name: "sessions",
            select,
            count,
            filtered_by: user_id.to_owned(),
            filters: params![user_id, self.now()],
        };
        self.list(query, window, session::view_from_row, |session| &session.id)
            .await
    }

    /// One live session.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_session(&self, id: &str) -> Result<SessionView, Error> {
        let row = self
            .first(session::view_statement(id, self.now()))
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        session::view_from_row(&row)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn revoke_session(
        &self,
        administrator: &Administrator,
        id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let session = self.view_session(id).await?;
        let event =
            user_event(administrator, "session_ended", &session.user_id).detail("session", id);
        let batch = Batch::new()
            .with(session::revoke_statement(id, self.now()).exactly(1))
            .with(self.audit_statement(&event, caller, self.now()));
        self.write_known(batch).await
    }

    /// Ends every session of a user.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn revoke_sessions(
        &self,
        administrator: &Administrator,
        user_id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.user_of_id(user_id).await?;
        let now = self.now();
        let event = user_event(administrator, "sessions_ended", user_id);
        let batch = Batch::new()
            .with(session::revoke_of_user_statement(user_id, now))
            .with(self.audit_statement(&event, caller, now));
        self.db.write(batch).await?;
        Ok(())
    }

    /// The live refresh tokens of a user, by id.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`], [`Reason::CursorInvalid`].
    pub async fn list_refresh_tokens(
        &self,
        user_id: &str,
        window: &Window,
    ) -> Result<Listed<RefreshTokenView>, Error> {
        self.user_of_id(user_id).await?;
        let (select, count) = refresh_token::list_statements();
        let query = ListQuery {
            name: "refresh_tokens",
            select,
            count,
            filtered_by: user_id.to_owned(),
            filters: params![user_id, self.now()],
        };
        let listed = self
            .list(query, window, refresh_token::view_from_row, |(view, _)| {
                &view.id
            })
            .await?;
        Ok(listed.map(|(view, _)| view))
    }

    /// One live refresh token.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn view_refresh_token(&self, id: &str) -> Result<RefreshTokenView, Error> {
        Ok(self.refresh_token_of_id(id).await?.0)
    }

    /// Ends a refresh token with everything that hangs on the same login.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn end_refresh_token(
        &self,
        administrator: &Administrator,
        id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let (token, authorization_id) = self.refresh_token_of_id(id).await?;
        let now = self.now();
        let event = user_event(administrator, "refresh_token_ended", &token.user_id)
            .detail("refresh_token", id);
        let batch = Batch::new()
            .with(
                authorization::revoke_statement(&authorization_id, "administrator", now).exactly(1),
            )
            .with(self.audit_statement(&event, caller, now));
        self.write_known(batch).await
    }

    /// Ends every refresh token of a user.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn end_refresh_tokens(
        &self,
        administrator: &Administrator,
        user_id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.user_of_id(user_id).await?;
        let now = self.now();
        let event = user_event(administrator, "refresh_tokens_ended", user_id);
        let batch = Batch::new()
            .with(authorization::revoke_of_user_statement(
                user_id,
                "administrator",
                now,
            ))
            .with(self.audit_statement(&event, caller, now));
        self.db.write(batch).await?;
        Ok(())
    }

    /// Ends what a user has: sessions, and refresh tokens unless they shall stay.
    ///
    /// # Errors
    /// [`Reason::ObjectUnknown`].
    pub async fn revoke_access(
        &self,
        administrator: &Administrator,
        user_id: &str,
        what: &RevokeAccess,
        caller: &Caller,
    ) -> Result<(), Error> {
        if !what.preserve_refresh_tokens {
            administrator.require("delete:refresh_tokens")?;
        }
        self.user_of_id(user_id).await?;
        let now = self.now();
        let mut batch = Batch::new();
        let mut event = user_event(administrator, "access_revoked", user_id)
            .detail("refresh_tokens", !what.preserve_refresh_tokens);
        match &what.session_id {
            Some(session_id) => {
                let session = self.view_session(session_id).await?;
                if session.user_id != user_id {
                    return Err(Reason::ObjectUnknown.into());
                }
                event = event.detail("session", session_id.as_str());
                batch.push(session::revoke_statement(session_id, now));
                if !what.preserve_refresh_tokens {
                    batch.push(authorization::revoke_of_session_statement(
                        session_id,
                        "administrator",
                        now,
                    ));
                }
            }
            None => {
                batch.push(session::revoke_of_user_statement(user_id, now));
                if !what.preserve_refresh_tokens {
                    batch.push(authorization::revoke_of_user_statement(
                        user_id,
                        "administrator",
                        now,
                    ));
                }
            }
        }
        batch.push(self.audit_statement(&event, caller, now));
        self.db.write(batch).await?;
        Ok(())
    }

    async fn hash_of(&self, settings: &UserSettings) -> Result<Option<String>, Error> {
        let Some(password) = &settings.password else {
            return Ok(None);
        };
        let password = SecretString::new(password.clone());
        check_new_password(&password)
            .map_err(|_| wrong("password", "8 characters at least, 1024 bytes at most"))?;
        Ok(Some(self.hash_password(password).await?))
    }

    async fn refresh_token_of_id(&self, id: &str) -> Result<(RefreshTokenView, String), Error> {
        let row = self
            .first(refresh_token::view_statement(id, self.now()))
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        refresh_token::view_from_row(&row)
    }

    pub(crate) async fn user_of_id(&self, id: &str) -> Result<User, Error> {
        let row = self
            .first(user::by_id_statement(id))
            .await?
            .ok_or(Reason::ObjectUnknown)?;
        user::from_row(&row)
    }
}

fn username_of(typed: &str) -> Result<String, Refusal> {
    canonical_username(typed).ok_or_else(|| {
        wrong(
            "username",
            "1 to 255 characters without spaces and control characters, and no dot at the end",
        )
    })
}

/// What a unique index refused: the id or the name to log in by.
fn taken(error: WriteError) -> Error {
    match error {
        WriteError::UniqueViolation { .. } => Refusal::new(Reason::AlreadyExists)
            .describe("The user already exists: there is one of that id or name to log in by.")
            .into(),
        error => error.into(),
    }
}

fn user_event(administrator: &Administrator, change: &'static str, user_id: &str) -> Event {
    let mut event = administrator.event(EventKind::UserChanged, change, user_id);
    event.user_id = Some(user_id.to_owned());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_one_of_a_few_forms() {
        let is = |text: &str, expected: UserSearch| {
            assert_eq!(read_search(text).unwrap(), expected, "{text}");
        };
        is("", UserSearch::All);
        is("email:a@b.c", UserSearch::Email("a@b.c".to_owned()));
        is("email:\"a@b.c\"", UserSearch::Email("a@b.c".to_owned()));
        is("email:a*", UserSearch::EmailPrefix("a".to_owned()));
        is("user_id:usr_1", UserSearch::Id("usr_1".to_owned()));
        is("username:ada", UserSearch::Username("ada".to_owned()));
        is("ada", UserSearch::Word("ada".to_owned()));
        for text in [
            "name:ada",
            "email:",
            "email:*",
            "username:a*",
            "a b",
            "email:a AND name:b",
            "*",
        ] {
            assert!(read_search(text).is_err(), "{text}");
        }
    }
}
