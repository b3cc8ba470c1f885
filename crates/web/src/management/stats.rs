//! Figures of what happened.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use vault::DayStats;

use crate::app::App;
use crate::error::Failure;
use crate::management::endpoint::Endpoint;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/stats/daily", "read:stats", daily)
            .called("stats", "getDailyStats", "Show what happened day by day")
            .query::<DaysQuery>()
            .answers::<Vec<DayStats>>(),
        Endpoint::get("/stats/active-users", "read:stats", active_users)
            .called(
                "stats",
                "getActiveUsers",
                "Show how many users something happened for in the last 30 days",
            )
            .answers::<i64>(),
    ]
}

/// Which days.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DaysQuery {
    /// The first day, `YYYYMMDD`. Default: 29 days before the last one.
    #[schemars(length(max = 8))]
    from: Option<String>,
    /// The last day, `YYYYMMDD`. Default: today.
    #[schemars(length(max = 8))]
    to: Option<String>,
}

async fn daily(
    State(app): State<Arc<App>>,
    Query(query): Query<DaysQuery>,
) -> Result<Json<Vec<DayStats>>, Failure> {
    let days = app
        .vault
        .daily_stats(query.from.as_deref(), query.to.as_deref())
        .await?;
    Ok(Json(days))
}

async fn active_users(State(app): State<Arc<App>>) -> Result<Json<i64>, Failure> {
    Ok(Json(app.vault.active_users().await?))
}
