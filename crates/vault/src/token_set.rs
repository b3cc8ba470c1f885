//! The token set of a connected account: what the provider gave, with its times. Sealed at rest as one record.
//!
//! A grant has one token for the whole of it, and may have others beside: further tokens that came with it, each with a
//! refresh token of its own (Slack's user beside its bot), and narrow ones, made from the whole's refresh token for one
//! resource or for fewer scopes (Entra ID's resources, RFC 6749 §6).

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use provider::{Profile, TokenAnswer};
use seal::{Purpose, RecordContext, SecretBytes, SecretString};
use serde::{Deserialize, Serialize};

use crate::{Error, Settings, Vault};

/// The most narrow tokens that are kept; the oldest makes room.
const MOST_NARROW: usize = 16;

/// Which of an account's access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A further token of the grant, by the profile's name for it.
    Further(String),
    /// One for these scopes alone.
    Narrow(BTreeSet<String>),
    /// The one that stands for the grant.
    Whole,
}

/// An access token, and what it takes to get the next one.
pub(crate) struct Token {
    pub(crate) access_token: SecretString,
    /// None for a narrow token, which comes of the whole's, and where the provider gives none.
    pub(crate) refresh_token: Option<SecretString>,
    /// What it is good for; None where that is what the account was granted.
    pub(crate) scopes: Option<Vec<String>>,
    /// When the provider answered.
    pub(crate) issued_at: Timestamp,
    /// When the access token ends; None where the provider names no end.
    pub(crate) expires_at: Option<Timestamp>,
    /// The account's generation with which it came: a later token has a greater one.
    pub(crate) since: u64,
    /// For the whole: the further token that it is, where the grant has nothing else.
    pub(crate) stands_in: Option<String>,
}

/// The provider's tokens. Opened only inside a flow that hands them out, refreshes them or gives them back.
pub(crate) struct TokenSet {
    pub(crate) whole: Token,
    others: Vec<(Target, Token)>,
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
    /// With more life than this the provider refuses to refresh.
    pub(crate) not_before: Option<Duration>,
}

/// Life that is left to a token whose refresh kills copies of it: long enough for a request that begins with it.
const LAST_MOMENT: Duration = Duration::from_secs(10);

impl Margins {
    /// Those of a provider. `account_id` spreads the accounts over the time before the margin, so that a thousand
    /// tokens of the same minute are not refreshed in the same second (threats F-14).
    pub(crate) fn of(settings: &Settings, profile: &Profile, account_id: &str) -> Self {
        let refresh = &profile.refresh;
        let stale = refresh
            .margin
            .map_or(settings.refresh_margin, Duration::from_secs);
        let not_before = refresh.not_before.map(Duration::from_secs);
        if refresh.invalidates_access_token {
            return Self {
                stale: stale.min(LAST_MOMENT),
                ageing: Duration::ZERO,
                not_before,
            };
        }
        let ahead = settings.refresh_ahead.saturating_sub(stale);
        Self {
            stale,
            ageing: stale + ahead.mul_f64(0.25 + 0.75 * spread(account_id)),
            not_before,
        }
    }
}

/// A number from 0 to 1 that is an account's own and never changes.
pub(crate) fn spread(account_id: &str) -> f64 {
    // FNV-1a, and MurmurHash3's last step to spread ids that differ little: the same on every node and in every release.
    let mut hash = account_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    f64::from(hash) / f64::from(u32::MAX)
}

#[derive(Serialize)]
struct Stored<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    further: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    narrow: Option<&'a BTreeSet<String>>,
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<&'a [String]>,
    issued_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stands_in: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Stored<'a>>,
}

#[derive(Deserialize)]
struct Opened {
    further: Option<String>,
    narrow: Option<BTreeSet<String>>,
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    scopes: Option<Vec<String>>,
    issued_at: i64,
    expires_at: Option<i64>,
    // Sets of the first release have none of these.
    #[serde(default)]
    since: u64,
    stands_in: Option<String>,
    #[serde(default)]
    others: Vec<Opened>,
}

impl Token {
    fn stored<'a>(&'a self, target: &'a Target, others: Vec<Stored<'a>>) -> Stored<'a> {
        Stored {
            further: match target {
                Target::Further(name) => Some(name),
                Target::Narrow(_) | Target::Whole => None,
            },
            narrow: match target {
                Target::Narrow(scopes) => Some(scopes),
                Target::Further(_) | Target::Whole => None,
            },
            access_token: self.access_token.reveal(),
            refresh_token: self.refresh_token.as_ref().map(SecretString::reveal),
            scopes: self.scopes.as_deref(),
            issued_at: self.issued_at.as_microsecond(),
            expires_at: self.expires_at.map(Timestamp::as_microsecond),
            since: self.since,
            stands_in: self.stands_in.as_deref(),
            others,
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
        if margins.not_before.is_some_and(|most| left > signed(most)) {
            return Freshness::Fresh;
        }
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

    /// How long the access token was given for, where it has an end.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        self.expires_at
            .map(|end| positive(end.duration_since(self.issued_at)))
    }
}

