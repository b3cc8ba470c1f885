//! The token set of a connected account: what the provider gave, with its times. Sealed at rest as one record.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use provider::TokenAnswer;
use seal::{Purpose, RecordContext, SecretBytes, SecretString};
use serde::{Deserialize, Serialize};

use crate::{Error, Vault};

/// The provider's tokens. Opened only inside a flow that hands them out or refreshes them.
pub(crate) struct TokenSet {
    pub(crate) access_token: SecretString,
    pub(crate) refresh_token: Option<SecretString>,
    /// When the provider answered.
    pub(crate) issued_at: Timestamp,
    /// When the access token ends; None where the provider names no end.
    pub(crate) expires_at: Option<Timestamp>,
}

/// How much of its life an access token has left, as a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Hand it out, and refresh it behind the answer.
    Ageing,
    /// Hand it out.
    Fresh,
    /// Refresh it first.
    Stale,
}

/// How early a token is called ageing or stale. Capped by the token's own lifetime, so that a token of a minute is
/// not stale for half of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Margins {
    pub(crate) stale: Duration,
    pub(crate) ageing: Duration,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    issued_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Deserialize)]
struct Opened {
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    issued_at: i64,
    expires_at: Option<i64>,
}

impl TokenSet {
    /// The set that a provider's answer makes of the one before it: an answer without a refresh token keeps the old
    /// one (RFC 6749 §6).
    pub(crate) fn from_answer(
        answer: TokenAnswer,
        before: Option<TokenSet>,
        now: Timestamp,
    ) -> Self {
        Self {
            access_token: answer.access_token,
            refresh_token: answer
                .refresh_token
                .or_else(|| before.and_then(|before| before.refresh_token)),
            issued_at: now,
            expires_at: answer.expires_in.map(|seconds| after(now, seconds)),
        }
    }

    /// Whole seconds until the access token ends; None where it has no end. Never negative.
    pub(crate) fn seconds_left(&self, now: Timestamp) -> Option<u64> {
        self.expires_at
            .map(|end| u64::try_from(end.duration_since(now).as_secs()).unwrap_or(0))
    }

    /// The decision for a caller who wants at least `min_ttl` of life.
    pub(crate) fn freshness(
        &self,
        now: Timestamp,
        margins: Margins,
        min_ttl: Option<Duration>,
    ) -> Freshness {
        let Some(end) = self.expires_at else {
            return Freshness::Fresh;
        };
        let lifetime = positive(end.duration_since(self.issued_at));
        let left = end.duration_since(now);
        let stale = margins.stale.min(lifetime / 10);
        let ageing = margins.ageing.min(lifetime / 5);
        if left <= signed(stale) || min_ttl.is_some_and(|wanted| left < signed(wanted)) {
            Freshness::Stale
        } else if left <= signed(ageing) {
            Freshness::Ageing
        } else {
            Freshness::Fresh
        }
    }

    /// Whether the provider still honours the access token at `now`.
    pub(crate) fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }

    pub(crate) fn seal(
        &self,
        vault: &Vault,
        account_id: &str,
        generation: u64,
    ) -> Result<Vec<u8>, Error> {
        let plain = SecretBytes::new(serde_json::to_vec(&Stored {
            access_token: self.access_token.reveal(),
            refresh_token: self.refresh_token.as_ref().map(SecretString::reveal),
            issued_at: self.issued_at.as_microsecond(),
            expires_at: self.expires_at.map(Timestamp::as_microsecond),
        })?);
        Ok(vault.ring.seal(
            vault.entropy.as_ref(),
            Purpose::Record,
            &context(account_id, generation),
            plain.reveal(),
        )?)
    }

    pub(crate) fn open(
        vault: &Vault,
        account_id: &str,
        generation: u64,
        sealed: &[u8],
    ) -> Result<Self, Error> {
        let plain = vault
            .ring
            .open(Purpose::Record, &context(account_id, generation), sealed)?;
        let opened: Opened = serde_json::from_slice(plain.reveal())?;
        let instant =
            |microseconds: i64| Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MIN);
        Ok(Self {
            access_token: opened.access_token,
            refresh_token: opened.refresh_token,
            issued_at: instant(opened.issued_at),
            expires_at: opened.expires_at.map(instant),
        })
    }
}

/// `seconds` after `now`, or the end of time.
pub(crate) fn after(now: Timestamp, seconds: u64) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok())
        .unwrap_or(Timestamp::MAX)
}

fn context(account_id: &str, generation: u64) -> RecordContext<'_> {
    RecordContext {
        table: "accounts",
        row_id: account_id,
        field: "token_set",
        generation,
    }
}

fn positive(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGINS: Margins = Margins {
        stale: Duration::from_secs(30),
        ageing: Duration::from_secs(120),
    };

    fn token_set(lifetime: Option<u64>) -> (TokenSet, Timestamp) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let set = TokenSet {
            access_token: SecretString::new("a".to_owned()),
            refresh_token: None,
            issued_at: now,
            expires_at: lifetime.map(|seconds| after(now, seconds)),
        };
        (set, now)
    }

    #[test]
    fn freshness_by_what_is_left() {
        use Freshness::{Ageing, Fresh, Stale};
        for (lifetime, elapsed, min_ttl, expected) in [
            (3600, 0, None, Fresh),
            (3600, 3479, None, Fresh),
            (3600, 3480, None, Ageing),
            (3600, 3569, None, Ageing),
            (3600, 3570, None, Stale),
            (3600, 4000, None, Stale),
            // a short token keeps most of its life
            (60, 47, None, Fresh),
            (60, 48, None, Ageing),
            (60, 54, None, Stale),
            (3600, 1800, Some(1800), Fresh),
            (3600, 1801, Some(1800), Stale),
        ] {
            let (set, start) = token_set(Some(lifetime));
            assert_eq!(
                set.freshness(
                    after(start, elapsed),
                    MARGINS,
                    min_ttl.map(Duration::from_secs)
                ),
                expected,
                "{lifetime} s, {elapsed} s later, min_ttl {min_ttl:?}"
            );
        }
    }

    #[test]
    fn a_token_without_an_end_stays_fresh() {
        let (set, start) = token_set(None);
        assert_eq!(
            set.freshness(after(start, 1 << 40), MARGINS, Some(Duration::from_secs(9))),
            Freshness::Fresh
        );
        assert_eq!(set.seconds_left(start), None);
        assert!(set.is_alive(after(start, 1 << 40)));
    }

    #[test]
    fn seconds_left_are_whole_and_never_negative() {
        let (set, start) = token_set(Some(10));
        assert_eq!(set.seconds_left(start), Some(10));
        assert_eq!(set.seconds_left(after(start, 11)), Some(0));
        assert!(!set.is_alive(after(start, 10)));
    }
}
