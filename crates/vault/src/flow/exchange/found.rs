//! What an exchange asks the database, as one statement: whether the subject token stands, the connection as the client
//! may see it, and the accounts that the token's user has there. Where the configuration is known (`known`), the same
//! without what is configured.
//!
//! The answer has one row for each account, and one where there is none; a worker's has them for each of its keys. It
//! falls into the rows of which the nouns know the columns.

use std::sync::Arc;

use store::{Params, Row, Statement, params};

use super::known::Known;
use crate::access_token::{self, LIVENESS_COLUMNS, VerifiedAccessToken};
use crate::candidate::candidate_columns;
use crate::connection::{CONNECTION_COLUMNS, ConnectionForClient, connection_columns};
use crate::flow::worker::{self, USER_COLUMNS, WORKER_KEY_COLUMNS, WorkerKey, WorkerRequest};
use crate::refresh_token::{self, JUDGED_COLUMNS};
use crate::{Error, Vault};

// The connection of the name `$connection` as the client `$client` may see it, and the accounts there of `$user`.
macro_rules! target_columns {
    ($client:literal) => {
        concat!(
            ", ",
            connection_columns!(),
            ", exists (select 1 from connection_clients e where e.connection_id = c.id and e.client_id = ",
            $client,
            "), ",
            candidate_columns!()
        )
    };
}
macro_rules! target_tables {
    ($connection:literal, $user:literal) => {
        concat!(
            "left join connections c on c.name = ",
            $connection,
            " left join accounts a on a.user_id = ",
            $user,
            " and a.connection_id = c.id "
        )
    };
}
/// Where columns of the target begin, counted from the end of the subject's.
const ACCOUNT: usize = CONNECTION_COLUMNS + 1;

// The accounts of `$user` at the connection of the id `$connection`.
macro_rules! account_tables {
    ($connection:literal, $user:literal) => {
        concat!(
            "left join accounts a on a.user_id = ",
            $user,
            " and a.connection_id = ",
            $connection,
            " "
        )
    };
}

// Before everything else.
macro_rules! mark {
    () => {
        "(select m.mark from configuration_mark m), "
    };
}

// The two texts that read the columns of a subject and its user's accounts: with what those are called, and without.
macro_rules! of_user {
    ($columns:expr, $tables:expr) => {
        [
            concat!(
                "select ",
                $columns,
                ", ",
                candidate_columns!(),
                " from ",
                $tables,
                "limit 1000"
            ),
            concat!(
                "select ",
                $columns,
                ", ",
                candidate_columns!(unnamed),
                " from ",
                $tables,
                "limit 1000"
            ),
        ]
    };
}

/// A subject token of which nothing is known yet that only the database knows.
pub(super) enum Subject {
    AccessToken(VerifiedAccessToken),
    RefreshToken(seal::PresentedToken),
    Worker(Box<WorkerRequest>),
}

/// What the answer holds.
pub(super) struct Found {
    /// The mark of the configuration, where that was read too.
    pub(super) mark: Option<String>,
    /// What the subject token hangs on; of a worker, the user's state.
    pub(super) subject: Option<Row>,
    /// A worker's registered keys.
    pub(super) keys: Arc<[WorkerKey]>,
    pub(super) connection: Option<ConnectionForClient>,
    /// In no order.
    pub(super) accounts: Vec<Row>,
}

impl Subject {
    /// Asks for a client that may not have shown yet who it is.
    pub(super) fn statement(&self, client_id: &str, connection: &str) -> Statement {
        match self {
            Self::RefreshToken(token) => Statement::new(
                concat!(
                    "select ",
                    mark!(),
                    refresh_token::judged_columns!(),
                    target_columns!("$3"),
                    " from ",
                    refresh_token::stored_tables!(),
                    target_tables!("$2", "z.user_id"),
                    "where r.id = $1 limit 1000"
                ),
                params![token.id.as_str(), connection, client_id],
            ),
            Self::AccessToken(token) => Statement::new(
                concat!(
                    "select ",
                    mark!(),
                    access_token::liveness_columns!(),
                    target_columns!("$6"),
                    " from ",
                    access_token::liveness_tables!(),
                    target_tables!("$5", "z.user_id"),
                    "where k.kid = $1 limit 1000"
                ),
                with(token.liveness_params(), [connection, client_id]),
            ),
            Self::Worker(request) => Statement::new(
                concat!(
                    "select ",
                    mark!(),
                    worker::user_columns!("$2"),
                    ", ",
                    worker::key_columns!(),
                    target_columns!("$1"),
                    " from client_keys k ",
                    target_tables!("$3", "$2"),
                    "where k.client_id = $1 and k.purpose = 'privileged_access' limit 1000"
                ),
                params![client_id, request.unverified_user_id(), connection],
            ),
        }
    }

