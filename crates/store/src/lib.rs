//! One database over SQLite or PostgreSQL: statements, rows, batches, migrations. It knows no tables.
//!
//! One SQL text serves both engines: `$1` parameters, `bigint`, `text` and `blob` columns, `on conflict`,
//! `returning`, `{now}` for the database's clock in microseconds, and `{position}(text, part)` for where a part of a text
//! begins: 0 where it does not. The engine branch is at the bottom, in `sqlite` and `postgres`.
//!
//! - A read is one round trip. On SQLite it runs on the calling thread, through a small pool of connections.
//! - A write is a [`Batch`]: each statement says how many rows it must touch; all of it happens or nothing.
//! - On SQLite one thread writes; batches that wait are committed together. On PostgreSQL the statements of a batch are
//!   sent without waiting for each other's answers.

mod append;
mod batch;
mod error;
mod migrate;
mod pipelines;
mod postgres;
mod row;
mod sql;
mod sqlite;
mod traffic;
mod united;
mod value;

use std::time::Duration;

use jiff::Timestamp;

use traffic::Counters;

pub use batch::{Batch, Expect, Statement, Written};
pub use error::{MigrateError, OpenError, ReadError, WriteError};
pub use migrate::Migration;
pub use row::Row;
pub use traffic::Traffic;
pub use value::{Param, Params, Value};

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// SQLite: connections for reading. Default: 8.
    pub read_connections: usize,
    /// PostgreSQL: connections of this process, and two more for what is urgent. Default: 16.
    pub pool_size: usize,
    /// PostgreSQL: further connections, which all look-ups share. Default: as many as there are cores, 2 at least.
    pub look_up_connections: usize,
    /// How long a caller waits for a free connection, or for the answer to a look-up, before [`ReadError::Unavailable`].
    /// Default: 2 s.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_connections: 8,
            pool_size: 16,
            look_up_connections: std::thread::available_parallelism()
                .map_or(2, |cores| cores.get().max(2)),
            wait: Duration::from_secs(2),
        }
    }
}

/// Which engine is behind a [`Db`]. For log lines and metrics; nothing above may branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// An open database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Inner,
    counters: Counters,
}

#[derive(Clone)]
enum Inner {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

impl Db {
    /// Opens `sqlite:PATH`, `sqlite::memory:` (gone with the last clone) or `postgres://…`.
    pub async fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        let counters = Counters::default();
        let inner = if let Some(path) = url.strip_prefix("sqlite:") {
            Inner::Sqlite(sqlite::Sqlite::open(path, &options, &counters)?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Inner::Postgres(postgres::Postgres::open(url, &options, &counters).await?)
        } else {
            return Err(OpenError::Scheme);
        };
        Ok(Self { inner, counters })
    }

    /// Which engine this is.
    pub fn engine(&self) -> Engine {
        match &self.inner {
            Inner::Postgres(_) => Engine::Postgres,
            Inner::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// The same database for what many wait for: it does not stand in line with them for a connection, as long as one of
    /// two is free that nobody else gets.
    #[must_use]
    pub fn urgent(&self) -> Self {
        Self {
            inner: match &self.inner {
                Inner::Postgres(postgres) => Inner::Postgres(postgres.urgent()),
                // Reads there are as short as it takes to hand a connection on, and all writes are one line.
                Inner::Sqlite(sqlite) => Inner::Sqlite(sqlite.clone()),
            },
            counters: self.counters.clone(),
        }
    }

    /// Applies the migrations that are missing, in order. Safe on several nodes at once.
    ///
    /// # Errors
    /// [`MigrateError::Changed`] when an applied one has another text than the one given.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<(), MigrateError> {
        match &self.inner {
            Inner::Postgres(postgres) => postgres.migrate(migrations).await,
            Inner::Sqlite(sqlite) => sqlite.migrate(migrations).await,
        }
    }

    /// Runs one query.
    pub async fn read(&self, sql: &'static str, params: Params) -> Result<Vec<Row>, ReadError> {
        self.read_rows(Statement::new(sql, params)).await
    }

    /// Runs one query that has been put together.
    pub async fn read_rows(&self, statement: Statement) -> Result<Vec<Row>, ReadError> {
        let mut rows = self.read_all(vec![statement]).await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// Runs one query and takes its first row.
    pub async fn read_one(
        &self,
        sql: &'static str,
        params: Params,
    ) -> Result<Option<Row>, ReadError> {
        Ok(self.read(sql, params).await?.into_iter().next())
    }

    /// Runs several queries in one round trip, all on one snapshot; one list of rows for each.
    pub async fn read_all(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, ReadError> {
        self.counters.read();
        match &self.inner {
            // In a box: what waits for a server is large, and every future that asks a database would be as large.
            Inner::Postgres(postgres) => Box::pin(postgres.read_all(statements)).await,
            Inner::Sqlite(sqlite) => sqlite.read_all(&statements),
        }
    }

    /// Runs one query that finds a few rows by their keys, as [`Db::look_up_all`] does.
    pub async fn look_up(&self, statement: Statement) -> Result<Vec<Row>, ReadError> {
        let mut rows = self.look_up_all(vec![statement]).await?;
        Ok(rows.pop().unwrap_or_default())
    }

    /// Like [`Db::read_all`], for what finds a few rows by their keys, and for what every request asks: on PostgreSQL the
    /// look-ups of many callers share a connection, where each is answered after those before it. What takes longer is
    /// refused after [`Options::wait`].
    pub async fn look_up_all(
        &self,
        statements: Vec<Statement>,
    ) -> Result<Vec<Vec<Row>>, ReadError> {
        self.counters.read();
        match &self.inner {
            Inner::Postgres(postgres) => Box::pin(postgres.look_up_all(statements)).await,
            Inner::Sqlite(sqlite) => sqlite.read_all(&statements),
        }
    }

    /// Commits a batch, all or nothing, durable when this returns.
    pub async fn write(&self, batch: Batch) -> Result<Written, WriteError> {
        match &self.inner {
            Inner::Postgres(postgres) => Box::pin(postgres.write(batch)).await,
            Inner::Sqlite(sqlite) => sqlite.write(batch).await,
        }
    }

    /// Commits a batch of inserts, all or nothing, together with all others that wait at this moment; durable when this
    /// returns. For logs, and for what seldom conflicts: on PostgreSQL, a batch that does costs its neighbours time.
    pub async fn append(&self, batch: Batch) -> Result<(), WriteError> {
        match &self.inner {
            Inner::Postgres(postgres) => postgres.append(batch).await,
            Inner::Sqlite(sqlite) => sqlite.write(batch).await.map(drop),
        }
    }

    /// The database's clock.
    pub async fn now(&self) -> Result<Timestamp, ReadError> {
        self.read_one("select {now}", Params::default())
            .await?
            .ok_or(ReadError::Column { index: 0 })?
            .timestamp(0)
    }

    /// How often the database was asked.
    pub fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    /// Ends the connections after what is under way.
    pub async fn close(&self) {
        match &self.inner {
            Inner::Postgres(postgres) => postgres.close(),
            Inner::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}
