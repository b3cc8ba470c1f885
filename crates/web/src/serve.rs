//! The server loop: accept, TLS, HTTP/1.1 or HTTP/2, and an orderly end.
//!
//! Written out because `axum::serve` can neither speak TLS nor set a time limit for headers, and hyper's own limit is
//! silently off without a timer (threats F-33). What is bounded here: connections, the TLS handshake, the time until
//! a connection's first request and its headers, their size, and the streams of an HTTP/2 connection. Bodies are
//! bounded where they are read, in [`crate::body`].

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::address::Peer;

/// Connections at once; the next one waits in the kernel's queue.
const MOST_CONNECTIONS: usize = 20_000;

/// What a connection's peer is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// From the connection to its first request's headers, the TLS handshake included.
    first_request: Duration,
    /// For every later request's headers on HTTP/1.1, the idle time before them included.
    next_request: Duration,
}

/// Load balancers keep idle connections for a minute as a rule. It has to be them who close one: a request that
/// crosses our closing is lost.
const PATIENCE: Patience = Patience {
    first_request: Duration::from_secs(10),
    next_request: Duration::from_secs(75),
};

/// An HTTP/2 peer is asked for a sign of life this often, and has as long to give it.
const PING: Duration = Duration::from_secs(15);

/// How long requests that are under way may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Request line and headers of one request. An access token of ours is a few kilobytes.
const MOST_HEADER_BYTES: u32 = 64 * 1024;

/// How long to wait after the system refused a connection, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on every listener until `shutdown` is ready, then lets the requests under way finish.
///
/// With `tls`, every connection is TLS and ALPN chooses the protocol; without, it is plain HTTP/1.1, meant for a
/// reverse proxy on the same machine or network.
pub async fn serve(
    listeners: Vec<TcpListener>,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    serve_within(PATIENCE, listeners, tls, router, shutdown).await
}

async fn serve_within(
    patience: Patience,
    listeners: Vec<TcpListener>,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let server = Arc::new(Server {
        tls: tls.map(|config| TlsAcceptor::from(with_protocols(config))),
        http1: http1(patience.next_request),
        http2: http2(),
        first_request: patience.first_request,
        router,
    });
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut accepting = JoinSet::new();
    let mut connections = JoinSet::new();
    let (accepted_sender, mut accepted) = tokio::sync::mpsc::channel(64);
    for listener in listeners {
        accepting.spawn(accept(
            listener,
            Arc::clone(&places),
            accepted_sender.clone(),
        ));
    }
    drop(accepted_sender);

    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            next = accepted.recv() => {
                let Some((stream, peer, place)) = next else { break };
                let server = Arc::clone(&server);
                let watcher = graceful.watcher();
                connections.spawn(async move {
                    server.connection(stream, peer, watcher).await;
                    drop(place);
                });
            }
            // Finished tasks are taken out as they end, so that the set does not grow.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }

    accepting.shutdown().await;
    drop(accepted);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still under way after {DRAIN:?} were cut off");
    }
    connections.shutdown().await;
    Ok(())
}

