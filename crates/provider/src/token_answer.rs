//! A provider's token answer, read strictly: it comes from outside and ends up in headers of other people's requests.
//!
//! Where things are is the profile's to say ([`crate::profile::Answer`]); what they may look like is said here.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use seal::SecretString;
use serde_json::Value;

use crate::failure::{Failure, FailureKind};
use crate::identity::{Reference, Source, readable};
use crate::profile::{Answer, ErrorClass, FurtherToken, Profile, VariableSource};
use crate::settings::ConnectionOptions;

/// What a token endpoint gave (RFC 6749 §5.1).
#[derive(Debug)]
pub struct TokenAnswer {
    /// The access token.
    pub access_token: SecretString,
    /// The refresh token, where there is a new one.
    pub refresh_token: Option<SecretString>,
    /// The ID token of an OpenID Connect provider.
    pub id_token: Option<SecretString>,
    /// Seconds that the access token lives; None where neither provider nor connection says.
    pub expires_in: Option<u64>,
    /// Whether that is not the provider's word.
    pub(crate) lifetime_is_assumed: bool,
    /// Seconds that the refresh token lives, where the provider says.
    pub refresh_token_expires_in: Option<u64>,
    /// What was granted; None where the answer does not say, which means what was asked for.
    pub scopes: Option<Vec<String>>,
    /// Further tokens of the same grant.
    pub further: Vec<FurtherAnswer>,
    /// The further token that stands for the whole, where the grant has nothing else.
    pub stands_for_whole: Option<String>,
    /// What the profile's variables learned from this answer.
    pub variables: BTreeMap<String, String>,
    /// What the answer says of the account, by JSON pointer. Never a token.
    pub(crate) facts: BTreeMap<String, String>,
}

impl TokenAnswer {
    /// Takes the tokens of a later answer; what the first said of the grant stays.
    pub(crate) fn take_over(&mut self, later: Self) {
        self.access_token = later.access_token;
        self.expires_in = later.expires_in;
        self.lifetime_is_assumed = later.lifetime_is_assumed;
        self.refresh_token = later.refresh_token.or(self.refresh_token.take());
        if later.scopes.is_some() {
            self.scopes = later.scopes;
        }
    }

    /// An access token and nothing else.
    pub fn of(access_token: SecretString) -> Self {
        Self {
            access_token,
            refresh_token: None,
            id_token: None,
            expires_in: None,
            lifetime_is_assumed: false,
            refresh_token_expires_in: None,
            scopes: None,
            further: Vec::new(),
            stands_for_whole: None,
            variables: BTreeMap::new(),
            facts: BTreeMap::new(),
        }
    }
}

/// A further token of the same grant.
#[derive(Debug)]
pub struct FurtherAnswer {
    /// The profile's name for it.
    pub name: String,
    /// The access token.
    pub access_token: SecretString,
    /// Its own refresh token, where it has one.
    pub refresh_token: Option<SecretString>,
    /// Seconds that it lives.
    pub expires_in: Option<u64>,
    /// What it is good for, with the profile's prefix.
    pub scopes: Vec<String>,
}

/// What a lifetime of zero or less is taken for, and the longest that is believed of an access token, in seconds
/// (threats EX-28).
const NO_LIFE_MEANS: u64 = 60;
const LONGEST_LIFE: u64 = 365 * 24 * 3600;
/// The longest that is believed of a refresh token.
const LONGEST_REFRESH_LIFE: u64 = 10 * LONGEST_LIFE;
const MAX_SCOPES: usize = 500;
/// From here on a number is milliseconds since 1970: as seconds it would lie beyond the year 5000.
const MILLISECONDS_FROM: f64 = 1e11;

