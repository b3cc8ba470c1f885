//! The pages on the way through `/authorize`: logging in, signing up, consenting. Each carries the token of its
//! interaction as `state`; what the interaction is about stays on the server.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use oauth::params::Params;
use seal::SecretString;
use vault::{Caller, Consent, Error, Prompt, Refusal, Session};

use crate::app::App;
use crate::authorize::follow;
use crate::body::QueryFields;
use crate::cookie;
use crate::error::Failure;
use crate::form::{PostedForm, Visitor};
use crate::page::{self, ConsentPage, House, LoginPage, ScopeLine, SignUpPage, shown};
use crate::redirect::{path_with, redirect, with_cookie};

/// What a login prompt says.
struct LoginPrompt {
    client_name: String,
    login_hint: Option<String>,
    can_sign_up: bool,
}

/// `GET /u/login`.
pub(crate) async fn login_page(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    let state = params.require("state")?;
    match login_prompt(&app, state).await? {
        Some(prompt) => show_login(&app, &visitor, state, &prompt, None, None).await,
        None => redirect(&Method::GET, &path_with("/u/consent", "state", state)),
    }
}

/// `POST /u/login`.
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PostedForm { visitor, params }: PostedForm,
) -> Result<Response, Failure> {
    let state = params.require("state")?;
    match log_in(&app, &visitor, &params, &caller).await {
        Ok((session, cookie)) => go_on(&app, state, &session, &cookie, &caller).await,
        Err(Error::Refused(refusal)) => match login_prompt(&app, state).await? {
            Some(prompt) => {
                show_login(
                    &app,
                    &visitor,
                    state,
                    &prompt,
                    Some(&refusal),
                    params.get("username"),
                )
                .await
            }
            None => redirect(&Method::POST, &path_with("/u/consent", "state", state)),
        },
        Err(fault) => Err(fault.into()),
    }
}

/// `GET /u/signup`.
pub(crate) async fn sign_up_page(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    let state = params.require("state")?;
    match login_prompt(&app, state).await? {
        Some(prompt) if prompt.can_sign_up => {
            show_sign_up(&app, &visitor, state, &prompt, None, &params).await
        }
        _ => redirect(&Method::GET, &path_with("/u/login", "state", state)),
    }
}

/// `POST /u/signup`.
pub(crate) async fn sign_up(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PostedForm { visitor, params }: PostedForm,
) -> Result<Response, Failure> {
    let state = params.require("state")?;
    let password = SecretString::new(params.get("password").unwrap_or_default().to_owned());
    let username = params.get("username").unwrap_or_default();
    match app
        .vault
        .sign_up(username, password, params.get("email"), &caller)
        .await
    {
        Ok((session, cookie)) => go_on(&app, state, &session, &cookie, &caller).await,
        Err(Error::Refused(refusal)) => match login_prompt(&app, state).await? {
            Some(prompt) => {
                show_sign_up(&app, &visitor, state, &prompt, Some(&refusal), &params).await
            }
            None => redirect(&Method::POST, &path_with("/u/consent", "state", state)),
        },
        Err(fault) => Err(fault.into()),
    }
}

/// `GET /u/consent`. Looking changes nothing (threats WB-02).
pub(crate) async fn consent_page(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    QueryFields(params): QueryFields,
) -> Result<Response, Failure> {
    let state = params.require("state")?;
    let to_login = || redirect(&Method::GET, &path_with("/u/login", "state", state));
    let Prompt::Consent {
        client_name,
        redirect_host,
        audience_name,
        scopes,
    } = app.vault.find_interaction(state).await?.prompt
    else {
        return to_login();
    };
    let scopes = scopes
        .iter()
        .map(|(name, description)| ScopeLine {
            name: shown(name),
            description: Some(shown(description)).filter(|text| !text.is_empty()),
        })
        .collect();
    let consent = ConsentPage {
        client_name: shown(&client_name),
        audience_name: shown(&audience_name),
        scopes,
        redirect_host: shown(&redirect_host),
        csrf: visitor.form_token(&app, "/u/consent"),
        state,
        house: House::of(&app.vault).await?,
    };
    Ok(visitor.remember(page::html(StatusCode::OK, &consent)?))
}

