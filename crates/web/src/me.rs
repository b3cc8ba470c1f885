//! The My Account API: a user's connected accounts, through a client that the user logged in to (contract 2.4–2.9).

use std::marker::PhantomData;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, FromRequestParts, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use url::form_urlencoded;
use vault::{
    AccessToken, Caller, CompleteRequest, ConnectRequest, LabelRequest, MOST_FILTERS, Reason,
    Refusal,
};

use crate::app::App;
use crate::body::{self, JsonBody};
use crate::edge::Notes;
use crate::error::{Failure, HttpRefusal};
use crate::query::wrong;

/// Somebody with a My Account token that has a scope: checked, live, and within the limit of requests.
pub(crate) struct Me<S>(AccessToken, PhantomData<S>);

/// A scope of the My Account API, as a type that a handler names.
pub(crate) trait MeScope {
    const NAME: &'static str;
}

/// `create:me:connected_accounts`.
pub(crate) struct Create;

impl MeScope for Create {
    const NAME: &'static str = "create:me:connected_accounts";
}

/// `delete:me:connected_accounts`.
pub(crate) struct Delete;

impl MeScope for Delete {
    const NAME: &'static str = "delete:me:connected_accounts";
}

/// `read:me:connected_accounts`.
pub(crate) struct Read;

impl MeScope for Read {
    const NAME: &'static str = "read:me:connected_accounts";
}

impl<S: MeScope> FromRequestParts<Arc<App>> for Me<S> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let caller = parts
            .extensions
            .get::<Caller>()
            .cloned()
            .unwrap_or_default();
        let notes = parts.extensions.get::<Notes>().cloned().unwrap_or_default();
        let audience = app.vault.settings().issuer.me_audience();
        let token = app
            .vault
            .authenticate_bearer(
                body::bearer(&parts.headers)?,
                &audience,
                Some(S::NAME),
                &caller,
            )
            .await?;
        notes.client(&token.client_id);
        let user_id = token.user_id.as_deref().unwrap_or_default();
        let standing = app.me_limiter.take(user_id, app.vault.now());
        notes.standing(standing);
        match standing.refused_for {
            None => Ok(Self(token, PhantomData)),
            Some(wait) => Err(HttpRefusal::RateLimited(wait).into()),
        }
    }
}

