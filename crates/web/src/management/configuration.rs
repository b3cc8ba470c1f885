//! The whole configuration as one document: for files kept in git.

use axum::Json;
use vault::{Configuration, ConfigurationView, ConfigureQuery, Configured};

use crate::body::JsonBody;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::query::Query;

/// Some thousands of objects; one of them is a few hundred bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/configuration", "read:tenant_settings", show)
            .called(
                "configuration",
                "getConfiguration",
                "Show everything that is configured, without secrets, as one document",
            )
            .answers::<ConfigurationView>(),
        Endpoint::post("/configuration", "read:tenant_settings", apply)
            .called(
                "configuration",
                "applyConfiguration",
                "Make everything like a document, all or nothing, or show what would change; each change needs the \
                 scope that it needs by itself",
            )
            .query::<ConfigureQuery>()
            .body::<Configuration>()
            .status(200)
            .answers::<Configured>(),
    ]
}

async fn show(asker: Asker) -> Result<Json<ConfigurationView>, Failure> {
    let configuration = asker.vault.configuration(&asker.administrator).await?;
    Ok(Json(configuration))
}

async fn apply(
    asker: Asker,
    Query(query): Query<ConfigureQuery>,
    JsonBody(body): JsonBody<MOST_BYTES>,
) -> Result<Json<Configured>, Failure> {
    let configured = asker
        .vault
        .configure(&asker.administrator, body, &query, &asker.caller)
        .await?;
    Ok(Json(configured))
}
