//! The only place where an error becomes a status and a body.
//!
//! A handler returns a [`Failure`]; the edge renders it with [`render`] in the form that the surface speaks: OAuth's
//! JSON at the OAuth endpoints, problem+json under `/me`, a page elsewhere. A fault says nothing but the request's
//! id; its chain goes to the log, once, here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use vault::{Caller, Error, Fault, Reason, Refusal};

use crate::page;

/// What goes wrong in a handler.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// HTTP itself refuses, before anything of the product was asked.
    Http(HttpRefusal),
    /// The vault refused, or failed.
    Vault(Arc<Error>),
}

impl From<HttpRefusal> for Failure {
    fn from(refusal: HttpRefusal) -> Self {
        Self::Http(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Vault(Arc::new(error))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}

impl From<oauth::refusal::Refusal> for Failure {
    fn from(refusal: oauth::refusal::Refusal) -> Self {
        Error::from(refusal).into()
    }
}

/// The failure travels to the edge in the answer's extensions; nobody else sees this answer.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What HTTP itself refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpRefusal {
    /// No `Authorization: Bearer` on an endpoint that needs it.
    BearerMissing,
    /// An `Authorization` header that is not one, or two of them.
    BearerMalformed,
    /// A body that is not framed as HTTP says, or breaks off.
    BodyBroken,
    /// The body did not come to its end in time.
    BodyTimedOut,
    /// More bytes than this endpoint reads.
    BodyTooLarge,
    /// A compressed body.
    ContentEncoded,
    /// A media type that the OAuth endpoints do not read.
    ContentTypeUnknown,
    /// A form sent by another site.
    CrossSite,
    /// A form without the token of the page it was on.
    FormStale,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body is not the JSON it says it is.
    NotJson,
    /// A path that does not exist.
    NotFound,
    /// A body on the My Account API that is not `application/json`.
    NotJsonType,
    /// Too many requests, or too many guesses; the time to wait.
    RateLimited(Duration),
    /// An address longer than any of ours.
    UriTooLong,
}

impl HttpRefusal {
    /// Status, code, sentence and private name.
    fn row(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::BearerMissing => (
                401,
                "invalid_token",
                "This endpoint needs an access token in the header Authorization: Bearer.",
                "bearer_missing",
            ),
            Self::BearerMalformed => (
                401,
                "invalid_token",
                "The Authorization header is not one Bearer token.",
                "bearer_malformed",
            ),
            Self::BodyBroken => (
                400,
                "invalid_request",
                "The request body broke off or is not framed as HTTP says.",
                "body_broken",
            ),
            Self::BodyTimedOut => (
                408,
                "invalid_request",
                "The request body took too long to arrive.",
                "body_timed_out",
            ),
            Self::BodyTooLarge => (
                413,
                "invalid_request",
                "The request body is larger than 64 KiB.",
                "body_too_large",
            ),
            Self::ContentEncoded => (
                415,
                "invalid_request",
                "Compressed request bodies are not accepted. Send it without Content-Encoding.",
                "content_encoded",
            ),
            Self::ContentTypeUnknown => (
                400,
                "invalid_request",
                "Content-Type has to be application/x-www-form-urlencoded or application/json.",
                "content_type_unknown",
            ),
            Self::CrossSite => (
                403,
                "access_denied",
                "This form was sent from another site. Nothing was done.",
                "cross_site_request",
            ),
            Self::FormStale => (
                403,
                "access_denied",
                "This form is out of date or belongs to another browser. Go back, reload the page and try again.",
                "form_token_mismatch",
            ),
            Self::MethodNotAllowed => (
                405,
                "invalid_request",
                "This method is not allowed here. The Allow header names those that are.",
                "method_not_allowed",
            ),
            Self::NotFound => (
                404,
                "not_found",
                "There is nothing at this address.",
                "not_found",
            ),
            Self::NotJson => (
                400,
                "invalid_request",
                "The request body is not valid JSON with every name once.",
                "not_json",
            ),
            Self::NotJsonType => (
                415,
                "invalid_request",
                "Content-Type has to be application/json.",
                "not_json_type",
            ),
            Self::RateLimited(_) => (
                429,
                "too_many_requests",
                "Too many requests. Wait a moment and try again.",
                "rate_limited",
            ),
            Self::UriTooLong => (
                414,
                "invalid_request",
                "The address is too long.",
                "uri_too_long",
            ),
        }
    }
}

