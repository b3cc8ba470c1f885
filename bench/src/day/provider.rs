//! The providers of the day: a token endpoint on loopback that answers at once, can be away, and knows what it gave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use jiff::Timestamp;
use seal::SecretString;
use serde_json::json;
use tokio::net::TcpListener;
use url::form_urlencoded;
use vault::{Clock as _, MovableClock};

use super::workload::{self, Place};

/// Of what went wrong, so much is told.
const MOST_TOLD: usize = 20;

/// All of them.
pub(crate) struct Provider {
    clock: Arc<MovableClock>,
    start: Timestamp,
    accounts: u64,
    /// Whether the first place is.
    away: AtomicBool,
    /// Exchanges that are under way.
    pub(crate) callers: AtomicUsize,
    state: Mutex<ProviderState>,
}

#[derive(Default)]
struct ProviderState {
    /// Accounts that were refreshed since the day began: how often, and when last.
    refreshed: HashMap<u64, (u64, Timestamp)>,
    /// Accounts that the day finds due, by the second of the day; those that were refreshed are taken out.
    due: Vec<u32>,
    minute: i64,
    in_minute: u64,
    seen: Seen,
}

/// What the providers saw in a while.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Refreshes that were asked for.
    pub(crate) calls: u64,
    /// Those that were answered with 503.
    pub(crate) failed: u64,
    pub(crate) most_in_a_minute: u64,
    /// The most exchanges that were under way while a provider was asked.
    pub(crate) most_callers: usize,
    /// How many seconds after they were due accounts were refreshed that were due.
    pub(crate) late: Vec<i64>,
    /// What must not happen.
    pub(crate) wrong: Vec<String>,
}

/// An access token of these providers, read again.
pub(crate) struct Given {
    pub(crate) account: u64,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
}

/// The access token of an account; a hundred characters, as many providers' tokens are.
pub(crate) fn access_token(account: u64, issued_at: Timestamp, lifetime: u64) -> String {
    let (issued_at, lifetime) = (issued_at.as_second(), lifetime.cast_signed());
    let expires_at = issued_at + lifetime;
    let token = format!("access.{account}.{issued_at}.{expires_at}.");
    format!("{token:.<100}")
}

/// The refresh token of an account, after so many refreshes.
pub(crate) fn refresh_token(account: u64, generation: u64) -> String {
    let token = format!("refresh.{account}.{generation}.");
    format!("{token:.<100}")
}

impl Given {
    pub(crate) fn read(token: &str) -> Option<Self> {
        let mut parts = token.strip_prefix("access.")?.split('.');
        Some(Self {
            account: parts.next()?.parse().ok()?,
            issued_at: parts.next()?.parse().ok()?,
            expires_at: parts.next()?.parse().ok()?,
        })
    }
}

