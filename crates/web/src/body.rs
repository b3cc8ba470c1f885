//! Reading what was sent, within bounds: 64 KiB (a configuration: 4 MiB), 20 seconds, one media type, nothing compressed.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Frame;
use oauth::params::Params;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Failure, HttpRefusal};

/// The largest body that an endpoint reads, but for the one that takes a whole configuration.
pub(crate) const MOST_BYTES: usize = 64 * 1024;

/// As much of a body is read to its end although nobody wants it.
const MOST_DISCARDED: usize = 16 * 1024 * 1024;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(20);

/// Parameters of a form or a flat JSON object, as the OAuth endpoints take them.
pub(crate) struct Fields(pub(crate) Params);

/// Parameters of a form that a page sent.
pub(crate) struct FormFields(pub(crate) Params);

/// Parameters of the address.
pub(crate) struct QueryFields(pub(crate) Params);

/// A JSON document of so many bytes at most, each object's names once.
pub(crate) struct JsonBody<const MOST: usize = MOST_BYTES>(pub(crate) Value);

/// The `Authorization` header, for who needs no other header.
pub(crate) struct Authorization(Single<String>);

impl Authorization {
    /// Its text, as [`authorization`] tells it.
    pub(crate) fn text(&self) -> Result<Option<&str>, Failure> {
        self.0.readable().map(|text| text.map(String::as_str))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Authorization {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(match single(&parts.headers, &AUTHORIZATION) {
            Single::Absent => Single::Absent,
            Single::Text(text) => Single::Text(text.to_owned()),
            Single::Unreadable => Single::Unreadable,
        }))
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let media_type = media_type(request.headers());
        let bytes = read(request, MOST_BYTES).await?;
        let params = match media_type {
            MediaType::Form => Params::from_form(&bytes)?,
            MediaType::Json => Params::from_json(&bytes)?,
            MediaType::Other => return Err(HttpRefusal::ContentTypeUnknown.into()),
        };
        Ok(Self(params))
    }
}

impl<S: Send + Sync> FromRequest<S> for FormFields {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let media_type = media_type(request.headers());
        let bytes = read(request, MOST_BYTES).await?;
        if media_type != MediaType::Form {
            return Err(HttpRefusal::ContentTypeUnknown.into());
        }
        Ok(Self(Params::from_form(&bytes)?))
    }
}

impl<const MOST: usize, S: Send + Sync> FromRequest<S> for JsonBody<MOST> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let media_type = media_type(request.headers());
        let bytes = read(request, MOST).await?;
        if media_type != MediaType::Json {
            return Err(HttpRefusal::NotJsonType.into());
        }
        oauth::json::parse(&bytes)
            .map(Self)
            .ok_or_else(|| HttpRefusal::NotJson.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryFields {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(Params::from_query(
            parts.uri.query().unwrap_or_default(),
        )?))
    }
}

/// The `Authorization` header, which there is at most once.
pub(crate) fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let header = single(headers, &AUTHORIZATION);
    header.readable().map(Option::<&&str>::copied)
}

/// The token of `Authorization: Bearer`. RFC 6750 §2.1; the scheme's case does not matter.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    let text = authorization(headers)?.ok_or(HttpRefusal::BearerMissing)?;
    let (scheme, token) = text.split_once(' ').ok_or(HttpRefusal::BearerMalformed)?;
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !scheme.eq_ignore_ascii_case("bearer") || !is_token {
        return Err(HttpRefusal::BearerMalformed.into());
    }
    Ok(token)
}

/// The body, or a refusal before more than the limit was read.
async fn read(request: Request, most: usize) -> Result<Bytes, Failure> {
    let headers = request.headers();
    // A few bytes of a compressed body can become gigabytes (threats IN-16).
    let is_plain = match single(headers, &CONTENT_ENCODING) {
        Single::Absent => true,
        Single::Text(coding) => coding.trim().eq_ignore_ascii_case("identity"),
        Single::Unreadable => false,
    };
    if !is_plain {
        return Err(HttpRefusal::ContentEncoded.into());
    }
    if announced(headers).is_some_and(|length| length > most as u64) {
        return Err(HttpRefusal::BodyTooLarge.into());
    }
    let body: Limited<Body> = Limited::new(request.into_body(), most);
    let mut reading = pin!(body.collect());
    let read = match now(reading.as_mut()) {
        Some(read) => Ok(read),
        None => tokio::time::timeout(BODY_DEADLINE, reading).await,
    };
    match read {
        Err(_) => Err(HttpRefusal::BodyTimedOut.into()),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(HttpRefusal::BodyTooLarge.into()),
        // The peer broke off, or sent chunks that are none (threats IN-10).
        Ok(Err(_)) => Err(HttpRefusal::BodyBroken.into()),
    }
}

