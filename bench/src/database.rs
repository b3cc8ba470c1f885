//! A new database for each server, on either engine, and a PostgreSQL where none is given.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use seal::SystemEntropy;
use store::{Batch, Db, Options, Statement, params};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Where a running PostgreSQL is named.
const VARIABLE: &str = "TOKENVAULT_TEST_POSTGRES";
/// How to start one.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/postgres");
/// How long starting one may take; it may have to be installed first.
const START: Duration = Duration::from_secs(300);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        })
    }
}

/// An empty database.
pub(crate) struct Database {
    /// What `Db::open` takes.
    pub(crate) url: String,
    /// PostgreSQL's name for it.
    pub(crate) name: String,
    /// A folder beside it.
    pub(crate) folder: PathBuf,
}

/// Where databases are made. They go with it.
pub(crate) struct Databases {
    folder: TempDir,
    postgres: Option<Postgres>,
}

struct Postgres {
    url: String,
    admin: Db,
    made: std::sync::Mutex<Vec<String>>,
    cluster: Option<Cluster>,
}

/// A throw-away PostgreSQL that ends with its standard input.
struct Cluster(Child);

/// The PostgreSQL that the environment names.
#[expect(
    clippy::disallowed_methods,
    reason = "measurements are told their server by the environment, as tests are"
)]
pub(crate) fn named_postgres() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

impl Databases {
    /// Makes a folder, and finds or starts PostgreSQL.
    pub(crate) async fn open(engine: Engine, folder: Option<&Path>) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("tokenvault-bench.");
        let folder = match folder {
            Some(folder) => builder
                .tempdir_in(folder)
                .with_context(|| format!("--folder {}", folder.display()))?,
            None => builder.tempdir()?,
        };
        let postgres = match engine {
            Engine::Postgres => Some(Postgres::find().await?),
            Engine::Sqlite => None,
        };
        Ok(Self { folder, postgres })
    }

    /// Makes a database for a server.
    pub(crate) async fn create(&self, server: &str) -> Result<Database> {
        let folder = self.folder.path().join(server);
        std::fs::create_dir_all(&folder)?;
        let Some(postgres) = &self.postgres else {
            return Ok(Database {
                url: format!("sqlite:{}", folder.join("vault.db").display()),
                name: String::new(),
                folder,
            });
        };
        let name = seal::random_id(&SystemEntropy, &format!("bench_{server}_")).to_lowercase();
        postgres.execute(format!("create database {name}")).await?;
        if let Ok(mut made) = postgres.made.lock() {
            made.push(name.clone());
        }
        Ok(Database {
            url: format!("{}/{name}", postgres.url),
            name,
            folder,
        })
    }

    /// The processes that serve a database's connections; none for SQLite.
    pub(crate) async fn processes(&self, name: &str) -> Result<Vec<u32>> {
        let Some(postgres) = &self.postgres else {
            return Ok(Vec::new());
        };
        let rows = postgres
            .admin
            .read(
                "select pid::bigint from pg_stat_activity where datname = $1::text",
                params![name],
            )
            .await?;
        rows.iter()
            .map(|row| Ok(u32::try_from(row.int(0)?)?))
            .collect()
    }

    /// Drops what was made and ends what was started.
    pub(crate) async fn close(self) {
        let Some(postgres) = self.postgres else {
            return;
        };
        let made = postgres
            .made
            .lock()
            .map(|made| made.clone())
            .unwrap_or_default();
        for name in made {
            let dropped = postgres
                .execute(format!("drop database {name} with (force)"))
                .await;
            if let Err(error) = dropped {
                eprintln!("the database {name} stays behind: {error:#}");
            }
        }
        postgres.admin.close().await;
        if let Some(Cluster(mut child)) = postgres.cluster {
            drop(child.stdin.take());
            let _ = child.wait().await;
        }
    }
}

impl Postgres {
    async fn find() -> Result<Self> {
        let (url, cluster) = match named_postgres() {
            Some(url) => (url, None),
            None => {
                let (url, cluster) = Cluster::start()
                    .await
                    .with_context(|| format!("{VARIABLE} is not set, and none can be started"))?;
                (url, Some(cluster))
            }
        };
        let url = url.trim_end_matches('/').to_owned();
        let admin = Db::open(&format!("{url}/postgres"), Options::default())
            .await
            .with_context(|| format!("opening {url}"))?;
        Ok(Self {
            url,
            admin,
            made: std::sync::Mutex::default(),
            cluster,
        })
    }

    /// Runs a statement that takes no parameters and fits into no transaction; its text holds our own letters only.
    async fn execute(&self, sql: String) -> Result<()> {
        let sql: &'static str = Box::leak(sql.into_boxed_str());
        self.admin
            .append(Batch::new().with(Statement::new(sql, params![])))
            .await?;
        Ok(())
    }
}

impl Cluster {
    async fn start() -> Result<(String, Self)> {
        if !Path::new(SCRIPT).exists() {
            bail!("{SCRIPT} is not there");
        }
        eprintln!("starting a PostgreSQL");
        let mut child = Command::new("bash")
            .args(["-c", r#"source "$0"; trap stop_postgres EXIT; start_postgres >&2 || exit 1; echo "$TOKENVAULT_TEST_POSTGRES"; cat >/dev/null"#])
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting bash")?;
        let output = child.stdout.take().context("bash has no output")?;
        let mut lines = BufReader::new(output).lines();
        let url = tokio::time::timeout(START, lines.next_line())
            .await
            .context("PostgreSQL does not start")??
            .context("PostgreSQL did not start")?;
        Ok((url, Self(child)))
    }
}
