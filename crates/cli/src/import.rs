//! `tokenvault import`: accounts that were connected elsewhere, from a file of JSON lines (docs/import.md).
//!
//! Provider tokens have no endpoint, so this works beside the database. A batch of lines is one transaction, and the vault
//! knows each line again: an import that was ended, however it was, goes on when it is run again.

mod lines;
mod report;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use vault::{
    Administrator, Caller, Error, Import, ImportLine, ImportOptions, ImportReason, Proof, Reason,
    Refusal, Vault,
};

use crate::admin::output;
use crate::admin::transport::Failure;
use crate::dev_file::DevFile;
use crate::import::lines::Lines;
use crate::import::report::Report;
use crate::{dev, serve, start};

/// The most lines of one transaction, and the most bytes of them.
const BATCH_LINES: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The most accounts that are verified at once.
const AT_ONCE: usize = 8;
/// How often an account is tried that has to wait for its provider's limits, and the longest wait.
const TRIES: u32 = 20;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// From where, and how.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file of JSON lines, or - for standard input.
    file: PathBuf,
    /// Checks every line against the database, and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Gives accounts that are connected already the tokens of their lines.
    #[arg(long)]
    replace: bool,
    /// Makes users that are named by username or e-mail address and do not exist.
    #[arg(long)]
    create_users: bool,
    /// Writes what was refused, and why, into this file: JSON lines, without any token.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Refreshes each imported account once, to prove that its tokens work. Providers that rotate refresh tokens end the
    /// ones in the file with that.
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
    /// Verifies without asking.
    #[arg(long, short)]
    yes: bool,
    /// Prints the counts as JSON.
    #[arg(long)]
    json: bool,
    /// The configuration file of `serve`. Without it: the development vault of this folder, else the environment.
    #[arg(long, value_name = "CONFIG", help_heading = "Which vault")]
    local: Option<PathBuf>,
    /// The folder of a development vault (`tokenvault dev`).
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./.tokenvault",
        help_heading = "Which vault"
    )]
    data: PathBuf,
}

/// Not every line is an account now.
#[derive(Debug, thiserror::Error)]
#[error("{bad} of {lines} lines were refused or could not be verified")]
pub(crate) struct InPart {
    bad: u64,
    lines: u64,
}

impl InPart {
    /// docs/cli.md lists it.
    pub(crate) const EXIT_CODE: u8 = 8;
}

/// Imports.
pub(crate) async fn run(args: ImportArgs) -> Result<()> {
    let (input, length) = open_input(&args)?;
    if args.verify {
        eprintln!(
            "--verify refreshes every imported account at its provider. Many providers give a new refresh token then and \
             end the one in the file: whatever else still uses the file's tokens stops working."
        );
        if !args.yes && !output::confirmed("Import and verify?")? {
            bail!("nothing was imported");
        }
    }
    let vault = open_vault(&args).await?;
    let mut report = Report::new(args.report.as_deref())?;
    let progress = progress(length);
    let ended = import(&vault, &args, input, &mut report, &progress).await;
    progress.finish_and_clear();
    report.flush()?;
    start::land(&vault).await;
    eprint!("{}", report.text(args.dry_run));
    if args.json {
        println!("{}", report.json(args.dry_run));
    }
    if !ended? {
        bail!("stopped; the same command again goes on");
    }
    match (report.bad(), report.lines()) {
        (0, _) => Ok(()),
        (bad, lines) => Err(InPart { bad, lines }.into()),
    }
}

/// What is read, and how long it is where that is known.
fn open_input(args: &ImportArgs) -> Result<(Box<dyn BufRead>, Option<u64>)> {
    if args.file.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(std::io::stdin())), None));
    }
    let file =
        File::open(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        bail!("{} is a folder", args.file.display());
    }
    let length = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(BufReader::new(file)), length))
}

async fn open_vault(args: &ImportArgs) -> Result<Vault> {
    if let Some(config) = &args.local {
        return serve::open(&crate::load(Some(config))?).await;
    }
    if let Some(dev) = DevFile::read(&args.data)? {
        let directory = std::fs::canonicalize(&args.data)?;
        return dev::open_beside(&directory, &dev).await;
    }
    let config = crate::load(None).context(
        "which vault? Give the configuration file of the one on this machine with --local; without it everything comes \
         from the environment",
    )?;
    serve::open(&config).await
}

