//! What other origins may read: contract 7.13 and threats WB-10.
//!
//! Discovery and keys are for anyone. The token endpoint and its siblings answer the origins of registered clients.
//! Everything else, `/authorize` and the pages above all, is shared with nobody. Cookies never count across origins.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::app::App;

/// With whom a path is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// With every origin.
    Anyone,
    /// With the origins of registered clients.
    Clients,
    /// With no other origin.
    Nobody,
}

impl Sharing {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/oauth/token" | "/oauth/revoke" | "/userinfo" => Self::Clients,
            _ if path.starts_with("/me/v1/") => Self::Clients,
            _ if path.starts_with("/.well-known/") => Self::Anyone,
            _ => Self::Nobody,
        }
    }

    /// The `Access-Control-Allow-Origin` of the answer.
    pub(crate) async fn allowed_origin(
        self,
        app: &App,
        headers: &HeaderMap,
    ) -> Option<HeaderValue> {
        match self {
            Self::Nobody => None,
            Self::Anyone => Some(HeaderValue::from_static("*")),
            Self::Clients => {
                let mut origins = headers.get_all(ORIGIN).iter();
                let (Some(origin), None) = (origins.next(), origins.next()) else {
                    return None;
                };
                // When the database cannot be asked, the answer is for nobody's eyes; the handler reports the fault.
                let allowed = app
                    .vault
                    .is_allowed_origin(origin.to_str().ok()?)
                    .await
                    .unwrap_or(false);
                allowed.then(|| origin.clone())
            }
        }
    }

    /// The answer to a browser that asks before it sends. An origin that may not gets one without permissions.
    pub(crate) fn preflight(
        self,
        request: &Request,
        origin: Option<&HeaderValue>,
    ) -> Option<Response> {
        let headers = request.headers();
        let is_preflight = request.method() == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if self == Self::Nobody || !is_preflight {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        if origin.is_some() {
            let headers = response.headers_mut();
            headers.insert(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, POST, PATCH, DELETE"),
            );
            headers.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("authorization, content-type, dpop, auth0-client"),
            );
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        Some(response)
    }

    /// Adds what the browser reads. Never `Access-Control-Allow-Credentials`.
    pub(crate) fn add_headers(self, response: &mut Response, origin: Option<HeaderValue>) {
        let headers = response.headers_mut();
        if self == Self::Clients {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(
                    "dpop-nonce, www-authenticate, location, retry-after, x-ratelimit-limit, \
                     x-ratelimit-remaining, x-ratelimit-reset, x-request-id",
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn preflight(path: &str, origin: Option<&str>) -> Option<Response> {
        let request = Request::builder()
            .method("OPTIONS")
            .uri(path)
            .header(ORIGIN, "https://app.example")
            .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .body(Body::empty())
            .unwrap();
        let origin = origin.map(|origin| HeaderValue::from_str(origin).unwrap());
        let sharing = Sharing::of(path);
        let mut response = sharing.preflight(&request, origin.as_ref())?;
        sharing.add_headers(&mut response, origin);
        Some(response)
    }

    #[test]
    fn wb_10_pages_are_shared_with_nobody() {
        for path in [
            "/authorize",
            "/u/login",
            "/connected-accounts/connect",
            "/oauth/par",
            "/",
            "/api/v2/clients",
        ] {
            assert_eq!(Sharing::of(path), Sharing::Nobody, "{path}");
            assert!(preflight(path, None).is_none(), "{path}");
        }
    }

    #[test]
    fn wb_10_a_client_s_origin_is_named_and_others_get_nothing() {
        let response = preflight("/oauth/token", Some("https://app.example")).unwrap();
        assert_eq!(response.status(), 204);
        let headers = response.headers();
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
        assert_eq!(headers[VARY], "origin");
        assert!(!headers.contains_key("access-control-allow-credentials"));

        let response = preflight("/me/v1/connected-accounts/accounts", None).unwrap();
        let headers = response.headers();
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
        assert_eq!(headers[VARY], "origin");
    }

    #[test]
    fn a_plain_options_request_is_no_preflight() {
        let request = Request::builder()
            .method("OPTIONS")
            .uri("/oauth/token")
            .body(Body::empty())
            .unwrap();
        assert!(Sharing::Clients.preflight(&request, None).is_none());
    }
}
