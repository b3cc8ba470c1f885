//! What became of an import: counts for the end, and one line for each that was refused. Nothing of a line but its number
//! and the name of a field.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vault::{ImportRefusal, Imported, Proof, Refusal};

/// The most refusals that are told on the spot; a report has them all.
const MOST_TOLD: u64 = 10;

/// What is counted and told.
pub(crate) struct Report {
    file: Option<BufWriter<File>>,
    lines: u64,
    connected: u64,
    replaced: u64,
    before: u64,
    new_users: u64,
    /// By reason.
    refused: BTreeMap<&'static str, u64>,
    verified: u64,
    unprovable: u64,
    /// By reason.
    unverified: BTreeMap<&'static str, u64>,
    told: Vec<String>,
}

impl Report {
    /// Begins the file anew, where there shall be one.
    pub(crate) fn new(path: Option<&Path>) -> Result<Self> {
        let file = path
            .map(|path| {
                File::create(path)
                    .with_context(|| format!("--report: cannot write {}", path.display()))
            })
            .transpose()?;
        Ok(Self {
            file: file.map(BufWriter::new),
            lines: 0,
            connected: 0,
            replaced: 0,
            before: 0,
            new_users: 0,
            refused: BTreeMap::new(),
            verified: 0,
            unprovable: 0,
            unverified: BTreeMap::new(),
            told: Vec::new(),
        })
    }

    /// Counts what became of a line.
    pub(crate) fn line(
        &mut self,
        number: u64,
        answer: &Result<Imported, ImportRefusal>,
    ) -> Result<()> {
        self.lines += 1;
        let refusal = match answer {
            Ok(Imported::Before { .. }) => {
                self.before += 1;
                return Ok(());
            }
            Ok(Imported::Connected { new_user, .. }) => {
                self.connected += 1;
                self.new_users += u64::from(*new_user);
                return Ok(());
            }
            Ok(Imported::Replaced { .. }) => {
                self.replaced += 1;
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        let reason = refusal.reason.as_str();
        *self.refused.entry(reason).or_default() += 1;
        let mut row = json!({
            "line": number,
            "outcome": "refused",
            "reason": reason,
            "detail": refusal.reason.sentence(),
        });
        let mut told = format!("line {number}: {reason}");
        for (name, text) in [("field", &refusal.field), ("rule", &refusal.rule)] {
            if let (Some(text), Some(row)) = (text, row.as_object_mut()) {
                row.insert(name.to_owned(), text.as_str().into());
                told += &format!(": {text}");
            }
        }
        self.tell(&row, told)
    }

    /// Counts what proving the account of a line came to.
    pub(crate) fn proof(
        &mut self,
        number: u64,
        account_id: &str,
        proof: &Result<Proof, Refusal>,
    ) -> Result<()> {
        let refusal = match proof {
            Ok(Proof::Before | Proof::Refreshed) => {
                self.verified += 1;
                return Ok(());
            }
            Ok(Proof::Unprovable) => {
                self.unprovable += 1;
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        let reason = refusal.private_reason();
        *self.unverified.entry(reason).or_default() += 1;
        let row = json!({
            "line": number,
            "outcome": "unverified",
            "reason": reason,
            "detail": refusal.description(),
            "account_id": account_id,
        });
        self.tell(&row, format!("line {number}: not verified: {reason}"))
    }

    fn tell(&mut self, row: &Value, told: String) -> Result<()> {
        if let Some(file) = &mut self.file {
            writeln!(file, "{row}").context("--report: cannot write")?;
        }
        if self.bad() <= MOST_TOLD {
            self.told.push(told);
        }
        Ok(())
    }

    /// Puts what was written so far where others can read it.
    pub(crate) fn flush(&mut self) -> Result<()> {
        match &mut self.file {
            Some(file) => file.flush().context("--report: cannot write"),
            None => Ok(()),
        }
    }

    /// How many lines were refused or could not be verified.
    pub(crate) fn bad(&self) -> u64 {
        self.refused.values().chain(self.unverified.values()).sum()
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// What people read at the end.
    pub(crate) fn text(&self, dry_run: bool) -> String {
        let mut text = String::new();
        for told in &self.told {
            text += &format!("{told}\n");
        }
        let more = self.bad().saturating_sub(self.told.len() as u64);
        if more > 0 {
            text += &format!("... and {more} more; --report FILE has them all\n");
        }
        let refused: u64 = self.refused.values().sum();
        let would = if dry_run { "would be " } else { "" };
        text += &format!(
            "{} lines: {} {would}connected, {} {would}replaced, {} imported before, {refused} refused\n",
            self.lines, self.connected, self.replaced, self.before
        );
        for (reason, count) in &self.refused {
            text += &format!("  {reason}: {count}\n");
        }
        if self.new_users > 0 {
            text += &format!("{} users {would}made\n", self.new_users);
        }
        let unverified: u64 = self.unverified.values().sum();
        if self.verified + self.unprovable + unverified > 0 {
            text += &format!(
                "verified: {} refreshed, {} cannot be refreshed, {unverified} failed\n",
                self.verified, self.unprovable
            );
            for (reason, count) in &self.unverified {
                text += &format!("  {reason}: {count}\n");
            }
        }
        text
    }

    /// The same for programs.
    pub(crate) fn json(&self, dry_run: bool) -> Value {
        json!({
            "dry_run": dry_run,
            "lines": self.lines,
            "connected": self.connected,
            "replaced": self.replaced,
            "imported_before": self.before,
            "users_made": self.new_users,
            "refused": self.refused,
            "verified": self.verified,
            "unprovable": self.unprovable,
            "unverified": self.unverified,
        })
    }
}