/// What a future is ready with at once, so that nothing has to be set up to wait for it. Where that is nothing, it may be
/// waited for as if it had not been asked.
fn now<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Lends the body to whoever handles the request. It comes back, to be read to its end: where some of it is still on its
/// way when the answer is written, hyper closes the connection, and the client loses the answer, or what it asks next.
///
/// None where there is nothing to bring home: no body, one that has come whole, one too large to be worth it, or one
/// whose client waits to be told to go on.
pub(crate) fn lend(request: &mut Request) -> Option<Loan> {
    let headers = request.headers();
    let is_too_large = announced(headers).is_some_and(|length| length > MOST_DISCARDED as u64);
    if request.body().is_end_stream() || is_too_large || headers.contains_key(EXPECT) {
        return None;
    }
    let mut body = std::mem::take(request.body_mut());
    // A short one has come together with its head.
    let ahead = match now(body.frame()) {
        Some(Some(Ok(frame))) if body.is_end_stream() => {
            *request.body_mut() = frame.into_data().map_or_else(|_| Body::empty(), Body::from);
            return None;
        }
        Some(None) => return None,
        frame => frame.flatten(),
    };
    let (back, returned) = oneshot::channel();
    *request.body_mut() = Body::new(Lent {
        ahead,
        body,
        back: Some(back),
    });
    Some(Loan {
        returned,
        has_end: announced(request.headers()).is_some(),
        due: Instant::now() + BODY_DEADLINE,
    })
}

/// A body that was lent.
pub(crate) struct Loan {
    returned: oneshot::Receiver<Body>,
    /// Whether it was said how long it is.
    has_end: bool,
    /// Who takes longer to send it has heard enough.
    due: Instant,
}

impl Loan {
    /// Reads what is left of the body, and keeps nothing of it. With `is_last`, nothing follows on the connection, and
    /// a body that may go on for ever is left alone.
    pub(crate) async fn read_to_its_end(mut self, is_last: bool) {
        if is_last && !self.has_end {
            return;
        }
        let Ok(body) = self.returned.try_recv() else {
            return;
        };
        let mut body = Limited::new(body, MOST_DISCARDED);
        let to_its_end = async { while let Some(Ok(_)) = body.frame().await {} };
        let _ = tokio::time::timeout_at(self.due, to_its_end).await;
    }
}

struct Lent {
    /// What was taken of it already.
    ahead: Option<Result<Frame<Bytes>, axum::Error>>,
    body: Body,
    back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.ahead.take() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.is_end_stream()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let _ = back.send(std::mem::take(&mut self.body));
        }
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What a body says that it is.
#[derive(Debug, PartialEq, Eq)]
enum MediaType {
    Form,
    Json,
    /// Another one, or none: absent, repeated, a list, or in another charset than UTF-8.
    Other,
}

fn media_type(headers: &HeaderMap) -> MediaType {
    let Single::Text(text) = single(headers, &CONTENT_TYPE) else {
        return MediaType::Other;
    };
    let mut parts = text.split(';').map(str::trim);
    let named = parts.next().unwrap_or_default();
    let is_utf_8 = parts
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.eq_ignore_ascii_case("charset"))
        .all(|(_, value)| value.trim_matches('"').eq_ignore_ascii_case("utf-8"));
    if !is_utf_8 {
        MediaType::Other
    } else if named.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        MediaType::Form
    } else if named.eq_ignore_ascii_case("application/json") {
        MediaType::Json
    } else {
        MediaType::Other
    }
}

enum Single<T> {
    Absent,
    Text(T),
    /// More than once, or not printable ASCII.
    Unreadable,
}

