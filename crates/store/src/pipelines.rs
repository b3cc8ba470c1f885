//! Connections that many callers' look-ups share on PostgreSQL: each is sent when it comes, behind those that have no
//! answer yet (PostgreSQL's documentation calls that pipelining).
//!
//! On a connection of one caller's own, every query is a message, a wake-up of the server's process and one of ours. On a
//! shared one, those of many callers go and come together: with 256 callers it took half the CPU time. The server answers
//! in order, so what is long would hold up everything behind it, and what changes anything has no place here.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Config, NoTls};

use crate::error::{Because, ReadError};

/// So many connections, each made when it is needed and anew where it has ended.
pub(crate) struct Pipelines {
    config: Config,
    /// How long a connection may take to be made, and a look-up to be answered.
    wait: Duration,
    pipelines: Vec<Arc<Pipeline>>,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Pipeline {
    connection: Mutex<Option<Arc<ClientWrapper>>>,
    /// Held by the one who makes the connection.
    making: tokio::sync::Mutex<()>,
    /// Who has the connection at the moment.
    callers: AtomicUsize,
}

/// A connection that others use at the same time: for one statement at a time, and nothing that begins a transaction.
pub(crate) struct Lent {
    connection: Arc<ClientWrapper>,
    counted: Counted,
    /// How long it may take to answer.
    wait: Duration,
}

/// One caller of a pipeline, until it goes.
struct Counted(Arc<Pipeline>);

impl Pipelines {
    /// Connects nowhere yet.
    pub(crate) fn new(config: Config, count: usize, wait: Duration) -> Self {
        Self {
            config,
            wait,
            pipelines: (0..count.max(1)).map(|_| Arc::default()).collect(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The connection with the fewest callers.
    pub(crate) async fn lend(&self) -> Result<Lent, ReadError> {
        let callers = |pipeline: &&Arc<Pipeline>| pipeline.callers.load(Ordering::Relaxed);
        let Some(pipeline) = self.pipelines.iter().min_by_key(callers) else {
            return Err(closed());
        };
        let counted = Counted::of(pipeline);
        let connection = match pipeline.open() {
            Some(connection) => connection,
            // Boxed: it is as large as it is rare.
            None => Box::pin(tokio::time::timeout(self.wait, self.connect(pipeline)))
                .await
                .map_err(|_| unavailable("a connection took too long to be made"))??,
        };
        Ok(Lent {
            connection,
            counted,
            wait: self.wait,
        })
    }

    /// Connects, where nobody else has meanwhile.
    async fn connect(&self, pipeline: &Pipeline) -> Result<Arc<ClientWrapper>, ReadError> {
        let _making = pipeline.making.lock().await;
        if let Some(connection) = pipeline.open() {
            return Ok(connection);
        }
        let (client, driver) = self
            .config
            .connect(NoTls)
            .await
            .map_err(|error| ReadError::Unavailable(error.into()))?;
        // Why it ended is told to everybody who asks it for something.
        let driver = tokio::spawn(async move {
            let _told = driver.await;
        });
        let connection = Arc::new(ClientWrapper::new(client, driver));
        let mut place = pipeline.place();
        if self.is_closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        *place = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Ends each connection when the last caller has gone.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for pipeline in &self.pipelines {
            *pipeline.place() = None;
        }
    }
}

impl Pipeline {
    /// What is there and has not ended.
    fn open(&self) -> Option<Arc<ClientWrapper>> {
        let place = self.place();
        place
            .as_ref()
            .filter(|connection| !connection.is_closed())
            .cloned()
    }

    fn place(&self) -> MutexGuard<'_, Option<Arc<ClientWrapper>>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    /// What this connection answers in time. One that does not is given up: if the network has lost it, it would look like
    /// the one with the fewest callers, as they go.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let answer = tokio::time::timeout(self.wait, answer).await;
        answer.unwrap_or_else(|_| {
            self.give_up();
            Err(unavailable("a look-up was not answered in time"))
        })
    }

    /// Nobody gets it any more, and the next one connects anew. Who has it keeps it.
    fn give_up(&self) {
        let mut place = self.counted.0.place();
        if place
            .as_ref()
            .is_some_and(|present| Arc::ptr_eq(present, &self.connection))
        {
            *place = None;
        }
    }
}

impl Deref for Lent {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.connection
    }
}

impl Counted {
    fn of(pipeline: &Arc<Pipeline>) -> Self {
        pipeline.callers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pipeline))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.callers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn closed() -> ReadError {
    unavailable("the database is closed")
}

fn unavailable(why: &'static str) -> ReadError {
    ReadError::Unavailable(Because(why).into())
}
