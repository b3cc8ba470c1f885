//! What this process does behind requests: one flight for each thing that is to be done, however many wait for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::Refusal;
use crate::reread::Reread;

/// How a flight ended: the row has news, or there is a refusal for everybody who waited.
#[derive(Debug, Clone)]
pub(crate) enum Landing {
    Refreshed(Reread),
    Refused(Refusal),
    Fault,
}

/// Tells the landing of a flight, once there is one.
pub(crate) type Flight = watch::Receiver<Option<Landing>>;

/// All flights by name: refreshes, and grants that are given back. Bounded by the accounts that are being refreshed or
/// disconnected. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Flights {
    running: Arc<Mutex<HashMap<String, Flight>>>,
}

impl Flights {
    /// The flight of a name: the running one, or the one that `work` makes.
    pub(crate) fn join<F>(&self, name: &str, work: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut running = self.running();
        if let Some(flight) = running.get(name) {
            return flight.clone();
        }
        let work = work();
        let (sender, flight) = watch::channel(None);
        running.insert(name.to_owned(), flight.clone());
        let grounded = Grounded {
            flights: self.clone(),
            name: name.to_owned(),
        };
        tokio::spawn(async move {
            let landing = work.await;
            // Off the list first: who comes after the landing begins a new flight and reads a new row.
            drop(grounded);
            let _ = sender.send(Some(landing));
        });
        flight
    }

    /// Runs something behind the request that asked for it, once at a time.
    pub(crate) fn behind(&self, name: &str, work: impl Future<Output = ()> + Send + 'static) {
        let _nobody_waits = self.join(name, || async move {
            work.await;
            Landing::Refreshed(Reread::default())
        });
    }

    /// Everybody who is in the air.
    pub(crate) fn all(&self) -> Vec<Flight> {
        self.running().values().cloned().collect()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Flight>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the flight off the list however its task ends, so that a panic does not ground the account.
struct Grounded {
    flights: Flights,
    name: String,
}

impl Drop for Grounded {
    fn drop(&mut self) {
        self.flights.running().remove(&self.name);
    }
}
