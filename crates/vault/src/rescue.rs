//! The rescue journal: a refreshed token set that the database did not take at once, sealed, in a file of its own.
//!
//! Many providers have ended the old refresh token when they give the new one. Between their answer and our commit
//! the new one exists only here; the file makes that survive the end of the process. It is committed by the task that
//! wrote it as soon as the database answers, or at the next start by [`Vault::recover_rescued`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Batch, Statement, WriteError, params};
use tokio::io::AsyncWriteExt;

use crate::account::{self, Account, column};
use crate::connection;
use crate::flow::refresh::finish_intent;
use crate::revocation::NewRevocation;
use crate::token_set::TokenSet;
use crate::{Caller, Error, Event, EventKind, Outcome, Settings, Vault};

/// How soon the database is tried again, at first and at last.
const TRY_AGAIN: Duration = Duration::from_millis(50);
const LONGEST_TRY_AGAIN: Duration = Duration::from_secs(5);

/// A token set on its way into the database. It is sealed: nothing here can be used without the key ring.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rescued {
    pub(crate) account_id: String,
    /// Whose account it is, and where; what it takes to give the grant back if the account is gone.
    #[serde(default)]
    pub(crate) origin: Origin,
    /// The generation that it replaces.
    pub(crate) generation: u64,
    /// The attempt under whose lease it was obtained.
    pub(crate) attempt: u64,
    pub(crate) token_set: Vec<u8>,
    pub(crate) scopes: Vec<String>,
    pub(crate) access_expires_at: Option<Timestamp>,
    pub(crate) refresh_expires_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) keep_alive_at: Option<Timestamp>,
    pub(crate) refreshed_at: Timestamp,
}

/// Where a token set came from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) connection_id: String,
    pub(crate) user_id: String,
    pub(crate) subject: String,
    pub(crate) variables: BTreeMap<String, String>,
}

/// A written journal file.
#[derive(Debug)]
pub(crate) struct JournalFile {
    path: PathBuf,
}

impl JournalFile {
    pub(crate) async fn remove(self) {
        if let Err(error) = tokio::fs::remove_file(&self.path).await {
            // Committing it again at the next start is refused by generation and attempt.
            tracing::warn!(error = %error, "a rescue journal file could not be removed");
        }
    }
}

impl Rescued {
    /// Whether an account holds this set already.
    fn is_in(&self, account: &Account) -> bool {
        account.generation == self.generation + 1 && account.attempt == self.attempt
    }

    /// Fenced: touches the row only if nothing newer is there.
    pub(crate) fn commit_statement(&self) -> Result<Statement, Error> {
        Ok(Statement::new(
            "update accounts
                set token_set = $4, generation = $5, scopes = $6, access_expires_at = $7, refresh_expires_at = $8,
                    refreshed_at = $9, keep_alive_at = $10, status = 'active', status_reason = null, lease_owner = null,
                    lease_until = null, failures = 0, failure = null, retry_at = null
              where id = $1 and generation = $2 and attempt = $3",
            params![
                self.account_id.as_str(),
                column(self.generation),
                column(self.attempt),
                self.token_set.clone(),
                column(self.generation + 1),
                serde_json::to_string(&self.scopes)?,
                self.access_expires_at,
                self.refresh_expires_at,
                self.refreshed_at,
                self.keep_alive_at,
            ],
        )
        .exactly(1))
    }

    pub(crate) fn finish_intent_statement(&self) -> Statement {
        finish_intent(
            &self.account_id,
            self.attempt,
            "refreshed",
            self.refreshed_at,
        )
    }

    /// Writes and fsyncs the file. None where there is no directory or it does not take it: then memory is all there is.
    pub(crate) async fn write_journal(&self, settings: &Settings) -> Option<JournalFile> {
        let directory = settings.rescue_directory.as_ref()?;
        let path = directory.join(format!("{}-{}.json", self.account_id, self.attempt));
        match self.write_file(&path).await {
            Ok(()) => Some(JournalFile { path }),
            Err(error) => {
                tracing::error!(error = %error, "the rescue journal could not be written");
                None
            }
        }
    }

    async fn write_file(&self, path: &std::path::Path) -> std::io::Result<()> {
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        #[cfg(unix)]
        options.mode(0o600);
        let mut file = options.open(path).await?;
        file.write_all(&serde_json::to_vec(self)?).await?;
        file.sync_all().await
    }
}

/// The record of a refresh whose outcome nobody needs any more.
fn fenced(event: &Event) -> Event {
    let mut event = event.clone();
    (event.outcome, event.reason) = (Outcome::Failed, Some("fenced"));
    event
}

