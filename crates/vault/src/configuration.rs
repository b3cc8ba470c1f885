//! Everything that an administrator sets, as one document: what a file kept in git says.
//!
//! Objects are known by the names that people gave them, never by ids, so that the same document configures another
//! deployment. A kind of object that the document does not mention is left alone.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api_settings::ApiSettings;
use crate::client_grant::{ClientGrant, ClientGrantSettings};
use crate::client_settings::ClientSettings;
use crate::connection_settings::ConnectionSettings;
use crate::tenant_settings::TenantSettings;
use crate::{Document, Error, Fault, Source, SubjectType};

/// What shall be configured. A kind that is absent is left alone; of a kind that is there, what it does not name goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = example())]
pub struct Configuration {
    /// Whose it was, in what this API answers; of no meaning in what is sent.
    #[expect(dead_code, reason = "taken, so that an answer can be sent back")]
    issuer: Option<String>,
    /// The deployment's settings.
    pub(crate) tenant: Option<TenantSettings>,
    /// The APIs, by `identifier`. Those that every deployment has never go.
    #[schemars(length(max = 10_000))]
    pub(crate) apis: Option<Vec<ApiSettings>>,
    /// The clients, by `name`. The one that asks never goes.
    #[schemars(length(max = 10_000))]
    pub(crate) clients: Option<Vec<ConfiguredClient>>,
    /// The connections, by `name`. One that accounts are connected at never goes this way.
    #[schemars(length(max = 10_000))]
    pub(crate) connections: Option<Vec<ConfiguredConnection>>,
}

/// A client as a configuration says it: its settings, and beside them its grants. Keys are written whole, as PEM.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(crate) struct ConfiguredClient {
    #[serde(flatten)]
    pub(crate) settings: ClientSettings,
    /// What it may have of APIs.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub(crate) grants: Vec<ConfiguredGrant>,
}

/// What a client may have of an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfiguredGrant {
    /// The identifier of the API.
    #[schemars(length(min = 1, max = 255))]
    pub(crate) audience: String,
    /// The scopes that the client may have there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 280)))]
    pub(crate) scope: Vec<String>,
    /// For whom the tokens are.
    #[serde(default)]
    pub(crate) subject_type: SubjectType,
    /// Whether the client may have every scope that the API has, now and later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_all_scopes: bool,
}

impl ConfiguredGrant {
    /// A grant as the configuration says it.
    pub(crate) fn of(grant: &ClientGrant) -> Self {
        Self {
            audience: grant.audience.clone(),
            scope: grant.scopes.iter().map(str::to_owned).collect(),
            subject_type: grant.subject_type,
            allow_all_scopes: grant.allow_all_scopes,
        }
    }

    /// There is one of a kind.
    pub(crate) fn key(&self) -> (&str, SubjectType) {
        (&self.audience, self.subject_type)
    }

    /// The same for a client.
    pub(crate) fn settings(&self, client_id: &str) -> ClientGrantSettings {
        ClientGrantSettings {
            client_id: client_id.to_owned(),
            audience: self.audience.clone(),
            scope: self.scope.clone(),
            subject_type: self.subject_type,
            allow_all_scopes: self.allow_all_scopes,
            organization_usage: None,
            allow_any_organization: None,
            authorization_details_types: None,
        }
    }
}

/// A connection as a configuration says it: its settings, and beside them the clients that may use it. A secret that is
/// absent stays what it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub(crate) struct ConfiguredConnection {
    #[serde(flatten)]
    pub(crate) settings: ConnectionSettings,
    /// The names of the clients that may use it.
    #[serde(default)]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 150)))]
    pub(crate) clients: Vec<String>,
}

/// The configuration as it is: what can be sent back to have it again. What goes without saying is left out.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConfigurationView {
    /// Whose it is.
    pub(crate) issuer: String,
    /// The deployment's settings.
    pub(crate) tenant: Map<String, Value>,
    /// The APIs, by identifier.
    pub(crate) apis: Vec<Map<String, Value>>,
    /// The clients, by name.
    pub(crate) clients: Vec<Map<String, Value>>,
    /// The connections, by name.
    pub(crate) connections: Vec<Map<String, Value>>,
    /// The secrets that connections have, by name of the connection, as names of fields with dots.
    pub(crate) secrets: BTreeMap<String, Vec<String>>,
}

/// How a configuration is applied.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureQuery {
    /// Whether only to say what would change. Default: false.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether what the document leaves out may be deleted. Default: false.
    #[serde(default)]
    pub allow_delete: bool,
    /// The plan that was shown before: another one is refused.
    #[schemars(length(max = 128))]
    pub plan: Option<String>,
}

/// What a configuration changes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Configured {
    /// Whether it was made so; false for a dry run, and where nothing differs.
    pub applied: bool,
    /// Names the plan.
    pub plan: String,
    /// What differs, object by object.
    pub changes: Vec<Change>,
    /// The clients that got an id or a secret; shown only here.
    pub clients: Vec<ClientMade>,
}

/// A client that got an id or a secret.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ClientMade {
    /// What people call it.
    pub name: String,
    /// `cl_…`.
    pub client_id: String,
    /// Its secret, where it got one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}

/// A difference between a document and what stands in the database.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// What happens to the object.
    pub action: Action,
    /// What it is.
    pub kind: ObjectKind,
    /// What people call it.
    pub name: String,
    /// What changes of it; of a deletion, nothing.
    pub fields: Vec<FieldChange>,
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is made.
    Create,
    /// Some of its fields change.
    Update,
    /// It goes.
    Delete,
}

