//! What is appended to logs on PostgreSQL: all that waits at one moment is one commit, and rows of one table are one
//! statement.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::{ClientWrapper, Pool};
use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Expect, Statement};
use crate::error::{Because, WriteError};
use crate::postgres::commit;
use crate::sql::{Dialect, Place, place_of};
use crate::traffic::Counters;
use crate::united::renumbered;
use crate::value::Params;

/// The most batches that one commit holds.
const MOST_TOGETHER: usize = 500;
/// How many rows one statement may have. Each number is a statement that is prepared and kept on each connection, so there
/// are few; small ones are all there, because what is one statement needs no `begin` and no `commit`.
const ROWS: [usize; 11] = [64, 32, 16, 8, 7, 6, 5, 4, 3, 2, 1];

/// What a single batch has to have for its rows to be put together: an error of such a one names no statement of it, but
/// the first.
const MANY: usize = 3;

/// A batch of inserts and who waits for it.
pub(crate) type Append = (Batch, oneshot::Sender<Result<(), WriteError>>);

/// What the task has that commits what is appended.
pub(crate) struct Committer {
    pool: Pool,
    dialect: Arc<Dialect>,
    counters: Counters,
    texts: Texts,
}

impl Committer {
    pub(crate) fn new(pool: Pool, dialect: Arc<Dialect>, counters: Counters) -> Self {
        Self {
            pool,
            dialect,
            counters,
            texts: Texts::default(),
        }
    }

    /// Commits what waits together. Ends with the last sender.
    pub(crate) async fn commit_appends(mut self, mut inbox: mpsc::Receiver<Append>) {
        let mut waiting = Vec::with_capacity(MOST_TOGETHER);
        while inbox.recv_many(&mut waiting, MOST_TOGETHER).await > 0 {
            let (batches, replies): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
            let results = match self.pool.get().await {
                Ok(client) => self.commit_all(&client, &batches).await,
                Err(error) => {
                    let said = error.to_string();
                    let away = |_| Err(WriteError::Unavailable(said.clone().into()));
                    batches.iter().map(away).collect()
                }
            };
            for (reply, result) in replies.into_iter().zip(results) {
                let _ = reply.send(result);
            }
        }
    }

    /// All together; where that fails, one half and then the other, and so on: a batch that cannot be written does not
    /// fail its neighbours, and costs them a few commits and not one for each.
    async fn commit_all(
        &mut self,
        client: &ClientWrapper,
        batches: &[Batch],
    ) -> Vec<Result<(), WriteError>> {
        let mut results = Vec::with_capacity(batches.len());
        let mut left = vec![batches];
        while let Some(part) = left.pop() {
            let committed = match part {
                [] => continue,
                // As it is, so that an error tells which of its statements it is about.
                [only] if only.statements.len() < MANY => {
                    commit(client, &self.dialect, &only.statements).await
                }
                several => commit(client, &self.dialect, &self.texts.merged(several)).await,
            };
            match committed {
                Ok(_) => {
                    self.counters.committed();
                    results.extend(part.iter().map(|_| Ok(())));
                }
                Err(error) if part.len() == 1 => results.push(Err(error)),
                Err(WriteError::Unavailable(_)) => {
                    let lost = |_| {
                        let why = Because("the commit failed");
                        Err(WriteError::Unavailable(why.into()))
                    };
                    results.extend(part.iter().map(lost));
                }
                Err(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    left.extend([second, first]);
                }
            }
        }
        results
    }
}

/// The texts that insert several rows at once, each made once.
#[derive(Default)]
struct Texts {
    made: HashMap<(Place, usize), &'static str>,
}

