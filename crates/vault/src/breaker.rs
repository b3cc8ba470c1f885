//! A circuit breaker for each connection: a provider that is down is not asked by every account in turn.
//!
//! After a few calls in a row without an answer the circuit opens: callers hear at once that the provider is away, and
//! one call every few seconds finds out whether it is back. In memory and per node: each finds out for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::token_set::after;

/// Calls in a row without an answer that open the circuit.
const THRESHOLD: u32 = 5;
/// How long nobody asks, until the next probe.
const PAUSE: Duration = Duration::from_secs(5);

/// The circuits, by connection. Only connections that fail have one.
#[derive(Clone, Default)]
pub(crate) struct Breaker {
    circuits: Arc<Mutex<HashMap<String, Circuit>>>,
}

#[derive(Default)]
struct Circuit {
    failures: u32,
    closed_to_all_until: Option<Timestamp>,
}

impl Breaker {
    /// Whether the provider may be asked now; if not, how long to wait. Whoever may while the circuit is open is the
    /// probe: nobody else may until the pause is over once more.
    pub(crate) fn admit(&self, connection_id: &str, now: Timestamp) -> Result<(), Duration> {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(circuit) = circuits.get_mut(connection_id) else {
            return Ok(());
        };
        match circuit.closed_to_all_until {
            Some(until) if until > now => {
                Err(until.duration_since(now).try_into().unwrap_or(PAUSE))
            }
            Some(_) => {
                circuit.closed_to_all_until = Some(after(now, PAUSE.as_secs()));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The provider answered, whatever it said: it is there.
    pub(crate) fn answered(&self, connection_id: &str) {
        self.circuits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(connection_id);
    }

    /// The provider did not answer.
    pub(crate) fn silent(&self, connection_id: &str, now: Timestamp) {
        let mut circuits = self.circuits.lock().unwrap_or_else(PoisonError::into_inner);
        let circuit = circuits.entry(connection_id.to_owned()).or_default();
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures >= THRESHOLD {
            circuit.closed_to_all_until = Some(after(now, PAUSE.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn f_07_a_circuit_opens_probes_and_closes() {
        let breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            assert!(breaker.admit("c", at(0)).is_ok());
            breaker.silent("c", at(0));
        }
        assert_eq!(breaker.admit("c", at(1)), Err(Duration::from_secs(4)));
        assert!(breaker.admit("other", at(1)).is_ok());
        // One probe a pause, however long it takes.
        assert!(breaker.admit("c", at(5)).is_ok());
        assert!(breaker.admit("c", at(6)).is_err());
        breaker.silent("c", at(6));
        assert!(breaker.admit("c", at(10)).is_err());
        assert!(breaker.admit("c", at(11)).is_ok());
        breaker.answered("c");
        assert!(breaker.admit("c", at(11)).is_ok());
        assert!(breaker.admit("c", at(11)).is_ok());
    }

    #[test]
    fn an_answer_between_failures_starts_the_count_again() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            for _ in 1..THRESHOLD {
                breaker.silent("c", at(0));
            }
            breaker.answered("c");
        }
        assert!(breaker.admit("c", at(0)).is_ok());
    }
}
