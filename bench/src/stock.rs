//! Connected accounts by the million: each with its user, and a token set that the vault has sealed for its row.
//!
//! The rows are those of a connect flow. They come without one, and without its audit rows: many to a statement, many
//! statements to a transaction, and sealed on every core while the database takes the ones before.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use jiff::Timestamp;
use store::{Batch, Db, Params, Statement, params};
use vault::{SampleTokens, Vault};

use crate::database::Engine;
use crate::seed::told;

/// Accounts of one transaction, and of one statement; both engines take so many parameters.
const TOGETHER: u64 = 5000;
const IN_A_STATEMENT: usize = 100;
/// Transactions that are sealed ahead.
const AHEAD: usize = 4;

/// The values of one row; accounts have three before them that are the same in all rows: connection, scopes, connected_at.
const USER_COLUMNS: usize = 3;
const ACCOUNT_COLUMNS: usize = 7;

static USERS: LazyLock<[String; 2]> = LazyLock::new(|| {
    [IN_A_STATEMENT, 1].map(|rows| {
        many_rows(
            "insert into users (id, username, created_at, updated_at) values",
            rows,
            |first| format!("(${first}, ${}, ${}, ${})", first + 1, first + 2, first + 2),
            1,
            USER_COLUMNS,
        )
    })
});

static ACCOUNTS: LazyLock<[String; 2]> = LazyLock::new(|| {
    [IN_A_STATEMENT, 1].map(|rows| {
        many_rows(
            "insert into accounts (id, user_id, subject, token_set, access_expires_at, refresh_expires_at,
                                   keep_alive_at, connected_at, created_at, connection_id, scopes, requested_scopes,
                                   status, generation, attempt, failures) values",
            rows,
            |first| {
                let at = |place: usize| format!("${}", first + place);
                format!(
                    "({}, {}, {}, {}, {}, {}, {}, $3, $3, $1, $2, $2, 'active', 1, 0, 0)",
                    at(0),
                    at(1),
                    at(2),
                    at(3),
                    at(4),
                    at(5),
                    at(6)
                )
            },
            4,
            ACCOUNT_COLUMNS,
        )
    })
});

/// An account as it is to be.
pub(crate) struct Sample {
    /// Which one of [`Places`].
    pub(crate) place: usize,
    pub(crate) tokens: SampleTokens,
    /// When the authorization ends unless it is renewed, and when it has to be renewed so that it does not.
    pub(crate) ends: Option<(Timestamp, Timestamp)>,
}

/// Where accounts are: the ids of connections, and what is granted at all of them.
pub(crate) struct Places {
    pub(crate) connections: Vec<String>,
    pub(crate) scopes: Vec<String>,
    /// When all of them were connected.
    pub(crate) connected_at: Timestamp,
}

/// The user with this number.
pub(crate) fn user_id(number: u64) -> String {
    format!("usr_many_{number:010}")
}

/// A number that is as good as any.
pub(crate) fn random() -> u64 {
    let text = seal::random_id(&seal::SystemEntropy, "");
    text.bytes()
        .fold(0, |sum, byte| mixed(sum ^ u64::from(byte)))
}

/// A number that differs in half of its bits when its source differs in one (the last step of SplitMix64).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Makes the accounts of these numbers, each with its user.
pub(crate) async fn make(
    vault: &Vault,
    db: &Db,
    engine: Engine,
    places: Places,
    numbers: Range<u64>,
    sample: impl Fn(u64) -> Result<Sample> + Clone + Send + 'static,
) -> Result<()> {
    let indexes = take_indexes(db, engine).await?;
    let places = Arc::new(places);
    let last = numbers.end;
    let mut next = numbers.start;
    let mut sealing = VecDeque::new();
    loop {
        while sealing.len() < AHEAD && next < last {
            let some = next..last.min(next + TOGETHER);
            next = some.end;
            let (vault, places, sample) = (vault.clone(), Arc::clone(&places), sample.clone());
            sealing.push_back(tokio::task::spawn_blocking(move || {
                batch(&vault, &places, some, &sample)
            }));
        }
        let Some(sealed) = sealing.pop_front() else {
            break;
        };
        db.write(sealed.await??).await.context("making accounts")?;
    }
    for index in indexes {
        db.append(Batch::new().with(index))
            .await
            .context("making an index")?;
    }
    if engine == Engine::Postgres {
        // As its own daemon would do it within minutes.
        for sql in ["vacuum analyze users", "vacuum analyze accounts"] {
            db.append(Batch::new().with(Statement::new(sql, params![])))
                .await?;
        }
    }
    Ok(())
}

