//! Several vaults on one database: what another node adds, and what it costs the database.

use anyhow::{Context, Result};

use crate::curve::{Curve, Curves, Line};
use crate::database::{Databases, Engine};
use crate::process::ServerProcess;
use crate::report::Report;
use crate::target::Exchange;
use crate::{Options, vault_server};

/// Measures the refresh token exchange at each number of nodes, the smallest first; connections go to them in turn.
pub(crate) async fn measure(
    engine: Engine,
    databases: &Databases,
    options: &Options,
    report: &mut Report,
    curves: &mut Curves,
) -> Result<()> {
    let mut counts = options.nodes.clone();
    counts.sort_unstable();
    counts.dedup();
    let mut server =
        ServerProcess::start("serve-vault", databases, options, options.usual_tls()).await?;
    let target = server.target(Exchange::Refresh).clone();
    report.engine(engine);
    let mut there = 1;
    let mut points = Vec::new();
    for count in counts {
        while there < count {
            server.add_node(options).await?;
            there += 1;
        }
        eprintln!("{engine}, {count} nodes");
        let requests = async |wanted| target.prepare(vault_server::PATH, wanted).await;
        let connections = options.usual_connections();
        let figures = crate::measure_phase(&server, databases, requests, connections, options)
            .await
            .with_context(|| format!("at {count} nodes"))?;
        report.errand(&format!("refresh token, nodes: {count}"), &figures);
        points.push((f64::from(count), figures.requests_per_second()));
    }
    curves.add(
        "nodes",
        Curve {
            name: "Refresh token exchanges at several nodes on one database",
            x: "nodes",
            y: "requests/s",
            lines: vec![Line {
                name: engine.to_string(),
                points,
            }],
        },
    );
    server.stop().await
}
