//! A kept HTTP/1.1 connection that asks and reads, and costs next to nothing beside the server on the same cores.
//!
//! A client library's task, channels and headers for each request took a fifth of what the server takes. Here a request is
//! one write and an answer mostly one read; `httparse` reads its head. Only what our servers answer is understood: bodies
//! with a `Content-Length`, on connections that stay.

use std::io::Write as _;

use anyhow::{Context, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::target::Requests;

/// The most headers that an answer may have.
const MOST_HEADERS: usize = 32;
/// What is read at once of an answer whose length is not known yet, if there is as much.
const PIECE: usize = 4096;

/// TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    asked: Vec<u8>,
    answered: BytesMut,
}

impl Connection {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            asked: Vec::new(),
            answered: BytesMut::new(),
        }
    }

    /// One request with this body, and what is answered. After an error the connection is of no more use.
    pub(crate) async fn send(
        &mut self,
        host: &str,
        requests: &Requests,
        body: &[u8],
    ) -> Result<(StatusCode, Bytes)> {
        self.asked.clear();
        let Requests { method, path, .. } = requests;
        write!(self.asked, "{method} {path} HTTP/1.1\r\nhost: {host}\r\n")?;
        if let Some(token) = &requests.bearer {
            write!(self.asked, "authorization: Bearer {token}\r\n")?;
        }
        if !body.is_empty() {
            let length = body.len();
            write!(
                self.asked,
                "content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n"
            )?;
        }
        self.asked.extend_from_slice(b"\r\n");
        self.asked.extend_from_slice(body);
        self.stream.write_all(&self.asked).await?;
        self.stream.flush().await?;
        let head = loop {
            match Head::of(&self.answered)? {
                Some(head) => break head,
                None => self.read(PIECE).await?,
            }
        };
        let end = head.length + head.body;
        while let Some(missing @ 1..) = end.checked_sub(self.answered.len()) {
            self.read(missing).await?;
        }
        let mut answer = self.answered.split_to(end).freeze();
        answer.advance(head.length);
        Ok((head.status, answer))
    }

    /// More of the answer, with room for so much.
    async fn read(&mut self, room: usize) -> Result<()> {
        self.answered.reserve(room);
        if self.stream.read_buf(&mut self.answered).await? == 0 {
            bail!("the connection ended before the answer did");
        }
        Ok(())
    }
}

/// Of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: StatusCode,
    /// Bytes until the body begins.
    length: usize,
    /// Bytes of the body.
    body: usize,
}

impl Head {
    /// None while there is more of it to come.
    fn of(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = answer.parse(bytes)? else {
            return Ok(None);
        };
        let body = answer
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .context("an answer without a Content-Length")?;
        Ok(Some(Self {
            status: StatusCode::from_u16(answer.code.context("an answer without a status")?)?,
            length,
            body: std::str::from_utf8(body.value)?.parse()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::target::Ask;

    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno";

    #[test]
    fn a_head_says_where_its_body_ends_once_it_is_whole() {
        let head = Head {
            status: StatusCode::BAD_REQUEST,
            length: ANSWER.len() - 2,
            body: 2,
        };
        assert_eq!(Head::of(ANSWER).unwrap(), Some(head));
        assert_eq!(Head::of(&ANSWER[..40]).unwrap(), None);
        assert!(Head::of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Head::of(b"<html>").is_err());
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together_and_the_next_one_waits_for_its_request() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = Connection::new(near);
        let server = async {
            let mut asked = Vec::new();
            for _ in 0..2 {
                while !asked.ends_with(b"a=b") {
                    far.read_buf(&mut asked).await.unwrap();
                }
                for piece in ANSWER.chunks(7) {
                    far.write_all(piece).await.unwrap();
                }
                asked.push(b'\n');
            }
            drop(far);
            String::from_utf8(asked).unwrap()
        };
        let requests = Ask {
            path: "/there".to_owned(),
            bearer: Some("token".to_owned()),
            form: Some("a=b".to_owned()),
        }
        .again_and_again();
        let client = async {
            for _ in 0..2 {
                let (status, body) = connection.send("here", &requests, b"a=b").await.unwrap();
                assert_eq!(status, StatusCode::BAD_REQUEST);
                assert_eq!(body, "no");
            }
            connection
        };
        let (asked, mut connection) = tokio::join!(server, client);
        let request = "POST /there HTTP/1.1\r\nhost: here\r\nauthorization: Bearer token\r\n\
                       content-type: application/x-www-form-urlencoded\r\ncontent-length: 3\r\n\r\na=b\n";
        assert_eq!(requests.method, Method::POST);
        assert_eq!(asked, request.repeat(2));
        assert!(connection.send("here", &requests, b"a=b").await.is_err());
    }
}