/// An answer on its way into a set.
pub(crate) struct Arrival {
    /// What was asked for.
    pub(crate) target: Target,
    /// The generation of the set that it will be in.
    pub(crate) generation: u64,
    /// When it came.
    pub(crate) at: Timestamp,
    /// Whether the tokens from before end with it.
    pub(crate) ends_others: bool,
}

impl TokenSet {
    /// The set of a fresh grant.
    pub(crate) fn of_grant(answer: TokenAnswer, now: Timestamp) -> Self {
        const FIRST: u64 = 1;
        let mut set = Self {
            whole: Token {
                access_token: answer.access_token,
                refresh_token: answer.refresh_token,
                scopes: answer.scopes,
                issued_at: now,
                expires_at: answer.expires_in.map(|seconds| after(now, seconds)),
                since: FIRST,
                stands_in: answer.stands_for_whole,
            },
            others: Vec::new(),
        };
        set.take_further(answer.further, FIRST, now);
        set
    }

    /// The generation of the account that a fresh grant comes with.
    pub(crate) fn begin_at(&mut self, generation: u64) {
        self.whole.since = generation;
        for (_, token) in &mut self.others {
            token.since = generation;
        }
    }

    /// The set that an answer to a refresh makes of the one before: an answer without a refresh token keeps the old one
    /// (RFC 6749 §6).
    pub(crate) fn renewed(mut self, answer: TokenAnswer, arrival: Arrival) -> Self {
        let Arrival {
            target,
            generation,
            at,
            ends_others,
        } = arrival;
        if ends_others {
            self.others
                .retain(|(target, _)| matches!(target, Target::Further(_)));
        }
        self.take_further(answer.further, generation, at);
        let mut token = Token {
            access_token: answer.access_token,
            refresh_token: answer.refresh_token,
            scopes: answer.scopes,
            issued_at: at,
            expires_at: answer.expires_in.map(|seconds| after(at, seconds)),
            since: generation,
            stands_in: None,
        };
        match &target {
            Target::Whole => {
                token.refresh_token = token.refresh_token.or(self.whole.refresh_token);
                token.scopes = token.scopes.or(self.whole.scopes);
                token.stands_in = self.whole.stands_in;
                self.whole = token;
            }
            Target::Narrow(scopes) => {
                if let Some(next) = token.refresh_token.take() {
                    self.whole.refresh_token = Some(next);
                }
                // RFC 6749 §5.1: an answer that does not say gave what was asked for.
                token.scopes = token
                    .scopes
                    .or_else(|| Some(scopes.iter().cloned().collect()));
                self.put(target, token);
            }
            Target::Further(_) => {
                if let Some(before) = self.take(&target) {
                    token.refresh_token = token.refresh_token.or(before.refresh_token);
                    token.scopes = token.scopes.or(before.scopes);
                }
                self.put(target, token);
            }
        }
        self.forget_old(at);
        self
    }

    fn take_further(
        &mut self,
        further: Vec<provider::FurtherAnswer>,
        generation: u64,
        now: Timestamp,
    ) {
        for answer in further {
            let token = Token {
                access_token: answer.access_token,
                refresh_token: answer.refresh_token,
                scopes: Some(answer.scopes),
                issued_at: now,
                expires_at: answer.expires_in.map(|seconds| after(now, seconds)),
                since: generation,
                stands_in: None,
            };
            self.put(Target::Further(answer.name), token);
        }
    }

    fn take(&mut self, target: &Target) -> Option<Token> {
        let place = self.others.iter().position(|(known, _)| known == target)?;
        Some(self.others.remove(place).1)
    }

    fn put(&mut self, target: Target, token: Token) {
        self.take(&target);
        self.others.push((target, token));
    }

    /// Narrow tokens that have ended, and the oldest where there are too many.
    fn forget_old(&mut self, now: Timestamp) {
        let is_narrow = |target: &Target| matches!(target, Target::Narrow(_));
        self.others
            .retain(|(target, token)| !is_narrow(target) || token.is_alive(now));
        while self
            .others
            .iter()
            .filter(|(target, _)| is_narrow(target))
            .count()
            > MOST_NARROW
        {
            let Some(oldest) = self.others.iter().position(|(target, _)| is_narrow(target)) else {
                break;
            };
            self.others.remove(oldest);
        }
    }

    /// The token of a target, where there is one.
    pub(crate) fn get(&self, target: &Target) -> Option<&Token> {
        if *target == Target::Whole {
            return Some(&self.whole);
        }
        self.others
            .iter()
            .find(|(known, _)| known == target)
            .map(|(_, token)| token)
    }

