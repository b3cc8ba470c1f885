//! Figures, and the table that they end up in: Markdown, readable as it stands.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::database::Engine;
use crate::load::Load;
use crate::process::CpuUsed;

/// What one server did with one exchange.
#[derive(Debug)]
pub(crate) struct Figures {
    requests: usize,
    requests_per_second: f64,
    median: Duration,
    p99: Duration,
    p999: Duration,
    /// Microseconds of CPU time a request.
    server: f64,
    database: f64,
    /// Of the cores' time, how much the load generator took, in percent.
    load: f64,
    /// Of the server's first process, by request: round trips that read, and transactions.
    reads: f64,
    commits: f64,
    /// Resident memory of the server afterwards, in MiB.
    memory: f64,
    /// What went wrong; such figures measure nothing.
    failure: Option<String>,
}

impl Figures {
    pub(crate) fn of(load: &Load, cpu: &CpuUsed, memory: f64) -> Self {
        let a_request = |time: Duration| {
            let microseconds = time.as_secs_f64() * 1e6;
            match load.latencies.len() {
                0 => 0.0,
                requests => microseconds / requests as f64,
            }
        };
        Self {
            requests: load.latencies.len(),
            requests_per_second: load.requests_per_second(),
            median: load.within(500),
            p99: load.within(990),
            p999: load.within(999),
            server: a_request(cpu.server),
            database: a_request(cpu.database),
            load: busy(cpu.generator, load.elapsed),
            reads: 0.0,
            commits: 0.0,
            memory,
            failure: load.check().err().map(|error| format!("{error:#}")),
        }
    }

    /// With what the database was asked between two moments.
    pub(crate) fn with_traffic(mut self, before: [u64; 2], after: [u64; 2]) -> Self {
        let a_request = |before: u64, after: u64| match self.requests {
            0 => 0.0,
            requests => after.saturating_sub(before) as f64 / requests as f64,
        };
        let [[reads, commits], [more_reads, more_commits]] = [before, after];
        (self.reads, self.commits) = (
            a_request(reads, more_reads),
            a_request(commits, more_commits),
        );
        self
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests_per_second
    }

    /// Whether some request was not answered with 200.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// How much of another server's work this one does with the same CPU time.
    fn ratio_to(&self, other: &Self) -> f64 {
        if self.server > 0.0 {
            other.server / self.server
        } else {
            0.0
        }
    }
}

/// The report, printed as it comes.
pub(crate) struct Report {
    is_good: bool,
}

impl Report {
    /// Prints what the figures depend on.
    pub(crate) fn begin(options: &Options) -> Result<Self> {
        println!(
            "{} × {}, load average {} before; a durable write of 4 KiB takes {:.2} ms here (median).",
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu_model(),
            load_average(),
            milliseconds(durable_write(options.folder.as_deref())?),
        );
        println!(
            "{} connections and {} TLS where nothing else is said, {} s each after {} s of warm-up, keep-alive; server, load generator and database share the cores.",
            options.usual_connections(),
            if options.usual_tls() { "with" } else { "no" },
            options.seconds,
            crate::WARM_UP.as_secs(),
        );
        println!(
            "Ratio: requests per CPU second of the server process, vault to floor; the floor audits durably, as the vault does\n(in parentheses: to the floor without audit)."
        );
        Ok(Self { is_good: true })
    }

    /// Says that an engine was left out.
    pub(crate) fn skipped(&mut self, engine: Engine, why: &anyhow::Error) {
        println!("\n## {engine}\n\nSKIPPED, nothing was measured: {why:#}");
    }

    /// Begins an engine's table.
    pub(crate) fn engine(&mut self, engine: Engine) {
        println!("\n## {engine}\n");
        let [head, rule] = HEAD;
        println!("{head}\n{rule}");
    }

    /// One exchange: the floors first, the vault last.
    pub(crate) fn exchange(&mut self, what: &str, rows: &[(Server, Figures)]) {
        let of = |wanted: Server| {
            rows.iter()
                .find(|(server, _)| *server == wanted)
                .map(|(_, figures)| figures)
        };
        for (server, figures) in rows {
            let ratio = match (server, of(Server::Floor), of(Server::BareFloor)) {
                (Server::Vault, Some(floor), Some(bare)) => format!(
                    "{:.2} ({:.2})",
                    figures.ratio_to(floor),
                    figures.ratio_to(bare)
                ),
                _ => String::new(),
            };
            self.row(what, *server, figures, &ratio);
        }
    }

    /// Something that only the vault does.
    pub(crate) fn errand(&mut self, what: &str, figures: &Figures) {
        self.row(what, Server::Vault, figures, "");
    }

    /// Begins the table of an engine's numbers of accounts.
    pub(crate) fn accounts_of(&mut self, engine: Engine) {
        println!("\n## Exchanges of a privileged worker for users by chance, {engine}\n");
        let [head, rule] = ACCOUNTS_HEAD;
        println!("{head}\n{rule}");
    }

