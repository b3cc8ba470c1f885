//! Plays a provider from its [`Fixture`]: every request that the vendor's documentation does not describe is refused with
//! a sentence that says what is wrong with it, and every answer is the documented one.
//!
//! A connection with the option `simulator` set to `…/as/NAME` comes here with all its requests: `https://HOST/PATH`
//! arrives as `/as/NAME/HOST/PATH`.

use std::collections::{BTreeMap, HashMap};

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::Value;
use url::form_urlencoded;

use crate::behaviour::Rotation;
use crate::fixture::{CallFacts, ErrorFacts, Fixture, Proof};
use crate::{Sandbox, page};

/// The client id and secret of every simulated application.
pub const CLIENT_ID: &str = "simulated-client";
/// The secret.
pub const CLIENT_SECRET: &str = "simulated-secret";

const KID: &str = "simulator-1";

/// What one simulated provider remembers.
#[derive(Debug, Default)]
pub(crate) struct Simulated {
    requests: HashMap<String, Asked>,
    codes: HashMap<String, Asked>,
    tokens: HashMap<String, Token>,
    /// Grants that are over.
    revoked: Vec<String>,
    /// Refreshes that were carried out.
    refreshed: u64,
}

#[derive(Debug, Clone, Default)]
struct Asked {
    redirect_uri: String,
    state: String,
    scope: String,
    second_scope: String,
    nonce: Option<String>,
    code_challenge: Option<String>,
    grant: String,
}

#[derive(Debug, Clone)]
struct Token {
    grant: String,
    asked: Asked,
    refresh: bool,
    /// Which of the grant's tokens.
    slot: String,
    ends_at: Option<i64>,
    used_at: Option<i64>,
    dead: bool,
}

/// What a call carries.
struct Call<'a> {
    method: &'a Method,
    place: &'a str,
    headers: &'a HeaderMap,
    params: BTreeMap<String, String>,
    body: &'a str,
}

type Params = BTreeMap<String, String>;

pub(crate) async fn serve(
    State(sandbox): State<Sandbox>,
    method: Method,
    Path((name, place)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(fixture) = Fixture::find(&name) else {
        return page::failure("There is no simulated provider of this name.");
    };
    let query = query.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let asked = parse(&query);
    // Pages of the simulator's own.
    if place == "simulator/decide" {
        return decide(&sandbox, fixture, &parse(&body));
    }
    if place == "simulator/token" {
        return token_state(&sandbox, fixture, &headers);
    }
    if method == Method::GET && matches_place(&fixture.authorization.url, &place).is_some() {
        return match authorize(&sandbox, fixture, &asked) {
            Ok(response) => response,
            Err(wrong) => page::failure(&format!(
                "{} does not take this request: {wrong}",
                fixture.title
            )),
        };
    }
    if let Some(id_token) = &fixture.id_token
        && matches_place(&id_token.jwks, &place).is_some()
    {
        let keys: Vec<Value> = sandbox
            .inner
            .signing_key
            .iter()
            .map(|key| key.public_jwk(KID))
            .collect();
        return axum::Json(serde_json::json!({ "keys": keys })).into_response();
    }
    let json = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value == "application/json");
    let (params, format) = if !body.is_empty() && json {
        (json_params(&body), "json")
    } else if !body.is_empty() {
        (parse(&body), "form")
    } else {
        (asked.clone(), "query")
    };
    let call = Call {
        method: &method,
        place: &place,
        headers: &headers,
        params,
        body: &body,
    };
    match answer(&sandbox, fixture, &call, format) {
        Ok(response) => response,
        Err(wrong) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            axum::Json(serde_json::json!({
                "error": "simulator_refused",
                "error_description": format!("{} does not take this request: {wrong}", fixture.title),
            })),
        )
            .into_response(),
    }
}

