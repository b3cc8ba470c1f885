//! When an authorization ends, and when it has to be used so that it does not.

use jiff::{SignedDuration, Timestamp};
use provider::{Profile, RefreshClass};

use crate::account::Account;
use crate::token_set::{TokenSet, after, spread};

/// The ends of an account, as far as provider and profile say them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// When the user has to connect again unless the authorization is renewed before.
    pub(crate) authorization: Option<Timestamp>,
    /// When it is renewed even if nobody asks; None where renewing puts nothing off.
    pub(crate) keep_alive: Option<Timestamp>,
}

/// An end that moves by less than this does not move.
const SAME_END: SignedDuration = SignedDuration::from_mins(1);

/// What decides about the ends.
struct Facts<'a> {
    account_id: &'a str,
    connected_at: Timestamp,
    /// The end that was known before.
    before: Option<Timestamp>,
    /// Seconds that the provider gives the refresh token.
    said: Option<u64>,
    now: Timestamp,
}

impl Ends {
    /// Those of a fresh grant.
    pub(crate) fn of_grant(
        account_id: &str,
        profile: &Profile,
        class: RefreshClass,
        tokens: &TokenSet,
        said: Option<u64>,
        now: Timestamp,
    ) -> Self {
        let facts = Facts {
            account_id,
            connected_at: now,
            before: None,
            said,
            now,
        };
        facts.ends(profile, class, tokens)
    }

    /// Those that are known.
    pub(crate) fn of_account(account: &Account) -> Self {
        Self {
            authorization: account.refresh_expires_at,
            keep_alive: account.keep_alive_at,
        }
    }

    /// Those after a refresh.
    pub(crate) fn after_refresh(
        account: &Account,
        profile: &Profile,
        class: RefreshClass,
        tokens: &TokenSet,
        said: Option<u64>,
        now: Timestamp,
    ) -> Self {
        let facts = Facts {
            account_id: &account.id,
            connected_at: account.connected_at,
            before: account.refresh_expires_at,
            said,
            now,
        };
        facts.ends(profile, class, tokens)
    }
}

impl Facts<'_> {
    fn ends(&self, profile: &Profile, class: RefreshClass, tokens: &TokenSet) -> Ends {
        let access = tokens.whole.expires_at;
        if class == RefreshClass::Renewal {
            return Ends {
                authorization: access,
                keep_alive: access.map(|end| self.well_before(end)),
            };
        }
        if tokens.whole.refresh_token.is_none() {
            return Ends {
                authorization: access,
                keep_alive: None,
            };
        }
        let refresh = &profile.refresh;
        let idle = refresh.idle_lifetime.map(|life| after(self.now, life));
        let absolute = refresh
            .absolute_lifetime
            .map(|life| after(self.connected_at, life));
        let said = self.said.map(|life| after(self.now, life));
        // An end that the provider repeats is no end that a refresh moves.
        let moved = said.filter(|end| {
            self.before
                .is_none_or(|before| end.duration_since(before) > SAME_END)
        });
        let sliding = earliest([moved, idle]);
        let known = earliest([said, idle, absolute]).or(self.before);
        let put_off = sliding.filter(|end| absolute.is_none_or(|last| *end < last));
        Ends {
            authorization: known,
            keep_alive: put_off.map(|end| self.well_before(end)),
        }
    }

    /// 60 to 80 percent of the way, each account at its own place, so that those of one day are not due in one minute.
    fn well_before(&self, end: Timestamp) -> Timestamp {
        let way = end.duration_since(self.now).as_secs_f64().max(0.0);
        let part = way * (0.6 + 0.2 * spread(self.account_id));
        SignedDuration::try_from_secs_f64(part)
            .ok()
            .and_then(|part| self.now.checked_add(part).ok())
            .unwrap_or(end)
    }
}

