//! Server processes, and the CPU time that they and their database use.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Options;
use crate::database::{Database, Databases};
use crate::load::{self, Fleet};
use crate::target::{Ask, Errand, Exchange, Ready, Target};
use crate::vault_server::{PROVIDER_TIME_PATH, TRAFFIC_PATH};

/// How long a server may take to be ready, its keys and its connected account included.
const START: Duration = Duration::from_secs(60);
/// How long a server may take to end.
const STOP: Duration = Duration::from_secs(30);
/// Linux counts CPU time in hundredths of a second, whatever the kernel's own clock is.
const TICK: Duration = Duration::from_millis(10);

/// A server of ours, running until its standard input ends: one process, or several on one database.
pub(crate) struct ServerProcess {
    nodes: Vec<Node>,
    database: Database,
    log: PathBuf,
    ready: Ready,
}

struct Node {
    child: Child,
    pid: u32,
    address: SocketAddr,
}

/// CPU time used so far.
#[derive(Debug, Default)]
pub(crate) struct CpuTimes {
    server: Duration,
    generator: Duration,
    /// By process: a connection's process begins at zero when it comes.
    database: BTreeMap<u32, Duration>,
}

/// CPU time used between two moments.
#[derive(Debug, Default)]
pub(crate) struct CpuUsed {
    pub(crate) server: Duration,
    pub(crate) generator: Duration,
    /// The processes of PostgreSQL that serve the server's connections; zero where there are none.
    pub(crate) database: Duration,
}

impl CpuUsed {
    /// Takes in what was used later.
    pub(crate) fn add(&mut self, later: &Self) {
        self.server += later.server;
        self.generator += later.generator;
        self.database += later.database;
    }
}

impl ServerProcess {
    /// Runs this program again as a server on a new database, and waits until it is ready.
    pub(crate) async fn start(
        server: &str,
        databases: &Databases,
        options: &Options,
        tls: bool,
    ) -> Result<Self> {
        let mut name = server.replace('-', "_");
        let mut args = vec!["--log", &options.log];
        if tls {
            name.push_str("_tls");
            args.push("--tls");
        }
        let database = databases.create(&name).await?;
        let (child, line) = spawn(server, &database, &args).await?;
        let ready: Ready =
            serde_json::from_str(&line).with_context(|| format!("what {server} says"))?;
        Ok(Self {
            nodes: vec![Node::of(child, ready.address)?],
            log: database.folder.join("server.log"),
            database,
            ready,
        })
    }

    /// Runs the vault once more on the same database.
    pub(crate) async fn add_node(&mut self, options: &Options) -> Result<()> {
        let name = format!("node-{}", self.nodes.len());
        let args = ["--log", &options.log, "--join", &name];
        let (child, line) = spawn("serve-vault", &self.database, &args).await?;
        let address = line.parse().with_context(|| format!("what {name} says"))?;
        self.nodes.push(Node::of(child, address)?);
        Ok(())
    }

    /// Connections to its nodes in turn.
    pub(crate) async fn connect(&self, count: usize) -> Result<Fleet> {
        let addresses: Vec<SocketAddr> = self.nodes.iter().map(|node| node.address).collect();
        load::connect(&addresses, count, self.ready.certificate.as_deref()).await
    }

    pub(crate) fn target(&self, exchange: Exchange) -> &Target {
        match exchange {
            Exchange::Access => &self.ready.access,
            Exchange::Refresh => &self.ready.refresh,
            Exchange::Worker => &self.ready.worker,
        }
    }

    /// What to ask for one of the other things.
    pub(crate) fn errand(&self, errand: Errand) -> Result<&Ask> {
        let place = Errand::ALL.iter().position(|known| *known == errand);
        place
            .and_then(|place| self.ready.errands.get(place))
            .with_context(|| format!("the server does not say how to ask for {errand}"))
    }

    /// Where its database is.
    pub(crate) fn database_url(&self) -> &str {
        &self.database.url
    }

    /// Its own folder.
    pub(crate) fn folder(&self) -> Result<&Path> {
        self.log.parent().context("a log without a folder")
    }

