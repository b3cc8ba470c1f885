//! What happens in the day: the same with every run. Who is connected where, who asks when, and when a provider is away.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;

use crate::stock::mixed;

pub(crate) const HOURS: usize = 24;
const HOUR: u32 = 3600;
const DAY: u64 = 24 * 3600;

/// A connection, with what its provider does.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    /// Of twenty accounts.
    share: u64,
    /// Seconds that an access token lives.
    pub(crate) lifetime: u64,
    /// Whether a refresh ends the refresh token that it was made with.
    pub(crate) rotates: bool,
    /// Seconds after which a refresh token ends that is not used; said in every answer.
    pub(crate) idle: Option<u64>,
}

/// The first is the largest, and the one that goes away.
pub(crate) const PLACES: [Place; 4] = [
    Place {
        name: "suite",
        share: 10,
        lifetime: 3600,
        rotates: true,
        idle: Some(90 * DAY),
    },
    Place {
        name: "crm",
        share: 5,
        lifetime: 2 * 3600,
        rotates: true,
        idle: Some(30 * DAY),
    },
    Place {
        name: "drive",
        share: 3,
        lifetime: 3600,
        rotates: false,
        idle: None,
    },
    Place {
        name: "desk",
        share: 2,
        lifetime: 8 * 3600,
        rotates: true,
        idle: Some(14 * DAY),
    },
];

/// How much is asked for in each hour, beside the others.
const CURVE: [u64; HOURS] = [
    2, 1, 1, 1, 1, 2, 3, 5, 8, 10, 12, 11, 9, 10, 11, 10, 9, 7, 5, 4, 4, 3, 3, 2,
];
/// When the first provider is away, in seconds of the day: half of the busiest hour.
pub(crate) const OUTAGE: Range<u32> = 10 * HOUR..10 * HOUR + 1800;
/// When a herd comes, the second one in the outage; each for an account of the first provider whose token has ended.
pub(crate) const HERDS: [u32; 3] = [8 * HOUR, 10 * HOUR + 600, 16 * HOUR];
/// The callers of a herd.
pub(crate) const HERD: usize = 1000;

/// Exchanges of one user in a row, and seconds within which they are.
const IN_A_ROW: u64 = 5;
const ROW: u64 = 1800;
/// One of so many accounts is used at all.
const USED: u64 = 10;

/// The part of its idle lifetime after which an unused account is due: the middle of what the vault takes.
const KEPT_AFTER: f64 = 0.7;

/// Somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    /// Of the day.
    pub(crate) second: u32,
    /// The account's number.
    pub(crate) account: u64,
    /// How often they did before.
    pub(crate) tries: u8,
}

/// How an account is when the day begins.
pub(crate) struct Standing {
    pub(crate) issued_at: Timestamp,
    /// When the authorization ends, and when it is due to be kept alive.
    pub(crate) ends: Option<(Timestamp, Timestamp)>,
}

/// Where an account is.
pub(crate) fn place_of(account: u64) -> (usize, &'static Place) {
    let mut left = account % PLACES.iter().map(|place| place.share).sum::<u64>();
    for (index, place) in PLACES.iter().enumerate() {
        if left < place.share {
            return (index, place);
        }
        left -= place.share;
    }
    (0, &PLACES[0])
}

/// Accounts were last refreshed at any time from long ago until now, so that each hour brings as many that are due.
pub(crate) fn standing(account: u64, start: Timestamp) -> Result<Standing> {
    let (_, place) = place_of(account);
    let way = place.idle.unwrap_or(30 * DAY) as f64 * KEPT_AFTER;
    let ahead = Duration::from_secs((way * fraction(mixed(account))) as u64);
    let issued_at = start
        .checked_sub(Duration::from_secs(way as u64))?
        .checked_add(ahead)?;
    let ends = match place.idle {
        Some(idle) => Some((
            issued_at.checked_add(Duration::from_secs(idle))?,
            start.checked_add(ahead)?,
        )),
        None => None,
    };
    Ok(Standing { issued_at, ends })
}

/// Everybody who asks, in order: `exchanges` along the curve, and the herds.
pub(crate) fn calls(accounts: u64, exchanges: u64) -> Vec<Call> {
    let mut calls = Vec::new();
    for (hour, asked) in hours(exchanges).into_iter().enumerate() {
        let begin = hour as u64 * u64::from(HOUR);
        for number in 0..asked {
            let user = mixed((hour as u64) << 40 | (number / IN_A_ROW));
            let first = begin + user % u64::from(HOUR);
            let later = match number % IN_A_ROW {
                0 => 0,
                _ => mixed(user ^ number) % ROW,
            };
            let second = (first + later).min(DAY - 1);
            let used = mixed(user) % (accounts / USED).max(1);
            calls.push(Call {
                second: second as u32,
                account: mixed(used) % accounts,
                tries: 0,
            });
        }
    }
    for (number, second) in HERDS.into_iter().enumerate() {
        let call = Call {
            second,
            account: number as u64 % accounts,
            tries: 0,
        };
        calls.extend(std::iter::repeat_n(call, HERD));
    }
    calls.sort_unstable();
    calls
}

/// What is asked for in each hour; together exactly what is asked for in the day.
fn hours(exchanges: u64) -> [u64; HOURS] {
    let all: u64 = CURVE.iter().sum();
    let until = |part: u64| u128::from(exchanges) * u128::from(part) / u128::from(all);
    let mut part = 0;
    CURVE.map(|share| {
        let before = until(part);
        part += share;
        (until(part) - before) as u64
    })
}

/// From 0 to 1.
fn fraction(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_the_whole_day() {
        for exchanges in [0, 1, 7, 1000, 10_000_019] {
            assert_eq!(hours(exchanges).iter().sum::<u64>(), exchanges);
        }
        let hours = hours(1_000_000);
        assert!(hours[10] > 8 * hours[2]);
        assert!(OUTAGE.start / HOUR == 10 && hours.iter().all(|hour| *hour <= hours[10]));
    }

    #[test]
    fn every_run_is_the_same_day() {
        let day = calls(5000, 3000);
        assert_eq!(day, calls(5000, 3000));
        assert_eq!(day.len(), 3000 + HERDS.len() * HERD);
        assert!(day.is_sorted());
        assert!(
            day.iter()
                .all(|call| call.account < 5000 && u64::from(call.second) < DAY)
        );
    }

    #[test]
    fn half_of_the_accounts_are_at_the_first_place() {
        let mut counts = [0; PLACES.len()];
        for account in 0..2000 {
            counts[place_of(account).0] += 1;
        }
        assert_eq!(counts, [1000, 500, 300, 200]);
    }

    #[test]
    fn accounts_are_due_evenly() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let due = (0..100_000).filter_map(|account| {
            let (end, due) = standing(account, start).unwrap().ends?;
            assert!(due >= start && end > due);
            Some(due.duration_since(start).as_secs() as u64 / DAY)
        });
        let first = due.filter(|day| *day == 0).count();
        // 50,000 in 63 days, 25,000 in 21, 10,000 in 9.8.
        assert!((2800..3200).contains(&first), "{first}");
    }
}
