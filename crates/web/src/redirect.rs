//! Sending a browser elsewhere: 302 after a GET, 303 after a POST, so that a form with a password is never sent on
//! (threats R-18).

use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use url::form_urlencoded;
use vault::{Error, Fault};

use crate::error::Failure;

/// Sends the browser to `location`, an absolute URL or a path of ours.
pub(crate) fn redirect(method: &Method, location: &str) -> Result<Response, Failure> {
    // Locations are checked where they are registered, so this would be a mistake of ours.
    let mut location = HeaderValue::from_str(location).map_err(|_| {
        Error::Fault(Fault::Internal(
            "a redirect that is no header value".to_owned(),
        ))
    })?;
    location.set_sensitive(true);
    let status = if method == Method::GET || method == Method::HEAD {
        StatusCode::FOUND
    } else {
        StatusCode::SEE_OTHER
    };
    Ok((status, [(LOCATION, location)]).into_response())
}

/// A path of ours with one parameter.
pub(crate) fn path_with(path: &str, name: &str, value: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair(name, value)
        .finish();
    format!("{path}?{query}")
}

/// Adds a cookie to an answer.
pub(crate) fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wb_09_a_posted_form_is_never_sent_on() {
        for (method, status) in [(Method::GET, 302), (Method::POST, 303)] {
            let response = redirect(&method, "https://app.example/cb?code=1").unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(
                response.headers()[LOCATION],
                "https://app.example/cb?code=1"
            );
        }
        assert!(redirect(&Method::GET, "https://app.example/\r\nset-cookie: a=b").is_err());
    }

    #[test]
    fn parameters_are_encoded() {
        assert_eq!(
            path_with("/u/login", "state", "a&b=ä"),
            "/u/login?state=a%26b%3D%C3%A4"
        );
    }
}