impl<T> Single<T> {
    /// Of a header that has to be readable where it is there.
    fn readable(&self) -> Result<Option<&T>, Failure> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Unreadable => Err(HttpRefusal::BearerMalformed.into()),
        }
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::Absent,
        (Some(value), None) => value.to_str().map_or(Single::Unreadable, Single::Text),
        (Some(_), Some(_)) => Single::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use axum::http::HeaderValue;

    use super::*;

    fn request(headers: &[(&str, &str)], body: impl Into<Body>) -> Request {
        let mut builder = Request::builder().method("POST").uri("/");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(body.into()).unwrap()
    }

    fn refusal(failure: Failure) -> HttpRefusal {
        match failure {
            Failure::Http(refusal) => refusal,
            Failure::Vault(error) => panic!("{error:?}"),
        }
    }

    #[tokio::test]
    async fn tk_56_forms_and_json_are_read_and_nothing_else() {
        for (content_type, body) in [
            ("application/x-www-form-urlencoded", "a=1"),
            ("application/x-www-form-urlencoded; charset=UTF-8", "a=1"),
            ("Application/JSON", r#"{"a":"1"}"#),
            ("application/json; charset=\"utf-8\"", r#"{"a":1}"#),
        ] {
            let request = request(&[("content-type", content_type)], body);
            let Fields(params) = Fields::from_request(request, &()).await.unwrap();
            assert_eq!(params.get("a"), Some("1"), "{content_type}");
        }
        for content_type in [
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/json, application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "",
        ] {
            let request = request(&[("content-type", content_type)], "a=1");
            let failure = Fields::from_request(request, &()).await.err().unwrap();
            assert_eq!(refusal(failure), HttpRefusal::ContentTypeUnknown);
        }
    }

    #[tokio::test]
    async fn f_34_a_body_past_the_limit_is_refused_before_it_is_read() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let announced = request(&[form, ("content-length", "1073741824")], "a=1");
        let failure = Fields::from_request(announced, &()).await.err().unwrap();
        assert_eq!(refusal(failure), HttpRefusal::BodyTooLarge);
        let sent = request(&[form], vec![b'a'; MOST_BYTES + 1]);
        let failure = Fields::from_request(sent, &()).await.err().unwrap();
        assert_eq!(refusal(failure), HttpRefusal::BodyTooLarge);
    }

    /// A body that comes piece by piece; where there is none, its reader has to wait once.
    struct Pieces(VecDeque<Option<Result<&'static str, std::io::Error>>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            match self.0.pop_front() {
                Some(None) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Some(piece)) => {
                    Poll::Ready(Some(piece.map(|text| Frame::data(Bytes::from(text)))))
                }
                None => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn of_pieces<const N: usize>(
        pieces: [Option<Result<&'static str, std::io::Error>>; N],
    ) -> Request {
        request(&[], Body::new(Pieces(pieces.into())))
    }

    #[tokio::test]
    async fn a_lent_body_is_read_whole_however_it_comes() {
        let piece = |text| Some(Ok(text));
        for (mut sent, is_lent) in [
            (of_pieces([piece("a=1&b=2")]), false),
            (of_pieces([piece("a=1&"), piece("b=2")]), true),
            (of_pieces([None, piece("a=1&b=2")]), true),
            (
                of_pieces([piece("a=1&"), None, piece("b="), piece("2")]),
                true,
            ),
        ] {
            let lent = lend(&mut sent);
            assert_eq!(lent.is_some(), is_lent);
            assert_eq!(read(sent, 64).await.ok().unwrap(), "a=1&b=2");
        }
    }

    #[tokio::test]
    async fn in_10_pieces_are_bounded_together_and_a_broken_one_ends_the_body() {
        let sent = of_pieces([Some(Ok("a=1")), None, Some(Ok("&b=2"))]);
        let failure = read(sent, 6).await.err().unwrap();
        assert_eq!(refusal(failure), HttpRefusal::BodyTooLarge);
        let broken = || Some(Err(std::io::Error::other("broken off")));
        for mut sent in [
            of_pieces([broken(), None]),
            of_pieces([Some(Ok("a=1")), broken()]),
        ] {
            let _lent = lend(&mut sent);
            let failure = read(sent, 64).await.err().unwrap();
            assert_eq!(refusal(failure), HttpRefusal::BodyBroken);
        }
    }

    #[tokio::test]
    async fn what_nobody_read_of_a_lent_body_is_read_in_the_end() {
        let mut sent = of_pieces([Some(Ok("a=1")), None, Some(Ok("&b=2"))]);
        let lent = lend(&mut sent).unwrap();
        drop(sent);
        let mut returned = lent.returned;
        let mut left = returned.try_recv().unwrap();
        let piece = left.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece, "&b=2");
        assert!(left.frame().await.is_none());
    }

    #[tokio::test]
    async fn in_16_a_compressed_body_is_refused() {
        let headers = [
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ];
        let failure = Fields::from_request(request(&headers, "x"), &())
            .await
            .err()
            .unwrap();
        assert_eq!(refusal(failure), HttpRefusal::ContentEncoded);
    }

    #[test]
    fn in_11_malformed_authorization_is_nobody() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            refusal(bearer(&headers).err().unwrap()),
            HttpRefusal::BearerMissing
        );
        for value in ["Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "DPoP a"] {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            assert_eq!(
                refusal(bearer(&headers).err().unwrap()),
                HttpRefusal::BearerMalformed,
                "{value}"
            );
        }
        headers.insert(AUTHORIZATION, HeaderValue::from_static("bEARER a.b.c"));
        assert_eq!(bearer(&headers).unwrap(), "a.b.c");
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer d"));
        assert!(bearer(&headers).is_err());
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_bytes(b"Bearer \xff").unwrap(),
        );
        assert!(bearer(&headers).is_err());
    }
}
