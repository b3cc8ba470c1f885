//! Connections and the clients that may use them (contract 4.2).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vault::{
    ConnectionCheck, ConnectionClients, ConnectionFilter, ConnectionSettings, Document,
    EnabledClient, ManagedConnectionView, Patch, Source,
};

use crate::app::App;
use crate::body::JsonBody;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::management::listing::{self, Cursor, Paging};
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/connections", "read:connections", list)
            .called("connections", "listConnections", "List connections")
            .query::<ListQuery>()
            .lists::<ManagedConnectionView>("connections"),
        Endpoint::post("/connections", "create:connections", create)
            .called("connections", "createConnection", "Make a connection")
            .body::<ConnectionSettings>()
            .answers::<ManagedConnectionView>(),
        Endpoint::get("/connections/{id}", "read:connections", show)
            .called(
                "connections",
                "getConnection",
                "Show a connection, without its secret",
            )
            .query::<ShowQuery>()
            .answers::<ManagedConnectionView>(),
        Endpoint::patch("/connections/{id}", "update:connections", change)
            .called(
                "connections",
                "updateConnection",
                "Change a connection; options without a secret keep the secret",
            )
            .body::<Patch<ConnectionSettings>>()
            .answers::<ManagedConnectionView>(),
        Endpoint::delete("/connections/{id}", "delete:connections", delete)
            .called(
                "connections",
                "deleteConnection",
                "Delete a connection; its accounts only if that is said",
            )
            .query::<DeleteQuery>(),
        Endpoint::get(
            "/connections/{id}/clients",
            "read:connections",
            list_clients,
        )
        .called(
            "connections",
            "listConnectionClients",
            "List the clients that may use a connection",
        )
        .query::<Cursor>()
        .lists_by_cursor::<EnabledClient>("clients"),
        Endpoint::patch(
            "/connections/{id}/clients",
            "update:connections",
            change_clients,
        )
        .called(
            "connections",
            "updateConnectionClients",
            "Let clients use a connection, or take it away from them",
        )
        .body::<ConnectionClients>()
        .status(204),
        Endpoint::post("/connections/{id}/check", "update:connections", check)
            .called(
                "connections",
                "checkConnection",
                "Ask the provider whether it knows this vault as a client",
            )
            .status(200)
            .answers::<ConnectionCheck>(),
        Endpoint::get(
            "/clients/{id}/connections",
            "read:connections",
            list_of_client,
        )
        .called(
            "clients",
            "listClientConnections",
            "List the connections that a client may use",
        )
        .query::<Cursor>()
        .lists_by_cursor::<ManagedConnectionView>("connections"),
    ]
}

/// The parameters of the list of connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
struct ListQuery {
    /// Only the one of this name.
    #[schemars(length(max = 128))]
    name: Option<String>,
    /// Only of these strategies (repeatable).
    #[serde(default)]
    #[schemars(length(max = 5), inner(length(min = 1, max = 64)))]
    strategy: Vec<String>,
    #[serde(flatten)]
    paging: Paging,
}

/// The parameters of one connection.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    /// Of no meaning here: one connection is always shown whole.
    #[expect(dead_code, reason = "taken from tools that send it")]
    #[schemars(length(max = 1000))]
    fields: Option<String>,
    /// Of no meaning here.
    #[expect(dead_code, reason = "taken from tools that send it")]
    include_fields: Option<bool>,
}

/// The parameters of a deletion.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeleteQuery {
    /// Whether the accounts that are connected go as well. Default: false.
    #[serde(default)]
    delete_accounts: bool,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failure> {
    let filter = ConnectionFilter {
        name: query.name,
        strategies: query.strategy,
    };
    let listed = app
        .vault
        .list_all_connections(&filter, &query.paging.window()?)
        .await?;
    query.paging.answer("connections", listed)
}

async fn create(
    asker: Asker,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ManagedConnectionView>), Failure> {
    let connection = asker
        .vault
        .register_connection(&asker.administrator, body, &asker.caller)
        .await?;
    Ok((StatusCode::CREATED, Json(connection)))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(_): Query<ShowQuery>,
) -> Result<Json<ManagedConnectionView>, Failure> {
    Ok(Json(app.vault.view_connection(&id).await?))
}

async fn change(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ManagedConnectionView>, Failure> {
    let connection = asker
        .vault
        .change_connection(&asker.administrator, &id, body, &asker.caller)
        .await?;
    Ok(Json(connection))
}

async fn delete(
    asker: Asker,
    Path(id): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_connection(
            &asker.administrator,
            &id,
            query.delete_accounts,
            &asker.caller,
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_clients(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Value>, Failure> {
    let listed = app
        .vault
        .list_connection_clients(&id, &cursor.window())
        .await?;
    listing::answer_by_cursor("clients", listed)
}

async fn change_clients(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, Failure> {
    let clients = ConnectionClients::read(body, Source::Body)?;
    asker
        .vault
        .change_connection_clients(&asker.administrator, &id, &clients, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ConnectionCheck>, Failure> {
    Ok(Json(app.vault.check_connection_at_provider(&id).await?))
}

async fn list_of_client(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Value>, Failure> {
    let listed = app
        .vault
        .list_connections_of_client(&id, &cursor.window())
        .await?;
    listing::answer_by_cursor("connections", listed)
}
