//! What users consented to.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vault::{ConsentFilter, ConsentView};

use crate::app::App;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::management::listing::Paging;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/grants", "read:grants", list)
            .called("grants", "listGrants", "List what users consented to")
            .query::<ListQuery>()
            .lists::<ConsentView>("grants"),
        Endpoint::delete("/grants", "delete:grants", delete_of_user)
            .called(
                "grants",
                "deleteGrantsOfUser",
                "Take every consent of a user back",
            )
            .query::<UserQuery>(),
        Endpoint::delete("/grants/{id}", "delete:grants", delete).called(
            "grants",
            "deleteGrant",
            "Take a consent back; what was allowed at a login ends with it",
        ),
    ]
}

/// The parameters of the list of consents.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
struct ListQuery {
    /// Only of this user.
    #[schemars(length(max = 128))]
    user_id: Option<String>,
    /// Only to this client.
    #[schemars(length(max = 64))]
    client_id: Option<String>,
    /// Only for the API of this identifier.
    #[schemars(length(max = 255))]
    audience: Option<String>,
    #[serde(flatten)]
    paging: Paging,
}

/// Whose consents.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserQuery {
    /// The user.
    #[schemars(length(min = 1, max = 128))]
    user_id: String,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failure> {
    let filter = ConsentFilter {
        user_id: query.user_id,
        client_id: query.client_id,
        audience: query.audience,
    };
    let listed = app
        .vault
        .list_consents(&filter, &query.paging.window()?)
        .await?;
    query.paging.answer("grants", listed)
}

async fn delete_of_user(
    asker: Asker,
    Query(query): Query<UserQuery>,
) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_consents_of(&asker.administrator, &query.user_id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_consent(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
