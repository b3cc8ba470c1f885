//! Exchanges among many accounts: whether an account costs more to find the more there are.
//!
//! The accounts are made by this process, which opens the server's database as a second node, with the same keys. Then
//! a worker asks for users by chance, so that nothing but the upper levels of the indexes is in any cache twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seal::SecretString;
use store::{Db, Options as DbOptions, params};
use vault::{Clock as _, SampleTokens, SystemClock};

use crate::curve::{Curve, Curves, Line};
use crate::database::{Databases, Engine};
use crate::process::ServerProcess;
use crate::report::Report;
use crate::seed::{CONNECTION, PROVIDER_SCOPES};
use crate::stock::{self, Places, Sample};
use crate::target::{Exchange, Subject};
use crate::{Options, vault_server};

/// Longer than any measurement.
const LIFETIME: u64 = 24 * 3600;

/// Measures at each number of accounts, the smallest first; the accounts of one are those of the next.
pub(crate) async fn measure(
    engine: Engine,
    databases: &Databases,
    options: &Options,
    report: &mut Report,
    curves: &mut Curves,
) -> Result<()> {
    let mut counts = options.accounts.clone();
    counts.sort_unstable();
    counts.dedup();
    let server =
        ServerProcess::start("serve-vault", databases, options, options.usual_tls()).await?;
    let mut target = server.target(Exchange::Worker).clone();
    report.accounts_of(engine);
    let mut points = Vec::new();
    let mut there = 0;
    for count in counts {
        eprintln!("{engine}, {count} accounts: making them");
        let begun = Instant::now();
        grow(&server, engine, there, count).await?;
        let made = (count - there, begun.elapsed());
        there = count;
        if let Subject::Worker(key) = &mut target.subject {
            key.among = Some(count);
        }
        eprintln!("{engine}, {count} accounts: measuring");
        let requests = async |wanted| target.prepare(vault_server::PATH, wanted).await;
        let connections = options.usual_connections();
        let figures = crate::measure_phase(&server, databases, requests, connections, options)
            .await
            .with_context(|| format!("among {count} accounts"))?;
        report.accounts(count, &figures, made);
        points.push((count as f64, figures.requests_per_second()));
    }
    curves.add(
        "accounts",
        Curve {
            name: "A worker's exchanges for users by chance, by connected accounts",
            x: "connected accounts",
            y: "requests/s",
            lines: vec![Line {
                name: engine.to_string(),
                points,
            }],
        },
    );
    server.stop().await
}

/// Makes the accounts from one number to another.
async fn grow(server: &ServerProcess, engine: Engine, from: u64, to: u64) -> Result<()> {
    let url = server.database_url();
    // It calls no provider.
    let vault = vault_server::open(url, server.folder()?, "http://127.0.0.1:9").await?;
    let db = Db::open(url, DbOptions::default()).await?;
    let row = db
        .read_one(
            "select id from connections where name = $1",
            params![CONNECTION],
        )
        .await?
        .context("no connection")?;
    let now = SystemClock.now();
    let places = Places {
        connections: vec![row.text(0)?.to_owned()],
        scopes: PROVIDER_SCOPES.map(str::to_owned).to_vec(),
        connected_at: now,
    };
    let sample = move |number: u64| {
        Ok(Sample {
            place: 0,
            tokens: SampleTokens {
                access_token: token("access", number),
                refresh_token: token("refresh", number),
                issued_at: now,
                expires_in: LIFETIME,
            },
            ends: None,
        })
    };
    stock::make(&vault, &db, engine, places, from..to, sample).await?;
    db.close().await;
    Ok(())
}

/// As long as providers' tokens often are: a hundred characters.
fn token(kind: &str, number: u64) -> SecretString {
    let random: String = (0..5)
        .map(|part| format!("{:016x}", stock::mixed(number ^ (part << 40))))
        .collect();
    SecretString::new(format!("{kind:.<10}{number:010}{random}"))
}

/// What making accounts came to, a second.
pub(crate) fn rate((count, time): (u64, Duration)) -> f64 {
    crate::report::per_second(usize::try_from(count).unwrap_or(usize::MAX), time)
}