impl Texts {
    /// Batches as one list of statements: inserts of one text are put together where the first of them stood.
    fn merged(&mut self, batches: &[Batch]) -> Vec<Statement> {
        let mut groups: Vec<(&'static str, Vec<&Statement>)> = Vec::new();
        for statement in batches.iter().flat_map(|batch| &batch.statements) {
            let group = groups.iter_mut().find(|(sql, members)| {
                place_of(sql) == place_of(statement.sql)
                    && members
                        .iter()
                        .all(|member| member.params.len() == statement.params.len())
            });
            match group {
                Some((_, members)) => members.push(statement),
                None => groups.push((statement.sql, vec![statement])),
            }
        }
        let mut merged = Vec::new();
        let mut only_inserts = true;
        for (sql, members) in groups {
            let Some(insert) = Insert::of(sql) else {
                only_inserts = false;
                merged.extend(members.into_iter().cloned());
                continue;
            };
            let mut rest = members.as_slice();
            for rows in ROWS {
                while let Some((several, others)) = rest.split_at_checked(rows)
                    && !rest.is_empty()
                {
                    merged.push(self.insert(sql, &insert, several));
                    rest = others;
                }
            }
        }
        if only_inserts {
            // Each inserts all of its rows or fails: nobody has to look, and so one needs no transaction, and the end of
            // the transaction of several goes with them.
            for insert in &mut merged {
                insert.expect = Expect::Any;
            }
        }
        merged
    }

    fn insert(&mut self, sql: &'static str, insert: &Insert<'_>, rows: &[&Statement]) -> Statement {
        let width = rows.first().map_or(0, |row| row.params.len());
        // Leaked on purpose, once for each number of rows: prepared statements are kept by text.
        let text = self
            .made
            .entry((place_of(sql), rows.len()))
            .or_insert_with(|| Box::leak(insert.times(rows.len(), width).into_boxed_str()));
        let mut params = Params::with_capacity(rows.len() * width);
        for row in rows {
            params.append(&row.params);
        }
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        Statement::new(text, params).exactly(count)
    }
}

/// An insert of one row, and nothing beside it.
struct Insert<'a> {
    /// Up to and with `values`.
    head: &'a str,
    /// The row, without its parentheses.
    row: &'a str,
}

impl<'a> Insert<'a> {
    /// None where a text is anything else, or ends in more than its row.
    fn of(sql: &'a str) -> Option<Self> {
        let sql = sql.trim();
        let (begin, row) = sql.split_once("values (")?;
        let row = row.strip_suffix(')')?;
        let mut depth = 0_usize;
        for letter in row.chars() {
            depth = match letter {
                '(' => depth + 1,
                // A parenthesis that closes the row: something comes after it.
                ')' => depth.checked_sub(1)?,
                _ => depth,
            };
        }
        let head = sql.get(..begin.len() + "values ".len())?;
        (begin.starts_with("insert into ") && depth == 0).then_some(Self { head, row })
    }

    /// The same for so many rows of `width` parameters.
    fn times(&self, rows: usize, width: usize) -> String {
        let rows: Vec<String> = (0..rows)
            .map(|row| format!("({})", renumbered(self.row, row * width)))
            .collect();
        self.head.to_owned() + &rows.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params;

    const NOTE: &str = "insert into notes (a, b) values ($1, lower($2))";

    #[test]
    fn an_insert_is_repeated() {
        let insert = Insert::of(NOTE).unwrap();
        assert_eq!(insert.times(1, 2), NOTE);
        assert_eq!(
            insert.times(3, 2),
            "insert into notes (a, b) values ($1, lower($2)), ($3, lower($4)), ($5, lower($6))"
        );
    }

    #[test]
    fn what_is_more_than_an_insert_is_left_alone() {
        for other in [
            "insert into notes (a) values ($1) on conflict do nothing",
            "insert into notes (a) values ($1) returning (a)",
            "insert into notes (a) select a from others",
            "update notes set a = $1",
            "delete from notes where a in (values ($1))",
        ] {
            assert!(Insert::of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn rows_of_one_table_are_one_statement() {
        const OTHER: &str = "insert into others (c) values ($1)";
        const UPDATE: &str = "update notes set a = $1";
        let note = |n: i64| Statement::new(NOTE, params![n, "text"]).exactly(1);
        let other = |n: i64| Statement::new(OTHER, params![n]).exactly(1);
        let mut texts = Texts::default();

        let alone: Vec<Batch> = (0..3).map(|n| Batch::new().with(note(n))).collect();
        let merged = texts.merged(&alone);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].params.len(), 6);
        assert_eq!(merged[0].expect, Expect::Any);

        let mixed: Vec<Batch> = (0..73)
            .map(|n| Batch::new().with(other(n)).with(note(n)))
            .chain([Batch::new().with(Statement::new(UPDATE, params![1]))])
            .collect();
        let merged = texts.merged(&mixed);
        let counts: Vec<usize> = merged.iter().map(|made| made.params.len()).collect();
        assert_eq!(counts, [64, 8, 1, 128, 16, 2, 1]);
        assert_eq!(merged[0].expect, Expect::Exactly(64));
        assert!(merged[1].params.iter().eq((64..72).map(crate::Value::Int)));

        // Without the update there is nothing to judge.
        let merged = texts.merged(&mixed[..73]);
        assert_eq!(merged.len(), 6);
        assert!(merged.iter().all(|made| made.expect == Expect::Any));
    }
}
