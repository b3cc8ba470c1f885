//! What is counted in an hour, and the table that it ends up in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::provider::Seen;
use super::world::Ended;
use crate::process::CpuUsed;

/// An hour of the simulated day, or all of them.
#[derive(Debug, Default)]
pub(crate) struct Hour {
    /// Exchanges, those of callers who came again included.
    asked: u64,
    /// Of them, by callers who were told to come again.
    again: u64,
    fresh: u64,
    old: u64,
    waited: u64,
    refused: BTreeMap<&'static str, u64>,
    /// The most accounts that were due to be kept alive at the end of a minute.
    most_due: u64,
    seen: Seen,
    real: Duration,
    cpu: CpuUsed,
}

pub(crate) const HEAD: [&str; 2] = [
    "|  hour | asked    | again  | fresh    | old    | waited   | refused | provider calls | failed | most/minute | most callers | most due | kept alive | late p50 s | late max s | real s | CPU s  | PostgreSQL s |",
    "|------:|---------:|-------:|---------:|-------:|---------:|--------:|---------------:|-------:|------------:|-------------:|---------:|-----------:|-----------:|-----------:|-------:|-------:|-------------:|",
];

impl Hour {
    /// An exchange ended; None where it ended as it may.
    pub(crate) fn count(&mut self, tries: u8, ended: Ended) -> Option<String> {
        self.asked += 1;
        self.again += u64::from(tries > 0);
        match ended {
            Ended::Fresh => self.fresh += 1,
            Ended::Old => self.old += 1,
            Ended::Waited => self.waited += 1,
            Ended::Refused(code, _) => *self.refused.entry(code).or_default() += 1,
            Ended::Wrong(what) => return Some(what),
        }
        None
    }

    /// At the end of a minute.
    pub(crate) fn count_due(&mut self, due: u64) {
        self.most_due = self.most_due.max(due);
    }

    /// At the end of the hour.
    pub(crate) fn close(&mut self, mut seen: Seen, real: Duration, cpu: CpuUsed) {
        seen.late.sort_unstable();
        self.seen = seen;
        self.real = real;
        self.cpu = cpu;
    }

    /// Takes another hour in.
    pub(crate) fn add(&mut self, other: &mut Self) {
        self.asked += other.asked;
        self.again += other.again;
        self.fresh += other.fresh;
        self.old += other.old;
        self.waited += other.waited;
        for (code, count) in &other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        self.most_due = self.most_due.max(other.most_due);
        let (ours, theirs) = (&mut self.seen, &mut other.seen);
        ours.calls += theirs.calls;
        ours.failed += theirs.failed;
        ours.most_in_a_minute = ours.most_in_a_minute.max(theirs.most_in_a_minute);
        ours.most_callers = ours.most_callers.max(theirs.most_callers);
        ours.late.append(&mut theirs.late);
        ours.late.sort_unstable();
        ours.wrong.append(&mut theirs.wrong);
        self.real += other.real;
        self.cpu.server += other.cpu.server;
        self.cpu.database += other.cpu.database;
    }

    /// What the providers call wrong.
    pub(crate) fn wrong(&self) -> &[String] {
        &self.seen.wrong
    }

    /// Whether nothing happened at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.asked == 0 || self.seen.calls == 0
    }

    /// Every code of a refusal, and how often it was given.
    pub(crate) fn refusals(&self) -> String {
        let codes = self.refused.iter();
        let codes: Vec<String> = codes
            .map(|(code, count)| format!("`{code}` {count}"))
            .collect();
        match codes.as_slice() {
            [] => "none".to_owned(),
            codes => codes.join(", "),
        }
    }

    /// A row of the table.
    pub(crate) fn row(&self, name: &impl fmt::Display) -> String {
        let refused: u64 = self.refused.values().sum();
        let late = |of_a_hundred: usize| {
            let late = &self.seen.late;
            let place = late.len().saturating_sub(1) * of_a_hundred / 100;
            late.get(place).map(i64::to_string).unwrap_or_default()
        };
        let database = match self.cpu.database.as_secs_f64() {
            0.0 => String::new(),
            seconds => format!("{seconds:.1}"),
        };
        format!(
            "| {name:>5} | {:>8} | {:>6} | {:>8} | {:>6} | {:>8} | {refused:>7} | {:>14} | {:>6} | {:>11} | {:>12} | {:>8} | {:>10} | {:>10} | {:>10} | {:>6.1} | {:>6.1} | {database:>12} |",
            self.asked,
            self.again,
            self.fresh,
            self.old,
            self.waited,
            self.seen.calls,
            self.seen.failed,
            self.seen.most_in_a_minute,
            self.seen.most_callers,
            self.most_due,
            self.seen.late.len(),
            late(50),
            late(100),
            self.real.as_secs_f64(),
            self.cpu.server.as_secs_f64(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_add_up() {
        let mut day = Hour::default();
        for late in [vec![5, 1], vec![3]] {
            let mut hour = Hour::default();
            assert_eq!(hour.count(0, Ended::Fresh), None);
            assert_eq!(hour.count(1, Ended::Refused("away", None)), None);
            let told = hour.count(0, Ended::Wrong("why".to_owned()));
            assert_eq!(told.as_deref(), Some("why"));
            let seen = Seen {
                calls: 2,
                late,
                ..Seen::default()
            };
            hour.close(seen, Duration::from_secs(1), CpuUsed::default());
            day.add(&mut hour);
        }
        assert_eq!(day.refusals(), "`away` 2");
        let row = day.row(&"all");
        assert!(
            row.starts_with("|   all |        6 |      2 |        2 |"),
            "{row}"
        );
        assert!(
            row.contains("|          3 |          3 |          5 |"),
            "{row}"
        );
        assert_eq!(row.chars().count(), HEAD[0].chars().count());
    }
}
