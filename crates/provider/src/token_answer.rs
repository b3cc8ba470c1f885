//! A provider's token answer, read strictly: it comes from outside and ends up in headers of other people's requests.

use std::fmt;

use seal::SecretString;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use crate::failure::{Failure, FailureKind};
use crate::profile::Profile;
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
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds that the access token lives; None where neither provider nor connection says.
    pub expires_in: Option<u64>,
    /// Seconds that the refresh token lives, where the provider says.
    pub refresh_token_expires_in: Option<u64>,
    /// What was granted; None where the answer does not say, which means what was asked for.
    pub scopes: Option<Vec<String>>,
}

/// What a lifetime of zero or less is taken for, and the longest that is believed, in seconds (threats EX-28).
const NO_LIFE_MEANS: u64 = 60;
const LONGEST_LIFE: u64 = 365 * 24 * 3600;
const MAX_SCOPES: usize = 500;

#[derive(serde::Deserialize)]
struct Wire {
    access_token: Option<SecretString>,
    refresh_token: Option<SecretString>,
    id_token: Option<SecretString>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    #[serde(alias = "refresh_expires_in")]
    refresh_token_expires_in: Option<Seconds>,
    scope: Option<Words>,
    error: Option<ErrorCode>,
}

/// An `error` of any type; only text is looked at.
struct ErrorCode(Option<String>);

/// A number of seconds as providers write it: a number, perhaps with a fraction, or a number in quotes.
struct Seconds(f64);

/// A list in one text or as an array.
struct Words(Vec<String>);

/// Reads the body of an answer with the given status.
pub(crate) fn read(
    status: u16,
    body: &[u8],
    profile: &Profile,
    options: &ConnectionOptions,
) -> Result<TokenAnswer, Failure> {
    let invalid = |detail| Failure::new(FailureKind::InvalidResponse, detail).with_status(status);
    let wire: Wire = match serde_json::from_slice(body) {
        Ok(wire) => wire,
        Err(_) if status >= 400 => return Err(refusal(status, None, profile)),
        Err(_) => {
            return Err(invalid(
                "the token answer is not the JSON object it should be",
            ));
        }
    };
    if status >= 400 || wire.error.is_some() {
        let error = wire.error.and_then(|error| error.0);
        return Err(refusal(status, error.as_deref(), profile));
    }
    if status != 200 && status != 201 {
        return Err(invalid("the token answer has an unexpected status"));
    }
    let access_token = wire
        .access_token
        .filter(|token| !token.is_empty())
        .ok_or_else(|| invalid("the token answer has no access token"))?;
    let refresh_token = wire.refresh_token.filter(|token| !token.is_empty());
    for token in [
        Some(&access_token),
        refresh_token.as_ref(),
        wire.id_token.as_ref(),
    ]
    .into_iter()
    .flatten()
    {
        // What breaks a header must not be handed on (threats EX-29).
        if !token
            .reveal()
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte))
        {
            return Err(invalid("a token holds characters that no token has"));
        }
    }
    if wire
        .token_type
        .as_deref()
        .is_some_and(|named| !named.eq_ignore_ascii_case("bearer"))
    {
        return Err(invalid("the token is not a bearer token"));
    }
    let scopes = match wire.scope {
        None => None,
        Some(Words(words))
            if words.len() > MAX_SCOPES || !words.iter().all(|word| is_scope(word)) =>
        {
            return Err(invalid("the scopes of the token answer are malformed"));
        }
        Some(Words(words)) if words.is_empty() => None,
        Some(Words(words)) => Some(words),
    };
    Ok(TokenAnswer {
        access_token,
        refresh_token,
        id_token: wire.id_token.filter(|token| !token.is_empty()),
        token_type: "Bearer",
        expires_in: wire
            .expires_in
            .map(lifetime)
            .or(options.assumed_lifetime)
            .or(profile.assumed_lifetime),
        refresh_token_expires_in: wire
            .refresh_token_expires_in
            .filter(|seconds| seconds.0 > 0.0)
            .map(lifetime),
        scopes,
    })
}

/// What an error answer means. Only what providers say of a grant itself is definite; the rest is our configuration,
/// their trouble, or nothing that can be understood.
fn refusal(status: u16, error: Option<&str>, profile: &Profile) -> Failure {
    let is_definite = |code: &str| {
        code == "invalid_grant" || profile.definite_errors.iter().any(|known| known == code)
    };
    let (kind, detail) = match (status, error) {
        // A server error may say anything and mean nothing (threats UP-11).
        (503, _) => (FailureKind::Unavailable, "the provider is unavailable"),
        (500.., _) => (FailureKind::OutcomeUnknown, "the provider failed"),
        (_, Some(code)) if is_definite(code) => (
            FailureKind::ReauthorizationRequired,
            "the provider does not accept the grant any more",
        ),
        (
            _,
            Some(
                "invalid_client"
                | "invalid_request"
                | "invalid_scope"
                | "unauthorized_client"
                | "unsupported_grant_type",
            ),
        ) => (
            FailureKind::ClientMisconfigured,
            "the provider refused this vault as its client",
        ),
        (_, Some("server_error" | "temporarily_unavailable")) => {
            (FailureKind::Unavailable, "the provider is unavailable")
        }
        (401 | 403 | 404 | 405, None) => (
            FailureKind::ClientMisconfigured,
            "the provider's token endpoint refused the request",
        ),
        _ => (
            FailureKind::InvalidResponse,
            "the provider gave an error that is not understood",
        ),
    };
    Failure::new(kind, detail)
        .with_status(status)
        .with_provider_error(error)
}

fn lifetime(seconds: Seconds) -> u64 {
    let whole = seconds.0.floor();
    if whole >= LONGEST_LIFE as f64 {
        LONGEST_LIFE
    } else if whole <= 0.0 {
        NO_LIFE_MEANS
    } else {
        whole as u64
    }
}

fn is_scope(word: &str) -> bool {
    word.len() <= 1024 && word.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(value.as_str().map(str::to_owned)))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_i64<E>(self, value: i64) -> Result<Seconds, E> {
                Ok(Seconds(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Seconds, E> {
                Ok(Seconds(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Seconds, E> {
                Ok(Seconds(value))
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Seconds, E> {
                match value.trim().parse::<f64>() {
                    Ok(number) if number.is_finite() => Ok(Seconds(number)),
                    _ => Err(E::custom("not a number")),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("scopes in one text or an array of texts")
            }

            fn visit_unit<E>(self) -> Result<Words, E> {
                Ok(Words(Vec::new()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Words, E> {
                Ok(Words(
                    value
                        .split([' ', ','])
                        .filter(|word| !word.is_empty())
                        .map(str::to_owned)
                        .collect(),
                ))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element::<String>()? {
                    if words.len() > MAX_SCOPES {
                        return Err(A::Error::custom("too many scopes"));
                    }
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_any(List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::profile;

    fn answer(status: u16, body: &str) -> Result<TokenAnswer, Failure> {
        read(
            status,
            body.as_bytes(),
            profile("oauth2").unwrap(),
            &ConnectionOptions::default(),
        )
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
}
