//! What happens around every request: its id, its caller, limits, sharing with other origins, the rendering of
//! failures, headers that every answer has, and one line in the log.
//!
//! The line holds method, path without query, status, time, and who asked where that is known: never a header, a body
//! or a query (threats LG-05). A path is logged only when it is one of ours; what else somebody sends could be a token
//! pasted into the wrong place.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, REFERRER_POLICY, SET_COOKIE, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use tower::{Layer, Service};
use vault::{Caller, Reason};

use crate::address::{Peer, client_address};
use crate::app::App;
use crate::body;
use crate::cors;
use crate::error::{self, Failure, HttpRefusal, Surface};
use crate::limiter::Standing;

/// The longest path and query that is looked at. `/authorize` with every parameter stays well below.
const MOST_URI_BYTES: usize = 32 * 1024;

/// What an answer gets beside its own headers, so that their table grows once.
const USUAL_HEADERS: usize = 10;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What handlers note for the edge: facts for the log line and the rate limit headers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    client_id: Option<String>,
    standing: Option<Standing>,
}

impl Notes {
    pub(crate) fn client(&self, client_id: &str) {
        self.change(|noted| noted.client_id = Some(client_id.to_owned()));
    }

    pub(crate) fn standing(&self, standing: Standing) {
        self.change(|noted| noted.standing = Some(standing));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Noted) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The outermost layer. Written out because axum's `from_fn` puts each request's work into two boxes more.
#[derive(Clone)]
pub(crate) struct Edge(pub(crate) Arc<App>);

impl Layer<Route> for Edge {
    type Service = Edged;

    fn layer(&self, inner: Route) -> Edged {
        Edged {
            app: Arc::clone(&self.0),
            inner,
        }
    }
}

/// A route with everything around it.
#[derive(Clone)]
pub(crate) struct Edged {
    app: Arc<App>,
    inner: Route,
}

impl Service<Request> for Edged {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let waiting = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, waiting);
        Box::pin(pass(Arc::clone(&self.app), request, ready))
    }
}

async fn pass(
    app: Arc<App>,
    mut request: Request,
    mut inner: Route,
) -> Result<Response, Infallible> {
    let begun = Instant::now();
    let caller = caller(&app, &request);
    let notes = Notes::default();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let surface = Surface::of(&path);
    let matched = request.extensions().get::<MatchedPath>().is_some();
    let sharing = cors::Sharing::of(&path);
    let origin = sharing.allowed_origin(&app, request.headers()).await;
    let lent = body::lend(&mut request);

    let mut response = if let Some(preflight) = sharing.preflight(&request, origin.as_ref()) {
        preflight
    } else if let Some(refusal) = refused_at_the_door(&app, &request, surface, &caller) {
        Failure::from(refusal).into_response()
    } else {
        request.extensions_mut().insert(caller.clone());
        request.extensions_mut().insert(notes.clone());
        inner.call(request).await?
    };
    if let Some(lent) = lent {
        let failure = response.extensions().get::<Failure>();
        lent.read_to_its_end(failure.is_some_and(error::ends_connection))
            .await;
    }

    let allow = response.headers_mut().remove(ALLOW);
    let mut failure = response.extensions_mut().remove::<Failure>();
    if failure.is_none() && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        failure = Some(HttpRefusal::MethodNotAllowed.into());
    }
    let mut reason = None;
    if let Some(failure) = failure {
        if is_guess(&failure) {
            app.guess_limiter.take(&guesser(&caller), app.vault.now());
        }
        // A login may succeed although what it was for does not go on: its cookie stays.
        let cookies: Vec<HeaderValue> = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .cloned()
            .collect();
        let (rendered, private_reason) = error::render(&failure, surface, &caller, allow);
        response = rendered;
        for cookie in cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        reason = Some(private_reason);
    }

    let noted = notes.change(std::mem::take);
    sharing.add_headers(&mut response, origin);
    if let Some(standing) = noted.standing {
        add_rate_headers(&mut response, standing);
    }
    add_common_headers(&mut response, &caller, &app);

    tracing::info!(
        http.method = %method,
        http.path = if matched { path.as_str() } else { "(no route)" },
        http.status = response.status().as_u16(),
        duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        request.id = %caller.request_id,
        client.id = noted.client_id,
        client.address = caller.address.map(tracing::field::display),
        reason,
        "request"
    );
    Ok(response)
}

fn caller(app: &App, request: &Request) -> Caller {
    let peer = request
        .extensions()
        .get::<Peer>()
        .map(|Peer(address)| address.ip());
    Caller {
        address: client_address(peer, request.headers(), &app.options.trusted_proxies),
        request_id: seal::random_id(&app.request_ids, "req_").into(),
    }
}

fn refused_at_the_door(
    app: &App,
    request: &Request,
    surface: Surface,
    caller: &Caller,
) -> Option<HttpRefusal> {
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > MOST_URI_BYTES {
        return Some(HttpRefusal::UriTooLong);
    }
    if surface != Surface::Page || uri.path().starts_with("/assets/") {
        return None;
    }
    app.guess_limiter
        .refused_for(&guesser(caller), app.vault.now())
        .map(HttpRefusal::RateLimited)
}

/// Failures that look like somebody trying values until one fits (threats AU-29, CN-10).
fn is_guess(failure: &Failure) -> bool {
    matches!(
        failure.reason(),
        Some(
            Reason::ConnectTicketUnknown
                | Reason::ConnectStateMismatch
                | Reason::PushedRequestUnknown
        )
    )
}

/// Whose guesses are counted together: an IPv4 address, or an IPv6 network of the size that one customer gets.
fn guesser(caller: &Caller) -> String {
    match caller.canonical_address() {
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Some(address @ IpAddr::V4(_)) => address.to_string(),
        None => String::new(),
    }
}

fn add_rate_headers(response: &mut Response, standing: Standing) {
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", standing.limit.into());
    headers.insert("x-ratelimit-remaining", standing.remaining.into());
    headers.insert("x-ratelimit-reset", standing.reset.into());
}

fn add_common_headers(response: &mut Response, caller: &Caller, app: &App) {
    let headers = response.headers_mut();
    headers.reserve(USUAL_HEADERS);
    if let Ok(request_id) = HeaderValue::from_str(&caller.request_id) {
        headers.insert(X_REQUEST_ID, request_id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // What may be kept says so itself.
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if !is_local(app.vault.settings().issuer.domain()) {
        headers.insert(
            STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
}

/// Names of a developer's own machine. A browser told to insist on https there would insist for every other project.
fn is_local(domain: &str) -> bool {
    let host = domain.rsplit_once(':').map_or(domain, |(host, _)| host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.ends_with(".test")
        || host.starts_with("127.")
        || host == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_transport_security_stays_away_from_developers_machines() {
        for (domain, local) in [
            ("localhost:8443", true),
            ("localhost", true),
            ("vault.test", true),
            ("127.0.0.1:8443", true),
            ("[::1]:8443", true),
            ("vault.example", false),
            ("vault.example:8443", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_local(domain), local, "{domain}");
        }
    }

    #[test]
    fn guesses_from_one_ipv6_network_count_together() {
        let from = |address: &str| {
            guesser(&Caller {
                address: Some(address.parse().unwrap()),
                ..Caller::default()
            })
        };
        assert_eq!(from("2001:db8:1:2::5"), from("2001:db8:1:2:ffff::1"));
        assert_ne!(from("2001:db8:1:2::5"), from("2001:db8:1:3::5"));
        assert_eq!(from("::ffff:198.51.100.7"), from("198.51.100.7"));
    }
}