/// Only where somebody looks.
fn progress(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:40} {bytes}/{total_bytes} {msg} (done in {eta})",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} {msg} ({elapsed})",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Reads, imports and verifies, batch by batch. False where somebody asked to stop.
async fn import(
    vault: &Vault,
    args: &ImportArgs,
    input: Box<dyn BufRead>,
    report: &mut Report,
    progress: &ProgressBar,
) -> Result<bool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    tokio::spawn(async move {
        start::asked_to_stop().await;
        asked.store(true, Ordering::Relaxed);
    });
    let caller = Caller::default();
    let options = ImportOptions {
        dry_run: args.dry_run,
        replace: args.replace,
        create_users: args.create_users,
    };
    let mut import = vault.begin_import(&Administrator::local(), options);
    let mut lines = Lines::new(input);
    loop {
        let is_last = one_batch(&mut import, &mut lines, vault, args, report, &caller).await?;
        report.flush()?;
        progress.set_position(lines.position);
        progress.set_message(format!("{} lines", report.lines()));
        if is_last {
            return Ok(true);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
}

/// One transaction, and what is verified of it. True at the end of the file.
async fn one_batch(
    import: &mut Import,
    lines: &mut Lines<Box<dyn BufRead>>,
    vault: &Vault,
    args: &ImportArgs,
    report: &mut Report,
    caller: &Caller,
) -> Result<bool> {
    let mut batch = Vec::with_capacity(BATCH_LINES);
    let (mut bytes, mut is_last) = (0, false);
    while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
        let Some(raw) = lines.next().context("cannot read the lines")? else {
            is_last = true;
            break;
        };
        let read = match &raw.bytes {
            Some(text) => {
                bytes += text.len();
                ImportLine::read(raw.number, text.reveal())
            }
            None => Err(ImportReason::LineTooLong.into()),
        };
        match read {
            Ok(line) => batch.push(line),
            Err(refusal) => report.line(raw.number, &Err(refusal))?,
        }
    }
    if batch.is_empty() {
        return Ok(is_last);
    }
    let answers = import.import(&batch, caller).await.map_err(failure)?;
    let mut accounts = Vec::new();
    for (line, answer) in batch.iter().zip(&answers) {
        report.line(line.number, answer)?;
        if let Ok(imported) = answer
            && let Some(id) = imported.account_id()
        {
            accounts.push((line.number, id.to_owned()));
        }
    }
    if args.verify {
        verify(vault, accounts, report, caller).await?;
    }
    Ok(is_last)
}

/// Proves accounts, a few at once.
async fn verify(
    vault: &Vault,
    accounts: Vec<(u64, String)>,
    report: &mut Report,
    caller: &Caller,
) -> Result<()> {
    let mut running = JoinSet::new();
    let mut accounts = accounts.into_iter();
    loop {
        while running.len() < AT_ONCE
            && let Some((number, id)) = accounts.next()
        {
            let (vault, caller) = (vault.clone(), caller.clone());
            running.spawn(async move {
                let proof = prove(&vault, &id, &caller).await;
                (number, id, proof)
            });
        }
        let Some(proven) = running.join_next().await else {
            return Ok(());
        };
        let (number, id, proof) = proven.context("verifying an account broke off")?;
        report.proof(number, &id, &proof?)?;
    }
}

/// Proves one account, with as much patience as its provider's limits need.
async fn prove(
    vault: &Vault,
    account_id: &str,
    caller: &Caller,
) -> Result<std::result::Result<Proof, Refusal>> {
    let mut tries = 1;
    loop {
        match vault.prove_imported(account_id, caller).await {
            Ok(proof) => return Ok(Ok(proof)),
            Err(Error::Refused(refusal)) => {
                let must_wait = matches!(
                    refusal.reason(),
                    Reason::ProviderRateLimited | Reason::RefreshPending
                );
                if !must_wait || tries == TRIES {
                    return Ok(Err(*refusal));
                }
                tries += 1;
                let wait = refusal.retry_after().unwrap_or(Duration::from_secs(1));
                tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
            }
            // A refresh that failed on our side has a log line of its own, and the account is as it was.
            Err(error @ Error::Fault(_)) => return Err(failure(error)),
        }
    }
}

/// The database does not answer, or fails.
fn failure(error: Error) -> anyhow::Error {
    Failure::Unreachable(format!(
        "{}; the same command again goes on",
        crate::said(error)
    ))
    .into()
}