    /// Resident memory of its first process now, in MiB.
    pub(crate) fn memory(&self) -> Result<f64> {
        let pid = self.nodes.first().context("no node")?.pid;
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path)?;
        let kilobytes: Option<f64> = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse().ok());
        Ok(kilobytes.with_context(|| format!("{path} has no VmRSS"))? / 1024.0)
    }

    /// CPU time until now.
    pub(crate) async fn cpu(&self, databases: &Databases) -> Result<CpuTimes> {
        let pids: Vec<u32> = self.nodes.iter().map(|node| node.pid).collect();
        CpuTimes::of(&pids, &self.database.name, databases).await
    }

    /// Reads and commits of its first process until now.
    pub(crate) async fn traffic(&self) -> Result<[u64; 2]> {
        Ok(serde_json::from_slice(
            &self.get(TRAFFIC_PATH.to_owned()).await?,
        )?)
    }

    /// How long the vault's provider takes from now on.
    pub(crate) async fn set_provider_time(&self, milliseconds: i64) -> Result<()> {
        self.get(format!("{PROVIDER_TIME_PATH}{milliseconds}"))
            .await
            .map(drop)
    }

    async fn get(&self, path: String) -> Result<Bytes> {
        let ask = Ask {
            path,
            bearer: None,
            form: None,
        };
        self.connect(1).await?.ask(&ask).await
    }

    /// The end of what the server logged: where to look after errors.
    pub(crate) fn last_of_log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Ends its input and waits.
    pub(crate) async fn stop(self) -> Result<()> {
        for mut node in self.nodes {
            drop(node.child.stdin.take());
            let status = tokio::time::timeout(STOP, node.child.wait())
                .await
                .context("the server does not end")??;
            if !status.success() {
                bail!("the server ended with {status}");
            }
        }
        Ok(())
    }
}

impl Node {
    fn of(child: Child, address: SocketAddr) -> Result<Self> {
        let pid = child.id().context("the server has ended")?;
        Ok(Self {
            child,
            pid,
            address,
        })
    }
}

/// Starts a server on a database; the process and the line that it says when it is ready.
async fn spawn(server: &str, database: &Database, args: &[&str]) -> Result<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(server)
        .arg("--database")
        .arg(&database.url)
        .arg("--folder")
        .arg(&database.folder)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {server}"))?;
    let output = child.stdout.take().context("the server has no output")?;
    let mut lines = BufReader::new(output).lines();
    let line = tokio::time::timeout(START, lines.next_line())
        .await
        .with_context(|| format!("{server} is not ready after {START:?}"))??
        .with_context(|| format!("{server} ended before it was ready"))?;
    Ok((child, line))
}

impl CpuTimes {
    /// Those of server processes, of this process, and of the connections to a database.
    pub(crate) async fn of(servers: &[u32], database: &str, databases: &Databases) -> Result<Self> {
        let mut times = Self {
            server: servers.iter().copied().map(cpu_of).sum::<Result<_>>()?,
            generator: cpu_of(std::process::id())?,
            database: BTreeMap::new(),
        };
        for pid in databases.processes(database).await? {
            // One that has ended in between did nothing for us.
            if let Ok(time) = cpu_of(pid) {
                times.database.insert(pid, time);
            }
        }
        Ok(times)
    }

    /// What was used from here to `later`.
    pub(crate) fn until(&self, later: &Self) -> CpuUsed {
        let used = |pid: &u32, time: &Duration| {
            time.saturating_sub(self.database.get(pid).copied().unwrap_or_default())
        };
        CpuUsed {
            server: later.server.saturating_sub(self.server),
            generator: later.generator.saturating_sub(self.generator),
            database: later
                .database
                .iter()
                .map(|(pid, time)| used(pid, time))
                .sum(),
        }
    }
}

/// User and system time of a process, its ended threads included.
fn cpu_of(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{path}: CPU time is measured on Linux only"))?;
    read_stat(&text).with_context(|| format!("{path} cannot be read"))
}

/// `utime` and `stime`: the 14th and 15th field, after a name in parentheses that may hold anything.
fn read_stat(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * user.checked_add(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processes_name_does_not_move_its_fields() {
        let stat = "7 (a ) (b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 99 1 2";
        assert_eq!(read_stat(stat), Some(Duration::from_secs(2)));
        assert_eq!(read_stat("7 (a) S 1"), None);
    }

    #[test]
    fn a_connection_that_came_later_counts_from_zero() {
        let times = |server: u64, database: &[(u32, u64)]| CpuTimes {
            server: Duration::from_millis(server),
            generator: Duration::ZERO,
            database: database
                .iter()
                .map(|(pid, time)| (*pid, Duration::from_millis(*time)))
                .collect(),
        };
        let used = times(10, &[(1, 100), (2, 50)]).until(&times(30, &[(1, 140), (3, 5)]));
        assert_eq!(used.server, Duration::from_millis(20));
        assert_eq!(used.database, Duration::from_millis(45));
    }
}
