//! The rescue journal: a refreshed token set that the database did not take at once, sealed, in a file of its own.
//!
//! Many providers have ended the old refresh token when they give the new one. Between their answer and our commit
//! the new one exists only here; the file makes that survive the end of the process. It is committed by the task that
//! wrote it as soon as the database answers, or at the next start by [`Vault::recover_rescued`].

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Statement, params};
use tokio::io::AsyncWriteExt;

use crate::account::column;
use crate::flow::refresh::finish_intent;
use crate::{Caller, Error, Event, EventKind, Settings, Vault};

/// A token set on its way into the database. It is sealed: nothing here can be used without the key ring.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rescued {
    pub(crate) account_id: String,
    /// The generation that it replaces.
    pub(crate) generation: u64,
    /// The attempt under whose lease it was obtained.
    pub(crate) attempt: u64,
    pub(crate) token_set: Vec<u8>,
    pub(crate) scopes: Vec<String>,
    pub(crate) access_expires_at: Option<Timestamp>,
    pub(crate) refresh_expires_at: Option<Timestamp>,
    pub(crate) refreshed_at: Timestamp,
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
    /// Fenced: touches the row only if nothing newer is there.
    pub(crate) fn commit_statement(&self) -> Result<Statement, Error> {
        Ok(Statement::new(
            "update accounts
                set token_set = $4, generation = $5, scopes = $6, access_expires_at = $7, refresh_expires_at = $8,
                    refreshed_at = $9, status = 'active', status_reason = null, lease_owner = null,
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

impl Vault {
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
            self.commit_rescued(rescued, &event, &Caller::default())
                .await?;
            JournalFile { path }.remove().await;
            recovered += 1;
        }
        Ok(recovered)
    }
}
