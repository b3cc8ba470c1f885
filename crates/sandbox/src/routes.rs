//! Every page and endpoint of the provider.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Form, Json, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::behaviour::{Behaviour, ExpiresIn, InjectedFailure};
use crate::page;
use crate::simulator;
use crate::state::{AccessToken, Calls, Code, Grant, RefreshRefused, RefreshToken, Request};
use crate::{Sandbox, SandboxClient};

type Fields = HashMap<String, String>;

/// Seconds that a code lives.
const CODE_LIFE: i64 = 60;
const KID: &str = "sandbox-1";

pub(crate) fn router(sandbox: Sandbox) -> Router {
    Router::new()
        .route("/", get(|| async { page::home() }))
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/jwks", get(keys))
        .route("/authorize", get(authorize))
        .route("/login", post(login))
        .route("/consent", post(consent))
        .route("/token", post(token))
        .route("/userinfo", get(userinfo).post(userinfo))
        .route("/api/me", get(api_me))
        .route("/revoke", post(revoke))
        .route(
            "/sandbox/behaviour",
            get(read_behaviour).post(write_behaviour),
        )
        .route("/sandbox/calls", get(calls))
        .route("/as/{fixture}/{*place}", any(simulator::serve))
        .with_state(sandbox)
}

async fn metadata(State(sandbox): State<Sandbox>) -> Json<Value> {
    let base = &sandbox.inner.base_url;
    Json(json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "userinfo_endpoint": format!("{base}/userinfo"),
        "revocation_endpoint": format!("{base}/revoke"),
        "jwks_uri": format!("{base}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
}

async fn keys(State(sandbox): State<Sandbox>) -> Json<Value> {
    let keys: Vec<Value> = sandbox
        .inner
        .signing_key
        .iter()
        .map(|key| key.public_jwk(KID))
        .collect();
    Json(json!({ "keys": keys }))
}

async fn authorize(State(sandbox): State<Sandbox>, Query(fields): Query<Fields>) -> Response {
    let text = |name: &str| fields.get(name).filter(|text| !text.is_empty()).cloned();
    let request = Request {
        client_id: text("client_id").unwrap_or_default(),
        redirect_uri: text("redirect_uri").unwrap_or_default(),
        state: text("state"),
        scopes: text("scope")
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        nonce: text("nonce"),
        code_challenge: text("code_challenge"),
        login_hint: text("login_hint"),
        subject: None,
    };
    let known = sandbox
        .client(&request.client_id)
        .is_some_and(|client| client.redirect_uris.contains(&request.redirect_uri));
    if !known {
        return page::failure("This client_id and redirect_uri are not registered here.");
    }
    if text("response_type").as_deref() != Some("code") {
        return answer(
            &sandbox,
            &request,
            &[("error", "unsupported_response_type")],
        );
    }
    if request.code_challenge.is_some() && text("code_challenge_method").as_deref() != Some("S256")
    {
        return answer(&sandbox, &request, &[("error", "invalid_request")]);
    }
    let id = sandbox.token("");
    let hint = request.login_hint.clone().unwrap_or_default();
    let now = sandbox.now();
    sandbox.change(|state| {
        state.calls.authorize += 1;
        state.sweep(now);
        state.requests.insert(id.clone(), request);
    });
    page::login(&id, &hint, None)
}

async fn login(State(sandbox): State<Sandbox>, Form(fields): Form<Fields>) -> Response {
    let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let (id, username) = (text("request"), text("username"));
    let Some(mut request) = sandbox.state().requests.get(id).cloned() else {
        return page::failure("This login is over. Go back to the application and start again.");
    };
    let account = sandbox
        .inner
        .accounts
        .iter()
        .find(|account| account.username == username && account.password == text("password"));
    let Some(account) = account else {
        return page::login(id, username, Some("E-mail or password is wrong."));
    };
    request.subject = Some(account.subject.clone());
    let shown = page::consent(id, &request.client_id, &account.username, &request.scopes);
    sandbox.change(|state| state.requests.insert(id.to_owned(), request));
    shown
}

async fn consent(State(sandbox): State<Sandbox>, Form(fields): Form<Fields>) -> Response {
    let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let request = sandbox.change(|state| state.requests.remove(text("request")));
    let Some(request) = request.filter(|request| request.subject.is_some()) else {
        return page::failure("This login is over. Go back to the application and start again.");
    };
    if text("action") != "accept" {
        let refused = [
            ("error", "access_denied"),
            ("error_description", "The user said no."),
        ];
        return answer(&sandbox, &request, &refused);
    }
    let code = sandbox.token("sbxc_");
    let expires_at = sandbox
        .now()
        .saturating_add(SignedDuration::from_secs(CODE_LIFE))
        .unwrap_or_default();
    sandbox.change(|state| {
        state.codes.insert(
            code.clone(),
            Code {
                request: request.clone(),
                expires_at,
            },
        )
    });
    answer(&sandbox, &request, &[("code", &code)])
}

/// Sends the browser back with an answer, its state and our issuer (RFC 9207).
fn answer(sandbox: &Sandbox, request: &Request, params: &[(&str, &str)]) -> Response {
    let behaviour = sandbox.behaviour();
    let issuer = behaviour
        .iss_override
        .as_ref()
        .unwrap_or(&sandbox.inner.base_url);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(params);
    if let Some(state) = &request.state {
        query.append_pair("state", state);
    }
    if !issuer.is_empty() {
        query.append_pair("iss", issuer);
    }
    let separator = if request.redirect_uri.contains('?') {
        '&'
    } else {
        '?'
    };
    let location = format!("{}{separator}{}", request.redirect_uri, query.finish());
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

async fn token(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let (behaviour, failure) = {
        let mut behaviour = crate::lock(&sandbox.inner.behaviour);
        let failure =
            (!behaviour.next_failures.is_empty()).then(|| behaviour.next_failures.remove(0));
        (behaviour.clone(), failure)
    };
    sandbox.change(|state| match fields.get("grant_type").map(String::as_str) {
        Some("authorization_code") => state.calls.redeem_code += 1,
        Some("refresh_token") => state.calls.refresh += 1,
        _ => {}
    });
    if behaviour.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(behaviour.latency_ms)).await;
    }
    match failure {
        Some(failure) => {
            if failure.after_processing {
                let _lost = issue(&sandbox, &headers, &fields, &behaviour);
            }
            injected(&failure)
        }
        None => match issue(&sandbox, &headers, &fields, &behaviour) {
            Ok(tokens) => ([("cache-control", "no-store")], Json(tokens)).into_response(),
            Err((status, error)) => (status, Json(json!({ "error": error }))).into_response(),
        },
    }
}

fn injected(failure: &InjectedFailure) -> Response {
    if failure.drop_connection {
        // Headers without the body that they promise: the peer sees the connection break.
        let broken = futures_util::stream::once(async {
            Err::<bytes::Bytes, _>(std::io::Error::other("dropped"))
        });
        return Response::new(Body::from_stream(broken));
    }
    let content_type = match failure.content_type.as_str() {
        "" => "application/json",
        named => named,
    };
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, failure.body.clone()).into_response();
    for (name, value) in [
        (CONTENT_TYPE, Some(content_type)),
        (RETRY_AFTER, failure.retry_after.as_deref()),
    ] {
        if let Some(value) = value.and_then(|value| value.parse().ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

type Refused = (StatusCode, &'static str);
const INVALID_GRANT: Refused = (StatusCode::BAD_REQUEST, "invalid_grant");

fn issue(
    sandbox: &Sandbox,
    headers: &HeaderMap,
    fields: &Fields,
    behaviour: &Behaviour,
) -> Result<Value, Refused> {
    let client = authenticate(sandbox, headers, fields)
        .ok_or((StatusCode::UNAUTHORIZED, "invalid_client"))?;
    let text = |name: &str| fields.get(name).map(String::as_str);
    match text("grant_type") {
        Some("authorization_code") => {
            let code = sandbox
                .change(|state| state.codes.remove(text("code").unwrap_or_default()))
                .filter(|code| code.expires_at > sandbox.now())
                .filter(|code| code.request.client_id == client.client_id)
                .filter(|code| Some(code.request.redirect_uri.as_str()) == text("redirect_uri"))
                .ok_or(INVALID_GRANT)?;
            let verified = match (&code.request.code_challenge, text("code_verifier")) {
                (None, None) => true,
                (Some(challenge), Some(verifier)) => {
                    URL_SAFE_NO_PAD.encode(seal::sha256(verifier.as_bytes())) == *challenge
                }
                _ => false,
            };
            if !verified {
                return Err(INVALID_GRANT);
            }
            let scopes = behaviour
                .granted_scopes
                .clone()
                .unwrap_or(code.request.scopes.clone());
            let grant = Grant {
                client_id: client.client_id,
                subject: code.request.subject.clone().unwrap_or_default(),
                scopes,
                revoked: false,
            };
            let grant_id = sandbox.token("grant_");
            sandbox.change(|state| state.grants.insert(grant_id.clone(), grant.clone()));
            let mut tokens = tokens(sandbox, &grant_id, &grant, behaviour);
            if grant.scopes.iter().any(|scope| scope == "offline_access") {
                insert(
                    &mut tokens,
                    "refresh_token",
                    new_refresh_token(sandbox, &grant_id),
                );
            }
            if let Some(id_token) =
                id_token(sandbox, &grant, code.request.nonce.as_deref(), behaviour)
            {
                insert(&mut tokens, "id_token", id_token);
            }
            Ok(tokens)
        }
        Some("refresh_token") => {
            let now = sandbox.now();
            let presented = text("refresh_token").unwrap_or_default();
            let used = sandbox.change(|state| {
                state.use_refresh_token(presented, &client.client_id, behaviour.rotation, now)
            });
            let (grant_id, rotates) = match used {
                Ok(used) => used,
                Err(RefreshRefused::DoubleSpend | RefreshRefused::Unknown) => {
                    return Err(INVALID_GRANT);
                }
            };
            let grant = sandbox.change(|state| {
                state.calls.refreshed += 1;
                if behaviour.refresh_kills_old_access_token {
                    state
                        .access_tokens
                        .retain(|_, token| token.grant_id != grant_id);
                }
                state.grants.get(&grant_id).cloned()
            });
            let mut grant = grant.ok_or(INVALID_GRANT)?;
            if let Some(granted) = &behaviour.granted_scopes {
                grant.scopes.clone_from(granted);
            }
            // RFC 6749 §6: fewer than were granted, never more.
            if let Some(asked) = text("scope").filter(|_| !behaviour.ignores_narrower_scope) {
                let asked: Vec<&str> = asked.split(' ').collect();
                if !asked
                    .iter()
                    .all(|scope| grant.scopes.iter().any(|held| held == scope))
                {
                    return Err((StatusCode::BAD_REQUEST, "invalid_scope"));
                }
                grant.scopes.retain(|scope| asked.contains(&scope.as_str()));
            }
            let mut tokens = tokens(sandbox, &grant_id, &grant, behaviour);
            if rotates {
                let next = new_refresh_token(sandbox, &grant_id);
                if !behaviour.omit_refresh_token_on_refresh {
                    insert(&mut tokens, "refresh_token", next);
                }
            }
            Ok(tokens)
        }
        _ => Err((StatusCode::BAD_REQUEST, "unsupported_grant_type")),
    }
}

fn insert(tokens: &mut Value, name: &str, value: String) {
    if let Some(tokens) = tokens.as_object_mut() {
        tokens.insert(name.to_owned(), Value::String(value));
    }
}

/// By Basic or by the body, as it comes.
fn authenticate(sandbox: &Sandbox, headers: &HeaderMap, fields: &Fields) -> Option<SandboxClient> {
    let decoded = |text: &str| {
        form_urlencoded::parse(format!("v={text}").as_bytes())
            .into_owned()
            .next()
            .map(|(_, value)| value)
    };
    let basic = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|value| STANDARD.decode(value).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let (client_id, secret) = match basic {
        Some(basic) => {
            let (id, secret) = basic.split_once(':')?;
            (decoded(id)?, decoded(secret))
        }
        None => (
            fields.get("client_id")?.clone(),
            fields.get("client_secret").cloned(),
        ),
    };
    sandbox
        .client(&client_id)
        .filter(|client| client.client_secret == secret)
}

/// A new access token and what is said with it.
fn tokens(sandbox: &Sandbox, grant_id: &str, grant: &Grant, behaviour: &Behaviour) -> Value {
    let access_token = sandbox.token("sbxa_");
    let lifetime = behaviour.access_token_lifetime;
    let expires_at = sandbox
        .now()
        .saturating_add(SignedDuration::from_secs(
            i64::try_from(lifetime).unwrap_or(i64::MAX),
        ))
        .unwrap_or_default();
    sandbox.change(|state| {
        state.access_tokens.insert(
            access_token.clone(),
            AccessToken {
                grant_id: grant_id.to_owned(),
                expires_at,
            },
        )
    });
    let mut tokens = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "scope": grant.scopes.join(" "),
    });
    let expires_in = match behaviour.expires_in {
        ExpiresIn::Absent => None,
        ExpiresIn::Negative => Some(json!(-1)),
        ExpiresIn::Number => Some(json!(lifetime)),
        ExpiresIn::Text => Some(json!(lifetime.to_string())),
    };
    if let (Some(expires_in), Some(tokens)) = (expires_in, tokens.as_object_mut()) {
        tokens.insert("expires_in".to_owned(), expires_in);
    }
    tokens
}

/// Keeps a grant and gives its first tokens.
pub(crate) fn grant_elsewhere(sandbox: &Sandbox, grant: Grant) -> (String, String) {
    let grant_id = sandbox.token("grant_");
    let answer = tokens(sandbox, &grant_id, &grant, &sandbox.behaviour());
    sandbox.change(|state| state.grants.insert(grant_id.clone(), grant));
    let access_token = answer.get("access_token").and_then(Value::as_str);
    (
        access_token.unwrap_or_default().to_owned(),
        new_refresh_token(sandbox, &grant_id),
    )
}

fn new_refresh_token(sandbox: &Sandbox, grant_id: &str) -> String {
    let token = sandbox.token("sbxr_");
    sandbox.change(|state| {
        state.refresh_tokens.insert(
            token.clone(),
            RefreshToken {
                grant_id: grant_id.to_owned(),
                used_at: None,
            },
        )
    });
    token
}

fn id_token(
    sandbox: &Sandbox,
    grant: &Grant,
    nonce: Option<&str>,
    behaviour: &Behaviour,
) -> Option<String> {
    if behaviour.omit_id_token || !grant.scopes.iter().any(|scope| scope == "openid") {
        return None;
    }
    let now = sandbox.now().as_second();
    let nonce = if behaviour.wrong_nonce {
        Some("another")
    } else {
        nonce
    };
    let mut claims = person(sandbox, grant);
    for (name, value) in [
        ("iss", json!(sandbox.inner.base_url)),
        ("aud", json!(grant.client_id)),
        ("iat", json!(now)),
        ("exp", json!(now + 300)),
    ] {
        claims.insert(name.to_owned(), value);
    }
    if let Some(nonce) = nonce {
        claims.insert("nonce".to_owned(), json!(nonce));
    }
    let key = sandbox.inner.signing_key.as_ref()?;
    key.sign(Some(KID), "JWT", &Value::Object(claims)).ok()
}

/// What the scopes let an application know.
fn person(sandbox: &Sandbox, grant: &Grant) -> serde_json::Map<String, Value> {
    let mut claims = serde_json::Map::new();
    claims.insert("sub".to_owned(), json!(grant.subject));
    if let Some(account) = sandbox.account(&grant.subject) {
        let has = |name: &str| grant.scopes.iter().any(|scope| scope == name);
        if has("profile") {
            claims.insert("name".to_owned(), json!(account.name));
            claims.insert("preferred_username".to_owned(), json!(account.username));
        }
        if has("email") {
            claims.insert("email".to_owned(), json!(account.email));
        }
    }
    claims
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

async fn userinfo(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    sandbox.change(|state| state.calls.userinfo += 1);
    let now = sandbox.now();
    let grant = bearer(&headers).and_then(|token| sandbox.state().grant_of(token, now).cloned());
    let Some(grant) = grant else {
        return (
            StatusCode::UNAUTHORIZED,
            [("www-authenticate", "Bearer error=\"invalid_token\"")],
        )
            .into_response();
    };
    let mut claims = person(&sandbox, &grant);
    if sandbox.behaviour().wrong_userinfo_subject {
        claims.insert("sub".to_owned(), json!("somebody-else"));
    }
    Json(claims).into_response()
}

/// The provider's own API: says whose token was used and for what it is good.
async fn api_me(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    sandbox.change(|state| state.calls.userinfo += 1);
    let now = sandbox.now();
    let grant = bearer(&headers).and_then(|token| sandbox.state().grant_of(token, now).cloned());
    match grant {
        Some(grant) => Json(json!({
            "id": grant.subject,
            "email": sandbox.account(&grant.subject).map(|account| account.email.clone()),
            "scopes": grant.scopes,
        }))
        .into_response(),
        None => (
            StatusCode::UNAUTHORIZED,
            Json(json!({ "error": "invalid_token" })),
        )
            .into_response(),
    }
}

async fn revoke(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let failure = {
        let mut behaviour = crate::lock(&sandbox.inner.behaviour);
        let failures = &mut behaviour.next_revocation_failures;
        (!failures.is_empty()).then(|| failures.remove(0))
    };
    if let Some(failure) = failure {
        sandbox.change(|state| state.calls.revoke += 1);
        return injected(&failure);
    }
    let Some(client) = authenticate(&sandbox, &headers, &fields) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let token = fields.get("token").map(String::as_str).unwrap_or_default();
    sandbox.change(|state| {
        state.calls.revoke += 1;
        if let Some(refresh) = state.refresh_tokens.get(token)
            && let Some(grant) = state.grants.get_mut(&refresh.grant_id)
            && grant.client_id == client.client_id
        {
            grant.revoked = true;
        }
        state.access_tokens.remove(token);
    });
    StatusCode::OK.into_response()
}

async fn read_behaviour(State(sandbox): State<Sandbox>) -> Json<Behaviour> {
    Json(sandbox.behaviour())
}

/// Members that are left out go back to their defaults.
async fn write_behaviour(
    State(sandbox): State<Sandbox>,
    Json(behaviour): Json<Behaviour>,
) -> Json<Behaviour> {
    sandbox.set_behaviour(behaviour.clone());
    Json(behaviour)
}

async fn calls(State(sandbox): State<Sandbox>) -> Json<Calls> {
    Json(sandbox.calls())
}
