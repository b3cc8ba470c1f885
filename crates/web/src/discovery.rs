//! What this issuer says of itself: its metadata, its keys, and a page for people who come by.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::Failure;
use crate::page::{self, HomePage};

/// Keys are published well before they sign, so five minutes are never too long.
const PUBLIC: [(axum::http::HeaderName, &str); 1] = [(CACHE_CONTROL, "public, max-age=300")];

pub(crate) async fn metadata(State(app): State<Arc<App>>) -> Response {
    (PUBLIC, Json(app.vault.discovery())).into_response()
}

pub(crate) async fn keys(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    Ok((PUBLIC, Json(app.vault.jwks().await?)).into_response())
}

pub(crate) async fn home(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let issuer = &app.vault.settings().issuer;
    let page = HomePage {
        issuer: issuer.as_str(),
        domain: issuer.domain(),
    };
    page::html(StatusCode::OK, &page)
}
