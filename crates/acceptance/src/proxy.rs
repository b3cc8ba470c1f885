//! A proxy that stands between the vault and the sandbox, and does to the token endpoint what bad networks do.
//!
//! The sandbox is told the proxy's address as its own, so its metadata leads everybody through here. One request a
//! connection: what is read is complete before anything is done with it, so that a fault is exact.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What happens to requests to the token endpoint. *Forwarded* means that the provider hears it and
/// acts on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Forwarded; nothing of the answer comes back.
    CutAfterRequest,
    /// Read and not forwarded; nothing comes back.
    CutBeforeRequest,
    /// Forwarded; the head and half of the body come back.
    CutInAnswer,
    /// Forwarded at once; the answer comes back later.
    Delay(Duration),
    /// Forwarded; half of the body comes back as if it were whole.
    HalfJson,
    /// Not forwarded; a page comes back, as from a gateway that wants a login.
    Html,
    /// Not forwarded; too many requests.
    Status429 {
        /// The `Retry-After` header.
        retry_after: String,
    },
    /// A gateway's own failure.
    Status500 {
        /// Whether the provider acted on the request before.
        forwarded: bool,
    },
    /// Forwarded; the answer comes back with ten megabytes more in it.
    TenMegabytes,
}

/// A running proxy. Ends when it is dropped, with every request that it holds.
pub struct Proxy {
    state: Arc<State>,
    server: JoinHandle<()>,
}

struct State {
    upstream: String,
    fault: Mutex<Option<Fault>>,
    requests: AtomicU64,
    forwarded: AtomicU64,
}

/// A message of HTTP/1.1, as it came.
struct Message {
    /// With the empty line at its end.
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Proxy {
    /// Serves `listener`, without a fault; `upstream` is the address of the sandbox.
    pub fn start(listener: TcpListener, upstream: String) -> Self {
        let state = Arc::new(State {
            upstream,
            fault: Mutex::default(),
            requests: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
        });
        let server = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let state = Arc::clone(&state);
                    // A peer that hangs up early is as good as one that is served.
                    connections.spawn(async move { state.serve(stream).await.ok() });
                    while connections.try_join_next().is_some() {}
                }
            }
        });
        Self { state, server }
    }

    /// What happens to the token endpoint from now on; None: nothing. A request keeps the fault that it met.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.state.fault() = fault;
    }

    /// Requests to the token endpoint.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Those of them that reached the provider.
    pub fn forwarded(&self) -> u64 {
        self.state.forwarded.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn fault(&self) -> std::sync::MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let request = Message::read_request(&mut stream).await?;
        let fault = if request.head.starts_with(b"POST /token ") {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let fault = self.fault().clone();
            if !fault.as_ref().is_some_and(Fault::keeps_request) {
                self.forwarded.fetch_add(1, Ordering::SeqCst);
            }
            fault
        } else {
            None
        };
        let reply = self.reply(&request, fault).await?;
        stream.write_all(&reply).await?;
        stream.shutdown().await?;
        Ok(())
    }

    /// Everything that the peer hears; then the connection ends.
    async fn reply(&self, request: &Message, fault: Option<Fault>) -> Result<Vec<u8>> {
        let Some(fault) = fault else {
            return Ok(self.forward(request).await?.into_bytes());
        };
        let answer = if fault.keeps_request() {
            None
        } else {
            Some(self.forward(request).await?)
        };
        Ok(match (fault, answer) {
            (Fault::Delay(delay), Some(answer)) => {
                tokio::time::sleep(delay).await;
                answer.into_bytes()
            }
            (Fault::CutInAnswer, Some(answer)) => {
                let half = answer.body.len() / 2;
                [&answer.head, &answer.body[..half]].concat()
            }
            (Fault::HalfJson, Some(answer)) => {
                let half = answer.body.len() / 2;
                written(&answer.status()?, JSON, &answer.body[..half])
            }
            (Fault::TenMegabytes, Some(answer)) => {
                // Still an object with every member that it had, so that nothing but its size is wrong.
                let inside = answer.body.strip_prefix(b"{").context("no JSON object")?;
                let padding = "x".repeat(10 * 1024 * 1024);
                let body = [format!("{{\"padding\":\"{padding}\",").as_bytes(), inside].concat();
                written(&answer.status()?, JSON, &body)
            }
            (Fault::Html, _) => {
                let page = b"<!doctype html><title>Log in to the network</title>";
                written("200 OK", "content-type: text/html", page)
            }
            (Fault::Status429 { retry_after }, _) => {
                let headers = format!("{JSON}\r\nretry-after: {retry_after}");
                written(
                    "429 Too Many Requests",
                    &headers,
                    b"{\"error\":\"slow_down\"}",
                )
            }
            (Fault::Status500 { .. }, _) => written(
                "500 Internal Server Error",
                "content-type: text/plain",
                b"upstream failure",
            ),
            _ => Vec::new(),
        })
    }

    async fn forward(&self, request: &Message) -> Result<Message> {
        let mut upstream = TcpStream::connect(&self.upstream).await?;
        let line_end = find(&request.head, b"\r\n").context("no request line")?;
        let (line, headers) = request.head.split_at(line_end);
        let asked = [line, b"\r\nconnection: close", headers, &request.body].concat();
        upstream.write_all(&asked).await?;
        let mut bytes = Vec::new();
        upstream.read_to_end(&mut bytes).await?;
        Message::split(bytes)
    }
}

impl Fault {
    /// Whether the provider never hears of the request.
    fn keeps_request(&self) -> bool {
        match self {
            Self::CutBeforeRequest
            | Self::Html
            | Self::Status429 { .. }
            | Self::Status500 { forwarded: false } => true,
            Self::CutAfterRequest
            | Self::CutInAnswer
            | Self::Delay(_)
            | Self::HalfJson
            | Self::Status500 { forwarded: true }
            | Self::TenMegabytes => false,
        }
    }
}

impl Message {
    /// Reads one request with its body. Ours always say how long theirs is.
    async fn read_request(stream: &mut TcpStream) -> Result<Self> {
        let mut bytes = Vec::new();
        loop {
            anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "no request");
            if find(&bytes, b"\r\n\r\n").is_some() {
                break;
            }
        }
        let mut message = Self::split(bytes)?;
        let head = String::from_utf8_lossy(&message.head).to_ascii_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(Ok(0), |length| length.trim().parse())?;
        while message.body.len() < length {
            anyhow::ensure!(stream.read_buf(&mut message.body).await? > 0, "no body");
        }
        Ok(message)
    }

    fn split(mut bytes: Vec<u8>) -> Result<Self> {
        let end = find(&bytes, b"\r\n\r\n").context("no head")? + 4;
        let body = bytes.split_off(end);
        Ok(Self { head: bytes, body })
    }

    /// An answer's status and its phrase.
    fn status(&self) -> Result<String> {
        let line = self
            .head
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = std::str::from_utf8(line)?;
        Ok(line.split_once(' ').context("no status line")?.1.to_owned())
    }

    fn into_bytes(self) -> Vec<u8> {
        [self.head, self.body].concat()
    }
}

const JSON: &str = "content-type: application/json";

/// An answer of our own.
fn written(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