/// Who speaks what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// Management API: the body of Auth0's.
    Management,
    /// My Account API: problem+json.
    Me,
    /// OAuth endpoints, discovery, health: `error` and `error_description`.
    OAuth,
    /// Everything that a person looks at.
    Page,
    /// Userinfo: OAuth's JSON with the challenge of RFC 6750 §3.
    Userinfo,
}

impl Surface {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/userinfo" => Self::Userinfo,
            "/livez" | "/readyz" => Self::OAuth,
            _ if path.starts_with("/api/v2/") => Self::Management,
            _ if path == "/me" || path.starts_with("/me/") => Self::Me,
            _ if path.starts_with("/oauth/") || path.starts_with("/.well-known/") => Self::OAuth,
            _ => Self::Page,
        }
    }
}

/// A failure, sorted out: what is said, and what is only noted.
struct Said<'a> {
    status: StatusCode,
    code: &'a str,
    description: Cow<'a, str>,
    private_reason: &'a str,
    retry_after: Option<Duration>,
    extra: Option<&'a Map<String, Value>>,
}

impl Failure {
    fn said(&self, caller: &Caller) -> Said<'_> {
        match self {
            Self::Http(refusal) => {
                let (status, code, description, private_reason) = refusal.row();
                Said {
                    status: status_code(status),
                    code,
                    description: Cow::Borrowed(description),
                    private_reason,
                    retry_after: match refusal {
                        HttpRefusal::RateLimited(wait) => Some(*wait),
                        _ => None,
                    },
                    extra: None,
                }
            }
            Self::Vault(error) => match error.as_ref() {
                Error::Refused(refusal) => Said {
                    status: status_code(refusal.status()),
                    code: refusal.code(),
                    description: Cow::Borrowed(refusal.description()),
                    private_reason: refusal.private_reason(),
                    retry_after: refusal.retry_after(),
                    extra: Some(refusal.extra()),
                },
                Error::Fault(fault) => said_of_fault(fault, caller),
            },
        }
    }

    /// The reason, when the vault refused.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Vault(error) => match error.as_ref() {
                Error::Refused(refusal) => Some(refusal.reason()),
                Error::Fault(_) => None,
            },
            Self::Http(_) => None,
        }
    }
}

fn said_of_fault<'a>(fault: &Fault, caller: &Caller) -> Said<'a> {
    let (status, code, what, private_reason) = match fault {
        Fault::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "The service is unavailable for a moment. Try again.",
            "unavailable",
        ),
        Fault::Internal(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "Something went wrong on our side.",
            "internal",
        ),
        Fault::Integrity(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "Something went wrong on our side.",
            "integrity",
        ),
    };
    Said {
        status,
        code,
        description: Cow::Owned(format!("{what} Request id: {}.", caller.request_id)),
        private_reason,
        retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(Duration::from_secs(1)),
        extra: None,
    }
}

/// Whether the rest of the body is still on its way, or nobody knows where it ends: nothing else can follow it on its
/// connection.
pub(crate) fn ends_connection(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Http(
            HttpRefusal::BodyBroken
                | HttpRefusal::BodyTimedOut
                | HttpRefusal::BodyTooLarge
                | HttpRefusal::ContentEncoded
        )
    )
}

/// Makes the answer, and returns the private reason for the log line.
pub(crate) fn render(
    failure: &Failure,
    surface: Surface,
    caller: &Caller,
    allow: Option<HeaderValue>,
) -> (Response, String) {
    if let Failure::Vault(error) = failure
        && let Error::Fault(fault) = error.as_ref()
    {
        tracing::error!(request.id = %caller.request_id, error = %fault, "a request failed");
    }
    let said = failure.said(caller);
    let mut response = match surface {
        Surface::Management => management_error(&said),
        Surface::Me => problem(&said),
        Surface::OAuth | Surface::Userinfo => oauth_error(&said),
        Surface::Page => page::failure(said.status, &said.description, &caller.request_id),
    };
    let headers = response.headers_mut();
    if let Some(wait) = said.retry_after {
        // Rounded up: asking again on the dot must succeed.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if said.status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(
            "x-auth0-error-kind",
            HeaderValue::from_static("global-rate-limit"),
        );
    }
    if let Some(allow) = allow {
        headers.insert(ALLOW, allow);
    }
    if ends_connection(failure) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // The token endpoint and its siblings never challenge, whatever RFC 6749 §5.2 says of Basic: client libraries
    // report the challenge and hide the JSON error (contract 7.6).
    if matches!(surface, Surface::Management | Surface::Userinfo)
        && let Some(challenge) = challenge(failure, &said)
    {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    (response, said.private_reason.to_owned())
}

