//! How often somebody may ask: the generic cell rate algorithm on the vault's clock.
//!
//! One number a key, the *theoretical arrival time*: the moment at which the key's allowance is whole again. Each
//! request moves it one step into the future; a request that would move it further than one period is refused. Kept
//! in memory and per node: it protects this process, it is no promise to anybody.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// The most keys that are remembered. Past that the ones that are at rest are forgotten.
const MOST_KEYS: usize = 100_000;

/// A number of requests that may come at once, regained evenly over a period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) requests: u32,
    pub(crate) period: Duration,
}

/// How somebody stands after having asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The requests of a full allowance.
    pub(crate) limit: u32,
    /// What is left of it.
    pub(crate) remaining: u32,
    /// When it will be whole again, in seconds since the epoch, rounded up.
    pub(crate) reset: i64,
    /// Set when this request was one too many: how long to wait.
    pub(crate) refused_for: Option<Duration>,
}

/// Allowances by key.
#[derive(Debug)]
pub(crate) struct Limiter {
    quota: Quota,
    whole_at: Mutex<HashMap<String, i64>>,
}

impl Limiter {
    pub(crate) fn new(quota: Quota) -> Self {
        Self {
            quota,
            whole_at: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one request from a key's allowance, if there is one left.
    pub(crate) fn take(&self, key: &str, now: Timestamp) -> Standing {
        let now = now.as_microsecond();
        let mut whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let before = whole_at.get(key).copied().unwrap_or(now);
        let (standing, after) = self.step(before, now);
        if standing.refused_for.is_none() {
            if whole_at.len() >= MOST_KEYS && !whole_at.contains_key(key) {
                whole_at.retain(|_, whole_at| *whole_at > now);
            }
            // Still full: 100,000 keys are active at once, and counting one more would not help.
            if whole_at.len() < MOST_KEYS || whole_at.contains_key(key) {
                whole_at.insert(key.to_owned(), after);
            }
        }
        standing
    }

    /// Whether a key has used its allowance up, without taking from it.
    pub(crate) fn refused_for(&self, key: &str, now: Timestamp) -> Option<Duration> {
        let now = now.as_microsecond();
        let whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        let before = whole_at.get(key).copied()?;
        self.step(before, now).0.refused_for
    }

    /// The rule: what one more request means at `now`, and the arrival time it leaves behind.
    fn step(&self, before: i64, now: i64) -> (Standing, i64) {
        let period = i64::try_from(self.quota.period.as_micros()).unwrap_or(i64::MAX / 4);
        let limit = self.quota.requests.max(1);
        let step = (period / i64::from(limit)).max(1);
        // A clock that was set back must not lock anybody out for longer than a period.
        let before = before.clamp(now, now.saturating_add(period));
        let after = before.saturating_add(step);
        let earliest = after.saturating_sub(period);
        let (refused_for, whole_at) = if now < earliest {
            let wait = u64::try_from(earliest - now).unwrap_or(0);
            (Some(Duration::from_micros(wait)), before)
        } else {
            (None, after)
        };
        let free = now.saturating_add(period).saturating_sub(whole_at).max(0) / step;
        let standing = Standing {
            limit,
            remaining: u32::try_from(free).unwrap_or(limit).min(limit),
            reset: whole_at.saturating_add(999_999).div_euclid(1_000_000),
            refused_for,
        };
        (standing, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millisecond).unwrap()
    }

    fn limiter() -> Limiter {
        Limiter::new(Quota {
            requests: 4,
            period: Duration::from_secs(8),
        })
    }

    #[test]
    fn a_burst_passes_and_the_allowance_comes_back_evenly() {
        let limiter = limiter();
        let remaining: Vec<u32> = (0..4)
            .map(|_| limiter.take("u", at(0)))
            .map(|standing| standing.remaining)
            .collect();
        assert_eq!(remaining, [3, 2, 1, 0]);
        assert_eq!(
            limiter.take("u", at(0)),
            Standing {
                limit: 4,
                remaining: 0,
                reset: 1_700_000_008,
                refused_for: Some(Duration::from_secs(2)),
            }
        );
        assert!(limiter.take("u", at(1_999)).refused_for.is_some());
        assert!(limiter.take("u", at(2_000)).refused_for.is_none());
        assert!(limiter.take("u", at(2_000)).refused_for.is_some());
        assert_eq!(limiter.take("u", at(60_000)).remaining, 3);
    }

    #[test]
    fn keys_do_not_share() {
        let limiter = limiter();
        for _ in 0..4 {
            limiter.take("u", at(0));
        }
        assert!(limiter.refused_for("u", at(0)).is_some());
        assert!(limiter.refused_for("v", at(0)).is_none());
        assert!(limiter.take("v", at(0)).refused_for.is_none());
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out_for_more_than_a_period() {
        let limiter = limiter();
        for _ in 0..4 {
            limiter.take("u", at(3_600_000));
        }
        let standing = limiter.take("u", at(0));
        assert_eq!(standing.refused_for, Some(Duration::from_secs(2)));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = limiter();
        for key in 0..=MOST_KEYS {
            limiter.take(&key.to_string(), at(0));
        }
        assert_eq!(limiter.whole_at.lock().unwrap().len(), MOST_KEYS);
        limiter.take("later", at(10_000));
        assert_eq!(limiter.whole_at.lock().unwrap().len(), 1);
    }
}
