//! A day of many accounts in accelerated time: `bench day`.
//!
//! The vault, its database, sealing, flights, leases, the gate and keep-alive are those of production. Two things are not:
//! the clock, which stands still within a tick and is moved between ticks, and the providers, which answer at once.
//!
//! A tick is a simulated second. In it everybody who is due asks at once, keep-alive makes its round as in `tokenvault
//! serve`, and everything lands before the clock moves on. Waits of the vault that are measured by tokio or by the
//! database are real time and are not accelerated: a caller's patience, the deadline of a provider's answer, and leases.
//! So nothing that is slow in real time is seen as lateness; what is seen is what the rules make of the day: rates,
//! pauses, retries and queues. Grants are not given back here, and there is no HTTP before the vault.
//!
//! | module | what it holds |
//! |---|---|
//! | `workload` | the accounts, who asks when, and when a provider is away |
//! | `provider` | the providers, and what they must never see |
//! | `world` | the vault with its worker, and what is wrong with an answer |
//! | `hours` | what is counted |

mod hours;
mod provider;
mod workload;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::database::{Database, Databases, Engine};
use crate::process::CpuTimes;
use hours::Hour;
use workload::{Call, OUTAGE};
use world::{Ended, World};

/// When the day begins: a Monday.
const START: i64 = 1_800_230_400;
/// How often a caller who is told to come again does.
const MOST_TRIES: u8 = 3;
/// Every so many seconds `tokenvault serve` does its upkeep.
const UPKEEP: u32 = 600;
const MINUTE: u32 = 60;
const HOUR: u32 = 3600;
/// Of what went wrong, so much is told.
const MOST_TOLD: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct DayArgs {
    /// Connected accounts
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..1_000_000_000))]
    accounts: u64,
    /// Exchanges over the whole day, beside the herds. Default: a tenth of the accounts
    #[arg(long)]
    exchanges: Option<u64>,
    /// The database
    #[arg(long, alias = "only", default_value = "sqlite")]
    engine: Engine,
    /// Simulated seconds that the clock is moved by. More is faster, and coarser than what providers allow a second
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    tick: u32,
    /// Only so many hours of the day, from midnight on; the outage is from 10:00 to 10:30
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=24))]
    hours: u32,
    /// What the vault logs, to standard error
    #[arg(long, default_value = "error")]
    log: String,
    /// Where the database goes; it should be on a disk. Default: the system's temporary folder
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs the day; whether everything in it was as it has to be.
pub(crate) async fn run(args: &DayArgs) -> Result<bool> {
    let _log = logging::start_on_stderr(&args.log, logging::Form::Text).context("--log")?;
    let databases = Databases::open(args.engine, args.folder.as_deref()).await?;
    let good = run_on(args, &databases).await;
    databases.close().await;
    good
}

async fn run_on(args: &DayArgs, databases: &Databases) -> Result<bool> {
    let database = databases.create("day").await?;
    let start = Timestamp::from_second(START)?;
    let world = World::open(&database, start, args.accounts).await?;
    eprintln!("making {} accounts", args.accounts);
    let made = world.connect_accounts(args.engine, args.accounts).await?;
    let exchanges = args.exchanges.unwrap_or(args.accounts / 10);
    println!(
        "A day of {} accounts and {exchanges} exchanges on {}, in ticks of {} s; the accounts were made in {:.1} s.",
        args.accounts,
        args.engine,
        args.tick,
        made.as_secs_f64()
    );
    println!(
        "Herds of {} at 08:00, 10:10 and 16:00; {}, where half of the accounts are, is away from 10:00 to 10:30.\n",
        workload::HERD,
        workload::PLACES[0].name
    );
    let mut day = Day {
        world: Arc::new(world),
        calls: workload::calls(args.accounts, exchanges),
        asked: 0,
        again: BTreeMap::new(),
        start,
        tick: args.tick,
        refused_afterwards: (0, 0),
        wrong: Vec::new(),
    };
    let total = day.pass(args.hours, &database, databases).await?;
    println!("\nRefusals: {}.", total.refusals());
    match day.refused_afterwards {
        (0, _) if args.hours * HOUR <= OUTAGE.end => {}
        (0, _) => println!("Nobody was refused after the outage."),
        (count, last) => {
            println!("{count} were refused after the outage, the last one {last} s after its end.")
        }
    }
    let wrong = day.judge(&total).await?;
    for what in &wrong {
        eprintln!("error: {what}");
    }
    Ok(wrong.is_empty())
}

/// A day that is under way.
struct Day {
    world: Arc<World>,
    /// In order; the first `asked` of them are done.
    calls: Vec<Call>,
    asked: usize,
    /// Callers who come again, by the second at which they do.
    again: BTreeMap<u32, Vec<Call>>,
    start: Timestamp,
    tick: u32,
    /// Exchanges that were refused after the outage, and how many seconds after its end the last one was.
    refused_afterwards: (u64, u32),
    wrong: Vec<String>,
}