/// RFC 6749 §5.2. The media type has no charset: client libraries compare it (contract 7.6).
fn oauth_error(said: &Said<'_>) -> Response {
    let mut body = said.extra.cloned().unwrap_or_default();
    body.insert("error".to_owned(), said.code.into());
    body.insert(
        "error_description".to_owned(),
        said.description.as_ref().into(),
    );
    (said.status, Json(body)).into_response()
}

/// The shape of contract 4. `errorCode` is the reason's stable name.
fn management_error(said: &Said<'_>) -> Response {
    let mut body = json!({
        "statusCode": said.status.as_u16(),
        "error": said.status.canonical_reason().unwrap_or("Error"),
        "message": said.description,
        "errorCode": said.private_reason,
    });
    if let (Some(extra), Some(body)) = (said.extra, body.as_object_mut()) {
        body.extend(extra.clone());
    }
    (said.status, Json(body)).into_response()
}

/// RFC 9457 in the shape of the My Account API (contract 2.4).
fn problem(said: &Said<'_>) -> Response {
    let mut body = json!({
        "type": problem_type(said.status.as_u16(), said.private_reason),
        "status": said.status.as_u16(),
        "title": said.status.canonical_reason().unwrap_or("Error"),
        "detail": said.description,
    });
    if let (Some(errors), Some(body)) = (
        said.extra.and_then(|extra| extra.get("validation_errors")),
        body.as_object_mut(),
    ) {
        body.insert("validation_errors".to_owned(), errors.clone());
    }
    let content_type = [(CONTENT_TYPE, "application/problem+json")];
    (said.status, content_type, body.to_string()).into_response()
}

/// The problem's type: status and a number that never changes for a reason. 0001 is "this status, nothing special".
fn problem_type(status: u16, private_reason: &str) -> String {
    let number = match private_reason {
        "bearer_missing" => 2,
        "access_token_invalid" => 3,
        "scope_missing" | "insufficient_scope" => 4,
        "invalid_body" => 5,
        "connection_unknown" => 6,
        "connection_not_allowed" => 7,
        "redirect_uri_not_allowed" => 8,
        "redirect_uri_mismatch" => 9,
        "connect_flow_unknown" => 10,
        "connect_flow_finished" => 11,
        "connect_code_invalid" => 12,
        "connect_verifier_mismatch" => 13,
        "session_user_mismatch" => 14,
        "account_unknown" => 15,
        "cursor_invalid" => 16,
        "provider_refused" => 17,
        "provider_client_misconfigured" => 18,
        "provider_answer_invalid" => 19,
        "provider_unavailable" => 20,
        "provider_rate_limited" => 21,
        "identity_missing" => 22,
        "rate_limited" => 23,
        _ => 1,
    };
    format!("https://auth0.com/api-errors/A0E-{status}-{number:04}")
}

