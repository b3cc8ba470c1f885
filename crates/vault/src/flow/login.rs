//! Logging in and signing up.
//!
//! 1. One spelling of the name; the attempt is counted for the account and for the address before anything is compared,
//!    so that a thousand at once count as a thousand.
//! 2. The password is compared; without an account, against a hash of nobody, for the same time.
//! 3. A new session; the one that the browser had ends with it. Counts, session and audit row are one transaction.

use seal::SecretString;
use store::{Batch, Written};

use crate::session::{self, Session};
use crate::throttle;
use crate::user::{self, NewUser, PASSWORD_HASH, canonical_username};
use crate::{Caller, Error, Event, EventKind, Reason, Refusal, Vault};

impl Vault {
    /// Logs a person in and returns the session with the value of its cookie.
    ///
    /// # Errors
    /// [`Reason::LoginFailed`] for an unknown name, a wrong password and a blocked user alike;
    /// [`Reason::LoginThrottled`] after too many of them.
    pub async fn login(
        &self,
        username: &str,
        password: SecretString,
        current: Option<&Session>,
        caller: &Caller,
    ) -> Result<(Session, SecretString), Error> {
        let mut event = Event::succeeded(EventKind::Login);
        let opened = self
            .try_login(username, password, current, &mut event, caller)
            .await;
        self.settle(event, opened, caller).await
    }

    async fn try_login(
        &self,
        username: &str,
        password: SecretString,
        current: Option<&Session>,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<(Session, SecretString), Error> {
        // Step 1. What cannot be a name is throttled by address only, and fails like any other.
        let username = canonical_username(username);
        let account_key = username.as_deref().map(throttle::account_key);
        let address_key = caller.canonical_address().map(throttle::address_key);
        self.count_attempt(account_key.as_deref(), address_key.as_deref())
            .await?;

        // Step 2.
        let row = match &username {
            Some(username) => self.first(user::by_username_statement(username)).await?,
            None => None,
        };
        let stored = match &row {
            Some(row) => row.opt_text(PASSWORD_HASH)?.map(str::to_owned),
            None => None,
        };
        let user = row.as_ref().map(user::from_row).transpose()?;
        event.user_id = user.as_ref().map(|user| user.id.clone());
        let outdated = stored
            .clone()
            .filter(|stored| seal::password::needs_rehash(stored));
        let matches = self.verify_password(password.duplicate(), stored).await?;
        let Some(user) = user.filter(|user| matches && user.blocked_at.is_none()) else {
            return Err(Reason::LoginFailed.into());
        };

        // Step 3.
        let now = self.now();
        let new = self.new_session(&user.id, now);
        let mut batch = Batch::new().with(new.insert);
        if let Some(key) = &account_key {
            batch = batch.with(throttle::clear_statement(key));
        }
        if let Some(key) = &address_key {
            batch = batch.with(throttle::forgive_statement(key));
        }
        if let Some(current) = current {
            batch = batch.with(session::revoke_statement(&current.id, now));
        }
        // Only now the password is known: a hash of older or weaker parameters is made anew.
        if let Some(outdated) = outdated {
            let hash = self.hash_password(password).await?;
            batch = batch.with(user::rehash_statement(&user.id, &outdated, &hash));
        }
        let event = event.clone().detail("session_id", new.session.id.as_str());
        self.db
            .write(batch.with(self.audit_statement(&event, caller, now)))
            .await?;
        Ok((new.session, new.cookie))
    }

    async fn count_attempt(
        &self,
        account_key: Option<&str>,
        address_key: Option<&str>,
    ) -> Result<(), Error> {
        let now = self.now();
        let window = self.settings.login_window;
        let since = now.checked_sub(window).unwrap_or(now);
        let counted: Vec<(&str, u32)> = [
            (account_key, self.settings.login_failures_per_account),
            (address_key, self.settings.login_failures_per_address),
        ]
        .into_iter()
        .filter_map(|(key, limit)| Some((key?, limit)))
        .collect();
        let batch = counted.iter().fold(Batch::new(), |batch, (key, _)| {
            batch.with(throttle::count_statement(key, now, since))
        });
        let written: Written = self.db.write(batch).await?;
        for (index, (_, limit)) in counted.iter().enumerate() {
            let Some(row) = written.rows(index).first() else {
                continue;
            };
            let (failures, window_start) = throttle::from_row(row)?;
            if failures > u64::from(*limit) {
                let end = window_start.checked_add(window).unwrap_or(now);
                let wait = end.duration_since(now).try_into().unwrap_or(window);
                return Err(Refusal::new(Reason::LoginThrottled)
                    .retry_after_duration(wait)
                    .into());
            }
        }
        Ok(())
    }

    /// Makes a user and logs them in, where the deployment lets people do that themselves.
    ///
    /// # Errors
    /// [`Reason::SignUpClosed`], and what [`Vault::create_user`] refuses.
    pub async fn sign_up(
        &self,
        username: &str,
        password: SecretString,
        email: Option<&str>,
        caller: &Caller,
    ) -> Result<(Session, SecretString), Error> {
        let mut event = Event::succeeded(EventKind::SignUp);
        let opened = self
            .try_sign_up(username, password, email, &mut event, caller)
            .await;
        self.settle(event, opened, caller).await
    }

    async fn try_sign_up(
        &self,
        username: &str,
        password: SecretString,
        email: Option<&str>,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<(Session, SecretString), Error> {
        if !self.settings.sign_up {
            return Err(Reason::SignUpClosed.into());
        }
        // Hashing is dear: signing up is an attempt like logging in, and stays one.
        let address_key = caller.canonical_address().map(throttle::address_key);
        self.count_attempt(None, address_key.as_deref()).await?;
        let email = email
            .map(str::trim)
            .filter(|email| is_email(email))
            .map(str::to_owned);
        let user = self
            .create_user(NewUser {
                username: username.to_owned(),
                password,
                email: email.or_else(|| canonical_username(username).filter(|name| is_email(name))),
                name: None,
            })
            .await?;
        event.user_id = Some(user.id.clone());
        let now = self.now();
        let new = self.new_session(&user.id, now);
        self.db
            .write(
                Batch::new()
                    .with(new.insert)
                    .with(self.audit_statement(event, caller, now)),
            )
            .await?;
        Ok((new.session, new.cookie))
    }
}

/// Enough to send a mail to; whether it arrives, only a mail tells. The domain is what follows the last `@`.
fn is_email(text: &str) -> bool {
    text.len() <= 254
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !local.contains('@')
                && domain.contains('.')
                && text.chars().all(|c| !c.is_control() && !c.is_whitespace())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_22_what_is_no_address_is_not_kept() {
        for (text, expected) in [
            ("bob@x.example", true),
            ("b+o.b@x.example", true),
            ("a@b@c.example", false),
            ("@x.example", false),
            ("bob@x", false),
            ("bob", false),
            ("b ob@x.example", false),
            (&format!("{}@x.example", "a".repeat(255)), false),
        ] {
            assert_eq!(is_email(text), expected, "{text}");
        }
    }
}
