//! APIs (contract 4.3).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vault::{ApiSettings, ApiView, Patch};

use crate::app::App;
use crate::body::JsonBody;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::management::listing::Paging;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/resource-servers", "read:resource_servers", list)
            .called("resource servers", "listResourceServers", "List APIs")
            .query::<ListQuery>()
            .lists::<ApiView>("resource_servers"),
        Endpoint::post("/resource-servers", "create:resource_servers", create)
            .called(
                "resource servers",
                "createResourceServer",
                "Register an API",
            )
            .body::<ApiSettings>()
            .answers::<ApiView>(),
        Endpoint::get("/resource-servers/{id}", "read:resource_servers", show)
            .called(
                "resource servers",
                "getResourceServer",
                "Show an API, by its id or its encoded identifier",
            )
            .answers::<ApiView>(),
        Endpoint::patch("/resource-servers/{id}", "update:resource_servers", change)
            .called("resource servers", "updateResourceServer", "Change an API")
            .body::<Patch<ApiSettings>>()
            .answers::<ApiView>(),
        Endpoint::delete("/resource-servers/{id}", "delete:resource_servers", delete).called(
            "resource servers",
            "deleteResourceServer",
            "Delete an API with the grants for it",
        ),
    ]
}

/// The parameters of the list of APIs.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
struct ListQuery {
    /// Only APIs of these identifiers (repeatable).
    #[serde(default)]
    #[schemars(length(max = 10), inner(length(min = 1, max = 255)))]
    identifiers: Vec<String>,
    #[serde(flatten)]
    paging: Paging,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failure> {
    let listed = app
        .vault
        .list_apis(&query.identifiers, &query.paging.window()?)
        .await?;
    query.paging.answer("resource_servers", listed)
}

async fn create(
    asker: Asker,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ApiView>), Failure> {
    let api = asker
        .vault
        .register_api(&asker.administrator, body, &asker.caller)
        .await?;
    Ok((StatusCode::CREATED, Json(api)))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ApiView>, Failure> {
    Ok(Json(app.vault.view_api(&id).await?))
}

async fn change(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ApiView>, Failure> {
    let patch = Patch::read(body)?;
    let api = asker
        .vault
        .change_api(&asker.administrator, &id, &patch, &asker.caller)
        .await?;
    Ok(Json(api))
}

async fn delete(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_api(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
