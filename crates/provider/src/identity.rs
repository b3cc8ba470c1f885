//! Who an account is at its provider: from the ID token (OpenID Connect Core §3.1.3.7), from userinfo, or both.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use seal::{Algorithm, UnverifiedJws};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::discovery::Keys;
use crate::failure::{Failure, FailureKind};
use crate::profile::IdentityCall;
use crate::settings::ConnectionOptions;
use crate::template::{self, Values};

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
    /// The organisation, workspace, team or tenant that it belongs to.
    pub organization: Option<String>,
}

/// Where a fact about an account comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A verified ID token.
    IdToken,
    /// The token answer.
    Token,
    /// The userinfo answer.
    Userinfo,
    /// A variable that was learned.
    Variable,
}

/// One place of a fact: a JSON pointer into a source, or a variable's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) source: Source,
    pub(crate) pointer: String,
}

/// A fact: `userinfo:/id`, `id_token:/tid+id_token:/oid` (both, joined with a colon), `variable:realm_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference(Vec<Place>);

impl Reference {
    /// Reads a reference. None where it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let places = text
            .split('+')
            .map(|part| {
                let (source, pointer) = part.split_once(':')?;
                let source = match source {
                    "id_token" => Source::IdToken,
                    "token" => Source::Token,
                    "userinfo" => Source::Userinfo,
                    "variable" => Source::Variable,
                    _ => return None,
                };
                let is_pointer = pointer.starts_with('/');
                (is_pointer != (source == Source::Variable) && !pointer.is_empty()).then(|| Place {
                    source,
                    pointer: pointer.to_owned(),
                })
            })
            .collect::<Option<Vec<Place>>>()?;
        Some(Self(places))
    }

    pub(crate) fn parts(&self) -> &[Place] {
        &self.0
    }
}

impl TryFrom<String> for Reference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!("'{text}' is not SOURCE:/POINTER (id_token, token, userinfo) or variable:NAME")
        })
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        let parts: Vec<String> = reference
            .0
            .iter()
            .map(|place| {
                let source = match place.source {
                    Source::IdToken => "id_token",
                    Source::Token => "token",
                    Source::Userinfo => "userinfo",
                    Source::Variable => "variable",
                };
                format!("{source}:{}", place.pointer)
            })
            .collect();
        parts.join("+")
    }
}

/// Everything that was learned about an account.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    /// The claims of a verified ID token.
    pub(crate) id_token: Option<Value>,
    /// The userinfo answer.
    pub(crate) userinfo: Option<Value>,
    /// What the token answer says, by pointer.
    pub(crate) token: Option<&'a BTreeMap<String, String>>,
    /// The variables.
    pub(crate) variables: Option<&'a BTreeMap<String, String>>,
}

impl Facts<'_> {
    fn at(&self, place: &Place) -> Option<String> {
        match place.source {
            Source::IdToken => readable(self.id_token.as_ref()?.pointer(&place.pointer)?),
            Source::Userinfo => readable(self.userinfo.as_ref()?.pointer(&place.pointer)?),
            Source::Token => self.token?.get(&place.pointer).cloned(),
            Source::Variable => self.variables?.get(&place.pointer).cloned(),
        }
    }

    fn first(&self, references: &[Reference]) -> Option<String> {
        references.iter().find_map(|reference| {
            let parts = reference
                .parts()
                .iter()
                .map(|place| self.at(place))
                .collect::<Option<Vec<String>>>()?;
            Some(parts.join(":"))
        })
    }

    /// Who the account is, by a profile's references.
    pub(crate) fn identity(&self, call: &IdentityCall, options: &ConnectionOptions) -> Identity {
        let subject = match &options.user_id_pointer {
            Some(pointer) => self
                .userinfo
                .as_ref()
                .or(self.id_token.as_ref())
                .and_then(|members| members.pointer(pointer))
                .and_then(readable),
            None => self.first(&call.subject),
        };
        Identity {
            subject: subject.unwrap_or_default(),
            login: self.first(&call.login),
            email: self.first(&call.email),
            name: self.first(&call.name),
            organization: self.first(&call.organization),
        }
    }
}

impl Facts<'_> {
    /// Whether the account is one of those that the connection is for.
    pub(crate) fn meet(&self, call: &IdentityCall, values: &Values<'_>) -> bool {
        call.required.iter().all(|requirement| {
            let found = self.first(std::slice::from_ref(&requirement.at));
            let expected = template::fill(&requirement.is, values);
            matches!((found, expected), (Some(found), Some(expected)) if found.eq_ignore_ascii_case(&expected))
        })
    }
}

