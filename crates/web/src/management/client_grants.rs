//! What clients may have of APIs (contract 4.3).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vault::{ClientGrantFilter, ClientGrantSettings, ClientGrantView, Patch, SubjectType};

use crate::app::App;
use crate::body::JsonBody;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::management::listing::Paging;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/client-grants", "read:client_grants", list)
            .called("client grants", "listClientGrants", "List client grants")
            .query::<ListQuery>()
            .lists::<ClientGrantView>("client_grants"),
        Endpoint::post("/client-grants", "create:client_grants", create)
            .called(
                "client grants",
                "createClientGrant",
                "Grant a client scopes of an API",
            )
            .body::<ClientGrantSettings>()
            .answers::<ClientGrantView>(),
        Endpoint::get("/client-grants/{id}", "read:client_grants", show)
            .called("client grants", "getClientGrant", "Show a client grant")
            .answers::<ClientGrantView>(),
        Endpoint::patch("/client-grants/{id}", "update:client_grants", change)
            .called(
                "client grants",
                "updateClientGrant",
                "Change the scopes of a client grant",
            )
            .body::<Patch<ClientGrantSettings>>()
            .answers::<ClientGrantView>(),
        Endpoint::delete("/client-grants/{id}", "delete:client_grants", delete).called(
            "client grants",
            "deleteClientGrant",
            "Take a client grant back",
        ),
    ]
}

/// The parameters of the list of client grants.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
struct ListQuery {
    /// Only of this client.
    #[schemars(length(max = 64))]
    client_id: Option<String>,
    /// Only for the API of this identifier.
    #[schemars(length(max = 255))]
    audience: Option<String>,
    /// Only for such tokens.
    subject_type: Option<SubjectType>,
    /// Of no meaning here: organizations are not built.
    #[expect(dead_code, reason = "taken from tools that send it")]
    allow_any_organization: Option<bool>,
    #[serde(flatten)]
    paging: Paging,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failure> {
    let filter = ClientGrantFilter {
        client_id: query.client_id,
        audience: query.audience,
        subject_type: query.subject_type,
    };
    let listed = app
        .vault
        .list_client_grants(&filter, &query.paging.window()?)
        .await?;
    query.paging.answer("client_grants", listed)
}

async fn create(
    asker: Asker,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ClientGrantView>), Failure> {
    let grant = asker
        .vault
        .grant_client(&asker.administrator, body, &asker.caller)
        .await?;
    Ok((StatusCode::CREATED, Json(grant)))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ClientGrantView>, Failure> {
    Ok(Json(app.vault.view_client_grant(&id).await?))
}

async fn change(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ClientGrantView>, Failure> {
    let patch = Patch::read(body)?;
    let grant = asker
        .vault
        .change_client_grant(&asker.administrator, &id, &patch, &asker.caller)
        .await?;
    Ok(Json(grant))
}

async fn delete(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_client_grant(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
