//! Where a case runs: a database that nobody else uses.

use std::hash::{BuildHasher, RandomState};

use store::{Db, Migration, Options};
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// A database of one test's own. Opened as often as the test wants.
pub(crate) struct Place {
    url: String,
    kind: Kind,
}

enum Kind {
    /// Gone with the folder.
    Sqlite(TempDir),
    /// The name of the database.
    Postgres(String),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("sqlite:{}", folder.path().join("vault.db").display()),
            kind: Kind::Sqlite(folder),
        }
    }

    pub(crate) async fn postgres() -> Self {
        // Every process of the test run takes names from the same server.
        let name = format!("store_{:016x}", RandomState::new().hash_one(()));
        server()
            .await
            .batch_execute(&format!("create database {name}"))
            .await
            .unwrap();
        Self {
            url: format!("{}/{name}", server_url()),
            kind: Kind::Postgres(name),
        }
    }

    /// Only tidiness: the server of a test run is thrown away with all that a failed test left on it.
    pub(crate) async fn remove(self) {
        if let Kind::Postgres(name) = &self.kind {
            server()
                .await
                .batch_execute(&format!("drop database {name} with (force)"))
                .await
                .unwrap();
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn open(&self) -> Db {
        self.open_with(Options::default()).await
    }

    pub(crate) async fn open_with(&self, options: Options) -> Db {
        Db::open(&self.url, options).await.unwrap()
    }

    /// Opened, with these tables.
    pub(crate) async fn with_tables(&self, sql: &'static str) -> Db {
        self.with_tables_and(sql, Options::default()).await
    }

    pub(crate) async fn with_tables_and(&self, sql: &'static str, options: Options) -> Db {
        let db = self.open_with(options).await;
        let tables = Migration::new(1, "tables of the test", sql);
        db.migrate(&[tables]).await.unwrap();
        db
    }

    /// Makes every write to the table wait until the hold is released, from outside of the `Db`.
    pub(crate) async fn hold_writes(&self, table: &str) -> Hold {
        match &self.kind {
            Kind::Sqlite(_) => {
                let connection = self.sqlite_connection();
                connection.execute_batch("begin immediate").unwrap();
                Hold::Sqlite(connection)
            }
            Kind::Postgres(_) => {
                let client = connect(&self.url).await;
                client
                    .batch_execute(&format!("begin; lock table {table} in exclusive mode"))
                    .await
                    .unwrap();
                Hold::Postgres(client)
            }
        }
    }

    /// How many commits wrote what is in the table now. On SQLite: all since the last checkpoint, to any table.
    pub(crate) async fn commits(&self, table: &str) -> usize {
        match &self.kind {
            Kind::Sqlite(folder) => {
                commits_in_wal(&std::fs::read(folder.path().join("vault.db-wal")).unwrap())
            }
            Kind::Postgres(_) => {
                let row = connect(&self.url)
                    .await
                    .query_one(
                        &format!("select count(distinct xmin::text) from {table}"),
                        &[],
                    )
                    .await
                    .unwrap();
                usize::try_from(row.get::<_, i64>(0)).unwrap()
            }
        }
    }

    /// How many connections others have. SQLite has none.
    pub(crate) async fn connections(&self) -> usize {
        match &self.kind {
            Kind::Sqlite(_) => 0,
            Kind::Postgres(name) => {
                let row = server()
                    .await
                    .query_one(
                        "select count(*) from pg_stat_activity where datname = $1",
                        &[name],
                    )
                    .await
                    .unwrap();
                usize::try_from(row.get::<_, i64>(0)).unwrap()
            }
        }
    }

    /// Ends all connections that others have, as a restarted server would. SQLite has no such thing.
    pub(crate) async fn end_connections(&self) {
        if let Kind::Postgres(name) = &self.kind {
            server()
                .await
                .execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
                    &[name],
                )
                .await
                .unwrap();
        }
    }

    fn sqlite_connection(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.url.trim_start_matches("sqlite:")).unwrap()
    }
}

pub(crate) enum Hold {
    Sqlite(rusqlite::Connection),
    Postgres(tokio_postgres::Client),
}

impl Hold {
    pub(crate) async fn release(self) {
        match self {
            Self::Sqlite(connection) => connection.execute_batch("rollback").unwrap(),
            Self::Postgres(client) => client.batch_execute("rollback").await.unwrap(),
        }
    }
}

/// A setting that comes from outside the test process.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has no configuration file; ./test speaks to it by environment"
)]
pub(crate) fn from_outside(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn server_url() -> String {
    from_outside("TOKENVAULT_TEST_POSTGRES").expect(
        "the PostgreSQL tests need a server, and TOKENVAULT_TEST_POSTGRES is not set: run ./test, which starts one",
    )
}

async fn server() -> tokio_postgres::Client {
    connect(&format!("{}/postgres", server_url())).await
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    // Ends with the client.
    tokio::spawn(connection);
    client
}

/// Counts the frames that end a transaction: those that say how large the database is after it.
/// <https://sqlite.org/fileformat2.html#walformat>
fn commits_in_wal(wal: &[u8]) -> usize {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let number = |at: usize| u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
    let page = usize::try_from(number(8)).unwrap();
    (HEADER..wal.len())
        .step_by(FRAME_HEADER + page)
        .filter(|frame| number(frame + 4) != 0)
        .count()
}
