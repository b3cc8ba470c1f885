//! The clock, passed in: rules take `now`, flows read it here, tests move it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time. [`SystemClock`] in production, [`MovableClock`] in tests and simulations.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    fn now(&self) -> Timestamp {
        // What is stored has microseconds; what was not stored yet must not look different.
        Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap_or_default()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct MovableClock {
    microseconds: AtomicI64,
}

impl MovableClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self {
            microseconds: AtomicI64::new(start.as_microsecond()),
        }
    }

    /// Moves the clock forward. Durations past the year 9999 stop there.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.microseconds.fetch_add(by, Ordering::SeqCst);
    }

    /// Puts the clock to `now`.
    pub fn set(&self, now: Timestamp) {
        self.microseconds
            .store(now.as_microsecond(), Ordering::SeqCst);
    }
}

impl Clock for MovableClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.microseconds.load(Ordering::SeqCst))
            .unwrap_or(Timestamp::MAX)
    }
}
