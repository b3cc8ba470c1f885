//! One request to a provider and its answer, within bounds.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use seal::SecretString;
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::endpoints::misconfigured;
use crate::failure::{Failure, FailureKind};
use crate::guard::{self, Guard};
use crate::profile::{BodyFormat, HttpMethod, TokenRequest};
use crate::template::{self, Values};

/// The longest answer that is read, in bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// The longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// An answer within bounds.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// The parameters of a request, in the order in which they are sent.
pub(crate) type Params = Vec<(String, String)>;

impl HttpMethod {
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Delete => Method::DELETE,
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
        }
    }
}

/// The standard's parameters as a provider wants them: some renamed, some left out, some replaced.
pub(crate) fn adapt(
    request: &TokenRequest,
    standard: Vec<(&str, &str)>,
    values: &Values<'_>,
) -> Result<Params, Failure> {
    let mut params = Params::new();
    for (name, value) in standard {
        if request.omit.iter().any(|omitted| omitted == name) {
            continue;
        }
        let name = request.rename.get(name).map_or(name, String::as_str);
        if !request.parameters.contains_key(name) {
            params.push((name.to_owned(), value.to_owned()));
        }
    }
    for (name, text) in &request.parameters {
        let value = template::fill(text, values)
            .ok_or_else(|| misconfigured("a variable of the request is not known"))?;
        params.push((name.clone(), value));
    }
    Ok(params)
}

/// A request with its parameters where the provider wants them.
pub(crate) fn request(
    method: HttpMethod,
    mut url: Url,
    format: BodyFormat,
    params: &[(String, String)],
) -> reqwest::Request {
    let form = |params: &[(String, String)]| {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(params)
            .finish()
    };
    if format == BodyFormat::Query && !params.is_empty() {
        url.query_pairs_mut().extend_pairs(params);
    }
    let mut request = reqwest::Request::new(method.method(), url);
    let (media_type, body) = match format {
        BodyFormat::Query => return request,
        _ if params.is_empty() => return request,
        BodyFormat::Form => ("application/x-www-form-urlencoded", form(params)),
        BodyFormat::Json => {
            let members: serde_json::Map<String, Value> = params
                .iter()
                .map(|(name, value)| (name.clone(), Value::String(value.clone())))
                .collect();
            ("application/json", Value::Object(members).to_string())
        }
    };
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    *request.body_mut() = Some(body.into());
    request
}

/// Adds a profile's own headers.
pub(crate) fn add_headers(
    request: &mut reqwest::Request,
    headers: &std::collections::BTreeMap<String, String>,
    values: &Values<'_>,
) -> Result<(), Failure> {
    for (name, text) in headers {
        let value = template::fill(text, values)
            .and_then(|value| HeaderValue::from_str(&value).ok())
            .ok_or_else(|| misconfigured("a header of the request cannot be made"))?;
        let name = HeaderName::try_from(name.as_str())
            .map_err(|_| misconfigured("a header of the request has no name"))?;
        request.headers_mut().insert(name, value);
    }
    Ok(())
}

/// A token in a header; nothing before it where the scheme is empty.
pub(crate) fn token_header(scheme: &str, token: &SecretString) -> Result<HeaderValue, Failure> {
    let text = if scheme.is_empty() {
        token.reveal().to_owned()
    } else {
        format!("{scheme} {}", token.reveal())
    };
    let mut header = HeaderValue::from_str(&text).map_err(|_| {
        Failure::new(
            FailureKind::InvalidResponse,
            "the token does not fit into a header",
        )
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// RFC 6749 §2.3.1: both halves form-encoded before they are joined.
pub(crate) fn basic(name: &str, secret: &str) -> Result<HeaderValue, Failure> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let joined = format!("{}:{}", encode(name), encode(secret));
    let mut header = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(joined)))
        .map_err(|_| misconfigured("the client secret does not fit into a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Sets the `Authorization` header.
pub(crate) fn authorize(request: &mut reqwest::Request, header: HeaderValue) {
    request.headers_mut().insert(AUTHORIZATION, header);
}

/// Sends a request and reads its answer, whatever its status.
pub(crate) async fn send(
    guard: &Guard,
    mut request: reqwest::Request,
    now: Timestamp,
) -> Result<Answer, Failure> {
    request
        .headers_mut()
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("application/json"));
    let client = guard.client_for(request.url())?;
    let mut response = client
        .execute(request)
        .await
        .map_err(|error| classify(&error))?;
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| wait(text.trim(), now));
    let unreadable = |detail| Failure::new(FailureKind::OutcomeUnknown, detail).with_status(status);
    // We ask for no compression; what comes compressed anyway may be a bomb (threats UP-02).
    if response.headers().contains_key(CONTENT_ENCODING) {
        return Err(unreadable("the provider compressed its answer"));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|_| unreadable("the provider's answer broke off or took too long"))?
    {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(unreadable("the provider's answer is larger than 64 KiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status,
        retry_after,
        body,
    })
}

/// RFC 9110 §10.2.3: seconds, or the time at which to come back. None where that is no wait at all: it would be an
/// invitation to ask at once, of somebody who has just said not to.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).ok()?
        }
    };
    (!wait.is_zero()).then_some(wait.min(LONGEST_WAIT))
}

/// A reading request: whatever goes wrong, nothing has changed at the provider.
pub(crate) async fn get(
    guard: &Guard,
    request: reqwest::Request,
    now: Timestamp,
) -> Result<Answer, Failure> {
    let answer = send(guard, request, now)
        .await
        .map_err(|failure| match failure.kind {
            FailureKind::OutcomeUnknown => Failure {
                kind: FailureKind::Unavailable,
                ..failure
            },
            _ => failure,
        })?;
    match answer.status {
        200 => Ok(answer),
        429 => Err(rate_limited(&answer)),
        500.. => Err(
            Failure::new(FailureKind::Unavailable, "the provider failed")
                .with_status(answer.status),
        ),
        status => Err(Failure::new(
            FailureKind::InvalidResponse,
            "the provider refused to answer",
        )
        .with_status(status)),
    }
}

pub(crate) fn rate_limited(answer: &Answer) -> Failure {
    Failure::new(
        FailureKind::RateLimited {
            retry_after: answer.retry_after,
        },
        "the provider limits requests",
    )
    .with_status(answer.status)
}

/// A request that got no answer: refused by us, never sent, or sent and lost. The error itself is not kept, because it
/// names addresses.
fn classify(error: &reqwest::Error) -> Failure {
    if let Some(refused) = guard::refusal(error) {
        return refused;
    }
    if error.is_connect() || error.is_builder() {
        Failure::new(FailureKind::Unavailable, "no connection to the provider")
    } else {
        Failure::new(
            FailureKind::OutcomeUnknown,
            "the request was sent and not answered",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_09_a_wait_is_seconds_or_a_time() {
        let now = Timestamp::from_second(784_111_777).unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            ("0", None),
            ("Sun, 06 Nov 1994 08:51:17 GMT", Some(100)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", None),
            ("1000000000000", Some(3600)),
            ("-5", None),
            ("abc", None),
            ("", None),
        ] {
            assert_eq!(wait(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
