//! Who is looking at a page, and proof that a form came from one of ours.
//!
//! A form that changes something is believed only when three things agree (threats WB-01, WB-07): the browser does
//! not say that another site sent it (`Sec-Fetch-Site`, `Origin`), the browser's cookie came along (`SameSite=Lax`),
//! and the hidden field `csrf` is the token that this server made for that browser and that form.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use oauth::params::Params;
use vault::Session;

use crate::app::App;
use crate::body::FormFields;
use crate::cookie;
use crate::error::{Failure, HttpRefusal};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The browser in front of a page, and who is logged in there.
pub(crate) struct Visitor {
    /// The live session, if there is one.
    pub(crate) session: Option<Session>,
    /// The browser's own id.
    pub(crate) browser: String,
    /// The browser had no id yet; the answer has to give it this one.
    is_new: bool,
}

impl Visitor {
    /// The hidden field for a form that posts to `action`.
    pub(crate) fn form_token(&self, app: &App, action: &str) -> String {
        app.vault.form_token(&self.browser, action)
    }

    /// Gives the browser its id, when it has none.
    pub(crate) fn remember(&self, mut response: Response) -> Response {
        if self.is_new
            && let Some(cookie) = cookie::set(cookie::BROWSER, &self.browser, None)
        {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let session = match cookie::read(&parts.headers, cookie::SESSION) {
            Some(value) => app.vault.find_session(value).await?,
            None => None,
        };
        let known = cookie::read(&parts.headers, cookie::BROWSER).filter(|id| is_browser_id(id));
        Ok(Self {
            session,
            is_new: known.is_none(),
            browser: known.map_or_else(
                || seal::random_id(app.options.entropy.as_ref(), ""),
                str::to_owned,
            ),
        })
    }
}

/// A form of one of our pages, checked.
pub(crate) struct PostedForm {
    pub(crate) visitor: Visitor,
    pub(crate) params: Params,
}

impl FromRequest<Arc<App>> for PostedForm {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        if !is_from_here(&parts.headers, app.vault.settings().issuer.origin()) {
            return Err(HttpRefusal::CrossSite.into());
        }
        let visitor = Visitor::from_request_parts(&mut parts, app).await?;
        let action = parts.uri.path().to_owned();
        let FormFields(params) =
            FormFields::from_request(Request::from_parts(parts, body), app).await?;
        let token = params.get("csrf").unwrap_or_default();
        if visitor.is_new
            || !app
                .vault
                .form_token_matches(&visitor.browser, &action, token)
        {
            return Err(HttpRefusal::FormStale.into());
        }
        Ok(Self { visitor, params })
    }
}

/// Whether the browser's own words allow that the form was on a page of ours.
///
/// Our pages say `Referrer-Policy: no-referrer`, with which browsers send `Origin: null` on forms; then
/// `Sec-Fetch-Site` tells, and in browsers without it the token alone.
fn is_from_here(headers: &HeaderMap, our_origin: &str) -> bool {
    let site_allows = match headers.get(SEC_FETCH_SITE) {
        None => true,
        Some(site) => site == "same-origin" || site == "none",
    };
    let origin_allows = headers
        .get_all(ORIGIN)
        .iter()
        .all(|origin| origin == our_origin || origin == "null");
    site_allows && origin_allows
}

fn is_browser_id(text: &str) -> bool {
    (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn wb_07_forms_from_other_sites_are_refused() {
        for (site, origin, expected) in [
            (Some("same-origin"), Some("https://vault.example"), true),
            (Some("same-origin"), Some("null"), true),
            (Some("same-origin"), None, true),
            (Some("none"), None, true),
            (None, None, true),
            (None, Some("https://vault.example"), true),
            (Some("cross-site"), Some("https://vault.example"), false),
            (Some("same-site"), Some("null"), false),
            (Some("cross-site"), Some("null"), false),
            (Some("same-origin"), Some("https://evil.example"), false),
            (None, Some("https://vault.example.evil.example"), false),
            (None, Some("https://vault.example:8443"), false),
            (None, Some("http://vault.example"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(site) = site {
                headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
            }
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(
                is_from_here(&headers, "https://vault.example"),
                expected,
                "{site:?} {origin:?}"
            );
        }
    }

    #[test]
    fn a_browser_id_is_ours_or_replaced() {
        for (text, expected) in [
            ("7n42DGM5Tflk9n8mt7Fhc7", true),
            ("short", false),
            ("7n42DGM5Tflk9n8mt7Fhc7;x", false),
            (&"a".repeat(65), false),
        ] {
            assert_eq!(is_browser_id(text), expected, "{text}");
        }
    }
}