fn earliest<const N: usize>(ends: [Option<Timestamp>; N]) -> Option<Timestamp> {
    ends.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_set::tests::grant;

    const DAY: u64 = 24 * 3600;

    fn profile(refresh: &str) -> Profile {
        let text = format!(
            "strategy = \"x\"\ndisplay_name = \"X\"\nclient_authentication = \"none\"\n[refresh]\n{refresh}"
        );
        Profile::read(&text).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    struct Case {
        refresh: &'static str,
        said: Option<u64>,
        before: Option<u64>,
        days_since: u64,
        end: Option<u64>,
        kept_alive: bool,
    }

    #[test]
    fn the_first_end_counts_and_is_put_off_where_that_helps() {
        for case in [
            // Nobody says anything.
            Case {
                refresh: "",
                said: None,
                before: None,
                days_since: 0,
                end: None,
                kept_alive: false,
            },
            // 90 days without use.
            Case {
                refresh: "idle_lifetime = 7776000",
                said: None,
                before: None,
                days_since: 0,
                end: Some(90),
                kept_alive: true,
            },
            // The provider gives a new 60 days with every refresh.
            Case {
                refresh: "",
                said: Some(60),
                before: None,
                days_since: 0,
                end: Some(60),
                kept_alive: true,
            },
            Case {
                refresh: "",
                said: Some(60),
                before: Some(20),
                days_since: 40,
                end: Some(60),
                kept_alive: true,
            },
            // The provider counts down: a refresh puts nothing off.
            Case {
                refresh: "",
                said: Some(20),
                before: Some(20),
                days_since: 40,
                end: Some(20),
                kept_alive: false,
            },
            // It said so once and is silent now.
            Case {
                refresh: "",
                said: None,
                before: Some(20),
                days_since: 40,
                end: Some(20),
                kept_alive: false,
            },
            // A year at most, whatever happens.
            Case {
                refresh: "absolute_lifetime = 31536000",
                said: None,
                before: None,
                days_since: 0,
                end: Some(365),
                kept_alive: false,
            },
            Case {
                refresh: "idle_lifetime = 7776000\nabsolute_lifetime = 31536000",
                said: None,
                before: None,
                days_since: 0,
                end: Some(90),
                kept_alive: true,
            },
            Case {
                refresh: "idle_lifetime = 7776000\nabsolute_lifetime = 31536000",
                said: None,
                before: Some(50),
                days_since: 300,
                end: Some(65),
                kept_alive: false,
            },
        ] {
            let profile = profile(case.refresh);
            let facts = Facts {
                account_id: "cac_1",
                connected_at: now()
                    - SignedDuration::from_hours(24 * i64::try_from(case.days_since).unwrap()),
                before: case.before.map(|days| after(now(), days * DAY)),
                said: case.said.map(|days| days * DAY),
                now: now(),
            };
            let ends = facts.ends(
                &profile,
                RefreshClass::Rotating,
                &grant(Some("r"), Some(3600)),
            );
            let what = (case.refresh, case.said, case.before, case.days_since);
            assert_eq!(
                ends.authorization,
                case.end.map(|days| after(now(), days * DAY)),
                "{what:?}"
            );
            assert_eq!(ends.keep_alive.is_some(), case.kept_alive, "{what:?}");
        }
    }

    #[test]
    fn without_a_refresh_token_the_access_token_is_all_there_is() {
        let ends = Ends::of_grant(
            "cac_1",
            &profile(""),
            RefreshClass::None,
            &grant(None, Some(3600)),
            None,
            now(),
        );
        assert_eq!(ends.authorization, Some(after(now(), 3600)));
        assert_eq!(ends.keep_alive, None);
        let ends = Ends::of_grant(
            "cac_1",
            &profile(""),
            RefreshClass::Renewal,
            &grant(None, Some(60 * DAY)),
            None,
            now(),
        );
        assert_eq!(ends.authorization, Some(after(now(), 60 * DAY)));
        assert!(ends.keep_alive.is_some());
    }

    #[test]
    fn f_14_accounts_of_one_moment_are_kept_alive_at_different_times() {
        let profile = profile("idle_lifetime = 1000000");
        let mut buckets = [0; 10];
        for number in 0..10_000 {
            let ends = Ends::of_grant(
                &format!("cac_{number}"),
                &profile,
                RefreshClass::Stable,
                &grant(Some("r"), Some(3600)),
                None,
                now(),
            );
            let way = ends.keep_alive.unwrap().duration_since(now()).as_secs();
            assert!((600_000..=800_000).contains(&way), "{way}");
            buckets[usize::try_from((way - 600_000) / 20_001).unwrap()] += 1;
        }
        assert!(
            buckets.iter().all(|count| (700..=1300).contains(count)),
            "{buckets:?}"
        );
    }
}
