//! Logging out: `/v2/logout` as Auth0 has it, `/oidc/logout` as OpenID Connect RP-Initiated Logout has it.
//!
//! Without proof of which session is meant, the person is asked (threats AU-40); any site can send a browser here.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use oauth::params::Params;
use vault::{Caller, LogoutRequest, LogoutStep};

use crate::app::App;
use crate::body::QueryFields;
use crate::cookie;
use crate::error::Failure;
use crate::form::{PostedForm, Visitor};
use crate::page::{self, House, LogoutPage, MessagePage};
use crate::redirect::{redirect, with_cookie};

/// What a confirmation hands on.
const FIELDS: [&str; 6] = [
    "client_id",
    "post_logout_redirect_uri",
    "returnTo",
    "id_token_hint",
    "logout_hint",
    "state",
];

/// `GET /v2/logout`.
pub(crate) async fn v2(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    log_out(&app, visitor, &params, false, &caller).await
}

/// `GET /oidc/logout`.
pub(crate) async fn oidc(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    log_out(&app, visitor, &params, true, &caller).await
}

/// `POST /oidc/logout`: the person said yes.
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PostedForm { visitor, params }: PostedForm,
) -> Result<Response, Failure> {
    let step = app
        .vault
        .confirm_logout(request(&params), visitor.session.as_ref(), &caller)
        .await?;
    follow(&app, &Method::POST, &visitor, &params, step).await
}

async fn log_out(
    app: &App,
    visitor: Visitor,
    params: &Params,
    needs_proof: bool,
    caller: &Caller,
) -> Result<Response, Failure> {
    let request = LogoutRequest {
        needs_proof,
        ..request(params)
    };
    let step = app
        .vault
        .logout(request, visitor.session.as_ref(), caller)
        .await?;
    follow(app, &Method::GET, &visitor, params, step).await
}

async fn follow(
    app: &App,
    method: &Method,
    visitor: &Visitor,
    params: &Params,
    step: LogoutStep,
) -> Result<Response, Failure> {
    match step {
        LogoutStep::Redirect(location) => Ok(with_cookie(
            redirect(method, &location)?,
            cookie::clear(cookie::SESSION),
        )),
        LogoutStep::Done => {
            let page = MessagePage {
                heading: "You are logged out",
                text: "You can close this page.",
                request_id: None,
            };
            Ok(with_cookie(
                page::html(StatusCode::OK, &page)?,
                cookie::clear(cookie::SESSION),
            ))
        }
        LogoutStep::Confirm => {
            let fields = FIELDS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), params.get(name)?.to_owned())))
                .collect();
            let page = LogoutPage {
                csrf: visitor.form_token(app, "/oidc/logout"),
                fields,
                house: House::of(&app.vault).await?,
            };
            Ok(visitor.remember(page::html(StatusCode::OK, &page)?))
        }
    }
}

fn request(params: &Params) -> LogoutRequest {
    let text = |name| params.get(name).map(str::to_owned);
    LogoutRequest {
        client_id: text("client_id"),
        post_logout_redirect_uri: text("post_logout_redirect_uri"),
        return_to: text("returnTo"),
        id_token_hint: text("id_token_hint"),
        logout_hint: text("logout_hint"),
        state: text("state"),
        needs_proof: true,
    }
}