/// Reads the body of an answer with the given status. `further` is the further token that was refreshed, where it was
/// not the grant's first.
pub(crate) fn read(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    profile: &Profile,
    options: &ConnectionOptions,
    further: Option<&FurtherToken>,
    now: Timestamp,
) -> Result<TokenAnswer, Failure> {
    let invalid = |detail| Failure::new(FailureKind::InvalidResponse, detail).with_status(status);
    let document = oauth::json::parse(body).filter(Value::is_object);
    let Some(mut document) = document else {
        return Err(if status >= 400 {
            refusal(status, retry_after, &[], profile)
        } else {
            invalid("the token answer is not the JSON object it should be")
        });
    };
    let places = &profile.answer;
    let codes = codes(&document, places);
    let unsuccessful = places
        .success
        .as_ref()
        .is_some_and(|pointer| document.pointer(pointer) != Some(&Value::Bool(true)));
    if status >= 400 || unsuccessful || has_error(&document, places) {
        return Err(refusal(status, retry_after, &codes, profile));
    }
    if status != 200 && status != 201 {
        return Err(invalid("the token answer has an unexpected status"));
    }
    let variables = learned(&document, profile);
    let facts = facts(&document, profile);
    let mut root = match document.pointer_mut(&places.root) {
        Some(root) => root.take(),
        None => Value::Null,
    };
    let mut others = Vec::new();
    for token in &places.further {
        let Some(mut part) = root.pointer_mut(&token.at).map(Value::take) else {
            continue;
        };
        let usual = Answer::default();
        let Some(access_token) = take_token(&mut part, &usual.access_token, status)? else {
            continue;
        };
        others.push(FurtherAnswer {
            name: token.name.clone(),
            access_token,
            refresh_token: take_token(&mut part, &usual.refresh_token, status)?,
            expires_in: lifetime(
                &part,
                &usual.expires_in,
                &usual.expires_at,
                LONGEST_LIFE,
                now,
            )
            .map_err(|()| invalid("a lifetime is not a number"))?
            .or(places.assumed_lifetime),
            scopes: prefixed(
                scopes(&part, &usual.scope)
                    .map_err(invalid)?
                    .unwrap_or_default(),
                &token.scope_prefix,
            ),
        });
    }
    let access_token = take_token(&mut root, &places.access_token, status)?;
    let refresh_token = take_token(&mut root, &places.refresh_token, status)?;
    let id_token = take_token(&mut root, &places.id_token, status)?;
    let prefix = further.map_or("", |token| &token.scope_prefix);
    let granted = scopes(&root, &places.scope)
        .map_err(invalid)?
        .map(|granted| prefixed(granted, prefix));
    let said = lifetime(
        &root,
        &places.expires_in,
        &places.expires_at,
        LONGEST_LIFE,
        now,
    )
    .map_err(|()| invalid("a lifetime is not a number"))?;
    let expires_in = said.or(options.assumed_lifetime(profile));
    let refresh_token_expires_in = lifetime(
        &root,
        &places.refresh_token_expires_in,
        &places.refresh_token_expires_at,
        LONGEST_REFRESH_LIFE,
        now,
    )
    .map_err(|()| invalid("a lifetime is not a number"))?
    // Zero is how some say that it has no end.
    .filter(|seconds| *seconds > NO_LIFE_MEANS);
    if !places.any_token_type
        && access_token.is_some()
        && root
            .get("token_type")
            .and_then(Value::as_str)
            .is_some_and(|named| !named.eq_ignore_ascii_case("bearer"))
    {
        return Err(invalid("the token is not a bearer token"));
    }
    // A grant may have nothing but a further token, as a Slack app that acts for its user alone.
    let (access_token, refresh_token, expires_in, scopes, stands_for_whole) = match access_token {
        Some(access_token) => (access_token, refresh_token, expires_in, granted, None),
        None if !others.is_empty() => {
            let first = others.remove(0);
            (
                first.access_token,
                first.refresh_token,
                first.expires_in,
                Some(first.scopes),
                Some(first.name),
            )
        }
        None => return Err(invalid("the token answer has no access token")),
    };
    Ok(TokenAnswer {
        access_token,
        refresh_token,
        id_token,
        expires_in,
        lifetime_is_assumed: said.is_none(),
        refresh_token_expires_in,
        scopes,
        further: others,
        stands_for_whole,
        variables,
        facts,
    })
}

