//! What an exchange of a fresh token costs, beside what it must cost; and what else is asked for often.
//!
//! `cargo run --profile production -p bench` measures, in turn and in one go, on SQLite and on PostgreSQL: the three
//! exchanges at the vault, and at the *floor*, a server on the same HTTP stack that does only what an exchange must. Each
//! server is a process of its own, so that its CPU time is its own. Then, at the vault alone, other grants, a user's
//! accounts, and a page of the list of users among a hundred and among a million. `docs/performance.md` says how to read
//! the table.
//!
//! | module | what it holds |
//! |---|---|
//! | `target` | what a server process tells the load generator: where it is and how to ask it |
//! | `vault_server`, `seed` | the vault as `tokenvault serve` runs it, with one connected account |
//! | `floor` | the floor |
//! | `database` | a database for each server, and a PostgreSQL where none is given |
//! | `process` | server processes and their CPU time |
//! | `load` | connections that ask without a pause |
//! | `users` | many users |
//! | `stock`, `many` | connected accounts by the million, and exchanges among them |
//! | `day` | a day of many accounts in accelerated time |
//! | `report` | figures and the table |

mod audit;
mod connection;
mod curve;
mod database;
mod day;
mod floor;
mod load;
mod many;
mod nodes;
mod process;
mod report;
mod seed;
mod stock;
mod target;
mod tls;
mod users;
mod vault_server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::curve::Curves;
use crate::database::{Databases, Engine};
use crate::load::{Fleet, Load};
use crate::process::{CpuUsed, ServerProcess};
use crate::report::{Figures, Report, milliseconds};
use crate::target::{Ask, Errand, Exchange, Requests};

/// The one that `tokenvault` runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every phase is preceded by this much of the same load, uncounted.
const WARM_UP: Duration = Duration::from_secs(1);

/// How often in a second servers that are compared are asked in turn.
const TURNS: u32 = 4;
/// The callers of a herd, and how often there is one.
const HERD: usize = 1000;
const HERDS: usize = 10;
/// When it is over at the latest.
const HERD_DEADLINE: Duration = Duration::from_secs(30);
/// Milliseconds that a provider takes for a refresh where it does not answer at once: what large ones take.
const PROVIDER_TIME: i64 = 250;
/// A worker's request is good for 60 seconds after it was signed; signing ahead takes part of them.
const LONGEST_WORKER_PHASE: u64 = 30;

/// Measure the three exchanges of a fresh token at the vault and at the floor, on SQLite and on PostgreSQL, and other
/// requests at the vault
///
/// PostgreSQL is taken from TOKENVAULT_TEST_POSTGRES (postgres://USER@127.0.0.1:PORT), where a database is made and
/// dropped; without it, a throw-away cluster is started by scripts/postgres. Exits with 1 when any answer was not 200.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// How long each phase is measured, after a second of warm-up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Connections that ask without a pause; the exchanges are measured with each of these numbers, all else with the first
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_values_t = [32, 256],
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    connections: Vec<u16>,
    /// Only this database
    #[arg(long, value_name = "ENGINE")]
    only: Option<Engine>,
    /// Only this exchange, and nothing else
    #[arg(long)]
    exchange: Option<Exchange>,
    /// Only this of what is no exchange
    #[arg(long, conflicts_with = "exchange")]
    errand: Option<Errand>,
    /// The users of the long list
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1000..))]
    users: i64,
    /// Only a worker's exchanges for users by chance among so many connected accounts, at each of these numbers. A million
    /// takes 2 GB or 3 of disk
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..1_000_000_000),
        conflicts_with_all = ["exchange", "errand"]
    )]
    accounts: Vec<u64>,
    /// Only the refresh token exchange at so many vaults on one PostgreSQL, for each of these numbers
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..100),
        conflicts_with_all = ["exchange", "errand", "accounts"]
    )]
    nodes: Vec<u16>,
    /// Only audit rows, so many in a transaction, for each of these numbers
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..10_000),
        conflicts_with_all = ["exchange", "errand", "accounts", "nodes"]
    )]
    audit_rows: Vec<u16>,
    /// Draw what --accounts, --nodes and --audit-rows measure, as SVG in this folder
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// Ask by TLS; all but the exchanges, once, without it where there is a choice
    #[arg(long, default_value = "both", conflicts_with = "nodes")]
    tls: Tls,
    /// What the vault logs, into a file; the default is that of `tokenvault serve`
    #[arg(long, default_value = "info")]
    log: String,
    /// Where databases go; it should be on a disk. Default: the system's temporary folder
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Whether requests come by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tls {
    /// They do not
    Off,
    /// They do
    On,
    /// Everything without, and the exchanges once more with it
    Both,
}