/// Takes connections from one listener, as long as there is a place for them.
async fn accept(
    listener: TcpListener,
    places: Arc<Semaphore>,
    accepted: tokio::sync::mpsc::Sender<(TcpStream, Peer, OwnedSemaphorePermit)>,
) {
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // An answer is one write; waiting to merge it with another only delays it.
                let _ = stream.set_nodelay(true);
                if accepted.send((stream, Peer(peer), place)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // A peer that hung up in the queue is no news; being out of file descriptors is.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) {
                    tracing::error!(%error, "accepting a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What every connection shares.
struct Server {
    tls: Option<TlsAcceptor>,
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
    first_request: Duration,
    router: Router,
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: Peer, watcher: Watcher) {
        let Some(tls) = &self.tls else {
            return self.requests(stream, &self.http1, peer, watcher).await;
        };
        // A failed or slow handshake is the peer's affair: scanners do it all day.
        let Ok(Ok(stream)) = timeout(self.first_request, tls.accept(stream)).await else {
            return;
        };
        let chosen = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => &self.http2,
            _ => &self.http1,
        };
        self.requests(stream, chosen, peer, watcher).await;
    }

    async fn requests<S>(
        &self,
        stream: S,
        protocol: &auto::Builder<TokioExecutor>,
        peer: Peer,
        watcher: Watcher,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let begun = Arc::new(Notify::new());
        let service = {
            let begun = Arc::clone(&begun);
            service_fn(move |request: Request<Incoming>| {
                begun.notify_one();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                self.router.clone().oneshot(request)
            })
        };
        let connection = protocol.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(watcher.watch(connection));
        // The protocols' own limits are for the time between requests, if they have one.
        let first_request = timeout(self.first_request, begun.notified());
        tokio::select! {
            _ = &mut connection => return,
            first_request = first_request => {
                if first_request.is_err() {
                    return;
                }
            }
        }
        // What goes wrong on a connection from here on is the peer's doing, or has been logged with the request.
        let _ = connection.await;
    }
}

fn http1(next_request: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(next_request)
        .max_buf_size(usize::try_from(MOST_HEADER_BYTES).unwrap_or(usize::MAX));
    builder
}

fn http2() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(100)
        .max_header_list_size(MOST_HEADER_BYTES)
        // Rapid reset: a peer that opens streams only to cancel them is disconnected.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100);
    builder
}

/// The configuration with the protocols that this server speaks, unless the caller chose some.
fn with_protocols(config: Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
    if !config.alpn_protocols.is_empty() {
        return config;
    }
    let mut config = rustls::ServerConfig::clone(&config);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::extract::Extension;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    async fn start(
        router: Router,
    ) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        start_within(PATIENCE, router).await
    }

    async fn start_within(
        patience: Patience,
        router: Router,
    ) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve_within(patience, vec![listener], None, router, stopped)
                .await
                .unwrap();
        });
        (address, stop, server)
    }

    async fn talk(address: SocketAddr, request: &'static [u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn the_handler_learns_its_peer() {
        let router = Router::new().route(
            "/",
            get(|Extension(Peer(peer)): Extension<Peer>| async move { peer.ip().to_string() }),
        );
        let (address, _stop, _server) = start(router).await;
        let answer = talk(
            address,
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn stopping_lets_the_request_under_way_finish() {
        let (entered, mut is_entered) = tokio::sync::mpsc::channel::<()>(1);
        let go_on = Arc::new(Notify::new());
        let go = Arc::clone(&go_on);
        let router = Router::new().route(
            "/",
            get(move || async move {
                entered.send(()).await.unwrap();
                go.notified().await;
                "done"
            }),
        );
        let (address, stop, server) = start(router).await;
        let request = tokio::spawn(talk(address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        is_entered.recv().await.unwrap();
        stop.send(()).unwrap();
        go_on.notify_one();
        assert!(request.await.unwrap().ends_with("done"));
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn in_10_conflicting_lengths_are_refused_and_the_connection_closed() {
        let (address, _stop, _server) = start(Router::new()).await;
        for request in [
            &b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"[..],
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
        ] {
            let answer = talk(address, request).await;
            assert!(
                answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 404"),
                "{answer}"
            );
            assert!(answer.matches("HTTP/1.1").count() == 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn in_17_headers_past_the_limit_are_refused() {
        let (address, _stop, _server) = start(Router::new()).await;
        let request = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(100_000));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(matches!(&answer, b"HTTP/1.1 414" | b"HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn f_33_a_connection_that_sends_its_headers_drop_by_drop_is_closed() {
        let short = Patience {
            first_request: Duration::from_millis(50),
            next_request: Duration::from_millis(50),
        };
        let (address, _stop, _server) = start_within(short, Router::new()).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        // Each read ends because the server closes; without limits this test would not end.
        for stream in [&mut slow, &mut silent, &mut idle] {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
    }
}