/// The codes of an error answer, finest first.
pub(crate) fn codes(document: &Value, places: &Answer) -> Vec<String> {
    places
        .error_detail
        .iter()
        .chain(&places.error)
        .filter_map(|pointer| match document.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .filter(|code| !places.no_error.contains(code))
        .collect()
}

/// Whether anything is said where errors are said, of whatever type.
fn has_error(document: &Value, places: &Answer) -> bool {
    places
        .error
        .iter()
        .any(|pointer| match document.pointer(pointer) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty() && !places.no_error.contains(text),
            Some(Value::Number(number)) => !places.no_error.contains(&number.to_string()),
            Some(Value::Bool(said)) => *said,
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Object(members)) => !members.is_empty(),
        })
}

fn learned(document: &Value, profile: &Profile) -> BTreeMap<String, String> {
    profile
        .variables
        .iter()
        .filter(|(_, variable)| variable.from == VariableSource::TokenAnswer)
        .filter_map(|(name, variable)| {
            let own = format!("/{name}");
            let value = readable(document.pointer(variable.at.as_deref().unwrap_or(&own))?)?;
            variable
                .takes(&value)
                .then(|| (name.clone(), variable.normal(&value)))
        })
        .collect()
}

fn facts(document: &Value, profile: &Profile) -> BTreeMap<String, String> {
    profile
        .identity
        .references()
        .flat_map(Reference::parts)
        .filter(|part| part.source == Source::Token)
        .filter_map(|part| {
            let value = readable(document.pointer(&part.pointer)?)?;
            Some((part.pointer.clone(), value))
        })
        .collect()
}

/// Takes a token out of the answer, so that no copy of it stays behind unwiped.
fn take_token(
    root: &mut Value,
    pointers: &[String],
    status: u16,
) -> Result<Option<SecretString>, Failure> {
    let invalid =
        |detail| Err(Failure::new(FailureKind::InvalidResponse, detail).with_status(status));
    for pointer in pointers {
        match root.pointer_mut(pointer).map(Value::take) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text)) => {
                let token = SecretString::new(text);
                return if is_token(token.reveal()) {
                    Ok(Some(token))
                } else {
                    invalid("a token holds characters that no token has")
                };
            }
            Some(_) => return invalid("a token is not a text"),
        }
    }
    Ok(None)
}

fn prefixed(scopes: Vec<String>, prefix: &str) -> Vec<String> {
    scopes
        .into_iter()
        .map(|scope| format!("{prefix}{scope}"))
        .collect()
}

fn scopes(root: &Value, pointers: &[String]) -> Result<Option<Vec<String>>, &'static str> {
    const MALFORMED: &str = "the scopes of the token answer are malformed";
    let Some(value) = first(root, pointers) else {
        return Ok(None);
    };
    let words: Vec<String> = match value {
        Value::String(text) => text
            .split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or(MALFORMED))
            .collect::<Result<_, _>>()?,
        _ => return Err(MALFORMED),
    };
    if words.len() > MAX_SCOPES || !words.iter().all(|word| is_scope(word)) {
        return Err(MALFORMED);
    }
    Ok(Some(words).filter(|words| !words.is_empty()))
}

fn first<'a>(root: &'a Value, pointers: &[String]) -> Option<&'a Value> {
    pointers
        .iter()
        .filter_map(|pointer| root.pointer(pointer))
        .find(|value| !value.is_null())
}

/// Seconds of life, from a number of seconds or from the time of its end.
fn lifetime(
    root: &Value,
    within: &[String],
    at: &[String],
    longest: u64,
    now: Timestamp,
) -> Result<Option<u64>, ()> {
    if let Some(value) = first(root, within) {
        return Ok(Some(clamp(number(value)?, longest)));
    }
    let Some(value) = first(root, at) else {
        return Ok(None);
    };
    let end = match value {
        Value::String(text) if text.contains('T') => {
            let time: Timestamp = text.parse().map_err(|_| ())?;
            time.as_second() as f64
        }
        other => {
            let number = number(other)?;
            if number >= MILLISECONDS_FROM {
                number / 1000.0
            } else {
                number
            }
        }
    };
    Ok(Some(clamp(end - now.as_second() as f64, longest)))
}

fn number(value: &Value) -> Result<f64, ()> {
    match value {
        Value::Number(number) => number.as_f64().ok_or(()),
        Value::String(text) => text
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .ok_or(()),
        _ => Err(()),
    }
}

