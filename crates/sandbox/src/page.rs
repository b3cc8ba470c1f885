//! The pages: no script, every choice a named button, the main one first.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

const STYLE: &str = include_str!("../pages/sandbox.css");

/// The login form of a request.
pub(crate) fn login(request_id: &str, username: &str, error: Option<&str>) -> Response {
    let error =
        error.map(|text| format!("<p class=\"error\" role=\"alert\">{}</p>", escaped(text)));
    page(
        StatusCode::OK,
        "Log in to the sandbox",
        &format!(
            "<p>This provider runs on your own machine.</p>{error}\
             <form method=\"post\" action=\"/login\">\
             <input type=\"hidden\" name=\"request\" value=\"{request}\">\
             <label for=\"username\">E-mail</label>\
             <input id=\"username\" name=\"username\" value=\"{username}\" autocomplete=\"username\" required autofocus>\
             <label for=\"password\">Password</label>\
             <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" required>\
             <button name=\"action\" value=\"default\">Log in</button></form>\
             <p class=\"note\">People here: alice@sandbox.example and bob@sandbox.example, password sandbox.</p>",
            error = error.unwrap_or_default(),
            request = escaped(request_id),
            username = escaped(username),
        ),
    )
}

/// The consent form of a request.
pub(crate) fn consent(request_id: &str, client_id: &str, who: &str, scopes: &[String]) -> Response {
    let scopes: String = scopes
        .iter()
        .map(|scope| format!("<li><code>{}</code></li>", escaped(scope)))
        .collect();
    page(
        StatusCode::OK,
        "Allow access?",
        &format!(
            "<p>You are <strong>{who}</strong>. The application <code>{client}</code> asks for:</p><ul>{scopes}</ul>\
             <form method=\"post\" action=\"/consent\">\
             <input type=\"hidden\" name=\"request\" value=\"{request}\">\
             <button name=\"action\" value=\"accept\">Allow</button>\
             <button class=\"quiet\" name=\"action\" value=\"deny\">Deny</button></form>",
            who = escaped(who),
            client = escaped(client_id),
            request = escaped(request_id),
        ),
    )
}

/// The consent form of a simulated provider.
pub(crate) fn simulated_consent(
    fixture: &str,
    title: &str,
    request_id: &str,
    scopes: &[String],
) -> Response {
    let scopes: String = scopes
        .iter()
        .map(|scope| format!("<li><code>{}</code></li>", escaped(scope)))
        .collect();
    page(
        StatusCode::OK,
        "Allow access?",
        &format!(
            "<p>This is a simulation of <strong>{title}</strong> on your own machine. The application asks for:</p>\
             <ul>{scopes}</ul>\
             <form method=\"post\" action=\"/as/{fixture}/simulator/decide\">\
             <input type=\"hidden\" name=\"request\" value=\"{request}\">\
             <button name=\"action\" value=\"accept\">Allow</button>\
             <button class=\"quiet\" name=\"action\" value=\"deny\">Deny</button></form>",
            title = escaped(title),
            fixture = escaped(fixture),
            request = escaped(request_id),
        ),
    )
}

/// A page for a request that cannot be answered anywhere else.
pub(crate) fn failure(text: &str) -> Response {
    page(
        StatusCode::BAD_REQUEST,
        "That did not work",
        &format!("<p class=\"error\">{}</p>", escaped(text)),
    )
}

/// What people see who come by.
pub(crate) fn home() -> Response {
    page(
        StatusCode::OK,
        "Sandbox provider",
        "<p>An OpenID Connect provider for development and tests. It runs beside <code>tokenvault dev</code>.</p>\
         <ul><li><a href=\"/.well-known/openid-configuration\">Its metadata</a></li>\
         <li><a href=\"/sandbox/behaviour\">How it behaves</a> (POST changes it)</li>\
         <li><a href=\"/sandbox/calls\">What it was asked</a></li></ul>",
    )
}

fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} – Sandbox</title><style>{STYLE}</style>\
         <main><h1>{title}</h1>{content}</main></html>"
    );
    (status, [("cache-control", "no-store")], Html(html)).into_response()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
