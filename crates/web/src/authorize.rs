//! `/authorize`: the request, and every way it goes on. Login and consent come back here through [`follow`].

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::Method;
use axum::response::Response;
use oauth::params::Params;
use oauth::redirect_uri::append_params;
use vault::{AuthorizationAnswer, AuthorizeStep, Caller, Prompt, ResponseMode};

use crate::app::App;
use crate::body::{FormFields, QueryFields};
use crate::error::Failure;
use crate::form::Visitor;
use crate::page::{self, FormPostPage, shown};
use crate::redirect::{path_with, redirect};

/// `GET /authorize`.
pub(crate) async fn query(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    authorize(&app, &Method::GET, &visitor, &params, &caller).await
}

/// `POST /authorize`: the same request as a form, which may come from anywhere (OpenID Connect Core §3.1.2.1). Its
/// parameters are in the body alone: one in the address as well would be a second one (threats AU-10).
pub(crate) async fn form(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    visitor: Visitor,
    QueryFields(query): QueryFields,
    FormFields(params): FormFields,
) -> Result<Response, Failure> {
    if query
        .names()
        .any(|name| params.names().any(|other| other == name))
    {
        return Err(oauth::refusal::Refusal::invalid_request(
            "parameter_repeated",
            "A parameter is in the address and in the form.",
        )
        .into());
    }
    authorize(&app, &Method::POST, &visitor, &params, &caller).await
}

async fn authorize(
    app: &App,
    method: &Method,
    visitor: &Visitor,
    params: &Params,
    caller: &Caller,
) -> Result<Response, Failure> {
    let step = app
        .vault
        .authorize(params, visitor.session.as_ref(), caller)
        .await?;
    follow(method, step)
}

/// Takes the browser where an authorization request goes next.
pub(crate) fn follow(method: &Method, step: AuthorizeStep) -> Result<Response, Failure> {
    match step {
        AuthorizeStep::Page(refusal) => Err(refusal.into()),
        AuthorizeStep::Answer(answer) => answer_client(method, &answer),
        AuthorizeStep::Interact { token, prompt } => {
            let path = match prompt {
                Prompt::Login { .. } => "/u/login",
                Prompt::Consent { .. } => "/u/consent",
            };
            redirect(method, &path_with(path, "state", token.reveal()))
        }
    }
}

fn answer_client(method: &Method, answer: &AuthorizationAnswer) -> Result<Response, Failure> {
    match answer.mode {
        ResponseMode::Query => {
            let params: Vec<(&str, &str)> = answer
                .params
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            redirect(method, &append_params(&answer.redirect_uri, &params))
        }
        ResponseMode::FormPost => {
            let host = url::Url::parse(&answer.redirect_uri)
                .ok()
                .and_then(|uri| uri.host_str().map(shown))
                .unwrap_or_default();
            page::html_with_script(&FormPostPage {
                host,
                action: &answer.redirect_uri,
                fields: &answer.params,
            })
        }
    }
}
