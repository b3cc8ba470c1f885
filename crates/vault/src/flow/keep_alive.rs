//! Keeping authorizations alive that would end of idleness: what is due is refreshed although nobody asks.
//!
//! 1. Find the connections at which accounts are due. One at which this node is still busy is left to that work.
//! 2. Each connection on its own, side by side: a slow provider holds up nobody but its own accounts.
//! 3. A few accounts of a connection at once, oldest first, through the same flight, lease and gate as any refresh.
//!    When the gate says that the provider has had enough, the rest waits for the next round.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use store::{Statement, params};

use crate::flow::refresh::Wanted;
use crate::token_set::{Target, TokenSet};
use crate::{Caller, Error, Reason, Vault, account};

/// The most connections of one round, accounts of a connection in one round, and accounts of it at once.
const CONNECTIONS: u32 = 1000;
const ACCOUNTS: u32 = 500;
const AT_ONCE: usize = 8;

/// The connections that this node keeps alive at the moment.
#[derive(Clone, Default)]
pub(crate) struct Keepers {
    busy: Arc<Mutex<HashSet<String>>>,
}

impl Keepers {
    /// None where somebody is at it already.
    fn begin(&self, connection_id: &str) -> Option<Keeping> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(connection_id.to_owned()).then(|| Keeping {
            keepers: self.clone(),
            connection_id: connection_id.to_owned(),
        })
    }
}

/// Work on one connection; over when dropped, however that comes about.
struct Keeping {
    keepers: Keepers,
    connection_id: String,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.keepers
            .busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.connection_id);
    }
}

impl Vault {
    /// One round; returns when every connection that it began with is through. Rounds may overlap: the next one begins
    /// with other connections. Run it every second or so, on every node.
    pub async fn keep_alive(&self) -> Result<(), Error> {
        // Step 1. The first due account of each connection, by its index: both engines would group by reading them all.
        let rows = self
            .db
            .read(
                "select c.id from connections c
                  where (select a.id from accounts a
                          where a.connection_id = c.id and a.keep_alive_at <= $1 and a.status = 'active'
                            and (a.retry_at is null or a.retry_at <= $1)
                          order by a.keep_alive_at
                          limit 1) is not null
                  limit $2",
                params![self.now(), i64::from(CONNECTIONS)],
            )
            .await?;
        let mut rounds = Vec::new();
        for row in &rows {
            let connection_id = row.text(0)?.to_owned();
            if let Some(keeping) = self.keepers.begin(&connection_id) {
                let vault = self.clone();
                // Step 2.
                rounds.push(tokio::spawn(async move {
                    let kept = vault.keep_connection_alive(&connection_id).await;
                    drop(keeping);
                    if let Err(error) = kept {
                        tracing::warn!(connection.id = %connection_id, error = ?error, "accounts could not be kept alive");
                    }
                }));
            }
        }
        for round in rounds {
            // A panic is logged where it happens; the next round begins anew.
            let _ = round.await;
        }
        Ok(())
    }

    /// Step 3.
    async fn keep_connection_alive(&self, connection_id: &str) -> Result<(), Error> {
        let due = Statement::new(
            "select id from accounts
              where connection_id = $1 and keep_alive_at <= $2 and status = 'active'
                and (retry_at is null or retry_at <= $2) and (lease_until is null or lease_until <= {now})
              order by keep_alive_at
              limit $3",
            params![connection_id, self.now(), i64::from(ACCOUNTS)],
        );
        let rows = self.db.read_rows(due).await?;
        let mut ids = Vec::new();
        for row in &rows {
            ids.push(row.text(0)?.to_owned());
        }
        let mut kept = futures_util::stream::iter(ids)
            .map(|id| async move { self.keep_account_alive(&id).await })
            .buffer_unordered(AT_ONCE);
        while let Some(ended) = kept.next().await {
            match ended {
                Err(Error::Refused(refusal)) => match refusal.reason() {
                    Reason::ProviderRateLimited | Reason::ProviderUnavailable => break,
                    // Each of these is in the account's own row and audit log.
                    _ => {}
                },
                ended => ended?,
            }
        }
        Ok(())
    }

    async fn keep_account_alive(&self, account_id: &str) -> Result<(), Error> {
        let Some(row) = self.first(account::by_id_statement(account_id)).await? else {
            return Ok(());
        };
        let account = account::from_row(&row)?;
        // Somebody used it meanwhile.
        if account.keep_alive_at.is_none_or(|at| at > self.now()) {
            return Ok(());
        }
        let tokens = TokenSet::open(self, &account.id, account.generation, &account.token_set)?;
        let wanted = Wanted {
            target: Target::Whole,
            since: Some(tokens.whole.since),
        };
        let wait = self.settings.refresh_wait;
        self.refresh_account(account_id, wanted, wait, &Caller::default())
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests;