impl Tls {
    /// With or without, in this order.
    fn turns(self) -> &'static [bool] {
        match self {
            Self::Off => &[false],
            Self::On => &[true],
            Self::Both => &[false, true],
        }
    }
}

impl Options {
    /// How many connections ask, where that is not what is looked at.
    fn usual_connections(&self) -> usize {
        usize::from(self.connections.first().copied().unwrap_or(1))
    }

    /// Whether they ask by TLS, where that is not what is looked at.
    fn usual_tls(&self) -> bool {
        self.tls == Tls::On
    }
}

/// What else this program does, and what it runs itself again as.
#[derive(Debug, Subcommand)]
enum Role {
    /// A day of many accounts in accelerated time, with an outage of the largest provider
    ///
    /// Exits with 1 when something was not as it has to be: a token that had ended, a refresh token used twice, an
    /// account that was lost or not kept alive.
    Day(day::DayArgs),
    /// The floor, until standard input ends
    #[command(hide = true)]
    ServeFloor(ServerArgs),
    /// The vault, until standard input ends
    #[command(hide = true)]
    ServeVault(ServerArgs),
}

/// How a server process is told what to be.
#[derive(Debug, Clone, Args)]
struct ServerArgs {
    /// `sqlite:PATH` or `postgres://…`, an empty database
    #[arg(long)]
    database: String,
    /// A folder of its own
    #[arg(long)]
    folder: PathBuf,
    /// What is logged
    #[arg(long)]
    log: String,
    /// Speak TLS, with a certificate of its own
    #[arg(long)]
    tls: bool,
    /// Be one more node, of this name, on a database that has everything
    #[arg(long)]
    join: Option<String>,
}

