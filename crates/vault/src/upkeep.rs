//! What has to be done now and then, by any node: forgetting what can no longer be used, and rotating signing keys.

use jiff::{SignedDuration, Timestamp};
use store::{Batch, Statement, params};

use crate::{Error, Vault, access_token, replay};

/// How long finished things are kept for whoever looks into what happened.
const KEEP: SignedDuration = SignedDuration::from_hours(24);

impl Vault {
    /// What is due now: expired rows deleted, signing keys rotated that have signed for long enough. Run it now and then
    /// on every node.
    pub async fn upkeep(&self) -> Result<(), Error> {
        self.rotate_aged_signing_keys().await?;
        self.sweep().await
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
