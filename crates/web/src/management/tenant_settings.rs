//! The deployment's settings (contract 4.5).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use vault::{Patch, TenantSettings};

use crate::app::App;
use crate::body::JsonBody;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/tenants/settings", "read:tenant_settings", show)
            .called(
                "settings",
                "getTenantSettings",
                "Show the deployment's settings",
            )
            .query::<ShowQuery>()
            .answers::<TenantSettings>(),
        Endpoint::patch("/tenants/settings", "update:tenant_settings", change)
            .called(
                "settings",
                "updateTenantSettings",
                "Change the deployment's settings",
            )
            .body::<Patch<TenantSettings>>()
            .answers::<TenantSettings>(),
    ]
}

/// The parameters of the settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    /// Of no meaning here: the settings are always shown whole.
    #[expect(dead_code, reason = "taken from tools that send it")]
    #[schemars(length(max = 1000))]
    fields: Option<String>,
    /// Of no meaning here.
    #[expect(dead_code, reason = "taken from tools that send it")]
    include_fields: Option<bool>,
}

async fn show(
    State(app): State<Arc<App>>,
    Query(_): Query<ShowQuery>,
) -> Result<Json<TenantSettings>, Failure> {
    Ok(Json(app.vault.tenant_settings().await?))
}

async fn change(asker: Asker, JsonBody(body): JsonBody) -> Result<Json<TenantSettings>, Failure> {
    let patch = Patch::read(body)?;
    let settings = asker
        .vault
        .change_tenant_settings(&asker.administrator, &patch, &asker.caller)
        .await?;
    Ok(Json(settings))
}
