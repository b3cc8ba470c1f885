//! Statements, and batches of them that happen together or not at all.

use std::hash::{Hash, Hasher};

use crate::error::WriteError;
use crate::row::Row;
use crate::value::Params;

/// How many rows a statement must touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever it touches is right.
    Any,
    /// At least so many.
    AtLeast(u64),
    /// At most so many.
    AtMost(u64),
    /// Exactly so many.
    Exactly(u64),
}

/// One SQL statement with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text, the same for both engines.
    pub sql: &'static str,
    /// `$1` is the first.
    pub params: Params,
    /// How many rows it must touch; only writes are judged.
    pub expect: Expect,
}

/// By what is asked for: the texts are long, and there are few.
impl Hash for Statement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.params.hash(state);
    }
}

impl Statement {
    /// A statement that may touch any number of rows.
    pub fn new(sql: &'static str, params: Params) -> Self {
        Self {
            sql,
            params,
            expect: Expect::Any,
        }
    }

    /// Must touch exactly `rows` rows.
    #[must_use]
    pub fn exactly(mut self, rows: u64) -> Self {
        self.expect = Expect::Exactly(rows);
        self
    }

    /// Must touch at most `rows` rows.
    #[must_use]
    pub fn at_most(mut self, rows: u64) -> Self {
        self.expect = Expect::AtMost(rows);
        self
    }

    /// Must touch at least `rows` rows.
    #[must_use]
    pub fn at_least(mut self, rows: u64) -> Self {
        self.expect = Expect::AtLeast(rows);
        self
    }

    /// Judges how many rows it touched.
    pub(crate) fn judge(&self, statement: usize, rows: u64) -> Result<(), WriteError> {
        let met = match self.expect {
            Expect::Any => true,
            Expect::AtLeast(least) => rows >= least,
            Expect::AtMost(most) => rows <= most,
            Expect::Exactly(exactly) => rows == exactly,
        };
        if met {
            Ok(())
        } else {
            Err(WriteError::Expectation { statement, rows })
        }
    }
}

/// Statements that happen in order, all of them or none.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) statements: Vec<Statement>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more statement.
    #[must_use]
    pub fn with(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// Adds a statement.
    pub fn push(&mut self, statement: Statement) {
        self.statements.push(statement);
    }
}

/// What a committed batch did, by statement.
#[derive(Debug, Default)]
pub struct Written {
    pub(crate) affected: Vec<u64>,
    pub(crate) rows: Vec<Vec<Row>>,
}

impl Written {
    /// How many rows a statement touched.
    pub fn rows_affected(&self, statement: usize) -> u64 {
        self.affected.get(statement).copied().unwrap_or_default()
    }

    /// What a statement's `returning` gave.
    pub fn rows(&self, statement: usize) -> &[Row] {
        self.rows.get(statement).map_or(&[], Vec::as_slice)
    }
}
