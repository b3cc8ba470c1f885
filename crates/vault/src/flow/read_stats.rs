//! Figures of what happened, counted in the audit rows by day.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::Serialize;
use store::params;

use crate::document::wrong;
use crate::{Error, Vault, audit};

/// The most days that are asked for at once: what was long ago is a question for whoever keeps the log.
const MOST_DAYS: usize = 92;

/// What happened on a day (UTC).
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct DayStats {
    /// The day's beginning.
    #[schemars(with = "Timestamp")]
    pub date: String,
    /// Logins that succeeded.
    pub logins: i64,
    /// Users who made themselves.
    pub signups: i64,
    /// Exchanges that gave a token.
    pub exchanges: i64,
    /// Exchanges that were refused or failed.
    pub refused_exchanges: i64,
    /// Accounts that were connected.
    pub accounts_connected: i64,
    /// Accounts that were disconnected.
    pub accounts_disconnected: i64,
    /// Refreshes at providers that succeeded.
    pub refreshes: i64,
    /// Always 0: passwords are not compared with lists of leaked ones. For tools that look here.
    pub leaked_passwords: i64,
}

impl Vault {
    /// What happened on each day from one to another, both included; the last 30 where none are named. Days are written
    /// `YYYYMMDD`, at most 92 at once.
    ///
    /// # Errors
    /// [`crate::Reason::InvalidBody`] points at `from` or `to`.
    pub async fn daily_stats(
        &self,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Vec<DayStats>, Error> {
        let read = |name: &str, text: Option<&str>, default: Date| match text {
            None => Ok(default),
            Some(text) => {
                Date::strptime("%Y%m%d", text).map_err(|_| wrong(name, "a day, YYYYMMDD"))
            }
        };
        let today = self.now().to_zoned(TimeZone::UTC).date();
        let to = read("to", to, today)?;
        let from = read("from", from, to.saturating_sub(29.days()))?;
        let mut days: BTreeMap<Date, DayStats> = BTreeMap::new();
        let mut day = from;
        while day <= to {
            if days.len() == MOST_DAYS {
                return Err(wrong("from", format!("at most {MOST_DAYS} days before to")).into());
            }
            let stats = DayStats {
                date: format!("{day}T00:00:00Z"),
                ..DayStats::default()
            };
            days.insert(day, stats);
            let Ok(next) = day.tomorrow() else { break };
            day = next;
        }
        if days.is_empty() {
            return Err(wrong("from", "a day that is not after to").into());
        }
        for (day, stats) in &mut days {
            let begin = instant(*day);
            let end = begin
                .saturating_add(SignedDuration::from_hours(24))
                .unwrap_or(Timestamp::MAX);
            let rows = self
                .db
                .read(BY_EVENT, params![audit::id_at(begin), audit::id_at(end)])
                .await?;
            for row in &rows {
                let (event, outcome, count) = (row.text(0)?, row.text(1)?, row.int(2)?);
                let place = match (event, outcome) {
                    ("login", "succeeded") => &mut stats.logins,
                    ("sign_up", "succeeded") => &mut stats.signups,
                    ("exchange", "succeeded") => &mut stats.exchanges,
                    ("exchange", _) => &mut stats.refused_exchanges,
                    ("account.imported" | "connect.completed", "succeeded") => {
                        &mut stats.accounts_connected
                    }
                    ("account.disconnected", "succeeded") => &mut stats.accounts_disconnected,
                    ("provider.refresh", "succeeded") => &mut stats.refreshes,
                    _ => continue,
                };
                *place += count;
            }
        }
        Ok(days.into_values().collect())
    }

    /// How many users something happened for in the last 30 days.
    pub async fn active_users(&self) -> Result<i64, Error> {
        let since = self
            .now()
            .checked_sub(SignedDuration::from_hours(30 * 24))
            .unwrap_or(Timestamp::MIN);
        let row = self
            .db
            .read_one(
                "select count(distinct a.user_id) from audit a
                  where a.id >= $1 and a.outcome = 'succeeded' and a.user_id is not null",
                params![audit::id_at(since)],
            )
            .await?;
        Ok(row.map(|row| row.int(0)).transpose()?.unwrap_or_default())
    }
}

/// The rows of one day by their ids, which begin with the time.
const BY_EVENT: &str = "select a.event, a.outcome, count(*) from audit a
    where a.id >= $1 and a.id < $2 group by a.event, a.outcome";

fn instant(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC)
        .map_or(Timestamp::MIN, |zoned| zoned.timestamp())
}
