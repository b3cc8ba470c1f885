//! Cookies, read and written. Every one of ours is `__Host-`, `Secure`, `HttpOnly` and `SameSite=Lax` (threats WB-14).

use std::time::Duration;

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};

/// The login session.
pub(crate) const SESSION: &str = "__Host-tv_session";

/// Which browser this is, logged in or not; forms and connect tickets are bound to it.
pub(crate) const BROWSER: &str = "__Host-tv_browser";

/// The value of a cookie. Of two with one name the first counts; a browser sends ours once.
pub(crate) fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

/// A `Set-Cookie` header. Without `max_age` the cookie ends with the browser. None when the value does not fit into
/// a cookie, which no value of ours does.
pub(crate) fn set(name: &str, value: &str, max_age: Option<Duration>) -> Option<HeaderValue> {
    let fits = value.len() <= 4096
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\'));
    if !fits {
        return None;
    }
    let mut text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax");
    if let Some(max_age) = max_age {
        text.push_str(&format!("; Max-Age={}", max_age.as_secs()));
    }
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A `Set-Cookie` header that ends a cookie.
pub(crate) fn clear(name: &str) -> Option<HeaderValue> {
    set(name, "", Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wb_14_our_cookies_are_bound_to_the_host_and_kept_from_scripts_and_other_sites() {
        assert_eq!(
            set(SESSION, "abc", Some(Duration::from_secs(60))).unwrap(),
            "__Host-tv_session=abc; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=60"
        );
        assert_eq!(
            clear(BROWSER).unwrap(),
            "__Host-tv_browser=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"
        );
        for value in ["a;b", "a b", "a\r\nset-cookie: x=y", "ä", &"x".repeat(5000)] {
            assert!(set(SESSION, value, None).is_none(), "{value}");
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=1; __Host-tv_session=one=two;  b=2"),
        );
        headers.append(
            COOKIE,
            HeaderValue::from_static("__Host-tv_browser=three; x"),
        );
        assert_eq!(read(&headers, SESSION), Some("one=two"));
        assert_eq!(read(&headers, BROWSER), Some("three"));
        assert_eq!(read(&headers, "tv_session"), None);
        assert_eq!(read(&headers, "x"), None);
        assert_eq!(read(&HeaderMap::new(), SESSION), None);
    }
}
