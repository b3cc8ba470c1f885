//! What people see of the deployment, as an administrator sets it (contract 4.5, `tenants/settings`).

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Row, Statement, params};

use crate::{Error, Fault};

/// What an administrator sets of the deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(example = example())]
pub struct TenantSettings {
    /// The name at the head of the pages. Default: Tokenvault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[^\\x00-\\x1f\\x7f]+$"))]
    pub friendly_name: Option<String>,
    /// Kept for tools: the pages load nothing from elsewhere, so they show no picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https://"))]
    pub picture_url: Option<String>,
    /// Whom people ask for help; the pages lead there where there is no `support_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254), regex(pattern = "^[^\\s@<>]+@[^\\s@<>]+$"))]
    pub support_email: Option<String>,
    /// Where people find help; the pages lead there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https://"))]
    pub support_url: Option<String>,
}

fn example() -> Value {
    json!({ "friendly_name": "Example Corp", "support_email": "help@example.com" })
}

/// The settings as they stand in the database; before anybody set any, the defaults and no revision.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredSettings {
    pub(crate) settings: TenantSettings,
    pub(crate) revision: u64,
}

pub(crate) fn read_statement() -> Statement {
    Statement::new("select settings, revision from tenant_settings", params![])
}

pub(crate) fn from_row(row: &Row) -> Result<StoredSettings, Error> {
    Ok(StoredSettings {
        settings: serde_json::from_str(row.text(0)?)?,
        revision: u64::try_from(row.int(1)?)
            .map_err(|_| Fault::Internal("tenant_settings.revision".to_owned()))?,
    })
}

/// Writes the settings where nobody else has since they were read.
pub(crate) fn write_statement(
    before: &StoredSettings,
    after: &TenantSettings,
    now: Timestamp,
) -> Result<Statement, Error> {
    let text = serde_json::to_string(after)?;
    Ok(Statement::new(
        "insert into tenant_settings (singleton, settings, revision, updated_at) values (1, $1, 1, $2)
         on conflict (singleton) do update
            set settings = $1, revision = tenant_settings.revision + 1, updated_at = $2
          where tenant_settings.revision = $3",
        params![text, now, i64::try_from(before.revision).unwrap_or(i64::MAX)],
    )
    .exactly(1))
}
