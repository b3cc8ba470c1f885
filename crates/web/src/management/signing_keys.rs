//! Signing keys (contract 4.5).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use vault::SigningKeyView;

use crate::app::App;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/keys/signing", "read:signing_keys", list)
            .called(
                "keys",
                "listSigningKeys",
                "List signing keys, the public halves",
            )
            .answers::<Vec<SigningKeyView>>(),
        Endpoint::get("/keys/signing/{kid}", "read:signing_keys", show)
            .called(
                "keys",
                "getSigningKey",
                "Show a signing key, the public half",
            )
            .answers::<SigningKeyView>(),
        Endpoint::post("/keys/signing/rotate", "create:signing_keys", rotate)
            .called(
                "keys",
                "rotateSigningKey",
                "Let the next signing key sign; the one before goes on verifying",
            )
            .query::<RotateQuery>()
            .answers::<SigningKeyView>(),
        Endpoint::put("/keys/signing/{kid}/revoke", "update:signing_keys", revoke)
            .called(
                "keys",
                "revokeSigningKey",
                "Take a signing key out of use at once: whatever it signed is refused",
            )
            .answers::<SigningKeyView>(),
    ]
}

/// Which key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RotateQuery {
    /// The algorithm. Default: RS256.
    #[schemars(extend("enum" = ["EdDSA", "ES256", "RS256", null]))]
    alg: Option<String>,
}

async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<SigningKeyView>>, Failure> {
    Ok(Json(app.vault.list_signing_keys().await?))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(kid): Path<String>,
) -> Result<Json<SigningKeyView>, Failure> {
    Ok(Json(app.vault.view_signing_key(&kid).await?))
}

async fn rotate(
    asker: Asker,
    Query(query): Query<RotateQuery>,
) -> Result<(StatusCode, Json<SigningKeyView>), Failure> {
    let alg = query.alg.unwrap_or_else(|| "RS256".to_owned());
    let key = asker
        .vault
        .rotate_named_signing_key(&asker.administrator, &alg, &asker.caller)
        .await?;
    Ok((StatusCode::CREATED, Json(key)))
}

async fn revoke(asker: Asker, Path(kid): Path<String>) -> Result<Json<SigningKeyView>, Failure> {
    asker
        .vault
        .revoke_signing_key(&asker.administrator, &kid, &asker.caller)
        .await?;
    Ok(Json(asker.vault.view_signing_key(&kid).await?))
}