    /// Asks only for what is the user's, and for what accounts are called only where that matters.
    pub(super) fn statement_of_user(&self, connection_id: &str, is_named: bool) -> Statement {
        let [named, unnamed] = match self {
            Self::RefreshToken(_) => of_user!(
                concat!(mark!(), refresh_token::judged_columns!(known client)),
                concat!(
                    refresh_token::stored_tables!(),
                    account_tables!("$2", "z.user_id"),
                    "where r.id = $1 "
                )
            ),
            Self::AccessToken(_) => of_user!(
                concat!("m.mark, ", access_token::known_liveness_columns!()),
                concat!(
                    "configuration_mark m ",
                    access_token::known_liveness_tables!(),
                    account_tables!("$3", "z.user_id")
                )
            ),
            Self::Worker(_) => of_user!(
                concat!("m.mark, ", worker::user_columns!("$1")),
                concat!("configuration_mark m ", account_tables!("$2", "$1"))
            ),
        };
        let params = match self {
            Self::RefreshToken(token) => params![token.id.as_str(), connection_id],
            Self::AccessToken(token) => with(token.known_liveness_params(), [connection_id]),
            Self::Worker(request) => params![request.unverified_user_id(), connection_id],
        };
        Statement::new(if is_named { named } else { unnamed }, params)
    }

    /// How many columns of the answer are the subject's.
    fn columns(&self) -> usize {
        match self {
            Self::RefreshToken(_) => JUDGED_COLUMNS,
            Self::AccessToken(_) => LIVENESS_COLUMNS,
            Self::Worker(_) => USER_COLUMNS,
        }
    }

    /// How many columns of a worker's key stand after them.
    fn key_columns(&self) -> usize {
        match self {
            Self::RefreshToken(_) | Self::AccessToken(_) => 0,
            Self::Worker(_) => WORKER_KEY_COLUMNS,
        }
    }
}

fn with<const N: usize>(mut params: Params, more: [&str; N]) -> Params {
    for text in more {
        params.push(text);
    }
    params
}

impl Vault {
    /// From the answer to [`Subject::statement`].
    pub(super) fn found(&self, subject: &Subject, answer: Vec<Row>) -> Result<Found, Error> {
        let mark = match answer.first() {
            Some(row) => row.opt_text(0)?.map(str::to_owned),
            None => None,
        };
        let mut first = None;
        let mut keys = Vec::new();
        let mut connection = None;
        let mut accounts = Vec::with_capacity(answer.len());
        for mut marked in answer {
            let mut of_subject = marked.split_off(1);
            let mut key = of_subject.split_off(subject.columns());
            let mut target = key.split_off(subject.key_columns());
            let account = target.split_off(ACCOUNT);
            if target.opt_text(0)?.is_some() && connection.is_none() {
                connection = Some(self.connection_for_client(target)?);
            }
            // What is joined to two others comes with each of them.
            if account.opt_text(0)?.is_some() && !accounts.contains(&account) {
                accounts.push(account);
            }
            if subject.key_columns() > 0 && !keys.contains(&key) {
                keys.push(key);
            }
            first.get_or_insert(of_subject);
        }
        Ok(Found {
            mark,
            subject: first,
            keys: keys
                .iter()
                .map(WorkerKey::from_row)
                .collect::<Result<_, _>>()?,
            connection,
            accounts,
        })
    }
}

impl Found {
    /// From the answer to [`Subject::statement_of_user`]. None where what is known is not what is configured now.
    pub(super) fn beside(
        known: &Known,
        subject: &Subject,
        answer: Vec<Row>,
    ) -> Result<Option<Self>, Error> {
        let mut found = Self {
            mark: None,
            subject: None,
            keys: Arc::clone(&known.keys),
            connection: Some(known.connection.clone()),
            accounts: Vec::with_capacity(answer.len()),
        };
        for mut marked in answer {
            let mut of_subject = marked.split_off(1);
            let account = of_subject.split_off(subject.columns());
            if marked.opt_text(0)? != Some(&known.mark) {
                return Ok(None);
            }
            if account.opt_text(0)?.is_some() {
                found.accounts.push(account);
            }
            found.subject.get_or_insert(of_subject);
        }
        // Where nothing came, nothing was said about the mark.
        Ok(found.subject.is_some().then_some(found))
    }
}