impl Day {
    /// Passes so many hours, and prints each.
    async fn pass(
        &mut self,
        hours: u32,
        database: &Database,
        databases: &Databases,
    ) -> Result<Hour> {
        let [head, rule] = hours::HEAD;
        println!("{head}\n{rule}");
        let mut total = Hour::default();
        for number in 0..hours {
            let mut hour = Hour::default();
            let begun = Instant::now();
            let process = std::process::id();
            let before = CpuTimes::of(&[process], &database.name, databases).await?;
            let mut second = number * HOUR;
            while second < (number + 1) * HOUR {
                self.pass_tick(second, &mut hour).await?;
                second += self.tick;
            }
            let after = CpuTimes::of(&[process], &database.name, databases).await?;
            let seen = self.world.provider.take_seen();
            hour.close(seen, begun.elapsed(), before.until(&after));
            println!("{}", hour.row(&format!("{number:02}:00")));
            total.add(&mut hour);
        }
        println!("{}", total.row(&"all"));
        Ok(total)
    }

    async fn pass_tick(&mut self, second: u32, hour: &mut Hour) -> Result<()> {
        let now = self.start.checked_add(Duration::from_secs(second.into()))?;
        let world = Arc::clone(&self.world);
        world.clock.set(now);
        world.provider.set_away(OUTAGE.contains(&second));
        let due = self.due(second + self.tick);
        let (ended, kept) = tokio::join!(ask_all(&world, due), world.vault.keep_alive());
        if let Err(error) = kept {
            self.tell(format!("keep-alive at {now}: {error:?}"));
        }
        world.vault.land().await;
        for (call, ended) in ended? {
            if matches!(ended, Ended::Refused(..)) && second >= OUTAGE.end {
                self.refused_afterwards.0 += 1;
                self.refused_afterwards.1 = second - OUTAGE.end;
            }
            if let Ended::Refused(_, Some(wait)) = &ended
                && call.tries + 1 < MOST_TRIES
            {
                self.come_again(call, second, *wait);
            }
            if let Some(wrong) = hour.count(call.tries, ended) {
                self.tell(format!("{wrong}, at {now}"));
            }
        }
        let next = second + self.tick;
        if next / MINUTE > second / MINUTE {
            hour.count_due(world.provider.due());
        }
        if next / UPKEEP > second / UPKEEP
            && let Err(error) = world.vault.upkeep().await
        {
            self.tell(format!("upkeep at {now}: {error:?}"));
        }
        Ok(())
    }

    /// Everybody who asks before this second and has not yet.
    fn due(&mut self, second: u32) -> Vec<Call> {
        let left = self.calls.get(self.asked..).unwrap_or_default();
        let mut due: Vec<Call> = left
            .iter()
            .take_while(|call| call.second < second)
            .copied()
            .collect();
        self.asked += due.len();
        let later = self.again.split_off(&second);
        let again = std::mem::replace(&mut self.again, later);
        due.extend(again.into_values().flatten());
        due
    }

    /// As Retry-After says, in whole seconds.
    fn come_again(&mut self, call: Call, now: u32, wait: Duration) {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u32;
        let tries = call.tries + 1;
        let again = self.again.entry(now.saturating_add(seconds)).or_default();
        again.push(Call { tries, ..call });
    }

    fn tell(&mut self, what: String) {
        if self.wrong.len() < MOST_TOLD {
            self.wrong.push(what);
        }
    }

    /// Everything that is not as it has to be.
    async fn judge(mut self, total: &Hour) -> Result<Vec<String>> {
        let mut wrong = std::mem::take(&mut self.wrong);
        wrong.extend(total.wrong().iter().cloned());
        let lost = self.world.lost().await?;
        if lost > 0 {
            wrong.push(format!(
                "{lost} accounts have to be connected again, although no provider said so"
            ));
        }
        let ended = self.world.ended().await?;
        if ended > 0 {
            wrong.push(format!(
                "{ended} accounts were not kept alive until they ended"
            ));
        }
        if total.is_empty() {
            wrong.push("nothing happened".to_owned());
        }
        Ok(wrong)
    }
}

/// All of them at once.
async fn ask_all(world: &Arc<World>, calls: Vec<Call>) -> Result<Vec<(Call, Ended)>> {
    let mut tasks = JoinSet::new();
    for call in calls {
        let world = Arc::clone(world);
        tasks.spawn(async move { (call, world.exchange(call).await) });
    }
    let mut ended = Vec::new();
    while let Some(one) = tasks.join_next().await {
        ended.push(one?);
    }
    Ok(ended)
}
