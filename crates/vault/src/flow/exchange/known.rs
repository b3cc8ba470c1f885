//! The configuration that an exchange hangs on, remembered with the mark that the database had.
//!
//! Every change of a client, a secret or a key of one, a connection, who may use it, or a signing key gives the database
//! another mark, in the transaction that makes the change (migration 5). An exchange reads the mark in the statement that
//! reads the user's state. Where it is the one that is remembered, so is the configuration; where it is not, the
//! configuration is read and looked at as if nothing had been remembered. So nothing is told between nodes, and what was
//! revoked on one is refused by the next request on every other.
//!
//! What was verified is not remembered: a secret is compared, and a signature checked, for every request.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::found::{Found, Subject};
use crate::client::{Client, StoredSecret};
use crate::connection::ConnectionForClient;
use crate::flow::worker::WorkerKey;
use crate::{Error, access_token};

/// How many are remembered; all are forgotten when there are more.
const MOST: usize = 10_000;

/// What is configured about one client's exchanges at one connection.
pub(super) struct Known {
    /// The mark of the database that all this was read at.
    pub(super) mark: String,
    pub(super) client: Arc<Client>,
    /// The secret that the request spoke of.
    pub(super) secret: StoredSecret,
    pub(super) connection: ConnectionForClient,
    /// The client's keys for workers, where a worker's request was presented.
    pub(super) keys: Arc<[WorkerKey]>,
}

/// Names a [`Known`]: the ids and names that a request says.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) client_id: &'a str,
    pub(super) secret_id: &'a str,
    pub(super) connection: &'a str,
    pub(super) subject: &'a Subject,
}

impl Asked<'_> {
    /// Everything that decides what is known: one of another client, secret, connection or issuer is another.
    fn key(&self) -> String {
        let (kind, kid, issued_to) = match self.subject {
            Subject::RefreshToken(_) => ("r", "", ""),
            Subject::Worker(_) => ("w", "", ""),
            Subject::AccessToken(token) => {
                let (kid, client_id) = token.issuer();
                ("a", kid, client_id)
            }
        };
        let parts = [
            self.client_id,
            self.secret_id,
            self.connection,
            kid,
            issued_to,
        ];
        let length: usize = parts.iter().map(|part| part.len() + 1).sum();
        let mut key = String::with_capacity(kind.len() + length);
        key.push_str(kind);
        for part in parts {
            // What is remembered came out of the database, where no text has U+0000: whoever asks with one in a name
            // has one too many.
            key.push('\0');
            key.push_str(part);
        }
        key
    }
}

/// All that is remembered. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Knowledge {
    by_key: Arc<RwLock<HashMap<String, Arc<Known>>>>,
}

impl Knowledge {
    pub(super) fn of(&self, asked: Asked<'_>) -> Option<Arc<Known>> {
        let by_key = self.by_key.read().unwrap_or_else(PoisonError::into_inner);
        by_key.get(&asked.key()).map(Arc::clone)
    }

    /// Remembers what was read at a mark, where it is enough for an exchange; what it remembers.
    pub(super) fn remember(
        &self,
        asked: Asked<'_>,
        client: &Arc<Client>,
        secret: &StoredSecret,
        found: &Found,
    ) -> Result<Option<Arc<Known>>, Error> {
        let (Some(mark), Some(row), Some(connection)) =
            (&found.mark, &found.subject, &found.connection)
        else {
            return Ok(None);
        };
        // Of an access token, the short statement takes for granted what hangs on the configuration.
        if let Subject::AccessToken(_) = asked.subject
            && !access_token::issuer_stands(row)?
        {
            return Ok(None);
        }
        let known = Arc::new(Known {
            mark: mark.clone(),
            client: Arc::clone(client),
            secret: secret.clone(),
            connection: connection.clone(),
            keys: Arc::clone(&found.keys),
        });
        let mut by_key = self.by_key.write().unwrap_or_else(PoisonError::into_inner);
        if by_key.len() >= MOST {
            by_key.clear();
        }
        by_key.insert(asked.key(), Arc::clone(&known));
        Ok(Some(known))
    }
}