/// Drops the indexes whose keys come in no order; the statements that make them again. To put ten million such keys where
/// they belong, one after the other, writes 35 KiB for each; made of what is there, an index is sorted once.
async fn take_indexes(db: &Db, engine: Engine) -> Result<Vec<Statement>> {
    let sql = match engine {
        Engine::Sqlite => {
            "select name, sql from sqlite_schema
             where type = 'index' and name in ('accounts_due', 'accounts_by_refresh_end')"
        }
        Engine::Postgres => {
            "select indexname::text, indexdef from pg_indexes
             where schemaname = current_schema() and indexname in ('accounts_due', 'accounts_by_refresh_end')"
        }
    };
    // A statement's text lives for ever. There are four of these.
    let statement = |text: String| Statement::new(text.leak(), params![]);
    let mut indexes = Vec::new();
    for row in db.read(sql, params![]).await? {
        let dropped = statement(format!("drop index {}", row.text(0)?));
        db.append(Batch::new().with(dropped)).await?;
        indexes.push(statement(row.text(1)?.to_owned()));
    }
    anyhow::ensure!(indexes.len() == 2, "an index is missing");
    Ok(indexes)
}

/// The rows of some accounts: users first, then their accounts by connection.
fn batch(
    vault: &Vault,
    places: &Places,
    numbers: Range<u64>,
    sample: &impl Fn(u64) -> Result<Sample>,
) -> Result<Batch> {
    let scopes = serde_json::to_string(&places.scopes)?;
    let mut users = Vec::new();
    let mut accounts: Vec<Vec<Params>> = vec![Vec::new(); places.connections.len()];
    for number in numbers {
        let (user_id, account_id) = (user_id(number), format!("cac_many_{number:010}"));
        let Sample {
            place,
            tokens,
            ends,
        } = sample(number)?;
        let lifetime = std::time::Duration::from_secs(tokens.expires_in);
        let expires_at = tokens.issued_at.checked_add(lifetime)?;
        let sealed = vault
            .seal_sample(&account_id, tokens)
            .map_err(told("a token set"))?;
        users.push(params![
            user_id.as_str(),
            format!("many{number}"),
            places.connected_at
        ]);
        accounts
            .get_mut(place)
            .context("an account at no connection")?
            .push(params![
                account_id,
                user_id,
                format!("subject-{number}"),
                sealed,
                expires_at,
                ends.map(|(end, _)| end),
                ends.map(|(_, keep_alive)| keep_alive),
            ]);
    }
    let mut statements = in_statements(&USERS, &params![], users);
    for (connection, rows) in places.connections.iter().zip(accounts) {
        let common = params![connection.as_str(), scopes.as_str(), places.connected_at];
        statements.extend(in_statements(&ACCOUNTS, &common, rows));
    }
    Ok(statements.into_iter().fold(Batch::new(), Batch::with))
}

/// Statements of many rows, and of one for the rest.
fn in_statements(
    [many, one]: &'static [String; 2],
    common: &Params,
    rows: Vec<Params>,
) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let left = rows.len();
        let (sql, count) = match left {
            IN_A_STATEMENT.. => (many, IN_A_STATEMENT),
            _ => (one, 1),
        };
        let mut values = common.clone();
        for row in rows.by_ref().take(count) {
            values.append(&row);
        }
        statements.push(Statement::new(sql, values).exactly(count as u64));
    }
    statements
}

fn many_rows(
    head: &str,
    rows: usize,
    row: impl Fn(usize) -> String,
    first: usize,
    columns: usize,
) -> String {
    let mut sql = head.to_owned();
    for number in 0..rows {
        let comma = if number == 0 { " " } else { ", " };
        let _ = write!(sql, "{comma}{}", row(first + number * columns));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_parameters_of_its_own() {
        let [users, _] = &*USERS;
        assert!(users.contains("values ($1, $2, $3, $3), ($4, $5, $6, $6)"));
        let [accounts, one] = &*ACCOUNTS;
        assert!(one.contains("values ($4, $5, $6, $7, $8, $9, $10, $3, $3, $1, $2, $2,"));
        assert!(!one.contains("$11,"));
        let last = 3 + IN_A_STATEMENT * ACCOUNT_COLUMNS;
        assert!(accounts.contains(&format!("${last}, $3")));
        assert!(!accounts.contains(&format!("${}", last + 1)));
    }

    #[test]
    fn rows_that_fill_no_statement_come_one_by_one() {
        let rows = vec![params![1, 2, 3]; IN_A_STATEMENT + 2];
        let counts: Vec<usize> = in_statements(&USERS, &params![], rows)
            .iter()
            .map(|statement| statement.params.len())
            .collect();
        assert_eq!(counts, [300, 3, 3]);
    }
}
