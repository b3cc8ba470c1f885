//! Audit rows, many in a transaction: what a commit costs, and what a row does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use store::{Db, Options as DbOptions};

use crate::curve::{Curve, Curves, Line};
use crate::database::{Databases, Engine};
use crate::report::{milliseconds, per_second};
use crate::{Options, vault_server};

const HEAD: [&str; 2] = [
    "| rows a transaction | transactions/s | rows/s | µs a row | p50 ms | p99 ms |",
    "|-------------------:|---------------:|-------:|---------:|-------:|-------:|",
];

/// Writes the rows of exchanges, one transaction after the other, at each number of rows.
pub(crate) async fn measure(
    engine: Engine,
    databases: &Databases,
    options: &Options,
    curves: &mut Curves,
) -> Result<()> {
    let database = databases.create("audit").await?;
    // It calls no provider.
    let vault = vault_server::open(&database.url, &database.folder, "http://127.0.0.1:9").await?;
    let db = Db::open(&database.url, DbOptions::default()).await?;
    println!("\n## Audit rows, {engine}\n\n{}\n{}", HEAD[0], HEAD[1]);
    let mut points = Vec::new();
    for rows in &options.audit_rows {
        eprintln!("{engine}, {rows} audit rows a transaction");
        let write = async || {
            let batch = vault.sample_audit_rows(usize::from(*rows));
            let begun = Instant::now();
            db.append(batch).await.context("appending audit rows")?;
            anyhow::Ok(begun.elapsed())
        };
        // The first one prepares its statement.
        write().await?;
        let end = Instant::now() + Duration::from_secs(options.seconds);
        let mut times = Vec::new();
        while Instant::now() < end {
            times.push(write().await?);
        }
        let elapsed = times.iter().sum();
        times.sort_unstable();
        let within = |of_a_hundred: usize| {
            let place = times.len().saturating_sub(1) * of_a_hundred / 100;
            milliseconds(times.get(place).copied().unwrap_or_default())
        };
        let transactions = per_second(times.len(), elapsed);
        let rows_a_second = transactions * f64::from(*rows);
        println!(
            "| {rows:>18} | {transactions:>14.0} | {rows_a_second:>6.0} | {:>8.1} | {:>6.2} | {:>6.2} |",
            1e6 / rows_a_second.max(f64::EPSILON),
            within(50),
            within(99)
        );
        points.push((f64::from(*rows), rows_a_second));
    }
    db.close().await;
    curves.add(
        "audit-rows",
        Curve {
            name: "Audit rows, by how many are one transaction",
            x: "rows a transaction",
            y: "rows/s",
            lines: vec![Line {
                name: engine.to_string(),
                points,
            }],
        },
    );
    Ok(())
}
