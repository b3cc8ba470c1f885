//! `tokenvault logs`: reads the log, or follows it.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use crate::admin::output;
use crate::admin::target::Target;
use crate::admin::transport::{Failure, encoded};

/// How long to wait between two looks; after a failure longer, up to the last.
const WAITS: [u64; 4] = [2, 5, 15, 60];

/// The log.
#[derive(Debug, Subcommand)]
pub(crate) enum LogsCommand {
    /// List entries, the newest first
    List {
        /// Only entries that it finds, such as 'type:feta AND client_id:ID'.
        #[arg(long, value_name = "QUERY")]
        search: Option<String>,
        /// The most that are listed.
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        limit: u32,
    },
    /// Follow the log until Ctrl-C; entries come a few seconds late, and none is missed
    Tail {
        /// Only entries that it finds.
        #[arg(long, value_name = "QUERY")]
        search: Option<String>,
        /// Begins at the beginning of the log, and not with what comes now.
        #[arg(long)]
        from_start: bool,
        /// Ends after so many entries.
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
    },
}

/// Runs a command.
pub(crate) async fn run(target: &Target, command: LogsCommand, as_json: bool) -> Result<()> {
    match command {
        LogsCommand::List { search, limit } => {
            let mut entries = Vec::new();
            let mut page = 0;
            while entries.len() < usize::try_from(limit)? {
                let path = format!("logs?per_page=100&page={page}{}", filter(search.as_deref()));
                let answer = target.transport.get(&path).await?;
                let Value::Array(part) = answer else { break };
                let is_last = part.len() < 100;
                entries.extend(part);
                page += 1;
                if is_last {
                    break;
                }
            }
            entries.truncate(usize::try_from(limit)?);
            if as_json {
                println!("{}", serde_json::to_string_pretty(&entries)?);
            } else {
                for entry in &entries {
                    println!("{}", line(entry));
                }
            }
            Ok(())
        }
        LogsCommand::Tail {
            search,
            from_start,
            limit,
        } => {
            tokio::select! {
                ended = follow(target, search.as_deref(), from_start, limit, as_json) => ended,
                () = crate::start::asked_to_stop() => Ok(()),
            }
        }
    }
}

fn filter(search: Option<&str>) -> String {
    search.map_or_else(String::new, |search| format!("&q={}", encoded(search)))
}

async fn follow(
    target: &Target,
    search: Option<&str>,
    from_start: bool,
    limit: Option<usize>,
    as_json: bool,
) -> Result<()> {
    let mut from = String::new();
    if !from_start {
        let newest = target.transport.get("logs?per_page=1").await?;
        let id = newest.pointer("/0/log_id").and_then(Value::as_str);
        from = id.unwrap_or_default().to_owned();
    }
    let (mut seen, mut failures) = (0, 0);
    loop {
        let path = format!("logs?take=100&from={}{}", encoded(&from), filter(search));
        match target.transport.get(&path).await {
            Ok(answer) => {
                failures = 0;
                let entries = answer.get("logs").and_then(Value::as_array);
                for entry in entries.into_iter().flatten() {
                    if as_json {
                        println!("{entry}");
                    } else {
                        println!("{}", line(entry));
                    }
                    seen += 1;
                    if limit.is_some_and(|limit| seen >= limit) {
                        return Ok(());
                    }
                }
                if let Some(next) = answer.get("next").and_then(Value::as_str) {
                    next.clone_into(&mut from);
                    continue;
                }
            }
            // Whoever follows waits for the vault to come back; a refusal will not change by waiting.
            Err(error)
                if matches!(
                    error.downcast_ref::<Failure>(),
                    Some(Failure::Unreachable(_))
                ) =>
            {
                eprintln!("{error:#}; trying again");
                failures += 1;
            }
            Err(error) => return Err(error),
        }
        let wait = WAITS.get(failures).or(WAITS.last()).copied().unwrap_or(60);
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
}

/// An entry in one line.
fn line(entry: &Value) -> String {
    let cell = |name: &str| output::cell(entry.get(name));
    let mut line = format!(
        "{}  {:<9}  {}",
        cell("date"),
        cell("outcome"),
        cell("event")
    );
    for name in ["description", "client_id", "user_id", "connection", "ip"] {
        if entry.get(name).is_some() {
            line += &format!("  {name}={}", cell(name));
        }
    }
    line
}
