//! Users and what they have (contract 4.4).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vault::{
    Document, Patch, RefreshTokenView, RevokeAccess, SessionView, Source, UserAccountView,
    UserSettings, UserView, Window,
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
        Endpoint::get("/users", "read:users", list)
            .called("users", "listUsers", "List users, or search them")
            .query::<ListQuery>()
            .lists::<UserView>("users"),
        Endpoint::get("/users-by-email", "read:users", list_by_email)
            .called("users", "listUsersByEmail", "List the users of an e-mail address")
            .query::<EmailQuery>()
            .answers::<Vec<UserView>>(),
        Endpoint::post("/users", "create:users", create)
            .called("users", "createUser", "Make a user")
            .body::<UserSettings>()
            .answers::<UserView>(),
        Endpoint::get("/users/{id}", "read:users", show)
            .called("users", "getUser", "Show a user")
            .query::<ShowQuery>()
            .answers::<UserView>(),
        Endpoint::patch("/users/{id}", "update:users", change)
            .called(
                "users",
                "updateUser",
                "Change or block a user; a new password ends sessions and refresh tokens",
            )
            .body::<Patch<UserSettings>>()
            .answers::<UserView>(),
        Endpoint::delete("/users/{id}", "delete:users", delete).called(
            "users",
            "deleteUser",
            "Delete a user; their accounts are disconnected",
        ),
        Endpoint::get("/users/{id}/connected-accounts", "read:users", list_accounts)
            .called(
                "users",
                "listUserConnectedAccounts",
                "List a user's connected accounts, without their tokens",
            )
            .query::<Cursor>()
            .lists_by_cursor::<UserAccountView>("connected_accounts"),
        Endpoint::delete(
            "/users/{id}/connected-accounts/{account_id}",
            "update:users",
            disconnect,
        )
        .called(
            "users",
            "deleteUserConnectedAccount",
            "Disconnect an account of a user",
        ),
        Endpoint::get("/users/{id}/sessions", "read:sessions", list_sessions)
            .called("users", "listUserSessions", "List a user's live sessions")
            .query::<Cursor>()
            .lists_by_cursor::<SessionView>("sessions"),
        Endpoint::delete("/users/{id}/sessions", "delete:sessions", end_sessions)
            .called("users", "deleteUserSessions", "End a user's sessions")
            .status(202),
        Endpoint::get("/users/{id}/refresh-tokens", "read:refresh_tokens", list_refresh_tokens)
            .called(
                "users",
                "listUserRefreshTokens",
                "List a user's live refresh tokens, without the tokens themselves",
            )
            .query::<Cursor>()
            .lists_by_cursor::<RefreshTokenView>("tokens"),
        Endpoint::delete(
            "/users/{id}/refresh-tokens",
            "delete:refresh_tokens",
            end_refresh_tokens,
        )
        .called("users", "deleteUserRefreshTokens", "End a user's refresh tokens")
        .status(202),
        Endpoint::post("/users/{id}/revoke-access", "delete:sessions", revoke_access)
            .called(
                "users",
                "revokeUserAccess",
                "End a user's sessions and refresh tokens (needs delete:refresh_tokens as well, unless these stay)",
            )
            .body::<RevokeAccess>()
            .status(204),
    ]
}

/// The parameters of the list of users.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
struct ListQuery {
    /// Only users that it finds: `email:ADDRESS`, `email:BEGINNING*`, `username:NAME`, `user_id:ID`, or one of these
    /// values alone.
    #[schemars(length(max = 300))]
    q: Option<String>,
    /// Of no meaning here: there is one language. Taken from tools that send it.
    #[expect(dead_code, reason = "taken from tools that send it")]
    #[schemars(extend("enum" = ["v1", "v2", "v3", null]))]
    search_engine: Option<String>,
    #[serde(flatten)]
    paging: Paging,
}

/// The parameters of the list of the users of an e-mail address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EmailQuery {
    /// The address.
    #[schemars(length(min = 3, max = 254), regex(pattern = "^[^\\s:\"()*]+$"))]
    email: String,
    /// Of no meaning here: users are shown whole.
    #[expect(dead_code, reason = "taken from tools that send it")]
    #[schemars(length(max = 1000))]
    fields: Option<String>,
    /// Of no meaning here.
    #[expect(dead_code, reason = "taken from tools that send it")]
    include_fields: Option<bool>,
}

/// The parameters of one user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShowQuery {
    /// Of no meaning here: one user is always shown whole.
    #[expect(dead_code, reason = "taken from tools that send it")]
    #[schemars(length(max = 1000))]
    fields: Option<String>,
    /// Of no meaning here.
    #[expect(dead_code, reason = "taken from tools that send it")]
    include_fields: Option<bool>,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Failure> {
    let listed = app
        .vault
        .list_users(query.q.as_deref(), &query.paging.window()?)
        .await?;
    query.paging.answer("users", listed)
}

async fn list_by_email(
    State(app): State<Arc<App>>,
    Query(query): Query<EmailQuery>,
) -> Result<Json<Vec<UserView>>, Failure> {
    let search = format!("email:{}", query.email);
    let listed = app
        .vault
        .list_users(Some(&search), &Window::first(100))
        .await?;
    Ok(Json(listed.items))
}

async fn create(
    asker: Asker,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<UserView>), Failure> {
    let user = asker
        .vault
        .register_user(&asker.administrator, body, &asker.caller)
        .await?;
    Ok((StatusCode::CREATED, Json(user)))
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(_): Query<ShowQuery>,
) -> Result<Json<UserView>, Failure> {
    Ok(Json(app.vault.view_user(&id).await?))
}

async fn change(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<UserView>, Failure> {
    let user = asker
        .vault
        .change_user(&asker.administrator, &id, body, &asker.caller)
        .await?;
    Ok(Json(user))
}

async fn delete(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .delete_user(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_accounts(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Value>, Failure> {
    let listed = app.vault.list_user_accounts(&id, &cursor.window()).await?;
    listing::answer_by_cursor("connected_accounts", listed)
}

async fn disconnect(
    asker: Asker,
    Path((id, account_id)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    asker
        .vault
        .disconnect_for(&asker.administrator, &id, &account_id, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_sessions(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Value>, Failure> {
    let listed = app.vault.list_sessions(&id, &cursor.window()).await?;
    listing::answer_by_cursor("sessions", listed)
}

async fn end_sessions(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .revoke_sessions(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::ACCEPTED)
}

async fn list_refresh_tokens(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<Json<Value>, Failure> {
    let listed = app.vault.list_refresh_tokens(&id, &cursor.window()).await?;
    listing::answer_by_cursor("tokens", listed)
}

async fn end_refresh_tokens(asker: Asker, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    asker
        .vault
        .end_refresh_tokens(&asker.administrator, &id, &asker.caller)
        .await?;
    Ok(StatusCode::ACCEPTED)
}

async fn revoke_access(
    asker: Asker,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, Failure> {
    let what = RevokeAccess::read(body, Source::Body)?;
    asker
        .vault
        .revoke_access(&asker.administrator, &id, &what, &asker.caller)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
