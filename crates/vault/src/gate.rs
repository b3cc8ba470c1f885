//! The gate before each provider: how many refreshes it gets a second, and none for a while where it is down.
//!
//! One gate for a strategy and client id, which is what providers count by. In memory and per node: each node finds out
//! for itself, and several share a provider's patience by their own configuration.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Accounts in a row without an answer that close the gate. Accounts, not calls: one that always fails says nothing
/// about the others.
const THRESHOLD: usize = 5;
/// How long nobody asks, until the next probe; up to a quarter is added by chance.
const PAUSE: Duration = Duration::from_secs(5);
/// The latest time that somebody who has to queue is told to come back at.
const LONGEST_QUEUE: Duration = Duration::from_secs(120);

/// The gates, by strategy and client id.
#[derive(Clone, Default)]
pub(crate) struct Gates {
    gates: Arc<Mutex<HashMap<String, Gate>>>,
}

/// Why a refresh may not start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The provider does not answer; how long until the next probe.
    Down(Duration),
    /// It got all that it takes; when it is this caller's turn.
    Full(Duration),
}

#[derive(Default)]
struct Gate {
    /// Who got no answer since the last answer.
    silent: BTreeSet<String>,
    closed_until: Option<Timestamp>,
    /// The provider itself said until when.
    limited_until: Option<Timestamp>,
    /// What is left of this second's refreshes.
    tokens: f64,
    filled_at: Option<Timestamp>,
    /// The last turn that was given to somebody who had to queue.
    queued_until: Option<Timestamp>,
}

impl Gates {
    /// Whether `per_second` still allows a refresh now. Whoever may while the gate is closed is the probe: nobody else
    /// may until the pause is over once more. `chance` is a number from 0 to 255.
    pub(crate) fn admit(
        &self,
        key: &str,
        per_second: f64,
        now: Timestamp,
        chance: u8,
    ) -> Result<(), Closed> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(key.to_owned()).or_default();
        if let Some(until) = gate.limited_until.filter(|until| *until > now) {
            return Err(Closed::Full(span(now, until)));
        }
        if let Some(until) = gate.closed_until {
            if until > now {
                return Err(Closed::Down(span(now, until)));
            }
            gate.closed_until = Some(paused(now, chance));
        }
        gate.fill(per_second, now);
        if gate.tokens >= 1.0 {
            gate.tokens -= 1.0;
            Ok(())
        } else {
            Err(Closed::Full(gate.queue(per_second, now)))
        }
    }

    /// The provider answered, whatever it said: it is there.
    pub(crate) fn answered(&self, key: &str) {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get_mut(key) {
            gate.silent.clear();
            gate.closed_until = None;
        }
    }

    /// The provider answered that it wants nothing more for a while (threats F-09: it means the client, not the account).
    pub(crate) fn limited(&self, key: &str, wait: Duration, now: Timestamp) {
        self.answered(key);
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry(key.to_owned()).or_default().limited_until = Some(later(now, wait));
    }

    /// The provider did not answer about this account; until when the gate is closed, if it is.
    pub(crate) fn silent(
        &self,
        key: &str,
        account_id: &str,
        now: Timestamp,
        chance: u8,
    ) -> Option<Timestamp> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(key.to_owned()).or_default();
        if gate.silent.len() < THRESHOLD {
            gate.silent.insert(account_id.to_owned());
        }
        if gate.silent.len() >= THRESHOLD {
            gate.closed_until = Some(paused(now, chance));
        }
        gate.closed_until
    }
}

impl Gate {
    /// A second's worth at most is kept, and at least one.
    fn fill(&mut self, per_second: f64, now: Timestamp) {
        let most = per_second.max(1.0);
        let added = match self.filled_at {
            None => most,
            Some(before) => now.duration_since(before).as_secs_f64().max(0.0) * per_second,
        };
        self.tokens = (self.tokens + added).min(most);
        self.filled_at = Some(now);
    }

    /// A turn of one's own, so that those who had to queue do not come back all at once.
    fn queue(&mut self, per_second: f64, now: Timestamp) -> Duration {
        let soonest = later(now, Duration::from_secs(1));
        let before = self.queued_until.map_or(soonest, |turn| turn.max(soonest));
        let step = Duration::try_from_secs_f64(1.0 / per_second.max(0.001)).unwrap_or(PAUSE);
        let turn = later(before, step).min(later(now, LONGEST_QUEUE));
        self.queued_until = Some(turn);
        span(now, turn)
    }
}

