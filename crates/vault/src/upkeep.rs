//! What has to be done now and then, by any node: forgetting what can no longer be used, rotating signing keys, and
//! warning of ends that are near.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use store::{Batch, Statement, WriteError, params};

use crate::token_set::after;
use crate::{Caller, Error, Event, EventKind, Vault, access_token, account, replay};

/// How long finished things are kept for whoever looks into what happened.
const KEEP: SignedDuration = SignedDuration::from_hours(24);

/// The most warnings of one round; the rest follows in the next.
const MOST_WARNINGS: u32 = 1000;
/// How long before its end a client secret is warned of: time enough for an administrator to replace it.
const WARN_OF_SECRET_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

impl Vault {
    /// What is due now: expired rows deleted, signing keys rotated that have signed for long enough. Run it now and then
    /// on every node.
    pub async fn upkeep(&self) -> Result<(), Error> {
        self.rotate_aged_signing_keys().await?;
        self.warn_of_accounts().await?;
        self.warn_of_secrets().await?;
        self.sweep().await
    }

    /// Accounts that will end within a week and within the last quarter of their time, and that nothing of ours puts off.
    /// Each end is warned of once.
    async fn warn_of_accounts(&self) -> Result<(), Error> {
        let now = self.now();
        let soon = after(now, account::WARN_BEFORE.as_secs());
        let rows = self
            .db
            .read(
                "select a.id, a.user_id, c.name, a.refresh_expires_at
                   from accounts a
                   join connections c on c.id = a.connection_id
                  where a.refresh_expires_at > $1 and a.refresh_expires_at <= $2 and a.status = 'active'
                    and a.keep_alive_at is null
                    and (a.warned_for is null or a.warned_for <> a.refresh_expires_at)
                    and (a.refresh_expires_at - $1) * 4
                        <= a.refresh_expires_at - coalesce(a.refreshed_at, a.connected_at)
                  order by a.refresh_expires_at
                  limit $3",
                params![now, soon, i64::from(MOST_WARNINGS)],
            )
            .await?;
        for row in &rows {
            let (id, end) = (row.text(0)?, row.timestamp(3)?);
            let event = Event::succeeded(EventKind::AccountExpiring)
                .user(row.text(1)?)
                .connection(row.text(2)?)
                .account(id)
                .detail("cause", "authorization_ends")
                .detail("expires_at", end.to_string());
            let mark = Statement::new(
                "update accounts set warned_for = $2
                  where id = $1 and refresh_expires_at = $2 and (warned_for is null or warned_for <> $2)",
                params![id, end],
            );
            self.warn(mark, &event).await?;
        }
        Ok(())
    }

    /// Client secrets that their provider will end within thirty days, once each.
    async fn warn_of_secrets(&self) -> Result<(), Error> {
        let now = self.now();
        let soon = after(now, WARN_OF_SECRET_BEFORE.as_secs());
        let rows = self
            .db
            .read(
                "select id, name, client_secret_expires_at from connections
                  where client_secret_expires_at <= $1
                    and (secret_warned_for is null or secret_warned_for <> client_secret_expires_at)
                  limit $2",
                params![soon, i64::from(MOST_WARNINGS)],
            )
            .await?;
        for row in &rows {
            let (id, end) = (row.text(0)?, row.timestamp(2)?);
            let event = Event::succeeded(EventKind::ConnectionSecretExpiring)
                .connection(row.text(1)?)
                .detail("expires_at", end.to_string());
            let mark = Statement::new(
                "update connections set secret_warned_for = $2
                  where id = $1 and client_secret_expires_at = $2
                    and (secret_warned_for is null or secret_warned_for <> $2)",
                params![id, end],
            );
            self.warn(mark, &event).await?;
        }
        Ok(())
    }

    /// Tells, where no other node has told already.
    async fn warn(&self, mark: Statement, event: &Event) -> Result<(), Error> {
        let told = self.audit_statement(event, &Caller::default(), self.now());
        match self
            .db
            .write(Batch::new().with(mark.exactly(1)).with(told))
            .await
        {
            Ok(_) | Err(WriteError::Expectation { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes expired codes, pushed requests, interactions, connect flows, replay marks, throttles and sessions.
    /// Several nodes may do it at once.
    async fn sweep(&self) -> Result<(), Error> {
        let now = self.now();
        let then = now.checked_sub(KEEP).unwrap_or(Timestamp::MIN);
        let mut batch = Batch::new()
            .with(replay::sweep_statement(now))
            .with(access_token::sweep_statement(now));
        for sql in [
            "delete from codes where expires_at < $1",
            "delete from connect_flows where expires_at < $1",
            "delete from interactions where expires_at < $1",
            "delete from pushed_requests where expires_at < $1",
            // Of the present token set every intent counts: one without an outcome says that we may have lost it.
            "delete from refresh_intents
              where started_at < $1
                and generation < (select a.generation from accounts a where a.id = refresh_intents.account_id)",
            "delete from sessions where expires_at < $1",
            "delete from throttles where window_start < $1",
        ] {
            batch = batch.with(Statement::new(sql, params![then]));
        }
        self.db.write(batch).await?;
        Ok(())
    }
}
