//! Clients and their keys (contract 4.1).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vault::{
    ClientFilter, ClientSettings, ClientView, CredentialSettings, CredentialView, Document,
    NewCredential, Patch, Source,
};

use crate::app::App;
use crate::body::JsonBody;
use crate::error::Failure;
use crate::management::Asker;
use crate::management::endpoint::Endpoint;
use crate::management::listing::Paging;
use crate::query::Query;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/clients", "read:clients", list)
            .called("clients", "listClients", "List clients")
            .query::<ListQuery>()
            .lists::<ClientView>("clients"),
        Endpoint::post("/clients", "create:clients", create)
            .called(
                "clients",
                "createClient",
                "Register a client; the answer has its secret, once",
            )
            .body::<ClientSettings>()
            .answers::<ClientView>(),
        Endpoint::get("/clients/{id}", "read:clients", show)
            .called("clients", "getClient", "Show a client")
            .answers::<ClientView>(),
        Endpoint::patch("/clients/{id}", "update:clients", change)
            .called("clients", "updateClient", "Change a client")
            .body::<Patch<ClientSettings>>()
            .answers::<ClientView>(),
        Endpoint::delete("/clients/{id}", "delete:clients", delete).called(
            "clients",
            "deleteClient",
            "Delete a client with its tokens, grants and consents",
        ),
        Endpoint::post(
            "/clients/{id}/rotate-secret",
            "update:client_keys",
            rotate_secret,
        )
        .called(
            "clients",
            "rotateClientSecret",
            "Give a client a new secret, seen only here",
        )
        .query::<RotateQuery>()
        .status(200)
        .answers::<ClientView>(),
        Endpoint::get(
            "/clients/{id}/credentials",
            "read:client_credentials",
            list_credentials,
        )
        .called("clients", "listCredentials", "List a client's public keys")
        .answers::<Vec<CredentialView>>(),
        Endpoint::post(
            "/clients/{id}/credentials",
            "create:client_credentials",
            create_credential,
        )
        .called(
            "clients",
            "createCredential",
            "Register a public key of a client",
        )
        .body::<NewCredential>()
        .answers::<CredentialView>(),
        Endpoint::get(
            "/clients/{id}/credentials/{credential_id}",
            "read:client_credentials",
            show_credential,
        )
        .called("clients", "getCredential", "Show a public key of a client")
        .answers::<CredentialView>(),
        Endpoint::patch(
            "/clients/{id}/credentials/{credential_id}",
            "update:client_credentials",
            change_credential,
        )
        .called(
            "clients",
            "updateCredential",
            "Change when a client's public key ends",
        )
        .body::<CredentialSettings>()
        .answers::<CredentialView>(),
        Endpoint::delete(
            "/clients/{id}/credentials/{credential_id}",
            "delete:client_credentials",
            delete_credential,
        )
        .called(
            "clients",
            "deleteCredential",
            "Delete a public key of a client",
        ),
    ]
}

/// The parameters of the list of clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
struct ListQuery {
    /// Only clients of this kind.
    #[schemars(length(max = 64))]
    app_type: Option<String>,
    /// Only ours, or only others'.
    is_first_party: Option<bool>,
    /// Of no meaning here: no client is global.
    #[expect(dead_code, reason = "taken from tools that send it")]
    is_global: Option<bool>,
    #[serde(flatten)]
    paging: Paging,
}

/// The parameters of a rotation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RotateQuery {
    /// Seconds for which the secret before goes on working. Default: 0.
    #[serde(default)]
    #[schemars(range(max = 2_592_000))]
    keep_previous_for: u64,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failure> {
    let filter = ClientFilter {
        app_type: query.app_type,
        is_first_party: query.is_first_party,
    };
    let listed = app
        .vault
        .list_clients(&filter, &query.paging.window()?)
        .await?;
    query.paging.answer("clients", listed)
}

async fn create(
    asker: Asker,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ClientView>), Failure> {
    let client = asker
        .vault
        .register_client(&asker.administrator, body, &asker.caller)
        .await?;
    Ok((StatusCode::CREATED, Json(client)))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ClientView>, Failure> {
    Ok(Json(app.vault.view_client(&id).await?))
}

async fn change(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<ClientView>, Failure> {
    let patch = Patch::read(body)?;
    let client = asker
        .vault
        .change_client(&asker.administrator, &id, &patch, &asker.caller)
        .await?;
    Ok(Json(client))
}

async fn delete(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_client(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate_secret(
    asker: Asker,
    Path(id): Path<String>,
    Query(query): Query<RotateQuery>,
) -> Result<Json<ClientView>, Failure> {
    let client = asker
        .vault
        .rotate_client_secret(
            &asker.administrator,
            &id,
            query.keep_previous_for,
            &asker.caller,
        )
        .await?;
    Ok(Json(client))
}

async fn list_credentials(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<CredentialView>>, Failure> {
    Ok(Json(app.vault.list_credentials(&id).await?))
}

async fn create_credential(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<CredentialView>), Failure> {
    let new = NewCredential::read(body, Source::Body)?;
    let credential = asker
        .vault
        .register_credential(&asker.administrator, &id, &new, &asker.caller)
        .await?;
    Ok((StatusCode::CREATED, Json(credential)))
}

async fn show_credential(
    State(app): State<Arc<App>>,
    Path((id, credential_id)): Path<(String, String)>,
) -> Result<Json<CredentialView>, Failure> {
    Ok(Json(app.vault.view_credential(&id, &credential_id).await?))
}

async fn change_credential(
    asker: Asker,
    Path((id, credential_id)): Path<(String, String)>,
    JsonBody(body): JsonBody,
) -> Result<Json<CredentialView>, Failure> {
    let settings = CredentialSettings::read(body, Source::Body)?;
    let credential = asker
        .vault
        .change_credential(
            &asker.administrator,
            &id,
            &credential_id,
            &settings,
            &asker.caller,
        )
        .await?;
    Ok(Json(credential))
}

async fn delete_credential(
    asker: Asker,
    Path((id, credential_id)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_credential(&asker.administrator, &id, &credential_id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