/// What can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A resource server.
    Api,
    /// A client, with its grants.
    Client,
    /// A connection, with the clients that it is enabled for.
    Connection,
    /// The deployment's settings.
    Tenant,
}

impl ObjectKind {
    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Client => "client",
            Self::Connection => "connection",
            Self::Tenant => "tenant",
        }
    }
}

impl Configuration {
    /// Fills in what follows from other members, in each object as if it were made alone.
    pub(crate) fn complete(body: &mut Value) {
        let clients = body.get_mut("clients").and_then(Value::as_array_mut);
        for client in clients.into_iter().flatten() {
            if let Value::Object(client) = client {
                ClientSettings::complete(client);
            }
        }
        let apis = body.get_mut("apis").and_then(Value::as_array_mut);
        for api in apis.into_iter().flatten() {
            if let Value::Object(api) = api {
                ApiSettings::complete(api);
            }
        }
        let connections = body.get_mut("connections").and_then(Value::as_array_mut);
        for connection in connections.into_iter().flatten() {
            if let Value::Object(connection) = connection {
                let strategy = connection.get("strategy").and_then(Value::as_str);
                let strategy = strategy.unwrap_or_default().to_owned();
                ConnectionSettings::complete(connection, &strategy);
            }
        }
    }
}

/// A field whose value changes.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FieldChange {
    /// Its name, with dots.
    pub field: String,
    /// What it is now; absent where it is its default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it becomes; absent where it is its default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Whether its values are secrets, which are not shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

impl FieldChange {
    /// A secret that is another one.
    pub(crate) fn of_secret(field: &str) -> Self {
        Self {
            field: field.to_owned(),
            before: None,
            after: None,
            secret: true,
        }
    }
}

fn example() -> Value {
    json!({
        "apis": [{ "identifier": "https://reports.example/", "scopes": [{ "value": "read:reports" }] }],
        "clients": [{
            "name": "Calendar agent",
            "callbacks": ["https://agent.example/callback"],
            "grants": [{ "audience": "https://reports.example/", "scope": ["read:reports"] }],
        }],
        "connections": [{
            "name": "github",
            "strategy": "github",
            "clients": ["Calendar agent"],
            "options": { "client_id": "Iv1.0123456789abcdef" },
        }],
    })
}

/// The document of some settings without what it says by saying nothing: a member is left out where the settings are the
/// same without it. `complete` fills in what follows from other members, as it does for a new object.
pub(crate) fn concise<T: Document + Serialize + PartialEq>(
    settings: &T,
    complete: impl Fn(&mut Map<String, Value>),
) -> Result<Map<String, Value>, Error> {
    let mut members = object(settings)?;
    let names: Vec<String> = members.keys().cloned().collect();
    for name in names {
        let mut without = members.clone();
        without.remove(&name);
        let mut completed = without.clone();
        complete(&mut completed);
        if T::read(Value::Object(completed), Source::Body).is_ok_and(|same| same == *settings) {
            members = without;
        }
    }
    Ok(members)
}

/// A type that is an object, as its members.
pub(crate) fn object(value: &impl Serialize) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(value)? {
        Value::Object(members) => Ok(members),
        _ => Err(Fault::Internal("settings that are no object".to_owned()).into()),
    }
}

/// The fields in which two objects differ; inside a field that is an object in both, the fields of it.
pub(crate) fn differences(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Vec<FieldChange> {
    let mut found = Vec::new();
    collect("", before, after, &mut found);
    found
}

fn collect(
    prefix: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    found: &mut Vec<FieldChange>,
) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let field = format!("{prefix}{name}");
        match (before.get(name), after.get(name)) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                collect(&format!("{field}."), before, after, found);
            }
            (before, after) if before != after => found.push(FieldChange {
                field,
                before: before.cloned(),
                after: after.cloned(),
                secret: false,
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    #[test]
    fn what_goes_without_saying_is_left_out() {
        let mut body = members(json!({
            "name": "Agent",
            "app_type": "non_interactive",
            "is_first_party": true,
            "callbacks": [],
            "description": "Reads calendars",
        }));
        ClientSettings::complete(&mut body);
        let settings = ClientSettings::read(Value::Object(body), Source::Body).unwrap();
        let concise = concise(&settings, ClientSettings::complete).unwrap();
        assert_eq!(
            Value::Object(concise),
            json!({ "name": "Agent", "app_type": "non_interactive", "description": "Reads calendars" })
        );
    }

    #[test]
    fn differences_name_the_innermost_field() {
        let found = differences(
            &members(
                json!({ "name": "a", "jwt": { "alg": "RS256", "life": 1 }, "urls": ["x"], "gone": 1 }),
            ),
            &members(
                json!({ "name": "a", "jwt": { "alg": "ES256", "life": 1 }, "urls": ["x", "y"], "new": true }),
            ),
        );
        let fields: Vec<(&str, Option<Value>, Option<Value>)> = found
            .iter()
            .map(|change| {
                (
                    change.field.as_str(),
                    change.before.clone(),
                    change.after.clone(),
                )
            })
            .collect();
        assert_eq!(
            fields,
            [
                ("gone", Some(json!(1)), None),
                ("jwt.alg", Some(json!("RS256")), Some(json!("ES256"))),
                ("new", None, Some(json!(true))),
                ("urls", Some(json!(["x"])), Some(json!(["x", "y"]))),
            ]
        );
    }
}
