//! The endpoints that clients call for themselves: token, revocation, pushed authorization requests.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use oauth::client_authentication;
use oauth::params::Params;
use oauth::token_request::{self, TokenRequest};
use serde_json::json;
use vault::{AuthenticatedClient, Caller, Reason, Refusal};

use crate::app::App;
use crate::body::{Authorization, Fields};
use crate::edge::Notes;
use crate::error::Failure;

/// `POST /oauth/token`, every grant.
pub(crate) async fn token(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(notes): Extension<Notes>,
    authorization: Authorization,
    Fields(params): Fields,
) -> Result<Response, Failure> {
    let request = token_request::parse(&params)?;
    let client = authenticate(
        &app,
        &authorization,
        &params,
        Some(&request),
        &caller,
        &notes,
    )
    .await?;
    // The form is read and done with: the secrets in it are not kept for as long as a provider takes.
    drop((params, authorization));
    let answer = app.vault.token(client, request, &caller).await?;
    Ok(Json(answer).into_response())
}

/// `POST /oauth/revoke`, RFC 7009.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(notes): Extension<Notes>,
    authorization: Authorization,
    Fields(params): Fields,
) -> Result<&'static str, Failure> {
    let token = params.require("token")?;
    let client = authenticate(&app, &authorization, &params, None, &caller, &notes).await?;
    app.vault
        .revoke_token(&client, token, params.get("token_type_hint"), &caller)
        .await?;
    Ok("OK")
}

/// `POST /oauth/par`, RFC 9126.
pub(crate) async fn push_request(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(notes): Extension<Notes>,
    authorization: Authorization,
    Fields(params): Fields,
) -> Result<Response, Failure> {
    let client = authenticate(&app, &authorization, &params, None, &caller, &notes).await?;
    let pushed = app.vault.push_request(&client, &params, &caller).await?;
    let answer = json!({ "request_uri": pushed.request_uri, "expires_in": pushed.expires_in });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn authenticate(
    app: &App,
    authorization: &Authorization,
    params: &Params,
    request: Option<&TokenRequest>,
    caller: &Caller,
    notes: &Notes,
) -> Result<AuthenticatedClient, Failure> {
    // A header that is not even text is a client that did not authenticate, like one that is not Basic (threats TK-20).
    let authorization = authorization
        .text()
        .map_err(|_| Refusal::new(Reason::ClientAuthenticationFailed))?;
    let presented = client_authentication::from_request(authorization, params)?;
    let client = app
        .vault
        .authenticate_client(presented, request, caller)
        .await?;
    notes.client(client.client_id());
    Ok(client)
}
