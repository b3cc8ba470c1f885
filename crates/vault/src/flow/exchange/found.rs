//! What an exchange asks the database, as one statement: whether the subject token stands, the connection as the client
//! may see it, and the accounts that the token's user has there.
//!
//! The answer has one row for each account, and one where there is none; a worker's has them for each of its keys. It
//! falls into the rows of which the nouns know the columns.

use store::{Row, Statement, Value, params};

use crate::Error;
use crate::access_token::{self, LIVENESS_COLUMNS, VerifiedAccessToken};
use crate::account::account_columns;
use crate::connection::{CONNECTION_COLUMNS, connection_columns};
use crate::flow::worker::{self, WORKER_KEY_COLUMNS, WorkerRequest};
use crate::refresh_token::{self, STORED_COLUMNS};

// The connection of the name `$connection` as the client `$client` may see it, and the accounts there of `$user`.
macro_rules! target_columns {
    ($client:literal) => {
        concat!(
            ", ",
            connection_columns!(),
            ", exists (select 1 from connection_clients e where e.connection_id = c.id and e.client_id = ",
            $client,
            "), ",
            account_columns!()
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

/// A subject token of which nothing is known yet that only the database knows.
pub(super) enum Subject {
    AccessToken(VerifiedAccessToken),
    RefreshToken(seal::PresentedToken),
    Worker(Box<WorkerRequest>),
}

/// What the answer holds.
pub(super) struct Found {
    /// What the subject token hangs on; a worker has a row for each of its keys.
    pub(super) subject: Vec<Row>,
    pub(super) connection: Option<Row>,
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
                    refresh_token::stored_columns!(),
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
                    worker::key_columns!(),
                    target_columns!("$1"),
                    " from ",
                    worker::key_tables!(),
                    target_tables!("$3", "$2"),
                    "where k.client_id = $1 and k.purpose = 'privileged_access' limit 1000"
                ),
                params![client_id, request.unverified_user_id(), connection],
            ),
        }
    }

    /// How many columns of the answer are the subject's.
    fn columns(&self) -> usize {
        match self {
            Self::RefreshToken(_) => STORED_COLUMNS,
            Self::AccessToken(_) => LIVENESS_COLUMNS,
            Self::Worker(_) => WORKER_KEY_COLUMNS,
        }
    }
}

fn with<const N: usize>(mut params: Vec<Value>, more: [&str; N]) -> Vec<Value> {
    params.extend(more.map(Value::from));
    params
}

impl Found {
    /// From the answer to [`Subject::statement`].
    pub(super) fn of(subject: &Subject, answer: Vec<Row>) -> Result<Self, Error> {
        let mut found = Self {
            subject: Vec::with_capacity(1),
            connection: None,
            accounts: Vec::with_capacity(answer.len()),
        };
        for mut of_subject in answer {
            let mut connection = of_subject.split_off(subject.columns());
            let account = connection.split_off(ACCOUNT);
            if connection.opt_text(0)?.is_some() {
                found.connection.get_or_insert(connection);
            }
            // What is joined to two others comes with each of them.
            if account.opt_text(0)?.is_some() && !found.accounts.contains(&account) {
                found.accounts.push(account);
            }
            if !found.subject.contains(&of_subject) {
                found.subject.push(of_subject);
            }
        }
        Ok(found)
    }
}