fn clamp(seconds: f64, longest: u64) -> u64 {
    let whole = seconds.floor();
    if whole >= longest as f64 {
        longest
    } else if whole <= 0.0 {
        NO_LIFE_MEANS
    } else {
        whole as u64
    }
}

/// Whether a text can be a token: what breaks a header must not be handed on (threats EX-29).
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Whether a word can be one of a provider's scopes.
pub fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.len() <= 1024 && word.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}

/// What an error answer means. Only what providers say of a grant itself is definite; the rest is our configuration,
/// their trouble, or nothing that can be understood.
fn refusal(
    status: u16,
    retry_after: Option<Duration>,
    codes: &[String],
    profile: &Profile,
) -> Failure {
    // A server error may say anything and mean nothing (threats UP-11), unless the provider is known for it.
    let believed = status < 500 || profile.answer.errors_are_server_errors;
    let known = codes
        .iter()
        .filter(|_| believed)
        .find_map(|code| Some((code, *profile.errors.get(code)?)));
    let error = known.map(|(code, _)| code).or(codes.last());
    let (kind, detail) = match (known, status, codes.last().map(String::as_str)) {
        (Some((_, class)), _, _) => match class {
            ErrorClass::ClientMisconfigured => (
                FailureKind::ClientMisconfigured,
                "the provider refused this vault as its client",
            ),
            ErrorClass::OutcomeUnknown => (FailureKind::OutcomeUnknown, "the provider failed"),
            ErrorClass::ProviderUnavailable => {
                (FailureKind::Unavailable, "the provider is unavailable")
            }
            ErrorClass::RateLimited => (
                FailureKind::RateLimited { retry_after },
                "the provider limits requests",
            ),
            ErrorClass::ReauthorizationRequired => (
                FailureKind::ReauthorizationRequired,
                "the provider does not accept the grant any more",
            ),
            ErrorClass::ScopeMissing => (
                FailureKind::ScopeMissing,
                "the grant does not cover the scopes asked for",
            ),
        },
        (None, 429, _) => (
            FailureKind::RateLimited { retry_after },
            "the provider limits requests",
        ),
        (None, 503, _) => match retry_after {
            Some(_) => (
                FailureKind::RateLimited { retry_after },
                "the provider asks to wait",
            ),
            None => (FailureKind::Unavailable, "the provider is unavailable"),
        },
        (None, 500.., _) if !believed => (FailureKind::OutcomeUnknown, "the provider failed"),
        (None, _, Some("invalid_grant")) => (
            FailureKind::ReauthorizationRequired,
            "the provider does not accept the grant any more",
        ),
        (None, _, Some("invalid_scope")) => (
            FailureKind::ScopeMissing,
            "the grant does not cover the scopes asked for",
        ),
        (
            None,
            _,
            Some(
                "invalid_client"
                | "invalid_request"
                | "unauthorized_client"
                | "unsupported_grant_type",
            ),
        ) => (
            FailureKind::ClientMisconfigured,
            "the provider refused this vault as its client",
        ),
        (None, _, Some("server_error" | "temporarily_unavailable")) => {
            (FailureKind::Unavailable, "the provider is unavailable")
        }
        (None, 401 | 403 | 404 | 405, None) => (
            FailureKind::ClientMisconfigured,
            "the provider's token endpoint refused the request",
        ),
        (None, 500.., _) => (FailureKind::OutcomeUnknown, "the provider failed"),
        _ => (
            FailureKind::InvalidResponse,
            "the provider gave an error that is not understood",
        ),
    };
    Failure::new(kind, detail)
        .with_status(status)
        .with_provider_error(error.map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    const NOW: i64 = 1_800_000_000;

    fn read_as(profile: &Profile, status: u16, body: &str) -> Result<TokenAnswer, Failure> {
        read(
            status,
            None,
            body.as_bytes(),
            profile,
            &ConnectionOptions::default(),
            None,
            Timestamp::from_second(NOW).unwrap(),
        )
    }

    fn answer(status: u16, body: &str) -> Result<TokenAnswer, Failure> {
        read_as(
            Catalogue::built_in().unwrap().get("oauth2").unwrap(),
            status,
            body,
        )
    }

    /// A profile with this written into its file.
    fn with(fields: &str) -> Profile {
        Profile::read(&format!(
            "strategy = \"p\"\ndisplay_name = \"P\"\nclient_authentication = \"client_secret_post\"\n{fields}"
        ))
        .unwrap()
    }

    fn kind(status: u16, body: &str) -> FailureKind {
        answer(status, body).unwrap_err().kind
    }

    #[test]
    fn an_ordinary_answer() {
        let answer = answer(
            200,
            r#"{"access_token":"a","refresh_token":"r","token_type":"bearer","expires_in":3599,
                "scope":"a b,c","refresh_token_expires_in":"86400","extra":{"x":[1]}}"#,
        )
        .unwrap();
        assert_eq!(answer.access_token.reveal(), "a");
        assert_eq!(answer.refresh_token.unwrap().reveal(), "r");
        assert_eq!(answer.expires_in, Some(3599));
        assert_eq!(answer.refresh_token_expires_in, Some(86_400));
        assert_eq!(answer.scopes.unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn ex_28_lifetimes_are_clamped() {
        for (text, expected) in [
            ("0", Some(60)),
            ("-5", Some(60)),
            ("5", Some(5)),
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("3600.5", Some(3600)),
            ("9223372036854775808", Some(LONGEST_LIFE)),
            ("1e300", Some(LONGEST_LIFE)),
            ("null", None),
        ] {
            let body = format!(r#"{{"access_token":"a","expires_in":{text}}}"#);
            assert_eq!(answer(200, &body).unwrap().expires_in, expected, "{text}");
        }
        assert_eq!(
            kind(200, r#"{"access_token":"a","expires_in":"soon"}"#),
            FailureKind::InvalidResponse
        );
    }

    #[test]
    fn ex_29_up_05_up_07_up_08_broken_answers() {
        for body in [
            r#"{"access_token":"a\r\nb"}"#,
            r#"{"access_token":"a\u0000"}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":null}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":"a","access_token":"b"}"#,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
            r#"{"access_token":"a","scope":"a\u0007b"}"#,
            r#"{"access_token":"a","scope":{"x":1}}"#,
            r#"{"ok":false}"#,
            "<html>",
            "",
            "[]",
        ] {
            assert_eq!(kind(200, body), FailureKind::InvalidResponse, "{body}");
        }
        let deep = format!(r#"{{"access_token":"a","x":{}"#, "[".repeat(10_000));
        assert_eq!(kind(200, &deep), FailureKind::InvalidResponse);
        assert_eq!(
            kind(204, r#"{"access_token":"a"}"#),
            FailureKind::InvalidResponse
        );
        let quoted = answer(200, r#"{"access_token":"a\"b\\c"}"#).unwrap();
        assert_eq!(quoted.access_token.reveal(), "a\"b\\c");
        let array = answer(200, r#"{"access_token":"a","scope":["x","y"]}"#).unwrap();
        assert_eq!(array.scopes.unwrap(), ["x", "y"]);
    }

    #[test]
    fn up_11_what_an_error_means() {
        use FailureKind::{
            ClientMisconfigured, InvalidResponse, OutcomeUnknown, ReauthorizationRequired,
            Unavailable,
        };
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant"}"#, ReauthorizationRequired),
            (401, r#"{"error":"invalid_grant"}"#, ReauthorizationRequired),
            (
                200,
                r#"{"error":"invalid_grant","access_token":"a"}"#,
                ReauthorizationRequired,
            ),
            (500, r#"{"error":"invalid_grant"}"#, OutcomeUnknown),
            (401, r#"{"error":"invalid_client"}"#, ClientMisconfigured),
            (400, r#"{"error":"invalid_client"}"#, ClientMisconfigured),
            (400, r#"{"error":"temporarily_unavailable"}"#, Unavailable),
            (400, r#"{"error":{"code":1}}"#, InvalidResponse),
            (400, "nonsense", InvalidResponse),
            (401, "", ClientMisconfigured),
            (503, "<html>", Unavailable),
            (502, "", OutcomeUnknown),
            (302, r#"{"access_token":"a"}"#, InvalidResponse),
        ] {
            assert_eq!(kind(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn an_answer_is_read_where_the_profile_says() {
        let profile = with(
            r#"[answer]
            root = "/data"
            access_token = ["/token"]
            scope = ["/granted"]
            expires_in = []
            expires_at = ["/ends"]
            refresh_token_expires_at = ["/refresh_ends"]
            [variables.instance_url]
            description = "x"
            from = "token_answer"
            at = "/data/instance"
            kind = "url"
            suffixes = [".p.example"]"#,
        );
        let body = format!(
            r#"{{"data":{{"token":"t","granted":["a"],"ends":{},"refresh_ends":"2027-01-25T08:00:00Z",
                "instance":"https://x.p.example/"}}}}"#,
            (NOW + 100) * 1000
        );
        let answer = read_as(&profile, 200, &body).unwrap();
        assert_eq!(answer.access_token.reveal(), "t");
        assert_eq!(answer.scopes.unwrap(), ["a"]);
        assert_eq!(answer.expires_in, Some(100));
        assert_eq!(answer.refresh_token_expires_in, Some(864_000));
        assert_eq!(answer.variables["instance_url"], "https://x.p.example");
        let elsewhere = body.replace("x.p.example", "x.evil.example");
        assert!(
            read_as(&profile, 200, &elsewhere)
                .unwrap()
                .variables
                .is_empty()
        );
    }

    #[test]
    fn one_grant_may_have_several_tokens_or_only_a_further_one() {
        let profile = with(
            r#"[answer]
            success = "/ok"
            any_token_type = true
            [[answer.further]]
            name = "user"
            at = "/authed_user"
            scope_prefix = "user:""#,
        );
        let user = r#""authed_user":{"id":"U1","access_token":"u","refresh_token":"ur","scope":"a,b","expires_in":5}"#;
        let both =
            format!(r#"{{"ok":true,"access_token":"b","token_type":"bot","scope":"c",{user}}}"#);
        let answer = read_as(&profile, 200, &both).unwrap();
        assert_eq!(answer.access_token.reveal(), "b");
        assert_eq!(answer.further[0].scopes, ["user:a", "user:b"]);
        assert_eq!(
            answer.further[0].refresh_token.as_ref().unwrap().reveal(),
            "ur"
        );
        let alone = read_as(&profile, 200, &format!(r#"{{"ok":true,{user}}}"#)).unwrap();
        assert_eq!(alone.access_token.reveal(), "u");
        assert_eq!(alone.refresh_token.unwrap().reveal(), "ur");
        assert_eq!(alone.scopes.unwrap(), ["user:a", "user:b"]);
        assert!(alone.further.is_empty());
        let failed = read_as(&profile, 200, &both.replace("true", "false")).unwrap_err();
        assert_eq!(failed.kind, FailureKind::InvalidResponse);
    }

    #[test]
    fn a_provider_has_its_own_words_for_errors() {
        let profile = with(
            r#"errors = { bad_refresh_token = "reauthorization_required", 7000222 = "client_misconfigured", slow_down = "rate_limited" }
            [answer]
            error_detail = ["/error_codes/0"]
            no_error = ["0"]"#,
        );
        let kind = |status, body: &str| read_as(&profile, status, body).unwrap_err().kind;
        assert_eq!(
            kind(200, r#"{"error":"bad_refresh_token"}"#),
            FailureKind::ReauthorizationRequired
        );
        // A finer code says that it is our secret and not the user's grant.
        assert_eq!(
            kind(401, r#"{"error":"invalid_grant","error_codes":[7000222]}"#),
            FailureKind::ClientMisconfigured
        );
        assert_eq!(
            kind(400, r#"{"error":"slow_down"}"#),
            FailureKind::RateLimited { retry_after: None }
        );
        assert_eq!(
            kind(500, r#"{"error":"bad_refresh_token"}"#),
            FailureKind::OutcomeUnknown
        );
        assert!(read_as(&profile, 200, r#"{"error":0,"access_token":"a"}"#).is_ok());
        let loud = with("[answer]\nerrors_are_server_errors = true");
        assert_eq!(
            read_as(&loud, 500, r#"{"error":"invalid_grant"}"#)
                .unwrap_err()
                .kind,
            FailureKind::ReauthorizationRequired
        );
    }
}
