//! Grants and tokens, and the rules of refreshing.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::behaviour::Rotation;

/// What the provider was asked, since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// Authorization requests.
    pub authorize: u64,
    /// Codes that were redeemed or tried.
    pub redeem_code: u64,
    /// Refreshes that were tried.
    pub refresh: u64,
    /// Refreshes that were carried out.
    pub refreshed: u64,
    /// Userinfo and API requests.
    pub userinfo: u64,
    /// Revocations.
    pub revoke: u64,
    /// Used refresh tokens that were shown again although they are single-use.
    pub double_spends: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) calls: Calls,
    /// Authorization requests that wait for a person.
    #[serde(skip)]
    pub(crate) requests: HashMap<String, Request>,
    #[serde(skip)]
    pub(crate) codes: HashMap<String, Code>,
    pub(crate) grants: HashMap<String, Grant>,
    pub(crate) access_tokens: HashMap<String, AccessToken>,
    pub(crate) refresh_tokens: HashMap<String, RefreshToken>,
}

/// A request on its way through login and consent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) code_challenge: Option<String>,
    pub(crate) login_hint: Option<String>,
    /// Set by the login.
    pub(crate) subject: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) request: Request,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) client_id: String,
    pub(crate) subject: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) revoked: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AccessToken {
    pub(crate) grant_id: String,
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RefreshToken {
    pub(crate) grant_id: String,
    /// When it was first used, where that matters.
    pub(crate) used_at: Option<Timestamp>,
}

/// Why a refresh is refused: one code on the wire, told apart for the counters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RefreshRefused {
    DoubleSpend,
    Unknown,
}

impl State {
    /// Takes a refresh token as the rotation says. Returns the grant's id and whether a new token is due.
    pub(crate) fn use_refresh_token(
        &mut self,
        token: &str,
        client_id: &str,
        rotation: Rotation,
        now: Timestamp,
    ) -> Result<(String, bool), RefreshRefused> {
        let stored = self
            .refresh_tokens
            .get_mut(token)
            .ok_or(RefreshRefused::Unknown)?;
        let grant = self
            .grants
            .get_mut(&stored.grant_id)
            .filter(|grant| !grant.revoked && grant.client_id == client_id)
            .ok_or(RefreshRefused::Unknown)?;
        let may_again = match (rotation, stored.used_at) {
            (_, None) | (Rotation::None | Rotation::KeepOld, _) => true,
            (Rotation::Grace(seconds), Some(used_at)) => {
                let grace = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                now.duration_since(used_at) <= grace
            }
            (Rotation::Strict | Rotation::StrictKillFamily, Some(_)) => false,
        };
        if !may_again {
            self.calls.double_spends += 1;
            if rotation == Rotation::StrictKillFamily {
                grant.revoked = true;
            }
            return Err(RefreshRefused::DoubleSpend);
        }
        let rotates = rotation != Rotation::None;
        if rotates && stored.used_at.is_none() {
            stored.used_at = Some(now);
        }
        Ok((stored.grant_id.clone(), rotates))
    }

    /// The live grant of an access token.
    pub(crate) fn grant_of(&self, access_token: &str, now: Timestamp) -> Option<&Grant> {
        let token = self
            .access_tokens
            .get(access_token)
            .filter(|token| token.expires_at > now)?;
        self.grants
            .get(&token.grant_id)
            .filter(|grant| !grant.revoked)
    }

    /// Forgets what can no longer be used, so that a long development session does not grow for ever.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.codes.retain(|_, code| code.expires_at > now);
        self.access_tokens.retain(|_, token| token.expires_at > now);
        let grants = &self.grants;
        self.refresh_tokens.retain(|_, token| {
            grants
                .get(&token.grant_id)
                .is_some_and(|grant| !grant.revoked)
        });
        if self.requests.len() > 1000 {
            self.requests.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::default();
        state.grants.insert(
            "g".to_owned(),
            Grant {
                client_id: "c".to_owned(),
                subject: "s".to_owned(),
                scopes: vec![],
                revoked: false,
            },
        );
        state.refresh_tokens.insert(
            "r".to_owned(),
            RefreshToken {
                grant_id: "g".to_owned(),
                used_at: None,
            },
        );
        state
    }

    #[test]
    fn a_second_use_is_what_the_rotation_says() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (rotation, later, again, alive) in [
            (Rotation::None, 100, true, true),
            (Rotation::KeepOld, 100, true, true),
            (Rotation::Grace(30), 30, true, true),
            (Rotation::Grace(30), 31, false, true),
            (Rotation::Strict, 0, false, true),
            (Rotation::StrictKillFamily, 0, false, false),
        ] {
            let mut state = state();
            let first = state.use_refresh_token("r", "c", rotation, at(0));
            assert_eq!(
                first,
                Ok(("g".to_owned(), rotation != Rotation::None)),
                "{rotation:?}"
            );
            let second = state.use_refresh_token("r", "c", rotation, at(later));
            assert_eq!(second.is_ok(), again, "{rotation:?}");
            assert_eq!(state.calls.double_spends, u64::from(!again), "{rotation:?}");
            assert_eq!(!state.grants["g"].revoked, alive, "{rotation:?}");
        }
    }

    #[test]
    fn another_clients_token_is_unknown() {
        assert_eq!(
            state().use_refresh_token("r", "other", Rotation::None, Timestamp::UNIX_EPOCH),
            Err(RefreshRefused::Unknown)
        );
    }
}
