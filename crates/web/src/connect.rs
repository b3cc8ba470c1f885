//! The browser's way through connecting an account: ticket, login if need be, confirmation, provider, and back.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use vault::{Caller, ConnectDecision, ConnectStep, Error, Refusal};

use crate::app::App;
use crate::body::QueryFields;
use crate::cookie;
use crate::error::Failure;
use crate::form::{PostedForm, Visitor};
use crate::login::{log_in, prefilled, status_of, with_session};
use crate::page::{self, ConnectPage, House, LoginPage, shown};
use crate::redirect::{path_with, redirect, with_cookie};

const CONNECT: &str = "/connected-accounts/connect";
const LOGIN: &str = "/connected-accounts/login";

/// `GET /connected-accounts/connect?ticket=…`.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    let ticket = params.require("ticket")?;
    let step = app
        .vault
        .open_connect(ticket, visitor.session.as_ref(), &visitor.browser, &caller)
        .await?;
    show(&app, &Method::GET, &visitor, ticket, step, None).await
}

/// `POST /connected-accounts/login`: logs in, then the ticket is looked at again.
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PostedForm { visitor, params }: PostedForm,
) -> Result<Response, Failure> {
    let ticket = params.require("ticket")?;
    match log_in(&app, &visitor, &params, &caller).await {
        Ok((_, cookie)) => {
            let on = redirect(&Method::POST, &path_with(CONNECT, "ticket", ticket))?;
            Ok(with_session(&app, on, &cookie))
        }
        Err(Error::Refused(refusal)) => {
            // The same page again, as for somebody who is not logged in.
            let step = app
                .vault
                .open_connect(ticket, None, &visitor.browser, &caller)
                .await?;
            let typed = params.get("username").unwrap_or_default();
            show(
                &app,
                &Method::POST,
                &visitor,
                ticket,
                step,
                Some((&refusal, typed)),
            )
            .await
        }
        Err(fault) => Err(fault.into()),
    }
}

/// `POST /connected-accounts/connect`: the person decided.
pub(crate) async fn decide(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PostedForm { visitor, params }: PostedForm,
) -> Result<Response, Failure> {
    let ticket = params.require("ticket")?;
    let Some(session) = &visitor.session else {
        // Logged out in the meantime: the ticket's page says so.
        return redirect(&Method::POST, &path_with(CONNECT, "ticket", ticket));
    };
    let decision = match params.get("action") {
        Some("continue") => ConnectDecision::Continue,
        _ => ConnectDecision::Cancel,
    };
    let step = app
        .vault
        .continue_connect(ticket, session, &visitor.browser, decision, &caller)
        .await?;
    show(&app, &Method::POST, &visitor, ticket, step, None).await
}

/// `GET /connect/callback/{context}`: the provider's answer.
pub(crate) async fn callback(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(context): Path<String>,
    visitor: Visitor,
    headers: HeaderMap,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    let cookies = |name: &str| cookie::read(&headers, name).map(str::to_owned);
    let step = app
        .vault
        .connect_callback(
            &context,
            &params,
            visitor.session.as_ref(),
            &cookies,
            &caller,
        )
        .await?;
    show(&app, &Method::GET, &visitor, "", step, None).await
}

/// Takes the browser where the flow goes next. A refused login brings what was wrong and what had been typed.
async fn show(
    app: &App,
    method: &Method,
    visitor: &Visitor,
    ticket: &str,
    step: ConnectStep,
    refused: Option<(&Refusal, &str)>,
) -> Result<Response, Failure> {
    let response = match step {
        ConnectStep::Page(refusal) => return Err(refusal.into()),
        ConnectStep::Answer {
            location,
            clear_cookie,
        } => {
            let cleared = clear_cookie.and_then(|name| cookie::clear(&name));
            with_cookie(redirect(method, &location)?, cleared)
        }
        ConnectStep::Provider {
            location,
            cookie: (name, value),
        } => {
            let lifetime = app.vault.settings().connect_flow_lifetime;
            with_cookie(
                redirect(method, &location)?,
                cookie::set(&name, value.reveal(), Some(lifetime)),
            )
        }
        ConnectStep::Login {
            login_hint,
            notice,
            client_name,
            connection_name,
        } => {
            let hint = login_hint.unwrap_or_default();
            let (refusal, username) = match refused {
                Some((refusal, typed)) => (Some(refusal), typed),
                None => (None, hint.as_str()),
            };
            let page = LoginPage {
                purpose: format!(
                    "to connect {} to {}",
                    shown(&connection_name),
                    shown(&client_name)
                ),
                notice: notice.as_deref(),
                error: refusal.map(Refusal::description),
                action: LOGIN,
                csrf: visitor.form_token(app, LOGIN),
                context_name: "ticket",
                context: ticket,
                username: prefilled(username),
                sign_up: None,
                house: House::of(&app.vault).await?,
            };
            page::html(status_of(refusal), &page)?
        }
        ConnectStep::Confirm {
            client_name,
            connection_name,
            scopes,
            user_name,
            redirect_host,
        } => {
            let page = ConnectPage {
                client_name: shown(&client_name),
                connection_name: shown(&connection_name),
                scopes: scopes.iter().map(|scope| shown(scope)).collect(),
                user_name: shown(&user_name),
                redirect_host: shown(&redirect_host),
                csrf: visitor.form_token(app, CONNECT),
                ticket,
                house: House::of(&app.vault).await?,
            };
            page::html(StatusCode::OK, &page)?
        }
    };
    Ok(visitor.remember(response))
}