impl Vault {
    /// Commits a token set that the provider has given, however long the database takes, with the rows of the audit log
    /// that belong to it.
    ///
    /// The first try that the database does not take puts the sealed set into the rescue journal, so that not even
    /// the end of this process loses it.
    pub(crate) async fn commit_rescued(
        &self,
        rescued: Rescued,
        events: &[Event],
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut rescued = rescued;
        let mut journal = None;
        let mut wait = TRY_AGAIN;
        loop {
            let mut batch = Batch::new()
                .with(rescued.commit_statement()?)
                .with(rescued.finish_intent_statement());
            for event in events {
                batch = batch.with(self.audit_statement(event, caller, self.now()));
            }
            let end = match self.db.write(batch).await {
                Ok(_) => Ok(()),
                Err(WriteError::Expectation { .. }) => {
                    match self.fenced_by(&rescued.account_id).await? {
                        // Another attempt began after our lease had ended, and it has brought nothing newer: what we hold
                        // is still the last that the provider gave.
                        Some(fence) if fence.generation == rescued.generation => {
                            if fence.leased {
                                tokio::time::sleep(TRY_AGAIN).await;
                            } else {
                                rescued.attempt = fence.attempt;
                            }
                            continue;
                        }
                        // Our own commit, whose acknowledgement was lost on its way.
                        Some(fence) if rescued.is_in(&fence) => Ok(()),
                        // The account was connected anew or refreshed by the other attempt.
                        Some(_) => self.drop_late(&rescued, events, caller).await,
                        None => self.give_back_late(&rescued, events, caller).await,
                    }
                }
                Err(error) => {
                    tracing::error!(account.id = %rescued.account_id, error = %error, "a refreshed token set is not committed yet");
                    if journal.is_none() {
                        journal = rescued.write_journal(&self.settings).await;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_TRY_AGAIN);
                    continue;
                }
            };
            if let Some(journal) = journal {
                journal.remove().await;
            }
            return end;
        }
    }

    /// What stands in the way of a commit: the account as it is now.
    async fn fenced_by(&self, account_id: &str) -> Result<Option<Account>, Error> {
        let row = self.first(account::by_id_statement(account_id)).await?;
        row.as_ref().map(account::from_row).transpose()
    }

    async fn drop_late(
        &self,
        rescued: &Rescued,
        events: &[Event],
        caller: &Caller,
    ) -> Result<(), Error> {
        tracing::warn!(
            account.id = %rescued.account_id,
            "a refreshed token set came too late and is dropped"
        );
        match events.first() {
            Some(event) => self.audit(&fenced(event), caller).await,
            None => Ok(()),
        }
    }

    /// The account was disconnected while the provider thought: what it gave is given back.
    async fn give_back_late(
        &self,
        rescued: &Rescued,
        events: &[Event],
        caller: &Caller,
    ) -> Result<(), Error> {
        let origin = &rescued.origin;
        let connection = self
            .first(connection::by_id_statement(&origin.connection_id))
            .await?;
        let mut batch = Batch::new();
        // Where the connection is gone too, so is our client secret: nothing can be given back.
        if connection.is_some() {
            let tokens = TokenSet::open(
                self,
                &rescued.account_id,
                rescued.generation + 1,
                &rescued.token_set,
            )?;
            let (_, statement) = self.revocation_statement(&NewRevocation {
                connection_id: &origin.connection_id,
                account_id: &rescued.account_id,
                user_id: &origin.user_id,
                subject: Some(&origin.subject),
                tokens: &tokens,
                variables: &origin.variables,
            })?;
            batch = batch.with(statement);
        }
        if let Some(event) = events.first() {
            batch = batch.with(self.audit_statement(&fenced(event), caller, self.now()));
        }
        self.db.write(batch).await?;
        Ok(())
    }

    /// Commits what an earlier process of this node left in the rescue journal. Run at start, before listening.
    pub async fn recover_rescued(&self) -> Result<usize, Error> {
        let Some(directory) = self.settings.rescue_directory.clone() else {
            return Ok(0);
        };
        let mut recovered = 0;
        let Ok(mut entries) = tokio::fs::read_dir(&directory).await else {
            return Ok(0);
        };
        while let Ok(Some(entry)) = entries.next_entry().await {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let rescued = match tokio::fs::read(&path)
                .await
                .map(|bytes| serde_json::from_slice::<Rescued>(&bytes))
            {
                Ok(Ok(rescued)) => rescued,
                Ok(Err(_)) | Err(_) => {
                    tracing::error!(file = %path.display(), "a rescue journal file cannot be read; it is left in place");
                    continue;
                }
            };
            let event = Event::succeeded(EventKind::ProviderRefresh)
                .account(&*rescued.account_id)
                .detail("attempt", rescued.attempt)
                .detail("recovered_from", "rescue_journal");
            self.commit_rescued(rescued, &[event], &Caller::default())
                .await?;
            JournalFile { path }.remove().await;
            recovered += 1;
        }
        Ok(recovered)
    }
}