    /// The refresh token that brings the next token of a target.
    pub(crate) fn refresh_token(&self, target: &Target) -> Option<&SecretString> {
        match target {
            Target::Whole | Target::Narrow(_) => self.whole.refresh_token.as_ref(),
            Target::Further(_) => self.get(target)?.refresh_token.as_ref(),
        }
    }

    /// The further tokens, by name.
    pub(crate) fn further(&self) -> impl Iterator<Item = (&str, &Token)> {
        self.others
            .iter()
            .filter_map(|(target, token)| match target {
                Target::Further(name) => Some((name.as_str(), token)),
                Target::Narrow(_) | Target::Whole => None,
            })
    }

    /// What the grant covers, as far as its tokens say: None where the whole's does not.
    pub(crate) fn scopes(&self) -> Option<Vec<String>> {
        let mut scopes = self.whole.scopes.clone()?;
        for (_, token) in self.further() {
            for scope in token.scopes.iter().flatten() {
                if !scopes.contains(scope) {
                    scopes.push(scope.clone());
                }
            }
        }
        Some(scopes)
    }

    pub(crate) fn seal(
        &self,
        vault: &Vault,
        account_id: &str,
        generation: u64,
    ) -> Result<Vec<u8>, Error> {
        self.seal_as(vault, &context(account_id, generation))
    }

    pub(crate) fn open(
        vault: &Vault,
        account_id: &str,
        generation: u64,
        sealed: &[u8],
    ) -> Result<Self, Error> {
        Self::open_as(vault, &context(account_id, generation), sealed)
    }

    /// Seals the set for another row than its account's.
    pub(crate) fn seal_as(
        &self,
        vault: &Vault,
        context: &RecordContext<'_>,
    ) -> Result<Vec<u8>, Error> {
        let others = self
            .others
            .iter()
            .map(|(target, token)| token.stored(target, Vec::new()))
            .collect();
        let stored = self.whole.stored(&Target::Whole, others);
        let plain = SecretBytes::new(serde_json::to_vec(&stored)?);
        Ok(vault.ring.seal(
            vault.entropy.as_ref(),
            Purpose::Record,
            context,
            plain.reveal(),
        )?)
    }

    pub(crate) fn open_as(
        vault: &Vault,
        context: &RecordContext<'_>,
        sealed: &[u8],
    ) -> Result<Self, Error> {
        let plain = vault.ring.open(Purpose::Record, context, sealed)?;
        let mut opened: Opened = serde_json::from_slice(plain.reveal())?;
        let others = std::mem::take(&mut opened.others)
            .into_iter()
            .filter_map(|other| {
                let target = match (&other.further, &other.narrow) {
                    (Some(name), _) => Target::Further(name.clone()),
                    (None, Some(scopes)) => Target::Narrow(scopes.clone()),
                    (None, None) => return None,
                };
                Some((target, other.into()))
            })
            .collect();
        Ok(Self {
            whole: opened.into(),
            others,
        })
    }
}

impl From<Opened> for Token {
    fn from(opened: Opened) -> Self {
        let instant =
            |microseconds: i64| Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MIN);
        Self {
            access_token: opened.access_token,
            refresh_token: opened.refresh_token,
            scopes: opened.scopes,
            issued_at: instant(opened.issued_at),
            expires_at: opened.expires_at.map(instant),
            since: opened.since,
            stands_in: opened.stands_in,
        }
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
pub(crate) mod tests {
    use super::*;

    /// A set with one access token of `lifetime` seconds.
    pub(crate) fn grant(refresh_token: Option<&str>, lifetime: Option<u64>) -> TokenSet {
        let (mut whole, _) = token(lifetime);
        whole.refresh_token = refresh_token.map(|text| SecretString::new(text.to_owned()));
        TokenSet {
            whole,
            others: Vec::new(),
        }
    }

    const MARGINS: Margins = Margins {
        stale: Duration::from_secs(30),
        ageing: Duration::from_secs(120),
        not_before: None,
    };