/// `POST /u/consent`.
pub(crate) async fn consent(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    PostedForm { visitor, params }: PostedForm,
) -> Result<Response, Failure> {
    let state = params.require("state")?;
    let Some(session) = &visitor.session else {
        // Logged out in the meantime: log in, then decide.
        let step = app.vault.resume_interaction(state, None, &caller).await?;
        return follow(&Method::POST, step);
    };
    // Only the button that says so gives anything.
    let decision = match params.get("action") {
        Some("accept") => Consent::Granted,
        _ => Consent::Denied,
    };
    let step = app
        .vault
        .decide_consent(state, session, decision, &caller)
        .await?;
    follow(&Method::POST, step)
}

/// Logs in with what a login form holds.
pub(crate) async fn log_in(
    app: &App,
    visitor: &Visitor,
    params: &Params,
    caller: &Caller,
) -> Result<(Session, SecretString), Error> {
    let username = params.get("username").unwrap_or_default();
    let password = SecretString::new(params.get("password").unwrap_or_default().to_owned());
    app.vault
        .login(username, password, visitor.session.as_ref(), caller)
        .await
}

/// The session's cookie. It lives as long as the session may; whether the session lives is asked at every use.
pub(crate) fn with_session(app: &App, response: Response, cookie: &SecretString) -> Response {
    let lifetime = app.vault.settings().session_lifetime;
    with_cookie(
        response,
        cookie::set(cookie::SESSION, cookie.reveal(), Some(lifetime)),
    )
}

/// After a login, the interaction goes on; the session stays even if the interaction cannot.
async fn go_on(
    app: &App,
    state: &str,
    session: &Session,
    cookie: &SecretString,
    caller: &Caller,
) -> Result<Response, Failure> {
    use axum::response::IntoResponse;
    let step = app
        .vault
        .resume_interaction(state, Some(session), caller)
        .await;
    let response = match step {
        Ok(step) => follow(&Method::POST, step).unwrap_or_else(Failure::into_response),
        Err(error) => Failure::from(error).into_response(),
    };
    Ok(with_session(app, response, cookie))
}

/// What the login page of an interaction says; None when it is about something else by now.
async fn login_prompt(app: &App, state: &str) -> Result<Option<LoginPrompt>, Failure> {
    match app.vault.find_interaction(state).await?.prompt {
        Prompt::Login {
            client_name,
            login_hint,
            can_sign_up,
        } => Ok(Some(LoginPrompt {
            client_name,
            login_hint,
            can_sign_up,
        })),
        Prompt::Consent { .. } => Ok(None),
    }
}

async fn show_login(
    app: &App,
    visitor: &Visitor,
    state: &str,
    prompt: &LoginPrompt,
    refusal: Option<&Refusal>,
    typed: Option<&str>,
) -> Result<Response, Failure> {
    let username = typed.or(prompt.login_hint.as_deref()).unwrap_or_default();
    let page = LoginPage {
        purpose: purpose(&prompt.client_name),
        notice: None,
        error: refusal.map(Refusal::description),
        action: "/u/login",
        csrf: visitor.form_token(app, "/u/login"),
        context_name: "state",
        context: state,
        username: prefilled(username),
        sign_up: prompt
            .can_sign_up
            .then(|| path_with("/u/signup", "state", state)),
        house: House::of(&app.vault).await?,
    };
    Ok(visitor.remember(page::html(status_of(refusal), &page)?))
}

async fn show_sign_up(
    app: &App,
    visitor: &Visitor,
    state: &str,
    prompt: &LoginPrompt,
    refusal: Option<&Refusal>,
    typed: &Params,
) -> Result<Response, Failure> {
    let page = SignUpPage {
        purpose: purpose(&prompt.client_name),
        error: refusal.map(Refusal::description),
        csrf: visitor.form_token(app, "/u/signup"),
        state,
        username: prefilled(typed.get("username").unwrap_or_default()),
        email: prefilled(typed.get("email").unwrap_or_default()),
        login: path_with("/u/login", "state", state),
        house: House::of(&app.vault).await?,
    };
    Ok(visitor.remember(page::html(status_of(refusal), &page)?))
}

fn purpose(client_name: &str) -> String {
    format!("to continue to {}", shown(client_name))
}

/// What somebody typed or a client hinted, cut to what the field takes (threats AU-35).
pub(crate) fn prefilled(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(320).collect()
}

/// The page of a form that was refused has the refusal's status, so that scripts and tests see it too.
pub(crate) fn status_of(refusal: Option<&Refusal>) -> StatusCode {
    refusal.map_or(StatusCode::OK, |refusal| {
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST)
    })
}