impl IdentityCall {
    /// Every reference.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Reference> {
        [
            &self.subject,
            &self.login,
            &self.email,
            &self.name,
            &self.organization,
        ]
        .into_iter()
        .flatten()
        .chain(self.required.iter().map(|requirement| &requirement.at))
    }

    /// Whether the userinfo answer is asked for anything.
    pub(crate) fn needs_userinfo(&self) -> bool {
        self.references()
            .flat_map(Reference::parts)
            .any(|place| place.source == Source::Userinfo)
    }
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
    /// The issuer. A placeholder stands for the claim of its name (Entra's `{tid}`).
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
    let issuer = match template::placeholders(expected.issuer) {
        Some(names) if !names.is_empty() => {
            let mut values = Values::new();
            for name in names {
                if let Some(value) = claims.str(name).map_err(malformed)? {
                    values.insert(name, value);
                }
            }
            template::fill(expected.issuer, &values)
        }
        _ => Some(expected.issuer.to_owned()),
    };
    if issuer.is_none() || claims.str("iss").map_err(malformed)? != issuer.as_deref() {
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

/// A text or number that a person could read; bounded.
pub(crate) fn readable(value: &Value) -> Option<String> {
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
    fn up_15_an_issuer_for_many_tenants_is_the_one_of_the_tokens_own_tenant() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let keys = Keys(vec![key.verifying_key(Some("k")).unwrap()]);
        let check = |iss: &str, tid: Value| {
            let mut claims = claims();
            claims["iss"] = json!(iss);
            claims["tid"] = tid;
            let text = key.sign(Some("k"), "JWT", &claims).unwrap();
            let expected = Expected {
                issuer: "https://login.example/{tid}/v2.0",
                client_id: "app",
                nonce: Some("n"),
                access_token: "at",
            };
            verify_id_token(
                &text,
                &keys,
                &expected,
                Timestamp::from_second(NOW).unwrap(),
            )
            .is_ok()
        };
        assert!(check("https://login.example/t1/v2.0", json!("t1")));
        assert!(!check("https://login.example/t1/v2.0", json!("t2")));
        assert!(!check("https://login.example/{tid}/v2.0", Value::Null));
        assert!(!check("https://evil.example/t1/v2.0", json!("t1")));
    }

    fn identity(userinfo: Value, options: &ConnectionOptions) -> Identity {
        Facts {
            userinfo: Some(userinfo),
            ..Facts::default()
        }
        .identity(&IdentityCall::default(), options)
    }

    #[test]
    fn members_become_an_identity() {
        let options = ConnectionOptions::default();
        let github = identity(json!({"id": 42, "login": "bob", "name": null}), &options);
        assert_eq!(github.subject, "42");
        assert_eq!(github.login.as_deref(), Some("bob"));
        let pointer = ConnectionOptions {
            user_id_pointer: Some("/data/id".to_owned()),
            ..ConnectionOptions::default()
        };
        assert_eq!(
            identity(json!({"data": {"id": "x"}, "sub": "y"}), &pointer).subject,
            "x"
        );
        let hostile = identity(
            json!({"sub": "a\u{0}b", "email": ["x"], "name": "n".repeat(300)}),
            &options,
        );
        assert_eq!(hostile, Identity::default());
    }

    #[test]
    fn references_join_what_belongs_together_and_nothing_half() {
        let call = IdentityCall {
            subject: vec![
                Reference::parse("id_token:/tid+id_token:/oid").unwrap(),
                Reference::parse("token:/team/id").unwrap(),
                Reference::parse("variable:realm").unwrap(),
            ],
            ..IdentityCall::default()
        };
        let facts = BTreeMap::from([("/team/id".to_owned(), "T1".to_owned())]);
        let variables = BTreeMap::from([("realm".to_owned(), "9".to_owned())]);
        let options = ConnectionOptions::default();
        let subject = |id_token: Value, token| {
            Facts {
                id_token: Some(id_token),
                token,
                variables: Some(&variables),
                ..Facts::default()
            }
            .identity(&call, &options)
            .subject
        };
        assert_eq!(
            subject(json!({"tid": "a", "oid": "b"}), Some(&facts)),
            "a:b"
        );
        assert_eq!(subject(json!({"tid": "a"}), Some(&facts)), "T1");
        assert_eq!(subject(json!({}), None), "9");
        for text in [
            "userinfo",
            "userinfo:id",
            "elsewhere:/id",
            "variable:/x",
            "userinfo:/a+",
            "",
        ] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}
