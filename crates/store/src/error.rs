//! What goes wrong below: the database is away, or it says no.

use std::error::Error;

type Source = Box<dyn Error + Send + Sync>;

/// A query that gave no rows we could use.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A column is missing or of another type than asked for.
    #[error("column {index} is missing or of another type")]
    Column {
        /// Counted from 0.
        index: usize,
    },
    /// The database refused the query.
    #[error("the database refused a query")]
    Database(#[source] Source),
    /// The database cannot be reached, or no connection was free in time.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Source),
}

/// A batch that was not committed. Nothing of it happened, except that after [`WriteError::Unavailable`] the commit
/// may have reached the database without its answer reaching us.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database refused a statement.
    #[error("the database refused a statement")]
    Database(#[source] Source),
    /// A statement touched another number of rows than it must.
    #[error("statement {statement} of a batch touched {rows} rows")]
    Expectation {
        /// Its place in the batch, from 0.
        statement: usize,
        /// How many rows it touched.
        rows: u64,
    },
    /// The database cannot be reached, has no free connection, or cannot write.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Source),
    /// A statement would break a unique index.
    #[error("statement {statement} of a batch breaks a unique index")]
    UniqueViolation {
        /// Its place in the batch, from 0.
        statement: usize,
    },
}

/// A database that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database refused.
    #[error("the database cannot be opened")]
    Database(#[source] Source),
    /// The URL is of no kind we know.
    #[error("the database URL has to begin with 'sqlite:' or 'postgres://'")]
    Scheme,
    /// A SQLite older than 3.51.3 can lose commits (its WAL-reset bug).
    #[error("this SQLite is {0}; at least 3.51.3 is needed")]
    SqliteTooOld(String),
}

/// A schema that cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// An applied migration has another text than ours.
    #[error(
        "migration {number} was applied with another text; a released migration is never edited"
    )]
    Changed {
        /// Its number.
        number: u32,
    },
    /// The database refused a migration. Nothing of that migration was applied.
    #[error("migration {number} failed")]
    Failed {
        /// Its number; 0 for the table of migrations itself.
        number: u32,
        /// What the database said.
        #[source]
        source: Source,
    },
}

/// For sources that are sentences of ours.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Because(pub(crate) &'static str);
