//! What a provider's failure means for an account: its class as people and rows name it, how long the provider is left
//! alone, and what callers hear meanwhile.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use provider::FailureKind;

use crate::{Reason, Refusal};

/// The first wait after a failure that says nothing about the account; it doubles with every further one.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The first wait after a provider asked for fewer requests and not said for how long.
const FIRST_RETRY_WHEN_LIMITED: Duration = Duration::from_secs(30);
/// The longest wait.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// The failure classes as they stand in the row, the audit log, the API and the log.
pub(crate) fn class(kind: &FailureKind) -> &'static str {
    match kind {
        FailureKind::ClientMisconfigured => "client_misconfigured",
        FailureKind::InvalidResponse => "invalid_response",
        FailureKind::OutcomeUnknown => "outcome_unknown",
        FailureKind::RateLimited { .. } => "rate_limited",
        FailureKind::ReauthorizationRequired => "reauthorization_required",
        FailureKind::Refused => "outbound_refused",
        FailureKind::ScopeMissing => "scope_missing",
        FailureKind::Unavailable => "provider_unavailable",
    }
}

/// When the provider may be asked again: what it said itself, else doubling up to an hour; plus up to a quarter by
/// `chance`, a number from 0 to 255.
///
/// Who probed while the gate is closed, until `closed_until`, waits no longer than that: it is the gate that spares the
/// provider then, and an outage is not the account's own.
pub(crate) fn next_retry(
    kind: &FailureKind,
    failures: u32,
    now: Timestamp,
    chance: u8,
    closed_until: Option<Timestamp>,
) -> Timestamp {
    let doubled = |first: Duration| {
        first
            .saturating_mul(1 << failures.min(12))
            .min(LONGEST_RETRY)
    };
    let base = match kind {
        FailureKind::RateLimited {
            retry_after: Some(wait),
        } => *wait,
        FailureKind::RateLimited { retry_after: None } => doubled(FIRST_RETRY_WHEN_LIMITED),
        _ => doubled(FIRST_RETRY),
    };
    let with_chance = base + base.mul_f64(f64::from(chance) / 1024.0);
    let retry_at = SignedDuration::try_from(with_chance)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX);
    match (kind, closed_until) {
        (FailureKind::Unavailable, Some(until)) => retry_at.min(until),
        _ => retry_at,
    }
}

/// What a caller hears while the provider is being left alone. `class` is the row's.
pub(crate) fn waiting_refusal(class: Option<&str>, retry_at: Timestamp, now: Timestamp) -> Refusal {
    let wait = Duration::try_from(retry_at.duration_since(now)).unwrap_or(FIRST_RETRY);
    let reason = match class {
        Some("client_misconfigured") => Reason::ProviderClientMisconfigured,
        Some("invalid_response") => Reason::ProviderAnswerInvalid,
        Some("rate_limited") => Reason::ProviderRateLimited,
        Some("scope_missing") => Reason::ScopeMissing,
        _ => Reason::ProviderUnavailable,
    };
    Refusal::new(reason).retry_after_duration(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_a_quarter() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let limited = FailureKind::RateLimited { retry_after: None };
        for (kind, failures, chance, seconds) in [
            (&FailureKind::Unavailable, 0, 0, 1),
            (&FailureKind::Unavailable, 1, 0, 2),
            (&FailureKind::Unavailable, 5, 0, 32),
            (&FailureKind::Unavailable, 30, 0, 3600),
            (&FailureKind::Unavailable, 30, 255, 4496),
            (&limited, 0, 0, 30),
            (&limited, 1, 0, 60),
            (&limited, 30, 0, 3600),
        ] {
            let wait = next_retry(kind, failures, now, chance, None).duration_since(now);
            assert_eq!(
                wait.as_secs(),
                seconds,
                "{kind:?}, {failures} failures, chance {chance}"
            );
        }
    }

    #[test]
    fn the_providers_own_wait_is_kept() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let kind = FailureKind::RateLimited {
            retry_after: Some(Duration::from_secs(90)),
        };
        assert_eq!(
            next_retry(&kind, 9, now, 0, None)
                .duration_since(now)
                .as_secs(),
            90
        );
    }

    #[test]
    fn a_probe_waits_for_the_next_one() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let after = |seconds: i64| now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let limited = FailureKind::RateLimited {
            retry_after: Some(Duration::from_secs(90)),
        };
        for (kind, failures, expected) in [
            (&FailureKind::Unavailable, 9, 5),
            (&FailureKind::Unavailable, 0, 1),
            // These say something of the account, or for how long.
            (&FailureKind::OutcomeUnknown, 4, 16),
            (&limited, 9, 90),
        ] {
            let retry_at = next_retry(kind, failures, now, 0, Some(after(5)));
            assert_eq!(retry_at, after(expected), "{kind:?}, {failures} failures");
        }
    }
}