fn paused(now: Timestamp, chance: u8) -> Timestamp {
    later(now, PAUSE + PAUSE.mul_f64(f64::from(chance) / 1024.0))
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| now.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

fn span(now: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: f64 = 1000.0;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn f_07_a_gate_closes_probes_and_opens() {
        let gates = Gates::default();
        for account in 0..THRESHOLD {
            assert!(gates.admit("p", MANY, at(0), 0).is_ok());
            let closed_until = gates.silent("p", &account.to_string(), at(0), 0);
            assert_eq!(closed_until, (account + 1 == THRESHOLD).then(|| at(5)));
        }
        assert_eq!(
            gates.admit("p", MANY, at(1), 0),
            Err(Closed::Down(Duration::from_secs(4)))
        );
        assert!(gates.admit("other", MANY, at(1), 0).is_ok());
        // One probe a pause, however long it takes.
        assert!(gates.admit("p", MANY, at(5), 0).is_ok());
        assert!(gates.admit("p", MANY, at(6), 0).is_err());
        gates.silent("p", "0", at(6), 0);
        assert!(gates.admit("p", MANY, at(10), 0).is_err());
        assert!(gates.admit("p", MANY, at(11), 0).is_ok());
        gates.answered("p");
        assert!(gates.admit("p", MANY, at(11), 0).is_ok());
        assert!(gates.admit("p", MANY, at(11), 0).is_ok());
    }

    #[test]
    fn f_12_one_account_closes_nothing() {
        let gates = Gates::default();
        for _ in 0..100 {
            gates.silent("p", "poison", at(0), 0);
        }
        assert!(gates.admit("p", MANY, at(0), 0).is_ok());
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_again() {
        let gates = Gates::default();
        for _ in 0..20 {
            for account in 1..THRESHOLD {
                gates.silent("p", &account.to_string(), at(0), 0);
            }
            gates.answered("p");
        }
        assert!(gates.admit("p", MANY, at(0), 0).is_ok());
    }

    #[test]
    fn f_13_a_herd_is_let_in_at_the_providers_rate_and_told_different_times() {
        let gates = Gates::default();
        let mut admitted = 0;
        let mut turns = BTreeSet::new();
        for _ in 0..1000 {
            match gates.admit("p", 10.0, at(0), 0) {
                Ok(()) => admitted += 1,
                Err(Closed::Full(wait)) => {
                    turns.insert(wait);
                }
                Err(closed) => panic!("{closed:?}"),
            }
        }
        assert_eq!(admitted, 10);
        // A tenth of a second each, for the next 99 seconds.
        assert_eq!(turns.len(), 990);
        assert_eq!(turns.last().copied().map(|turn| turn.as_secs()), Some(100));
        let next: Vec<_> = (0..20).map(|_| gates.admit("p", 10.0, at(1), 0)).collect();
        assert_eq!(next.iter().filter(|admitted| admitted.is_ok()).count(), 10);
    }

    #[test]
    fn f_09_a_stated_wait_is_kept_whatever_else_is_answered() {
        let gates = Gates::default();
        gates.limited("p", Duration::from_secs(90), at(0));
        gates.answered("p");
        assert_eq!(
            gates.admit("p", MANY, at(1), 0),
            Err(Closed::Full(Duration::from_secs(89)))
        );
        assert!(gates.admit("other", MANY, at(1), 0).is_ok());
        assert!(gates.admit("p", MANY, at(90), 0).is_ok());
    }

    #[test]
    fn less_than_one_a_second_is_possible() {
        let gates = Gates::default();
        assert!(gates.admit("p", 0.1, at(0), 0).is_ok());
        assert!(gates.admit("p", 0.1, at(9), 0).is_err());
        assert!(gates.admit("p", 0.1, at(10), 0).is_ok());
    }

    #[test]
    fn a_pause_is_longer_by_chance() {
        let gates = Gates::default();
        for account in 0..THRESHOLD {
            gates.silent("p", &account.to_string(), at(0), 255);
        }
        let Err(Closed::Down(wait)) = gates.admit("p", MANY, at(0), 0) else {
            panic!("the gate is open");
        };
        assert!(wait > PAUSE && wait < PAUSE * 5 / 4, "{wait:?}");
    }
}