/// RFC 6750 §3.1: who sent no token learns no error.
fn challenge(failure: &Failure, said: &Said<'_>) -> Option<HeaderValue> {
    if !matches!(
        said.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        return None;
    }
    if matches!(failure, Failure::Http(HttpRefusal::BearerMissing)) {
        return Some(HeaderValue::from_static("Bearer"));
    }
    HeaderValue::from_str(&format!(
        "Bearer error=\"{}\", error_description=\"{}\"",
        said.code, said.description
    ))
    .ok()
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    fn caller() -> Caller {
        Caller {
            request_id: "req_1".into(),
            ..Caller::default()
        }
    }

    async fn rendered(failure: impl Into<Failure>, surface: Surface) -> (Response, Value) {
        let (response, _) = render(&failure.into(), surface, &caller(), None);
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (
            Response::from_parts(parts, axum::body::Body::empty()),
            value,
        )
    }

    #[tokio::test]
    async fn a_refusal_at_an_oauth_endpoint_has_a_code_and_a_sentence_and_no_challenge() {
        let (response, body) = rendered(
            Error::from(Reason::AccountNotConnected),
            Surface::of("/oauth/token"),
        )
        .await;
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
        assert_eq!(
            body,
            json!({
                "error": "federated_connection_refresh_token_not_found",
                "error_description": "Federated connection Refresh Token not found. The user has no connected account at this connection.",
            })
        );
    }

    #[tokio::test]
    async fn a_refusal_under_me_is_a_problem_that_points_at_fields() {
        let refusal = Refusal::new(Reason::InvalidBody)
            .describe("connection: required.")
            .with(
                "validation_errors",
                json!([{"detail": "required", "pointer": "/connection"}]),
            );
        let (response, body) =
            rendered(refusal, Surface::of("/me/v1/connected-accounts/connect")).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            body,
            json!({
                "type": "https://auth0.com/api-errors/A0E-400-0005",
                "status": 400,
                "title": "Bad Request",
                "detail": "connection: required.",
                "validation_errors": [{"detail": "required", "pointer": "/connection"}],
            })
        );
    }

    #[tokio::test]
    async fn a_fault_says_its_request_id_and_nothing_of_its_cause() {
        for (fault, status, code) in [
            (
                Fault::Internal("disk on fire".to_owned()),
                500,
                "server_error",
            ),
            (Fault::Integrity("row 7".to_owned()), 500, "server_error"),
            (
                Fault::Unavailable("connection refused".to_owned()),
                503,
                "temporarily_unavailable",
            ),
        ] {
            for path in [
                "/oauth/token",
                "/me/v1/connected-accounts/accounts",
                "/u/login",
            ] {
                let (response, body) =
                    rendered(Error::Fault(clone_of(&fault)), Surface::of(path)).await;
                assert_eq!(response.status(), status);
                let text = body.to_string();
                assert!(text.contains("req_1"), "{text}");
                for secret in ["disk on fire", "row 7", "connection refused"] {
                    assert!(!text.contains(secret), "{text}");
                }
            }
            let (_, body) = rendered(Error::Fault(fault), Surface::OAuth).await;
            assert_eq!(body["error"], code);
        }
    }

    fn clone_of(fault: &Fault) -> Fault {
        match fault {
            Fault::Internal(text) => Fault::Internal(text.clone()),
            Fault::Integrity(text) => Fault::Integrity(text.clone()),
            Fault::Unavailable(text) => Fault::Unavailable(text.clone()),
        }
    }

    #[tokio::test]
    async fn a_page_escapes_what_it_repeats() {
        let refusal = Refusal::new(Reason::InvalidBody).describe("<script>alert(1)</script>.");
        let (_, body) = rendered(refusal, Surface::of("/authorize")).await;
        let text = body.to_string();
        assert!(!text.contains("<script>alert"), "{text}");
        assert!(text.contains("alert(1)"), "{text}");
    }

    #[tokio::test]
    async fn userinfo_challenges_as_rfc_6750_says() {
        let (response, _) = rendered(HttpRefusal::BearerMissing, Surface::Userinfo).await;
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        let (response, _) = rendered(HttpRefusal::BearerMalformed, Surface::Userinfo).await;
        assert_eq!(
            response.headers()[WWW_AUTHENTICATE],
            "Bearer error=\"invalid_token\", error_description=\"The Authorization header is not one Bearer token.\""
        );
        let (response, _) = rendered(HttpRefusal::BearerMissing, Surface::Me).await;
        assert!(!response.headers().contains_key(WWW_AUTHENTICATE));
    }

    #[tokio::test]
    async fn waiting_times_are_rounded_up() {
        let wait = HttpRefusal::RateLimited(Duration::from_millis(1_200));
        let (response, _) = rendered(wait, Surface::Me).await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(
            response.headers()["x-auth0-error-kind"],
            "global-rate-limit"
        );
    }

    #[test]
    fn every_path_has_its_surface() {
        for (path, surface) in [
            ("/oauth/token", Surface::OAuth),
            ("/.well-known/jwks.json", Surface::OAuth),
            ("/userinfo", Surface::Userinfo),
            ("/me/v1/connected-accounts/accounts", Surface::Me),
            ("/me", Surface::Me),
            ("/mexico", Surface::Page),
            ("/authorize", Surface::Page),
            ("/", Surface::Page),
        ] {
            assert_eq!(Surface::of(path), surface, "{path}");
        }
    }
}