/// `POST …/connect`: starts a connect flow.
pub(crate) async fn connect(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Me(me, _): Me<Create>,
    JsonBody(body): JsonBody,
) -> Result<Response, Failure> {
    let request = ConnectRequest::parse(body)?;
    let started = app.vault.start_connect(&me, request, &caller).await?;
    let answer = json!({
        "connect_uri": started.connect_uri,
        "auth_session": started.auth_session.reveal(),
        "connect_params": { "ticket": started.ticket.reveal() },
        "expires_in": started.expires_in,
    });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `POST …/complete`: ends it with an account.
pub(crate) async fn complete(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Me(me, _): Me<Create>,
    JsonBody(body): JsonBody,
) -> Result<Response, Failure> {
    let request = CompleteRequest::parse(body)?;
    let account = app.vault.complete_connect(&me, request, &caller).await?;
    Ok((StatusCode::CREATED, Json(account)).into_response())
}

/// `GET …/accounts`.
pub(crate) async fn accounts(
    State(app): State<Arc<App>>,
    Me(me, _): Me<Read>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let list = ListQuery::parse(query.as_deref().unwrap_or_default())?;
    let page = app
        .vault
        .list_accounts(&me, &list.connections, list.from.as_deref(), list.take)
        .await?;
    Ok(Json(listed("accounts", page.items, page.next)).into_response())
}

/// `GET …/connections`.
pub(crate) async fn connections(
    State(app): State<Arc<App>>,
    Me(me, _): Me<Read>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let list = ListQuery::parse(query.as_deref().unwrap_or_default())?;
    let page = app
        .vault
        .list_connections(&me, list.from.as_deref(), list.take)
        .await?;
    Ok(Json(listed("connections", page.items, page.next)).into_response())
}

/// `DELETE …/accounts/{id}`.
pub(crate) async fn disconnect(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Me(me, _): Me<Delete>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    if !is_account_id(&id) {
        return Err(Refusal::new(Reason::AccountUnknown).into());
    }
    app.vault.disconnect(&me, &id, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PATCH …/accounts/{id}`: names an account.
pub(crate) async fn label(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Me(me, _): Me<Create>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Response, Failure> {
    if !is_account_id(&id) {
        return Err(Refusal::new(Reason::AccountUnknown).into());
    }
    let request = LabelRequest::parse(body)?;
    let account = app.vault.label_account(&me, &id, request, &caller).await?;
    Ok(Json(account).into_response())
}

/// A page of a list; the last one has no `next` (contract 2.8).
fn listed<T: serde::Serialize>(
    name: &str,
    items: Vec<T>,
    next: Option<String>,
) -> serde_json::Value {
    let mut answer = json!({ name: items });
    if let (Some(next), Some(answer)) = (next, answer.as_object_mut()) {
        answer.insert("next".to_owned(), next.into());
    }
    answer
}

/// Contract 2.9: `^cac_[A-Za-z0-9]+$`. Anything else names no account.
fn is_account_id(id: &str) -> bool {
    id.strip_prefix("cac_").is_some_and(|rest| {
        (1..=64).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The query of a list.
#[derive(Debug, PartialEq, Eq)]
struct ListQuery {
    connections: Vec<String>,
    from: Option<String>,
    take: u32,
}

impl ListQuery {
    /// Unknown names are ignored. `next` is taken as `from`, as one SDK spells it.
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut list = Self {
            connections: Vec::new(),
            from: None,
            take: 10,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "connection" => {
                    let fits = (1..=128).contains(&value.chars().count())
                        && !value.contains(['\0', '\u{fffd}']);
                    if !fits || list.connections.len() == MOST_FILTERS {
                        return Err(wrong("connection", "up to 20 names of 1 to 128 characters"));
                    }
                    list.connections.push(value.into_owned());
                }
                // An empty value is no cursor, as client libraries send it for the first page.
                "from" | "next" if value.is_empty() => {}
                "from" | "next" if list.from.is_none() => list.from = Some(value.into_owned()),
                "from" | "next" => return Err(wrong("from", "one cursor")),
                "take" => match value.parse() {
                    Ok(take @ 1..=20) => list.take = take,
                    _ => return Err(wrong("take", "a whole number from 1 to 20")),
                },
                _ => {}
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_queries() {
        let list = |connections: &[&str], from: Option<&str>, take| ListQuery {
            connections: connections.iter().map(|name| (*name).to_owned()).collect(),
            from: from.map(str::to_owned),
            take,
        };
        for (query, expected) in [
            ("", list(&[], None, 10)),
            ("take=20&from=abc", list(&[], Some("abc"), 20)),
            ("next=abc", list(&[], Some("abc"), 10)),
            ("from=", list(&[], None, 10)),
            (
                "connection=a&connection=b%20c&x=1",
                list(&["a", "b c"], None, 10),
            ),
        ] {
            assert_eq!(ListQuery::parse(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn in_28_limits_outside_their_range_are_refused() {
        for query in [
            "take=0",
            "take=21",
            "take=-1",
            "take=2147483648",
            "take=18446744073709551616",
            "take=ten",
            "take=",
            "from=a&next=b",
            "connection=",
            "connection=%00",
            &"connection=a&".repeat(21),
            &format!("connection={}", "a".repeat(129)),
        ] {
            assert!(ListQuery::parse(query).is_err(), "{query}");
        }
    }

    #[test]
    fn account_ids() {
        for (id, expected) in [
            ("cac_1a2B", true),
            ("cac_", false),
            ("con_1a2B", false),
            ("cac_a/b", false),
            ("cac_a b", false),
        ] {
            assert_eq!(is_account_id(id), expected, "{id}");
        }
    }
}
