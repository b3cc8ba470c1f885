//! Who an account is at its provider: from the ID token (OpenID Connect Core §3.1.3.7), from userinfo, or both.

use jiff::{SignedDuration, Timestamp};
use seal::{Algorithm, UnverifiedJws};
use serde_json::{Map, Value};

use crate::discovery::Keys;
use crate::failure::{Failure, FailureKind};
use crate::settings::ConnectionOptions;

/// An account at its provider. `subject` is the only part that identifies it; an e-mail address never does (threats
///
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The provider's immutable id; empty where it gives none.
    pub subject: String,
    /// What the person logs in with there.
    pub login: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// What the person is called.
    pub name: Option<String>,
}

/// How far the provider's clock may differ from ours.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// What a provider may sign ID tokens with.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::EdDsa,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
];

/// What an ID token has to agree with.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) access_token: &'a str,
}

/// Verifies an ID token and returns its claims.
pub(crate) fn verify_id_token(
    text: &str,
    keys: &Keys,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Map<String, Value>, Failure> {
    let keys: Vec<_> = keys.0.iter().collect();
    let jws = UnverifiedJws::parse(text)
        .map_err(|_| invalid("the ID token is not a JWT that we read"))?;
    let algorithm = jws.algorithm();
    let claims = jws
        .verify(&keys, ALGORITHMS)
        .map_err(|_| invalid("the ID token is not signed by the provider's keys"))?;
    let malformed = |_| invalid("a claim of the ID token has the wrong type");
    if claims.str("iss").map_err(malformed)? != Some(expected.issuer) {
        return Err(invalid("the ID token names another issuer"));
    }
    let audience = claims.audience().map_err(malformed)?;
    if !audience.contains(&expected.client_id) {
        return Err(invalid("the ID token is for another client"));
    }
    let azp = claims.str("azp").map_err(malformed)?;
    if azp.is_some_and(|azp| azp != expected.client_id) || (audience.len() > 1 && azp.is_none()) {
        return Err(invalid("the ID token was issued to another client"));
    }
    match claims.timestamp("exp").map_err(malformed)? {
        Some(exp) if now.duration_since(exp) < SKEW => {}
        _ => return Err(invalid("the ID token has expired")),
    }
    match claims.timestamp("iat").map_err(malformed)? {
        Some(iat) if iat.duration_since(now) < SKEW => {}
        _ => {
            return Err(invalid(
                "the ID token has no time of issue, or one in the future",
            ));
        }
    }
    if claims.str("nonce").map_err(malformed)? != expected.nonce {
        return Err(invalid("the ID token does not carry this flow's nonce"));
    }
    if let Some(at_hash) = claims.str("at_hash").map_err(malformed)?
        && !at_hash_matches(algorithm, expected.access_token, at_hash)
    {
        return Err(invalid("the ID token belongs to another access token"));
    }
    if claims
        .str("sub")
        .map_err(malformed)?
        .is_none_or(str::is_empty)
    {
        return Err(invalid("the ID token names no user"));
    }
    Ok(claims.into_map())
}

/// OpenID Connect Core §3.1.3.6. Hashes that we do not compute do not match.
fn at_hash_matches(algorithm: Algorithm, access_token: &str, at_hash: &str) -> bool {
    use base64::Engine as _;
    let uses_sha256 = matches!(
        algorithm,
        Algorithm::Es256 | Algorithm::Ps256 | Algorithm::Rs256
    );
    let digest = seal::sha256(access_token.as_bytes());
    let expected = digest
        .get(..16)
        .map(|half| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(half));
    // The other algorithms use longer hashes or, for EdDSA, none that is agreed on; their at_hash is not checked.
    !uses_sha256 || expected.as_deref() == Some(at_hash)
}

/// What claims or a userinfo answer say.
pub(crate) fn from_members(members: &Value, options: &ConnectionOptions) -> Identity {
    let text = |names: &[&str]| names.iter().find_map(|name| readable(members.get(name)?));
    let subject = match &options.user_id_pointer {
        Some(pointer) => members.pointer(pointer).and_then(readable),
        None => text(&["sub", "id", "user_id"]),
    };
    Identity {
        subject: subject.unwrap_or_default(),
        login: text(&["preferred_username", "login", "username"]),
        email: text(&["email"]),
        name: text(&["name", "display_name"]),
    }
}

impl Identity {
    /// Fills in what the other one knows beyond this.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            subject: if self.subject.is_empty() {
                other.subject
            } else {
                self.subject
            },
            login: self.login.or(other.login),
            email: self.email.or(other.email),
            name: self.name.or(other.name),
        }
    }
}

/// A text or number that a person could read; bounded.
fn readable(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    ((1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control))
        .then_some(text)
}

fn invalid(detail: &'static str) -> Failure {
    Failure::new(FailureKind::InvalidResponse, detail)
}

#[cfg(test)]
mod tests {
    use seal::SigningKey;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn check(claims: &Value, nonce: Option<&str>) -> Result<Map<String, Value>, Failure> {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let text = key.sign(Some("k"), "JWT", claims).unwrap();
        let keys = Keys(vec![key.verifying_key(Some("k")).unwrap()]);
        let expected = Expected {
            issuer: "https://p.example",
            client_id: "app",
            nonce,
            access_token: "at",
        };
        verify_id_token(
            &text,
            &keys,
            &expected,
            Timestamp::from_second(NOW).unwrap(),
        )
    }

    fn claims() -> Value {
        json!({"iss": "https://p.example", "aud": "app", "sub": "u1", "exp": NOW + 60, "iat": NOW, "nonce": "n"})
    }

    #[test]
    fn up_15_to_17_every_claim_has_its_rule() {
        assert!(check(&claims(), Some("n")).is_ok());
        for (name, value) in [
            ("iss", json!("https://evil.example")),
            ("aud", json!("other")),
            ("aud", json!(["app", "other"])),
            ("aud", json!(7)),
            ("azp", json!("other")),
            ("exp", json!(NOW - 60)),
            ("exp", json!("1900000000")),
            ("exp", Value::Null),
            ("iat", json!(NOW + 61)),
            ("iat", Value::Null),
            ("nonce", json!("other")),
            ("nonce", Value::Null),
            ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
            ("sub", json!("")),
            ("sub", json!(["u1"])),
        ] {
            let mut changed = claims();
            if value.is_null() {
                changed.as_object_mut().unwrap().remove(name);
            } else {
                changed[name] = value.clone();
            }
            assert!(check(&changed, Some("n")).is_err(), "{name} {value}");
        }
        // Not asked for, so it must not be there; a switch in the claims does not change that (UP-16).
        assert!(check(&claims(), None).is_err());
        let mut talked_out = claims();
        talked_out["nonce_supported"] = json!(false);
        talked_out["nonce"] = json!("other");
        assert!(check(&talked_out, Some("n")).is_err());
    }

    #[test]
    fn members_become_an_identity() {
        let options = ConnectionOptions::default();
        let github = from_members(&json!({"id": 42, "login": "bob", "name": null}), &options);
        assert_eq!(github.subject, "42");
        assert_eq!(github.login.as_deref(), Some("bob"));
        let pointer = ConnectionOptions {
            user_id_pointer: Some("/data/id".to_owned()),
            ..ConnectionOptions::default()
        };
        assert_eq!(
            from_members(&json!({"data": {"id": "x"}, "sub": "y"}), &pointer).subject,
            "x"
        );
        let hostile = from_members(
            &json!({"sub": "a\u{0}b", "email": ["x"], "name": "n".repeat(300)}),
            &options,
        );
        assert_eq!(hostile, Identity::default());
    }
}
