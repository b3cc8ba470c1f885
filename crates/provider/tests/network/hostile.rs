//! A server that answers with whatever bytes a test says, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What a server does once it has been asked.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Says these bytes and ends the connection in good order.
    Bytes(Vec<u8>),
    /// Says these bytes and lets the connection drop: no TLS alert says that this was all.
    Dropped(Vec<u8>),
    /// Begins, and goes on with the same bytes for as long as somebody listens.
    Endless(Vec<u8>, Vec<u8>),
    /// Begins, and goes on with one byte at a time, slower than anybody waits but never quite silent.
    Drip(Vec<u8>, u8),
    /// Says nothing on a connection that stays open.
    Silence,
}

/// When a server has heard enough to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hears {
    /// A request by HTTP/1.1, to be answered by its path.
    Http,
    /// The frame of HTTP/2 that holds the request's headers.
    Http2,
    /// The first bytes, whatever they are.
    Bytes,
}

/// A server; it stops when it is dropped.
pub(crate) struct Hostile {
    /// `http://127.0.0.1:PORT`, or https.
    pub(crate) origin: String,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    hears: Hears,
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<Vec<String>>,
    connections: AtomicUsize,
    hung_up: Notify,
}

impl Hostile {
    /// Speaks HTTP/1.1.
    pub(crate) async fn http() -> Self {
        Self::start("http", Hears::Http, None).await
    }

    /// Speaks HTTP/1.1 over TLS.
    pub(crate) async fn https(config: ServerConfig) -> Self {
        Self::start("https", Hears::Http, Some(config)).await
    }

    /// Speaks HTTP/2 over TLS, one answer for everything.
    pub(crate) async fn http2(mut config: ServerConfig, answer: Answer) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let server = Self::start("https", Hears::Http2, Some(config)).await;
        server.answer("", answer);
        server
    }

    /// Is said to speak TLS, and answers the first bytes that come.
    pub(crate) async fn no_tls(answer: Answer) -> Self {
        let server = Self::start("https", Hears::Bytes, None).await;
        server.answer("", answer);
        server
    }

    async fn start(scheme: &str, hears: Hears, config: Option<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("{scheme}://{}", listener.local_addr().unwrap());
        let acceptor = config.map(|config| TlsAcceptor::from(Arc::new(config)));
        let inner = Arc::new(Inner {
            hears,
            answers: Mutex::default(),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            hung_up: Notify::new(),
        });
        let shared = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (inner, acceptor) = (Arc::clone(&shared), acceptor.clone());
                open.spawn(async move {
                    match acceptor {
                        None => inner.serve(stream).await,
                        // Who does not trust us says so and leaves.
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => inner.serve(stream).await,
                            Err(_) => inner.hung_up.notify_one(),
                        },
                    }
                });
            }
        });
        Self {
            origin,
            inner,
            task,
        }
    }

    /// Sets what is answered at a path from now on.
    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        let mut answers = self.inner.answers.lock().unwrap();
        answers.insert(path.to_owned(), answer);
    }

    /// Requests so far: `POST /token`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.inner.asked.lock().unwrap();
        asked
            .iter()
            .map(|request| {
                let line = request.lines().next().unwrap();
                line.trim_end_matches(" HTTP/1.1").to_owned()
            })
            .collect()
    }

    /// The last request as it came.
    pub(crate) fn last_request(&self) -> String {
        self.inner.asked.lock().unwrap().last().unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    /// Returns when somebody hung up on an answer that was not over.
    pub(crate) async fn hung_up(&self) {
        tokio::time::timeout(Duration::from_secs(10), self.inner.hung_up.notified())
            .await
            .expect("nobody hung up");
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let path = match self.hears {
            Hears::Bytes => {
                let mut heard = [0; 4096];
                match stream.read(&mut heard).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => String::new(),
                }
            }
            Hears::Http2 => match read_headers_frame(&mut stream).await {
                None => return,
                Some(()) => {
                    self.asked.lock().unwrap().push("HTTP/2".to_owned());
                    String::new()
                }
            },
            Hears::Http => match read_request(&mut stream).await {
                None => return,
                Some(request) => {
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    self.asked.lock().unwrap().push(request);
                    path
                }
            },
        };
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        let answer = answer.unwrap_or_else(|| Answer::Bytes(said("404 Not Found", &[], b"")));
        if play(&mut stream, answer).await.is_err() {
            self.hung_up.notify_one();
        }
    }
}

/// Fails when nobody listens any more.
async fn play(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    answer: Answer,
) -> std::io::Result<()> {
    match answer {
        Answer::Bytes(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Answer::Dropped(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await
        }
        Answer::Endless(head, again) => {
            stream.write_all(&head).await?;
            loop {
                stream.write_all(&again).await?;
                stream.flush().await?;
            }
        }
        Answer::Drip(head, byte) => {
            stream.write_all(&head).await?;
            let mut drops = tokio::time::interval(Duration::from_millis(20));
            loop {
                drops.tick().await;
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
            }
        }
        Answer::Silence => loop {
            let mut heard = [0; 4096];
            if stream.read(&mut heard).await? == 0 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
        },
    }
}

/// One request by HTTP/1.1 with its body.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut heard = Vec::new();
    loop {
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => heard.extend_from_slice(&more[..read]),
        }
        let text = String::from_utf8_lossy(&heard).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
    }
}

/// Reads what a client of HTTP/2 says until it has asked for something (RFC 9113 §3.4, §4.1).
async fn read_headers_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<()> {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.ok()?;
        if head[3] == HEADERS {
            return Some(());
        }
    }
}

/// An answer by HTTP/1.1, whole and in order.
pub(crate) fn said(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    [bytes.as_bytes(), body].concat()
}

/// The same with status 200 and as JSON.
pub(crate) fn json(body: &str) -> Answer {
    let headers = [("content-type", "application/json")];
    Answer::Bytes(said("200 OK", &headers, body.as_bytes()))
}
