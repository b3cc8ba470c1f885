//! Connections that ask without a pause: each sends its next request as soon as the last one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::StatusCode;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::target::{Ask, Requests};
use crate::tls;

/// Open connections with nothing on them yet.
pub(crate) struct Fleet {
    address: SocketAddr,
    connections: Vec<Connection>,
}

/// What a phase of load saw.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Of each right answer, in ascending order.
    pub(crate) latencies: Vec<Duration>,
    /// Answers that were not 200, and requests without an answer.
    pub(crate) errors: usize,
    /// What the first of them said.
    pub(crate) first_error: Option<String>,
}

impl Load {
    pub(crate) fn requests_per_second(&self) -> f64 {
        crate::report::per_second(self.latencies.len(), self.elapsed)
    }

    /// The time within which so many of a thousand requests were answered.
    pub(crate) fn within(&self, of_a_thousand: usize) -> Duration {
        let place = self.latencies.len().saturating_sub(1) * of_a_thousand / 1000;
        self.latencies.get(place).copied().unwrap_or_default()
    }

    /// Takes another one in, as if it had come after this one. The latencies are not in order afterwards.
    pub(crate) fn add(&mut self, other: Self) {
        let elapsed = self.elapsed + other.elapsed;
        self.add_beside(other);
        self.elapsed = elapsed;
    }

    /// Takes another one in that had begun together with this one.
    fn add_beside(&mut self, other: Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latencies.extend(other.latencies);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// A phase with errors is no measurement.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(first) = &self.first_error {
            bail!(
                "{} of {} requests failed, the first one: {first}",
                self.errors,
                self.errors + self.latencies.len()
            );
        }
        Ok(())
    }
}

/// Opens connections to each of the addresses in turn; with a certificate, by TLS to whoever shows it.
pub(crate) async fn connect(
    addresses: &[SocketAddr],
    count: usize,
    certificate: Option<&[u8]>,
) -> Result<Fleet> {
    let tls = certificate.map(tls::connector).transpose()?;
    let mut connections = Vec::with_capacity(count);
    for address in addresses.iter().cycle().take(count) {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        connections.push(match &tls {
            None => Connection::new(stream),
            Some(tls) => Connection::new(tls::handshake(tls, stream).await?),
        });
    }
    Ok(Fleet {
        address: *addresses.first().context("nowhere to connect to")?,
        connections,
    })
}

impl Fleet {
    /// One request on the first connection; what is not answered with 200 is an error.
    pub(crate) async fn ask(&mut self, ask: &Ask) -> Result<Bytes> {
        let host = self.address.to_string();
        let connection = self.connections.first_mut().context("no connection")?;
        let requests = ask.again_and_again();
        let body = requests.body(0).unwrap_or_default();
        match connection.send(&host, &requests, &body).await? {
            (StatusCode::OK, answer) => Ok(answer),
            (status, answer) => bail!("{status}: {}", String::from_utf8_lossy(&answer)),
        }
    }

    /// Asks for `duration`, or until there are no more requests, and waits for what is under way.
    pub(crate) async fn run(
        &mut self,
        requests: Arc<Requests>,
        duration: Duration,
    ) -> Result<Load> {
        let begun = Instant::now();
        let errand = Arc::new(Errand {
            host: self.address.to_string(),
            requests,
            next: AtomicUsize::new(0),
            begun,
            end: begun + duration,
        });
        let mut tasks = JoinSet::new();
        for connection in self.connections.drain(..) {
            tasks.spawn(Arc::clone(&errand).run(connection));
        }
        let mut load = Load::default();
        while let Some(seen) = tasks.join_next().await {
            let (seen, connection) = seen?;
            load.add_beside(seen);
            self.connections.extend(connection);
        }
        load.latencies.sort_unstable();
        Ok(load)
    }
}

/// What all connections of a phase share.
struct Errand {
    host: String,
    requests: Arc<Requests>,
    next: AtomicUsize,
    begun: Instant,
    end: Instant,
}

impl Errand {
    /// What it saw, and the connection where that still stands.
    async fn run(self: Arc<Self>, mut connection: Connection) -> (Load, Option<Connection>) {
        let mut seen = Load::default();
        loop {
            let begun = Instant::now();
            if begun >= self.end {
                return (seen, Some(connection));
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(body) = self.requests.body(number) else {
                return (seen, Some(connection));
            };
            match connection.send(&self.host, &self.requests, &body).await {
                Ok((StatusCode::OK, _)) => {
                    let now = Instant::now();
                    seen.latencies.push(now - begun);
                    seen.elapsed = now - self.begun;
                }
                Ok((status, answer)) => {
                    seen.errors += 1;
                    let text = String::from_utf8_lossy(&answer);
                    seen.first_error
                        .get_or_insert_with(|| format!("{status}: {text}"));
                }
                Err(error) => {
                    // The connection is gone: what it would have asked, nobody asks.
                    seen.errors += 1;
                    seen.first_error.get_or_insert_with(|| format!("{error:#}"));
                    return (seen, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_together_took_as_long_as_the_longest_and_turns_add_up() {
        let of = |milliseconds| Load {
            elapsed: Duration::from_millis(milliseconds),
            latencies: vec![Duration::from_millis(milliseconds)],
            ..Load::default()
        };
        let mut load = of(20);
        load.add_beside(of(30));
        load.add_beside(of(10));
        assert_eq!(load.elapsed, Duration::from_millis(30));
        load.add(of(5));
        assert_eq!(load.elapsed, Duration::from_millis(35));
        assert_eq!(load.latencies.len(), 4);
    }

    #[test]
    fn percentiles_are_places_in_the_order() {
        let load = Load {
            latencies: (1..=100).map(Duration::from_millis).collect(),
            ..Load::default()
        };
        assert_eq!(load.within(500), Duration::from_millis(50));
        assert_eq!(load.within(990), Duration::from_millis(99));
        assert_eq!(Load::default().within(990), Duration::ZERO);
    }
}