fn main() -> ExitCode {
    // The user agent's HTTP client asks for the process's provider, although nothing here is TLS.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match play(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays a role to its end; what it says is whether everything was as it has to be.
fn play(cli: Cli) -> Result<bool> {
    let mut threads = match cli.role {
        Some(_) => tokio::runtime::Builder::new_multi_thread(),
        // Whoever asks has the same cores as whoever answers: a second thread would only take turns with theirs.
        None => tokio::runtime::Builder::new_current_thread(),
    };
    threads.enable_all().build()?.block_on(async {
        match cli.role {
            Some(Role::Day(args)) => day::run(&args).await,
            Some(Role::ServeFloor(args)) => floor::run(&args).await.map(|()| true),
            Some(Role::ServeVault(args)) => vault_server::run(&args).await.map(|()| true),
            None => measure(&cli.options).await,
        }
    })
}

/// Measures everything that was asked for; whether all of it was there and every answer was right.
async fn measure(options: &Options) -> Result<bool> {
    let exchanges = match (options.exchange, options.errand) {
        (Some(only), _) => vec![only],
        (None, Some(_)) => vec![],
        (None, None) => Exchange::ALL.to_vec(),
    };
    let asks_as_worker = exchanges.contains(&Exchange::Worker) || !options.accounts.is_empty();
    if asks_as_worker && options.seconds > LONGEST_WORKER_PHASE {
        bail!(
            "--seconds {}: a worker's requests are signed ahead and good for a minute; at most {LONGEST_WORKER_PHASE}, or another --exchange",
            options.seconds
        );
    }
    let engines = match options.only {
        Some(only) => vec![only],
        // Several processes write to one SQLite file, but that is not what it is for.
        None if !options.nodes.is_empty() => vec![Engine::Postgres],
        None => vec![Engine::Sqlite, Engine::Postgres],
    };
    let mut report = Report::begin(options)?;
    let mut curves = Curves::default();
    for engine in engines {
        let databases = match Databases::open(engine, options.folder.as_deref()).await {
            Ok(databases) => databases,
            // A machine without PostgreSQL still gets the other half.
            Err(error) if engine == Engine::Postgres && may_skip_postgres(options) => {
                report.skipped(engine, &error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let measured = if !options.accounts.is_empty() {
            many::measure(engine, &databases, options, &mut report, &mut curves).await
        } else if !options.nodes.is_empty() {
            nodes::measure(engine, &databases, options, &mut report, &mut curves).await
        } else if !options.audit_rows.is_empty() {
            audit::measure(engine, &databases, options, &mut curves).await
        } else {
            measure_engine(engine, &databases, &exchanges, options, &mut report).await
        };
        databases.close().await;
        measured.with_context(|| format!("measuring on {engine}"))?;
    }
    if let Some(folder) = &options.pictures {
        curves.write(folder)?;
    }
    Ok(report.end())
}

/// Whoever names a PostgreSQL, or asks for nothing else, does not want it left out.
fn may_skip_postgres(options: &Options) -> bool {
    options.only.is_none() && database::named_postgres().is_none()
}

async fn measure_engine(
    engine: Engine,
    databases: &Databases,
    exchanges: &[Exchange],
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    report.engine(engine);
    for tls in options.tls.turns() {
        if exchanges.is_empty() && *tls != options.usual_tls() {
            continue;
        }
        let floor = ServerProcess::start("serve-floor", databases, options, *tls).await?;
        let vault = ServerProcess::start("serve-vault", databases, options, *tls).await?;
        for connections in &options.connections {
            let way = Way {
                tls: *tls,
                connections: usize::from(*connections),
            };
            for exchange in exchanges {
                let rows =
                    measure_exchange(engine, *exchange, way, [&floor, &vault], databases, options)
                        .await?;
                report.exchange(&way.name(*exchange, options), &rows);
            }
        }
        floor.stop().await?;
        if options.exchange.is_none() && *tls == options.usual_tls() {
            measure_errands(engine, &vault, databases, options, report).await?;
        }
        vault.stop().await?;
    }
    Ok(())
}

/// How an exchange is asked for.
#[derive(Debug, Clone, Copy)]
struct Way {
    tls: bool,
    connections: usize,
}

impl Way {
    /// The exchange, and what is not as usual.
    fn name(self, exchange: Exchange, options: &Options) -> String {
        let mut name = exchange.to_string();
        if self.tls {
            name.push_str(", TLS");
        }
        if self.connections != options.usual_connections() {
            name.push_str(&format!(", {} connections", self.connections));
        }
        name
    }
}

/// One exchange at the floor and at the vault: a part of a second of each in turn, because a machine's speed changes from
/// one second to the next.
async fn measure_exchange(
    engine: Engine,
    exchange: Exchange,
    way: Way,
    [floor, vault]: [&ServerProcess; 2],
    databases: &Databases,
    options: &Options,
) -> Result<Vec<(report::Server, Figures)>> {
    eprintln!("{engine}, {}", way.name(exchange, options));
    let mut phases = Vec::new();
    for (name, server, path) in [
        (report::Server::BareFloor, floor, floor::PATH),
        (report::Server::Floor, floor, floor::AUDITED_PATH),
        (report::Server::Vault, vault, vault_server::PATH),
    ] {
        let target = server.target(exchange);
        let requests = async move |count| target.prepare(path, count).await;
        let phase = Phase::begin(server, databases, requests, way.connections)
            .await
            .with_context(|| format!("{exchange} at the {name}"))?;
        phases.push((name, phase));
    }
    for _ in 0..options.seconds * u64::from(TURNS) {
        for (name, phase) in &mut phases {
            phase
                .go_on(Duration::from_secs(1) / TURNS)
                .await
                .with_context(|| format!("{exchange} at the {name}"))?;
        }
    }
    phases
        .into_iter()
        .map(|(name, phase)| Ok((name, phase.end()?)))
        .collect()
}

/// What is no exchange, at the vault.
async fn measure_errands(
    engine: Engine,
    vault: &ServerProcess,
    databases: &Databases,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let errands = match options.errand {
        Some(only) => vec![only],
        None => Errand::ALL.to_vec(),
    };
    for errand in errands {
        let numbers = match errand {
            Errand::Users => vec![100, options.users],
            Errand::Herd => vec![0, PROVIDER_TIME],
            _ => vec![0],
        };
        for number in numbers {
            let (mut what, ask) = match errand {
                Errand::Users => {
                    users::grow(vault, number).await?;
                    let ask = users::from_the_middle(vault, number).await?;
                    (format!("{errand}, of {number}"), ask)
                }
                Errand::Herd => {
                    vault.set_provider_time(number).await?;
                    let what = format!("{errand}, provider {number} ms");
                    (what, vault.errand(errand)?.clone())
                }
                _ => (errand.to_string(), vault.errand(errand)?.clone()),
            };
            eprintln!("{engine}, {what}");
            let requests = async |_| Ok(ask.again_and_again());
            let measured = match errand {
                Errand::Herd => {
                    measure_herd(vault, databases, &ask)
                        .await
                        .map(|(figures, last)| {
                            what += &format!(", last answer {:.0} ms (median)", milliseconds(last));
                            figures
                        })
                }
                Errand::Refresh => measure_phase(vault, databases, requests, 1, options).await,
                _ => {
                    let connections = options.usual_connections();
                    measure_phase(vault, databases, requests, connections, options).await
                }
            };
            let figures = measured.with_context(|| what.clone())?;
            if errand == Errand::Herd {
                vault.set_provider_time(0).await?;
            }
            report.errand(&what, &figures);
        }
    }
    Ok(())
}

/// One server, one kind of request: a warm-up, then the measured time.
async fn measure_phase(
    server: &ServerProcess,
    databases: &Databases,
    prepare: impl AsyncFn(usize) -> Result<Arc<Requests>>,
    connections: usize,
    options: &Options,
) -> Result<Figures> {
    let mut phase = Phase::begin(server, databases, prepare, connections).await?;
    phase.go_on(Duration::from_secs(options.seconds)).await?;
    phase.end()
}

/// One kind of request at one server, and what was seen of it so far.
struct Phase<'a, P> {
    server: &'a ServerProcess,
    databases: &'a Databases,
    prepare: P,
    fleet: Fleet,
    /// Requests a second that the warm-up reached.
    expected: f64,
    load: Load,
    used: CpuUsed,
    traffic: [u64; 2],
}

impl<'a, P: AsyncFn(usize) -> Result<Arc<Requests>>> Phase<'a, P> {
    /// Warms the server up, which also says how many requests have to be prepared.
    async fn begin(
        server: &'a ServerProcess,
        databases: &'a Databases,
        prepare: P,
        connections: usize,
    ) -> Result<Self> {
        let requests = prepare(20_000).await?;
        let mut fleet = server.connect(connections).await?;
        let warm_up = fleet.run(requests, WARM_UP).await?;
        warm_up.check()?;
        Ok(Self {
            server,
            databases,
            prepare,
            fleet,
            expected: warm_up.requests_per_second(),
            load: Load::default(),
            used: CpuUsed::default(),
            traffic: [0; 2],
        })
    }

    async fn go_on(&mut self, time: Duration) -> Result<()> {
        // A server gets faster as it warms up; what is prepared too much is thrown away.
        let expected = self.expected * time.as_secs_f64() * 1.6;
        let requests = (self.prepare)(expected as usize + 1000).await?;
        let traffic = self.server.traffic().await?;
        let before = self.server.cpu(self.databases).await?;
        self.load.add(self.fleet.run(requests, time).await?);
        self.used
            .add(&before.until(&self.server.cpu(self.databases).await?));
        let now = self.server.traffic().await?;
        for ((sum, before), now) in self.traffic.iter_mut().zip(traffic).zip(now) {
            *sum += now.saturating_sub(before);
        }
        Ok(())
    }

    fn end(self) -> Result<Figures> {
        conclude(self.server, self.load, &self.used, [[0; 2], self.traffic])
    }
}

/// The figures of what was seen; of a server that failed, with the end of its log.
fn conclude(
    server: &ServerProcess,
    mut load: Load,
    used: &CpuUsed,
    [before, after]: [[u64; 2]; 2],
) -> Result<Figures> {
    load.latencies.sort_unstable();
    let figures = Figures::of(&load, used, server.memory()?).with_traffic(before, after);
    if figures.has_failed() {
        eprintln!("{}", server.last_of_log());
    }
    Ok(figures)
}

/// Callers that all find the same token too old, at once; and how long a herd's last one waited, by the median.
async fn measure_herd(
    server: &ServerProcess,
    databases: &Databases,
    ask: &Ask,
) -> Result<(Figures, Duration)> {
    let mut fleet = server.connect(HERD).await?;
    // Connections are kept alive: what opening them costs is not the herd's.
    fleet.run(ask.times(HERD), HERD_DEADLINE).await?.check()?;
    let traffic = server.traffic().await?;
    let before = server.cpu(databases).await?;
    let mut all = Load::default();
    let mut lasts = Vec::with_capacity(HERDS);
    for _ in 0..HERDS {
        let herd = fleet.run(ask.times(HERD), HERD_DEADLINE).await?;
        lasts.push(herd.elapsed);
        all.add(herd);
    }
    let used = before.until(&server.cpu(databases).await?);
    lasts.sort_unstable();
    let last = lasts.get(HERDS / 2).copied().unwrap_or_default();
    let figures = conclude(server, all, &used, [traffic, server.traffic().await?])?;
    Ok((figures, last))
}
