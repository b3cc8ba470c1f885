//! A database of its own for every story, on either engine.

use std::sync::Arc;

use seal::SystemEntropy;
use store::{Batch, Db, Options, Statement, params};
use tempfile::TempDir;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A server, from `TOKENVAULT_TEST_POSTGRES`.
    Postgres,
    /// A file.
    Sqlite,
}

/// An empty database. The folder of a SQLite one goes with it.
#[derive(Clone)]
pub struct Database {
    /// What `Db::open` and `tokenvault serve` take.
    pub url: String,
    folder: Arc<TempDir>,
}

impl Database {
    /// Makes one.
    pub async fn new(engine: Engine) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let url = match engine {
            Engine::Sqlite => format!("sqlite:{}", folder.path().join("vault.db").display()),
            Engine::Postgres => {
                let server = server();
                let name = seal::random_id(&SystemEntropy, "t_").to_lowercase();
                // `create database` takes no parameters; the name is our own letters and digits.
                let sql: &'static str =
                    Box::leak(format!("create database {name}").into_boxed_str());
                let admin = Db::open(&format!("{server}/postgres"), Options::default())
                    .await
                    .unwrap();
                admin
                    .append(Batch::new().with(Statement::new(sql, params![])))
                    .await
                    .unwrap_or_else(|error| panic!("creating a database on {server}: {error:?}"));
                admin.close().await;
                format!("{server}/{name}")
            }
        };
        Self { url, folder }
    }

    /// Opens it once more, as another node would.
    pub async fn open(&self) -> Db {
        Db::open(
            &self.url,
            Options {
                pool_size: 16,
                ..Options::default()
            },
        )
        .await
        .unwrap()
    }

    /// A folder that lives as long as the database.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Everything that the database holds, as bytes to look for secrets in.
    pub async fn dump(&self, db: &Db) -> Vec<u8> {
        if self.url.starts_with("sqlite:") {
            let mut bytes = Vec::new();
            for name in ["vault.db", "vault.db-wal"] {
                bytes.extend(std::fs::read(self.folder.path().join(name)).unwrap_or_default());
            }
            return bytes;
        }
        let tables = db
            .read(
                "select table_name::text from information_schema.tables where table_schema = 'public'",
                params![],
            )
            .await
            .unwrap();
        let mut bytes = Vec::new();
        for table in &tables {
            let table = table.text(0).unwrap();
            let sql: &'static str =
                Box::leak(format!("select t::text from {table} t").into_boxed_str());
            for row in db.read(sql, params![]).await.unwrap() {
                bytes.extend(row.text(0).unwrap().as_bytes());
                bytes.push(b'\n');
            }
        }
        bytes
    }
}

/// Runs one statement of a test that plays an attacker or an administrator with a database client.
pub(crate) async fn execute(db: &Db, sql: &'static str, params: store::Params) -> u64 {
    let written = db
        .write(Batch::new().with(Statement::new(sql, params)))
        .await
        .unwrap();
    written.rows_affected(0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is told its server by the environment"
)]
fn server() -> String {
    std::env::var("TOKENVAULT_TEST_POSTGRES").unwrap_or_else(|_| {
        panic!("TOKENVAULT_TEST_POSTGRES is not set: run ./test, which starts a PostgreSQL for the tests")
    })
}
