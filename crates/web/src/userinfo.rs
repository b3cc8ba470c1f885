//! `GET` and `POST /userinfo`: who the user of an access token is (OpenID Connect Core §5.3).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use serde_json::Value;
use vault::Caller;

use crate::app::App;
use crate::body;
use crate::edge::Notes;
use crate::error::Failure;

pub(crate) async fn userinfo(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(notes): Extension<Notes>,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    let audience = app.vault.settings().issuer.userinfo_audience();
    let token = app
        .vault
        .authenticate_bearer(body::bearer(&headers)?, &audience, Some("openid"), &caller)
        .await?;
    notes.client(&token.client_id);
    Ok(Json(app.vault.userinfo(&token).await?))
}
