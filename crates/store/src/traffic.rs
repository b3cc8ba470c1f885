//! How often the database is asked: for metrics and measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a [`Db`](crate::Db) has asked of its database since it was opened, all clones together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Reads: on PostgreSQL a round trip each, whatever the number of their queries.
    pub reads: u64,
    /// Transactions committed. Those who waited together share one.
    pub commits: u64,
}

/// The counters behind [`Traffic`].
#[derive(Clone, Default)]
pub(crate) struct Counters {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    reads: AtomicU64,
    commits: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) {
        self.inner.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn committed(&self) {
        self.inner.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            reads: self.inner.reads.load(Ordering::Relaxed),
            commits: self.inner.commits.load(Ordering::Relaxed),
        }
    }
}
