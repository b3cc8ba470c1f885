//! A provider that says whatever bytes a story gives it: for what the sandbox, however badly it behaves, would not send.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is said at a path.
#[derive(Debug, Clone)]
pub enum Says {
    /// These bytes, and then the connection ends.
    Bytes(Vec<u8>),
    /// A beginning, and then the same bytes for as long as somebody listens.
    Endlessly(Vec<u8>, Vec<u8>),
    /// Nothing, on a connection that stays open.
    Nothing,
}

impl Says {
    /// A whole answer by HTTP/1.1.
    pub fn http(status: &str, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        Self::Bytes([head.as_bytes(), body].concat())
    }

    /// Status 200 and JSON.
    pub fn json(body: &serde_json::Value) -> Self {
        let body = body.to_string();
        Self::http(
            "200 OK",
            "content-type: application/json\r\n",
            body.as_bytes(),
        )
    }
}

/// One provider; it is gone when it is dropped.
pub struct Rogue {
    /// `http://127.0.0.1:PORT`.
    pub origin: String,
    says: Arc<Mutex<HashMap<String, Says>>>,
    heard: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Rogue {
    /// Starts one that knows no path yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let says: Arc<Mutex<HashMap<String, Says>>> = Arc::default();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (known, log) = (Arc::clone(&says), Arc::clone(&heard));
        let server = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (known, log) = (Arc::clone(&known), Arc::clone(&log));
                open.spawn(async move {
                    // Who has heard enough hangs up.
                    let _ = serve(stream, &known, &log).await;
                });
            }
        });
        Self {
            origin,
            says,
            heard,
            server,
        }
    }

    /// Sets what is said at a path from now on.
    pub fn say(&self, path: &str, says: Says) {
        self.says.lock().unwrap().insert(path.to_owned(), says);
    }

    /// The paths that were asked so far. A connection without a request is an empty one.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    known: &Mutex<HashMap<String, Says>>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let path = path_of_request(&mut stream).await?;
    log.lock().unwrap().push(path.clone());
    let says = known.lock().unwrap().get(&path).cloned();
    match says.unwrap_or_else(|| Says::http("404 Not Found", "", b"")) {
        Says::Bytes(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await
        }
        Says::Endlessly(head, again) => {
            stream.write_all(&head).await?;
            loop {
                stream.write_all(&again).await?;
            }
        }
        Says::Nothing => {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.map(drop)
        }
    }
}

/// Reads one request with its body.
async fn path_of_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut heard = Vec::new();
    loop {
        let mut more = [0; 4096];
        let read = stream.read(&mut more).await?;
        heard.extend_from_slice(&more[..read]);
        let text = String::from_utf8_lossy(&heard).into_owned();
        let head = text.split_once("\r\n\r\n");
        let is_whole = head.is_some_and(|(head, body)| {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            body.len() >= length
        });
        if is_whole || read == 0 {
            return Ok(text.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    }
}