/// Account and generation.
fn read_refresh_token(token: &str) -> Option<(u64, u64)> {
    let mut parts = token.strip_prefix("refresh.")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Provider {
    /// Serves on loopback; where.
    pub(crate) async fn serve(
        clock: Arc<MovableClock>,
        accounts: u64,
    ) -> Result<(Arc<Self>, String)> {
        let provider = Self {
            start: clock.now(),
            clock,
            accounts,
            away: AtomicBool::new(false),
            callers: AtomicUsize::new(0),
            state: Mutex::default(),
        };
        provider
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .due = provider.due_accounts();
        let provider = Arc::new(provider);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/{place}/token", post(token))
            .with_state(Arc::clone(&provider));
        tokio::spawn(web::serve(
            vec![listener],
            None,
            router,
            std::future::pending(),
        ));
        Ok((provider, origin))
    }

    /// Whether the first place answers with 503.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// What was seen since the last time.
    pub(crate) fn take_seen(&self) -> Seen {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.seen)
    }

    fn answer(&self, at: &str, body: &[u8]) -> Response {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        state.count(now, self.callers.load(Ordering::SeqCst));
        let token = form_urlencoded::parse(body)
            .find(|(name, _)| name == "refresh_token")
            .and_then(|(_, token)| read_refresh_token(&token))
            .filter(|(account, _)| *account < self.accounts);
        let Some((account, generation)) = token else {
            return state.refuse(format!("a refresh token at {at} that was never given"));
        };
        let (index, place) = workload::place_of(account);
        if index == 0 && self.away.load(Ordering::SeqCst) {
            state.seen.failed += 1;
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if place.name != at {
            return state.refuse(format!("account {account} of {} at {at}", place.name));
        }
        let before = state.refreshed.get(&account).copied();
        match before {
            Some((current, _)) if place.rotates && current != generation => {
                return state.refuse(format!(
                    "account {account}: refresh token {generation} was used after {current} was given"
                ));
            }
            Some((_, last)) if last == now => {
                state.wrong(format!("account {account} was refreshed twice at {now}"));
            }
            None => self.count_lateness(&mut state, account, now),
            Some(_) => {}
        }
        let next = generation + u64::from(place.rotates);
        state.refreshed.insert(account, (next, now));
        Json(grant(account, next, place, now)).into_response()
    }

    /// Accounts that are due to be kept alive at this moment, and are not yet.
    pub(crate) fn due(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let second = self.clock.now().duration_since(self.start).as_secs();
        let passed = usize::try_from(second).unwrap_or(0) + 1;
        state
            .due
            .iter()
            .take(passed)
            .map(|due| u64::from(*due))
            .sum()
    }

    /// How many are due at each second of the day.
    fn due_accounts(&self) -> Vec<u32> {
        let mut due = vec![0; 24 * 3600];
        for account in 0..self.accounts {
            if let Some(count) = self.due_at(account).and_then(|second| due.get_mut(second)) {
                *count += 1;
            }
        }
        due
    }

    /// When an account is due that was not refreshed since the day began, in seconds of the day.
    fn due_at(&self, account: u64) -> Option<usize> {
        let (_, due) = workload::standing(account, self.start).ok()?.ends?;
        usize::try_from(due.duration_since(self.start).as_secs()).ok()
    }

    /// An account was refreshed for the first time of the day.
    fn count_lateness(&self, state: &mut ProviderState, account: u64, now: Timestamp) {
        let Some(due) = self.due_at(account) else {
            return;
        };
        if let Some(count) = state.due.get_mut(due) {
            *count = count.saturating_sub(1);
        }
        let late = now.duration_since(self.start).as_secs() - due as i64;
        if late >= 0 {
            state.seen.late.push(late);
        }
    }
}

impl ProviderState {
    fn count(&mut self, now: Timestamp, callers: usize) {
        let minute = now.as_second() / 60;
        if minute != self.minute {
            (self.minute, self.in_minute) = (minute, 0);
        }
        self.in_minute += 1;
        self.seen.calls += 1;
        self.seen.most_in_a_minute = self.seen.most_in_a_minute.max(self.in_minute);
        self.seen.most_callers = self.seen.most_callers.max(callers);
    }

    fn refuse(&mut self, why: String) -> Response {
        self.wrong(why);
        (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": "invalid_grant" })),
        )
            .into_response()
    }

    fn wrong(&mut self, what: String) {
        if self.seen.wrong.len() < MOST_TOLD {
            self.seen.wrong.push(what);
        }
    }
}

async fn token(
    State(provider): State<Arc<Provider>>,
    Path(place): Path<String>,
    body: Bytes,
) -> Response {
    provider.answer(&place, &body)
}

fn grant(account: u64, generation: u64, place: &Place, now: Timestamp) -> serde_json::Value {
    let mut answer = json!({
        "access_token": access_token(account, now, place.lifetime),
        "token_type": "Bearer",
        "expires_in": place.lifetime,
    });
    let members = answer.as_object_mut();
    if let Some(members) = members {
        if place.rotates {
            members.insert(
                "refresh_token".to_owned(),
                refresh_token(account, generation).into(),
            );
        }
        if let Some(idle) = place.idle {
            members.insert("refresh_token_expires_in".to_owned(), idle.into());
        }
    }
    answer
}

/// What the account begins the day with.
pub(crate) fn first_tokens(account: u64, issued_at: Timestamp) -> vault::SampleTokens {
    let (_, place) = workload::place_of(account);
    vault::SampleTokens {
        access_token: SecretString::new(access_token(account, issued_at, place.lifetime)),
        refresh_token: SecretString::new(refresh_token(account, 0)),
        issued_at,
        expires_in: place.lifetime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_they_are() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let token = access_token(17, now, 3600);
        assert_eq!(token.len(), 100);
        let given = Given::read(&token).unwrap();
        assert_eq!((given.account, given.issued_at), (17, 1_800_000_000));
        assert_eq!(given.expires_at, 1_800_003_600);
        assert_eq!(read_refresh_token(&refresh_token(17, 3)), Some((17, 3)));
        assert_eq!(read_refresh_token(&token), None);
    }
}
