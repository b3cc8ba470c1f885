//! For whoever watches this process: alive, and ready to serve.

use std::sync::Arc;

use axum::extract::State;

use crate::app::App;
use crate::error::Failure;

/// The process answers.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// The database answers too.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Failure> {
    app.vault.jwks().await?;
    Ok("ok\n")
}
