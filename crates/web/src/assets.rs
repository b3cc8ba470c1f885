//! The three files that pages refer to. They change with the program only, so browsers may keep them for a while.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

pub(crate) async fn style() -> Response {
    asset(
        "text/css; charset=utf-8",
        include_str!("../assets/style.css"),
    )
}

pub(crate) async fn form_post() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("../assets/form-post.js"),
    )
}

pub(crate) async fn mark() -> Response {
    asset("image/svg+xml", include_str!("../assets/mark.svg"))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "public, max-age=600"),
    ];
    (headers, text).into_response()
}