    /// One number of accounts. `made`: how many were made for it, in what time.
    pub(crate) fn accounts(&mut self, count: u64, figures: &Figures, made: (u64, Duration)) {
        println!("{}", figures.accounts_row(count, crate::many::rate(made)));
        if let Some(failure) = &figures.failure {
            self.is_good = false;
            eprintln!("error: among {count} accounts: {failure}");
        }
    }

    fn row(&mut self, what: &str, server: Server, figures: &Figures, ratio: &str) {
        println!("{}", figures.row(what, server, ratio));
        if let Some(failure) = &figures.failure {
            self.is_good = false;
            eprintln!("error: {what} at the {server}: {failure}");
        }
    }

    /// Whether every answer was right.
    pub(crate) fn end(self) -> bool {
        if !self.is_good {
            eprintln!("error: some requests failed; the figures above are not to be used");
        }
        self.is_good
    }
}

/// Which server a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// The floor without its durable insert.
    BareFloor,
    /// The floor with one durable insert a request.
    Floor,
    /// The vault.
    Vault,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BareFloor => "floor without audit",
            Self::Floor => "floor",
            Self::Vault => "vault",
        })
    }
}

const HEAD: [&str; 2] = [
    "| what                            | server              | requests/s | p50 ms | p99 ms | p99.9 ms | CPU µs/request | of PostgreSQL | reads | commits | load % | MiB | ratio       |",
    "|---------------------------------|---------------------|-----------:|-------:|-------:|---------:|---------------:|--------------:|------:|--------:|-------:|----:|-------------|",
];

const ACCOUNTS_HEAD: [&str; 2] = [
    "| accounts | requests/s | p50 ms | p99 ms | CPU µs/request | of PostgreSQL | load % | MiB | made before, accounts/s |",
    "|---------:|-----------:|-------:|-------:|---------------:|--------------:|-------:|----:|------------------------:|",
];

impl Figures {
    fn accounts_row(&self, count: u64, made_a_second: f64) -> String {
        let database = match self.database {
            0.0 => String::new(),
            database => format!("{database:.0}"),
        };
        format!(
            "| {count:>8} | {:>10.0} | {:>6.2} | {:>6.2} | {:>14.0} | {database:>13} | {:>6.0} | {:>3.0} | {made_a_second:>23.0} |",
            self.requests_per_second,
            milliseconds(self.median),
            milliseconds(self.p99),
            self.server,
            self.load,
            self.memory,
        )
    }

    fn row(&self, what: &str, server: Server, ratio: &str) -> String {
        let database = match self.database {
            0.0 => String::new(),
            database => format!("{database:.0}"),
        };
        format!(
            "| {what:<31} | {server:<19} | {:>10.0} | {:>6.2} | {:>6.2} | {:>8.2} | {:>14.0} | {database:>13} | {:>5.2} | {:>7.3} | {:>6.0} | {:>3.0} | {ratio:<11} |",
            self.requests_per_second,
            milliseconds(self.median),
            milliseconds(self.p99),
            milliseconds(self.p999),
            self.server,
            self.reads,
            self.commits,
            self.load,
            self.memory,
        )
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A count by seconds; 0 in no time.
pub(crate) fn per_second(count: usize, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

/// How much of all cores' time something took, in percent.
fn busy(used: Duration, elapsed: Duration) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let all = elapsed.as_secs_f64() * cores as f64;
    if all > 0.0 {
        100.0 * used.as_secs_f64() / all
    } else {
        0.0
    }
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.to_owned())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// What the disk costs: the median time of a small write that is synced.
fn durable_write(folder: Option<&Path>) -> Result<Duration> {
    let mut file = match folder {
        Some(folder) => tempfile::tempfile_in(folder)?,
        None => tempfile::tempfile()?,
    };
    let mut times = Vec::new();
    for _ in 0..101 {
        let begun = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_cpu_time_is_half_the_ratio() {
        let figures = |microseconds: u64| {
            let load = Load {
                elapsed: Duration::from_secs(1),
                latencies: vec![Duration::from_millis(1); 1000],
                ..Load::default()
            };
            let cpu = CpuUsed {
                server: Duration::from_micros(microseconds) * 1000,
                ..CpuUsed::default()
            };
            Figures::of(&load, &cpu, 64.0).with_traffic([1, 2], [1001, 127])
        };
        assert!((figures(100).ratio_to(&figures(50)) - 0.5).abs() < 1e-9);
        let row = figures(100).row("refresh token", Server::Vault, "0.50 (0.25)");
        assert_eq!(
            row,
            "| refresh token                   | vault               |       1000 |   1.00 |   1.00 |     1.00 |            100 |               |  1.00 |   0.125 |      0 |  64 | 0.50 (0.25) |"
        );
        assert_eq!(row.chars().count(), HEAD[0].chars().count());
    }

    #[test]
    fn a_generator_that_takes_every_core_is_wholly_busy() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = u32::try_from(cores).unwrap();
        let second = Duration::from_secs(1);
        assert!((busy(second * cores, second) - 100.0).abs() < 1e-9);
        assert!((busy(second * cores, second * 4) - 25.0).abs() < 1e-9);
        assert!(busy(second, Duration::ZERO).abs() < 1e-9);
    }
}
