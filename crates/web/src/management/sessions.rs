//! One session, one refresh token (contract 4.5).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use vault::{RefreshTokenView, SessionView};

use crate::app::App;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/sessions/{id}", "read:sessions", show_session)
            .called("sessions", "getSession", "Show a live session")
            .answers::<SessionView>(),
        Endpoint::delete("/sessions/{id}", "delete:sessions", end_session).called(
            "sessions",
            "deleteSession",
            "End a session",
        ),
        Endpoint::get(
            "/refresh-tokens/{id}",
            "read:refresh_tokens",
            show_refresh_token,
        )
        .called(
            "refresh tokens",
            "getRefreshToken",
            "Show a live refresh token, without the token itself",
        )
        .answers::<RefreshTokenView>(),
        Endpoint::delete(
            "/refresh-tokens/{id}",
            "delete:refresh_tokens",
            end_refresh_token,
        )
        .called(
            "refresh tokens",
            "deleteRefreshToken",
            "End a refresh token",
        ),
    ]
}

async fn show_session(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<SessionView>, Failure> {
    Ok(Json(app.vault.view_session(&id).await?))
}

async fn end_session(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .revoke_session(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_refresh_token(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<RefreshTokenView>, Failure> {
    Ok(Json(app.vault.view_refresh_token(&id).await?))
}

async fn end_refresh_token(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .end_refresh_token(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