    fn token(lifetime: Option<u64>) -> (Token, Timestamp) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let token = Token {
            access_token: SecretString::new("a".to_owned()),
            refresh_token: None,
            issued_at: now,
            expires_at: lifetime.map(|seconds| after(now, seconds)),
            scopes: None,
            since: 1,
            stands_in: None,
        };
        (token, now)
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
            let (token, start) = token(Some(lifetime));
            assert_eq!(
                token.freshness(
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
        let (token, start) = token(None);
        assert_eq!(
            token.freshness(after(start, 1 << 40), MARGINS, Some(Duration::from_secs(9))),
            Freshness::Fresh
        );
        assert_eq!(token.seconds_left(start), None);
        assert!(token.is_alive(after(start, 1 << 40)));
    }

    #[test]
    fn seconds_left_are_whole_and_never_negative() {
        let (token, start) = token(Some(10));
        assert_eq!(token.seconds_left(start), Some(10));
        assert_eq!(token.seconds_left(after(start, 11)), Some(0));
        assert!(!token.is_alive(after(start, 10)));
    }

    fn answer(access_token: &str) -> TokenAnswer {
        let mut answer = TokenAnswer::of(SecretString::new(access_token.to_owned()));
        answer.expires_in = Some(3600);
        answer
    }

    fn narrow(scope: &str) -> Target {
        Target::Narrow(BTreeSet::from([scope.to_owned()]))
    }

    fn arrival(target: Target, generation: u64, ends_others: bool) -> Arrival {
        Arrival {
            target,
            generation,
            at: Timestamp::from_second(1_800_000_000).unwrap(),
            ends_others,
        }
    }

    #[test]
    fn a_refresh_token_is_kept_where_none_comes_and_replaced_where_one_does() {
        let set = grant(Some("first"), Some(3600));
        let set = set.renewed(answer("a2"), arrival(Target::Whole, 2, false));
        assert_eq!(set.whole.refresh_token.as_ref().unwrap().reveal(), "first");
        assert_eq!(
            (set.whole.access_token.reveal(), set.whole.since),
            ("a2", 2)
        );
        // A narrow token's answer speaks of the whole's refresh token.
        let mut rotated = answer("n1");
        rotated.refresh_token = Some(SecretString::new("second".to_owned()));
        let set = set.renewed(rotated, arrival(narrow("read"), 3, false));
        assert_eq!(set.whole.refresh_token.as_ref().unwrap().reveal(), "second");
        assert_eq!(set.whole.access_token.reveal(), "a2");
        let token = set.get(&narrow("read")).unwrap();
        assert_eq!(token.access_token.reveal(), "n1");
        assert_eq!(token.scopes.as_deref(), Some(&["read".to_owned()][..]));
        assert!(token.refresh_token.is_none());
    }

    #[test]
    fn narrow_tokens_are_bounded_and_end_where_a_refresh_ends_them() {
        let mut set = grant(Some("r"), Some(3600));
        for number in 0..MOST_NARROW + 5 {
            let target = narrow(&format!("scope-{number}"));
            let generation = u64::try_from(number).unwrap() + 2;
            set = set.renewed(answer("n"), arrival(target, generation, false));
        }
        assert_eq!(set.others.len(), MOST_NARROW);
        assert!(set.get(&narrow("scope-0")).is_none());
        assert!(set.get(&narrow("scope-20")).is_some());
        let set = set.renewed(answer("w"), arrival(Target::Whole, 30, true));
        assert!(set.others.is_empty());
    }

    #[test]
    fn a_set_of_the_first_release_opens() {
        let stored = r#"{"access_token":"a","refresh_token":"r","issued_at":1,"expires_at":2}"#;
        let opened: Opened = serde_json::from_str(stored).unwrap();
        let token = Token::from(opened);
        assert_eq!((token.since, token.scopes), (0, None));
    }

    #[test]
    fn f_14_accounts_are_spread_and_margins_follow_the_provider() {
        let profile = |refresh: &str| {
            let text = format!(
                "strategy = \"x\"\ndisplay_name = \"X\"\nclient_authentication = \"none\"\n[refresh]\n{refresh}"
            );
            Profile::read(&text).unwrap()
        };
        let settings = Settings::new(crate::Issuer::parse("https://vault.test/").unwrap(), "n");
        let seconds = |refresh: &str, id: &str| {
            let margins = Margins::of(&settings, &profile(refresh), id);
            (margins.stale.as_secs(), margins.ageing.as_secs())
        };
        let ageing: BTreeSet<u64> = (0..200)
            .map(|number| seconds("", &format!("cac_{number}")).1)
            .collect();
        assert!(ageing.len() > 40, "{ageing:?}");
        assert!(ageing.iter().all(|ageing| (52..=120).contains(ageing)));
        assert_eq!(seconds("margin = 60", "cac_1").0, 60);
        // No refresh before it is needed, where it ends what was handed out.
        assert_eq!(seconds("invalidates_access_token = true", "cac_1"), (10, 0));
    }

    #[test]
    fn a_provider_that_refuses_early_refreshes_is_not_asked_early() {
        let (token, start) = token(Some(600));
        let margins = Margins {
            not_before: Some(Duration::from_secs(30)),
            ..MARGINS
        };
        let wanted = Some(Duration::from_secs(500));
        assert_eq!(
            token.freshness(after(start, 300), margins, wanted),
            Freshness::Fresh
        );
        assert_eq!(
            token.freshness(after(start, 580), margins, wanted),
            Freshness::Stale
        );
    }
}
