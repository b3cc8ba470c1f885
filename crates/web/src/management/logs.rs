//! The log (contract 2.12).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vault::LogEntry;

use crate::app::App;
use crate::error::Failure;
use crate::management::endpoint::Endpoint;
use crate::management::listing::Paging;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/logs", "read:logs", list)
            .called(
                "logs",
                "listLogs",
                "Read the log: by page the newest first, with from or take on from an entry",
            )
            .query::<ListQuery>()
            .lists::<LogEntry>("logs"),
        Endpoint::get("/logs/{id}", "read:logs", show)
            .called("logs", "getLog", "Show an entry of the log")
            .answers::<LogEntry>(),
    ]
}

/// The parameters of the log.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
struct ListQuery {
    /// Only entries that it finds: `field:value` with ` AND ` between; fields are `type`, `event`, `outcome`, `client_id`,
    /// `user_id`, `connection`, `ip`, and `date:[FROM TO UNTIL]`.
    #[schemars(length(max = 1000))]
    q: Option<String>,
    /// Of no meaning here: pages are the newest first. Taken from tools that send it.
    #[expect(dead_code, reason = "taken from tools that send it")]
    #[schemars(extend("enum" = ["date:-1", null]))]
    sort: Option<String>,
    #[serde(flatten)]
    paging: Paging,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failure> {
    let listed = app
        .vault
        .read_logs(query.q.as_deref(), &query.paging.window()?)
        .await?;
    query.paging.answer("logs", listed)
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<LogEntry>, Failure> {
    Ok(Json(app.vault.view_log(&id).await?))
}