fn parse(text: &str) -> Params {
    form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

fn json_params(body: &str) -> Params {
    let Ok(Value::Object(members)) = serde_json::from_str(body) else {
        return Params::new();
    };
    members
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect()
}

/// What the stars of a documented URL stand for in a place, where the two agree.
fn matches_place(url: &str, place: &str) -> Option<Vec<String>> {
    let (expected, _) = url
        .trim_start_matches("https://")
        .split_once('?')
        .unwrap_or((url.trim_start_matches("https://"), ""));
    let mut found = Vec::new();
    let (mut expected, mut rest) = (expected, place);
    loop {
        let Some(at) = expected.find(['*', '<']) else {
            return (expected == rest).then_some(found);
        };
        let (literal, after) = expected.split_at(at);
        rest = rest.strip_prefix(literal)?;
        expected = match after.strip_prefix('*') {
            Some(after) => after,
            None => after.split_once('>')?.1,
        };
        let next = expected.chars().next();
        let end = rest
            .find(|c: char| c == '/' || Some(c) == next)
            .unwrap_or(rest.len());
        let (value, remaining) = rest.split_at(end);
        if value.is_empty() {
            return None;
        }
        found.push(value.to_owned());
        rest = remaining;
    }
}

fn authorize(sandbox: &Sandbox, fixture: &Fixture, params: &Params) -> Result<Response, String> {
    let facts = &fixture.authorization;
    let named = |name: &str| {
        let name = facts.names.get(name).map_or(name, String::as_str);
        params.get(name).cloned().unwrap_or_default()
    };
    if named("client_id") != CLIENT_ID {
        return Err("the client id is not the registered one".to_owned());
    }
    if named("redirect_uri").is_empty() || named("state").is_empty() {
        return Err("redirect_uri or state is missing".to_owned());
    }
    for (name, expected) in &facts.parameters {
        match params.get(name) {
            None => return Err(format!("{name} is missing")),
            Some(value) if expected != "*" && value != expected => {
                return Err(format!("{name} is '{value}' and must be '{expected}'"));
            }
            Some(_) => {}
        }
    }
    for name in &facts.absent {
        if params.contains_key(name) {
            return Err(format!("{name} must not be there"));
        }
    }
    if let Some((_, query)) = facts.url.split_once('?') {
        for (name, value) in parse(query) {
            if params.get(&name) != Some(&value) {
                return Err(format!("{name} must be '{value}'"));
            }
        }
    }
    let asked = Asked {
        redirect_uri: named("redirect_uri"),
        state: named("state"),
        scope: named("scope"),
        second_scope: named("second_scope"),
        nonce: params.get("nonce").cloned(),
        code_challenge: Some(named("code_challenge")).filter(|text| !text.is_empty()),
        grant: sandbox.token("grant_"),
    };
    let id = sandbox.token("");
    let scopes: Vec<String> = [&asked.scope, &asked.second_scope]
        .into_iter()
        .flat_map(|text| text.split([' ', ',']))
        .filter(|scope| !scope.is_empty())
        .map(str::to_owned)
        .collect();
    sandbox.simulated(&fixture.name, |state| {
        state.requests.insert(id.clone(), asked)
    });
    Ok(page::simulated_consent(
        &fixture.name,
        &fixture.title,
        &id,
        &scopes,
    ))
}

fn decide(sandbox: &Sandbox, fixture: &Fixture, form: &Params) -> Response {
    let id = form.get("request").map(String::as_str).unwrap_or_default();
    let Some(asked) = sandbox.simulated(&fixture.name, |state| state.requests.remove(id)) else {
        return page::failure("This login is over. Go back to the application and start again.");
    };
    let mut answer: Vec<(String, String)> = Vec::new();
    if form.get("action").map(String::as_str) == Some("accept") {
        let code = sandbox.token("simc_");
        for (name, text) in &fixture.authorization.answer {
            let value = text
                .replace("<code>", &code)
                .replace("<state>", &asked.state);
            answer.push((name.clone(), value));
        }
        if fixture.authorization.shopify_hmac {
            let message: Vec<String> = answer
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let secret = seal::SecretString::new(CLIENT_SECRET.to_owned());
            let hmac = seal::hmac_sha256_hex(&secret, message.join("&").as_bytes());
            answer.push(("hmac".to_owned(), hmac));
        }
        sandbox.simulated(&fixture.name, |state| {
            state.codes.insert(code, asked.clone())
        });
    } else {
        let state = fixture
            .authorization
            .answer
            .iter()
            .find(|(_, text)| text.as_str() == "<state>")
            .map_or("state", |(name, _)| name.as_str());
        answer.push(("error".to_owned(), "access_denied".to_owned()));
        answer.push((state.to_owned(), asked.state.clone()));
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(answer)
        .finish();
    let separator = if asked.redirect_uri.contains('?') {
        '&'
    } else {
        '?'
    };
    let location = format!("{}{separator}{query}", asked.redirect_uri);
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

/// Whether a token of this provider is good: what a test asks after a disconnect.
fn token_state(sandbox: &Sandbox, fixture: &Fixture, headers: &HeaderMap) -> Response {
    let now = sandbox.now().as_second();
    let alive = bearer(headers).is_some_and(|token| {
        sandbox.simulated(&fixture.name, |state| {
            state.live(token, false, now).is_some()
        })
    });
    let status = if alive {
        StatusCode::OK
    } else {
        StatusCode::UNAUTHORIZED
    };
    status.into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

impl Simulated {
    /// Every token that was ever given.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = String> + '_ {
        self.tokens.keys().cloned()
    }

    /// The grants that are not over.
    pub(crate) fn grants(&self) -> Vec<String> {
        let mut grants: Vec<String> = self
            .tokens
            .values()
            .map(|token| token.grant.clone())
            .filter(|grant| !self.revoked.contains(grant))
            .collect();
        grants.sort_unstable();
        grants.dedup();
        grants
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.refreshed
    }

    fn live(&self, token: &str, refresh: bool, now: i64) -> Option<&Token> {
        self.tokens.get(token).filter(|found| {
            found.refresh == refresh
                && !found.dead
                && found.ends_at.is_none_or(|end| end > now)
                && !self.revoked.contains(&found.grant)
        })
    }
}

/// Finds the documented call that this is and answers it. The error says why it is none.
fn answer(
    sandbox: &Sandbox,
    fixture: &Fixture,
    call: &Call<'_>,
    format: &str,
) -> Result<Response, String> {
    let is = |facts: &CallFacts| {
        facts.method == call.method.as_str() && matches_place(&facts.url, call.place).is_some()
    };
    let grant_type = |facts: &CallFacts| {
        facts
            .parameters
            .get("grant_type")
            .is_none_or(|expected| call.params.get("grant_type") == Some(expected))
    };
    if let Some(refresh) = &fixture.refresh
        && is(&refresh.call)
        && grant_type(&refresh.call)
        && (refresh.call.url != fixture.token.url
            || call
                .params
                .values()
                .all(|value| !value.starts_with("simc_")))
    {
        return self::refresh(sandbox, fixture, call, format);
    }
    if let Some(exchange) = &fixture.exchange
        && is(exchange)
        && grant_type(exchange)
    {
        return exchange_token(sandbox, fixture, exchange, call, format);
    }
    if is(&fixture.token) {
        return redeem(sandbox, fixture, call, format);
    }
    for (facts, what) in [
        (&fixture.userinfo, What::Userinfo),
        (&fixture.revocation, What::Revocation),
        (&fixture.introspection, What::Introspection),
    ] {
        if let Some(facts) = facts
            && is(facts)
        {
            return with_token(sandbox, fixture, facts, what, call, format);
        }
    }
    Err(format!(
        "there is nothing at {} {}",
        call.method, call.place
    ))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Introspection,
    Revocation,
    Userinfo,
}

/// Everything that is documented of a call except what its tokens are.
fn check(facts: &CallFacts, call: &Call<'_>, format: &str) -> Result<Option<&'static str>, String> {
    if !call.params.is_empty() && facts.body_holds.is_empty() && format != facts.body {
        return Err(format!(
            "the parameters come as {format} and must come as {}",
            facts.body
        ));
    }
    for text in &facts.body_holds {
        if !call.body.contains(text.as_str()) {
            return Err(format!("the body must hold {text}"));
        }
    }
    for (name, expected) in &facts.parameters {
        match call.params.get(name) {
            None => return Err(format!("{name} is missing")),
            Some(value) if expected != "*" && !expected.starts_with('<') && value != expected => {
                return Err(format!("{name} is '{value}' and must be '{expected}'"));
            }
            Some(_) => {}
        }
    }
    for name in &facts.absent {
        if call.params.contains_key(name) {
            return Err(format!("{name} must not be there"));
        }
    }
    for (name, expected) in &facts.headers {
        let value = call.headers.get(name).and_then(|value| value.to_str().ok());
        match value {
            None => return Err(format!("the header {name} is missing")),
            Some(value) if expected != "*" && !expected.contains('<') && value != expected => {
                return Err(format!(
                    "the header {name} is '{value}' and must be '{expected}'"
                ));
            }
            Some(_) => {}
        }
    }
    check_proof(facts, call)
}

/// Whether the client proved itself in the documented way and in no other. Ok(Some) is the provider's own refusal.
fn check_proof(facts: &CallFacts, call: &Call<'_>) -> Result<Option<&'static str>, String> {
    let name = |name: &'static str| facts.names.get(name).map_or(name, String::as_str);
    let header = call
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let basic = header
        .strip_prefix("Basic ")
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let secret = call.params.get(name("client_secret"));
    let mut shown = Vec::new();
    if let Some(basic) = &basic {
        shown.push(if basic.starts_with(CLIENT_ID) {
            Proof::Basic
        } else {
            Proof::SecretAsUsername
        });
    }
    if header.starts_with("Bearer ") {
        shown.push(Proof::Bearer);
    }
    if secret.is_some() {
        shown.push(Proof::Parameters);
    }
    if call.params.contains_key("client_assertion") {
        shown.push(Proof::Assertion);
    }
    if shown.is_empty() {
        shown.push(Proof::None);
    }
    if shown != [facts.proof] {
        return Err(format!(
            "the client proves itself by {shown:?} and must by {:?}",
            facts.proof
        ));
    }
    let good = match facts.proof {
        Proof::Basic => basic.as_deref() == Some(&format!("{CLIENT_ID}:{CLIENT_SECRET}")),
        Proof::SecretAsUsername => basic.as_deref() == Some(&format!("{CLIENT_SECRET}:")),
        Proof::Parameters => {
            secret.map(String::as_str) == Some(CLIENT_SECRET)
                && call.params.get(name("client_id")).map(String::as_str) == Some(CLIENT_ID)
        }
        Proof::Assertion | Proof::Bearer | Proof::None => true,
    };
    Ok((!good).then_some("invalid_client"))
}

fn error(fixture: &Fixture, code: &str) -> Response {
    let documented = match code {
        "invalid_client" => &fixture.errors.invalid_client,
        "invalid_token" => &fixture.errors.invalid_token,
        _ => &fixture.errors.invalid_grant,
    };
    let standard = ErrorFacts {
        status: if code == "invalid_grant" { 400 } else { 401 },
        body: serde_json::json!({ "error": code }).to_string(),
    };
    let facts = documented.as_ref().unwrap_or(&standard);
    said(facts.status, facts.body.clone())
}

fn said(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn redeem(
    sandbox: &Sandbox,
    fixture: &Fixture,
    call: &Call<'_>,
    format: &str,
) -> Result<Response, String> {
    let facts = &fixture.token;
    if let Some(refused) = check(facts, call, format)? {
        return Ok(error(fixture, refused));
    }
    let placed = |placeholder: &str| {
        facts
            .parameters
            .iter()
            .find(|(_, expected)| expected.as_str() == placeholder)
            .and_then(|(name, _)| call.params.get(name))
    };
    let code = placed("<code>").ok_or("no parameter is documented to be the code")?;
    let asked = sandbox.simulated(&fixture.name, |state| state.codes.remove(code));
    let Some(asked) = asked else {
        return Ok(error(fixture, "invalid_grant"));
    };
    if let Some(redirect_uri) = placed("<redirect_uri>")
        && *redirect_uri != asked.redirect_uri
    {
        return Err("redirect_uri is not the one of the authorization request".to_owned());
    }
    match (&asked.code_challenge, call.params.get("code_verifier")) {
        (None, None) => {}
        (Some(challenge), Some(verifier))
            if URL_SAFE_NO_PAD.encode(seal::sha256(verifier.as_bytes())) == *challenge => {}
        _ => return Err("code_verifier does not belong to code_challenge".to_owned()),
    }
    Ok(issue(sandbox, fixture, facts, &asked, None))
}

/// A live access token in, another one out.
fn exchange_token(
    sandbox: &Sandbox,
    fixture: &Fixture,
    facts: &CallFacts,
    call: &Call<'_>,
    format: &str,
) -> Result<Response, String> {
    if let Some(refused) = check(facts, call, format)? {
        return Ok(error(fixture, refused));
    }
    let shown = facts
        .parameters
        .iter()
        .find(|(_, expected)| expected.as_str() == "<access_token>")
        .and_then(|(name, _)| call.params.get(name))
        .ok_or("no parameter is documented to be the token")?;
    let now = sandbox.now().as_second();
    let found = sandbox.simulated(&fixture.name, |state| {
        state.live(shown, false, now).cloned()
    });
    Ok(match found {
        None => error(fixture, "invalid_token"),
        Some(token) => issue(sandbox, fixture, facts, &token.asked.clone(), None),
    })
}

fn refresh(
    sandbox: &Sandbox,
    fixture: &Fixture,
    call: &Call<'_>,
    format: &str,
) -> Result<Response, String> {
    let Some(facts) = &fixture.refresh else {
        return Err("there is no refresh".to_owned());
    };
    if let Some(refused) = check(&facts.call, call, format)? {
        return Ok(error(fixture, refused));
    }
    let wanted = if facts.renews_access_token {
        "<access_token>"
    } else {
        "<refresh_token>"
    };
    let shown = facts
        .call
        .parameters
        .iter()
        .find(|(_, expected)| expected.as_str() == wanted)
        .and_then(|(name, _)| call.params.get(name))
        .or_else(|| call.params.get("refresh_token"))
        .ok_or("no parameter is documented to be the token")?;
    let now = sandbox.now().as_second();
    let used = sandbox.simulated(&fixture.name, |state| {
        let token = state.live(shown, !facts.renews_access_token, now)?.clone();
        let again = match (facts.rotation, token.used_at) {
            (_, None) | (Rotation::None | Rotation::KeepOld, _) => true,
            (Rotation::Grace(seconds), Some(at)) => {
                now - at <= i64::try_from(seconds).unwrap_or(i64::MAX)
            }
            (Rotation::Strict | Rotation::StrictKillFamily, Some(_)) => false,
        };
        if !again {
            return None;
        }
        state.refreshed += 1;
        if let Some(stored) = state.tokens.get_mut(shown) {
            stored.used_at = stored.used_at.or(Some(now));
        }
        if facts.ends_access_tokens {
            for other in state.tokens.values_mut() {
                if other.grant == token.grant && other.slot == token.slot && !other.refresh {
                    other.dead = true;
                }
            }
        }
        Some(token)
    });
    match used {
        None => Ok(error(fixture, "invalid_grant")),
        Some(token) => {
            let narrowed = call.params.get("scope").filter(|_| facts.narrows);
            let facts = narrowed.map_or_else(
                || facts.call.clone(),
                |scope| CallFacts {
                    answer: with_scope(&facts.call.answer, scope),
                    ..facts.call.clone()
                },
            );
            Ok(issue(
                sandbox,
                fixture,
                &facts,
                &token.asked.clone(),
                Some(&token),
            ))
        }
    }
}

/// A documented answer that names other scopes.
fn with_scope(answer: &str, scope: &str) -> String {
    let Some((before, rest)) = answer.split_once(r#""scope":""#) else {
        return answer.to_owned();
    };
    let after = rest.split_once('"').map_or("", |(_, after)| after);
    format!(r#"{before}"scope":"{scope}"{after}"#)
}

/// The documented answer with new tokens in it, for a whole grant or for the one token that was refreshed.
fn issue(
    sandbox: &Sandbox,
    fixture: &Fixture,
    facts: &CallFacts,
    asked: &Asked,
    refreshed: Option<&Token>,
) -> Response {
    let now = sandbox.now();
    // A further token of a grant has the scopes of the second parameter.
    let further = refreshed.filter(|token| !token.slot.is_empty());
    let asked = &Asked {
        scope: further
            .map_or(&asked.scope, |_| &asked.second_scope)
            .clone(),
        ..asked.clone()
    };
    let slot_of = |name: &str| match (name, refreshed) {
        ("", Some(token)) => token.slot.clone(),
        _ => name.to_owned(),
    };
    let mut text = facts.answer.clone();
    let mut tokens = Vec::new();
    for (kind, refresh) in [("access_token", false), ("refresh_token", true)] {
        let mut slots: Vec<String> = Vec::new();
        for part in facts.answer.split(&format!("<{kind}")).skip(1) {
            if let Some((name, _)) = part.split_once('>') {
                slots.push(name.trim_start_matches(':').to_owned());
            }
        }
        for name in slots {
            if name.starts_with('_') {
                continue;
            }
            let placeholder = if name.is_empty() {
                format!("<{kind}>")
            } else {
                format!("<{kind}:{name}>")
            };
            let minted = sandbox.token(if refresh { "simr_" } else { "sima_" });
            text = text.replace(&placeholder, &minted);
            let life = if refresh {
                fixture.refresh_token_lifetime
            } else {
                fixture.access_token_lifetime
            };
            tokens.push((
                minted,
                Token {
                    grant: asked.grant.clone(),
                    asked: asked.clone(),
                    refresh,
                    slot: slot_of(&name),
                    ends_at: life
                        .map(|seconds| now.as_second() + i64::try_from(seconds).unwrap_or(0)),
                    used_at: None,
                    dead: false,
                },
            ));
        }
    }
    sandbox.simulated(&fixture.name, |state| state.tokens.extend(tokens));
    if text.contains("<id_token>") {
        let minted = id_token(sandbox, fixture, asked, now).unwrap_or_default();
        text = text.replace("<id_token>", &minted);
    }
    said(facts.status, fill(&text, fixture, asked, now))
}

/// Puts what is no token into an answer.
fn fill(text: &str, fixture: &Fixture, asked: &Asked, now: Timestamp) -> String {
    let seconds = |life: Option<u64>| life.and_then(|life| i64::try_from(life).ok()).unwrap_or(0);
    let (life, refresh_life) = (
        seconds(fixture.access_token_lifetime),
        seconds(fixture.refresh_token_lifetime),
    );
    let at = now.as_second();
    let list = |scope: &str| {
        let words: Vec<&str> = scope
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .collect();
        serde_json::to_string(&words).unwrap_or_default()
    };
    let rfc3339 = |second: i64| {
        Timestamp::from_second(second)
            .map(|time| time.to_string())
            .unwrap_or_default()
    };
    let mut text = text.to_owned();
    for (name, value) in [
        ("client_id", CLIENT_ID.to_owned()),
        ("scope", asked.scope.clone()),
        ("scope_list", list(&asked.scope)),
        ("second_scope", asked.second_scope.clone()),
        ("state", asked.state.clone()),
        ("expires_in", life.to_string()),
        ("expires_at", (at + life).to_string()),
        ("expires_at_ms", ((at + life) * 1000).to_string()),
        ("expires_at_rfc3339", rfc3339(at + life)),
        ("refresh_token_expires_in", refresh_life.to_string()),
        ("refresh_token_expires_at", (at + refresh_life).to_string()),
        (
            "refresh_token_expires_at_ms",
            ((at + refresh_life) * 1000).to_string(),
        ),
        ("now", at.to_string()),
        ("now_ms", (at * 1000).to_string()),
    ] {
        text = text.replace(&format!("<{name}>"), &value);
    }
    text
}

fn id_token(sandbox: &Sandbox, fixture: &Fixture, asked: &Asked, now: Timestamp) -> Option<String> {
    let text = fill(&fixture.id_token.as_ref()?.claims, fixture, asked, now);
    let mut claims: Value = serde_json::from_str(&text).ok()?;
    let members = claims.as_object_mut()?;
    members.insert("iat".to_owned(), now.as_second().into());
    members.insert("exp".to_owned(), (now.as_second() + 300).into());
    if let Some(nonce) = &asked.nonce {
        members.insert("nonce".to_owned(), nonce.clone().into());
    }
    let key = sandbox.inner.signing_key.as_ref()?;
    key.sign(Some(KID), "JWT", &claims).ok()
}

/// A call that is about a token: who it belongs to, whether it lives, that it shall end.
fn with_token(
    sandbox: &Sandbox,
    fixture: &Fixture,
    facts: &CallFacts,
    what: What,
    call: &Call<'_>,
    format: &str,
) -> Result<Response, String> {
    if let Some(refused) = check(facts, call, format)? {
        return Ok(error(fixture, refused));
    }
    if what == What::Revocation && facts.names_account() {
        return Ok(revoke_account(sandbox, fixture, facts));
    }
    let in_place = matches_place(&facts.url, call.place).unwrap_or_default();
    let in_header = facts.headers.iter().find_map(|(name, expected)| {
        let value = call.headers.get(name)?.to_str().ok()?;
        let prefix = expected.split_once("<access_token>")?.0;
        value.strip_prefix(prefix)
    });
    let in_params = facts
        .parameters
        .iter()
        .filter(|(_, expected)| matches!(expected.as_str(), "<access_token>" | "<refresh_token>"))
        .find_map(|(name, _)| call.params.get(name));
    let shown = in_params
        .map(String::as_str)
        .or(in_header)
        .or_else(|| bearer(call.headers))
        .or_else(|| {
            in_place
                .iter()
                .find(|part| part.starts_with("sim"))
                .map(String::as_str)
        })
        .ok_or("no token is shown")?;
    let now = sandbox.now();
    let found = sandbox.simulated(&fixture.name, |state| {
        state
            .live(shown, false, now.as_second())
            .or_else(|| {
                (what != What::Userinfo).then(|| state.live(shown, true, now.as_second()))?
            })
            .cloned()
    });
    let Some(found) = found else {
        return Ok(match what {
            What::Introspection => said(200, r#"{"active":false}"#.to_owned()),
            What::Revocation => match &fixture.errors.already_revoked {
                Some(facts) => said(facts.status, facts.body.clone()),
                None => said(200, String::new()),
            },
            What::Userinfo => error(fixture, "invalid_token"),
        });
    };
    if what == What::Revocation {
        sandbox.simulated(&fixture.name, |state| {
            state.revoked.push(found.grant.clone())
        });
    }
    let text = match found.ends_at {
        Some(end) => facts.answer.replace("<token_ends_at>", &end.to_string()),
        None => facts.answer.clone(),
    };
    Ok(said(facts.status, fill(&text, fixture, &found.asked, now)))
}

/// Ends every grant that still lives, as it is documented where the account is named and not a token.
fn revoke_account(sandbox: &Sandbox, fixture: &Fixture, facts: &CallFacts) -> Response {
    let now = sandbox.now();
    let live = sandbox.simulated(&fixture.name, |state| {
        let mut grants = state.grants();
        let any = !grants.is_empty();
        state.revoked.append(&mut grants);
        any
    });
    match (&fixture.errors.already_revoked, live) {
        (Some(facts), false) => said(facts.status, facts.body.clone()),
        _ => said(
            facts.status,
            fill(&facts.answer, fixture, &Asked::default(), now),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_matched_star_by_star() {
        for (url, place, expected) in [
            ("https://a.example/token", "a.example/token", Some(vec![])),
            (
                "https://*.a.example/token",
                "shop.a.example/token",
                Some(vec!["shop"]),
            ),
            (
                "https://a.example/t/<access_token>",
                "a.example/t/sima_1",
                Some(vec!["sima_1"]),
            ),
            ("https://*.a.example/token", ".a.example/token", None),
            ("https://a.example/token", "a.example/token/", None),
            ("https://*/token", "a.example/x/token", None),
        ] {
            let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect());
            assert_eq!(matches_place(url, place), expected, "{url} {place}");
        }
    }
}
