//! Compact JWS ([RFC 7515](https://www.rfc-editor.org/rfc/rfc7515)): the only form of signed JWT that we make or read.
//!
//! Reading goes in two steps, and the types say which one was taken: [`UnverifiedJws::parse`] looks at the form, and
//! [`UnverifiedJws::verify`] is the only way to [`Claims`]. Who verifies says which keys and which algorithms it accepts;
//! the header only picks among them. Times, issuer and audience are the caller's to judge, who has the clock.

mod claims;
mod der;
mod public_key;
mod signing_key;
mod strict_json;
#[cfg(test)]
mod tests;
mod verifying_key;

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use claims::is_typ;

pub use claims::Claims;
pub use public_key::{KeyError, jwk_thumbprint};
pub use signing_key::SigningKey;
pub use verifying_key::{VerifyingKey, certificate_end};

/// The longest token that is looked at, in bytes.
pub const MAX_LEN: usize = 16 * 1024;

/// With no `kid` in the header, so many keys are tried and no more (JW-10).
const MAX_CANDIDATES: usize = 4;

/// The signature algorithms that exist here. `none` and the symmetric ones do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::EdDsa,
        Self::Es256,
        Self::Es384,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// The name in a header, a JWK and a metadata document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    /// The algorithm with this name, spelled exactly so.
    #[expect(
        clippy::should_implement_trait,
        reason = "an unknown name is not an error here"
    )]
    pub fn from_str(name: &str) -> Option<Self> {
        // RFC 9864 §2.2: EdDSA with Ed25519, under a name that says so. We never write it.
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a token was refused. The caller answers with its own code; this is the private reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// The header's algorithm is not one that the verifier accepts here.
    #[error("the algorithm is not accepted here: {0}")]
    AlgorithmNotAllowed(Algorithm),
    /// A claim has another JSON type than its definition says.
    #[error("the claim has the wrong type: {0}")]
    ClaimType(String),
    /// The header has `crit` or `b64`: there is no extension that we understand.
    #[error("the header asks for an extension")]
    CriticalHeader,
    /// The header or the claims name a member twice.
    #[error("a member is given twice")]
    DuplicateMember,
    /// The header brings a key, or says where to fetch one.
    #[error("the header brings its own key")]
    EmbeddedKey,
    /// A part is not unpadded base64url.
    #[error("a part is not base64url")]
    Encoding,
    /// A header member has the wrong type.
    #[error("the header is malformed")]
    Header,
    /// The header or the claims are not a JSON object.
    #[error("a part is not a JSON object")]
    Json,
    /// None of the verifier's keys fits the header's `kid` and `alg`.
    #[error("no key fits the header")]
    NoKey,
    /// Not three parts with a dot between them.
    #[error("not a compact JWS")]
    NotCompact,
    /// No key that fits made the signature.
    #[error("the signature is wrong")]
    Signature,
    /// More than 16 KiB.
    #[error("the token is too large")]
    TooLarge,
    /// Nested deeper than 16.
    #[error("the JSON is nested too deeply")]
    TooDeep,
    /// There is no `kid`, and more keys than we try.
    #[error("too many keys fit the header")]
    TooManyKeys,
    /// The header's algorithm does not exist here; `none` is one of those.
    #[error("the algorithm does not exist here")]
    UnknownAlgorithm,
}

/// A token whose form is right and whose signature nobody has looked at.
#[derive(Clone)]
pub struct UnverifiedJws<'a> {
    signing_input: Cow<'a, str>,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
    claims: Map<String, Value>,
}

impl<'a> UnverifiedJws<'a> {
    /// The same with a text of its own, to be kept until the keys are there.
    pub fn into_owned(self) -> UnverifiedJws<'static> {
        UnverifiedJws {
            signing_input: Cow::Owned(self.signing_input.into_owned()),
            signature: self.signature,
            algorithm: self.algorithm,
            kid: self.kid,
            typ: self.typ,
            claims: self.claims,
        }
    }

    /// Takes a compact JWS apart. It is refused when it is too large, not in the compact form, has an algorithm that does
    /// not exist here, brings its own key, asks for an extension, or names any member twice.
    pub fn parse(text: &'a str) -> Result<Self, JwsError> {
        if text.len() > MAX_LEN {
            return Err(JwsError::TooLarge);
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(JwsError::NotCompact)?;
        let (header, claims) = signing_input.split_once('.').ok_or(JwsError::NotCompact)?;
        if claims.contains('.') {
            return Err(JwsError::NotCompact);
        }
        let header = strict_json::object(&decode(header)?)?;
        let algorithm = check_header(&header)?;
        Ok(Self {
            signing_input: Cow::Borrowed(signing_input),
            signature: decode(signature)?,
            algorithm,
            kid: optional_text(&header, "kid")?,
            typ: optional_text(&header, "typ")?,
            claims: strict_json::object(&decode(claims)?)?,
        })
    }

    /// What the header says the key's id is.
    pub fn unverified_kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The header's `typ`, as it stands there. Compare with [`is_typ`](Self::is_typ).
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Whether the header's `typ` is `expected`; see [`Claims::is_typ`].
    pub fn is_typ(&self, expected: &str) -> bool {
        is_typ(self.typ(), expected)
    }

    /// The header's algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The claims, before anybody has shown who wrote them: only to find out whose keys to verify with.
    pub fn unverified_claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Verifies the signature with one of `keys`, by one of the `allowed` algorithms.
    ///
    /// With a `kid` in the header, keys of another `kid` are left aside; a key that has none fits any. Keys that are not
    /// for the header's algorithm are left aside. Of what remains at most four are tried.
    ///
    /// Afterwards `exp`, `nbf` and `iat` are numbers or absent. Whether they are in order is the caller's to say.
    pub fn verify(self, keys: &[&VerifyingKey], allowed: &[Algorithm]) -> Result<Claims, JwsError> {
        if !allowed.contains(&self.algorithm) {
            return Err(JwsError::AlgorithmNotAllowed(self.algorithm));
        }
        let fits = |key: &&&VerifyingKey| {
            key.supports(self.algorithm)
                && match (self.unverified_kid(), key.kid()) {
                    (Some(wanted), Some(kid)) => wanted == kid,
                    _ => true,
                }
        };
        let candidates = keys.iter().filter(fits);
        match candidates.clone().count() {
            0 => return Err(JwsError::NoKey),
            1..=MAX_CANDIDATES => {}
            _ => return Err(JwsError::TooManyKeys),
        }
        if !candidates.into_iter().any(|key| {
            key.verifies(
                self.algorithm,
                self.signing_input.as_bytes(),
                &self.signature,
            )
        }) {
            return Err(JwsError::Signature);
        }
        let claims = Claims {
            typ: self.typ,
            claims: self.claims,
        };
        for name in ["exp", "nbf", "iat"] {
            claims.timestamp(name)?;
        }
        Ok(claims)
    }
}

impl fmt::Debug for UnverifiedJws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedJws")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .field("typ", &self.typ)
            .finish_non_exhaustive()
    }
}

/// The header's algorithm, after everything that must not be in a header was found absent.
fn check_header(header: &Map<String, Value>) -> Result<Algorithm, JwsError> {
    // RFC 7515 §4.1.11: an extension that we do not understand must be refused, and we understand none.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(JwsError::CriticalHeader);
    }
    // A key that comes with the token proves nothing, and an address in it must not make us fetch (JW-07, JW-08).
    if ["jku", "jwk", "x5c", "x5u"]
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(JwsError::EmbeddedKey);
    }
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .ok_or(JwsError::Header)?;
    Algorithm::from_str(algorithm).ok_or(JwsError::UnknownAlgorithm)
}

fn optional_text(header: &Map<String, Value>, name: &str) -> Result<Option<String>, JwsError> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(JwsError::Header),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Encoding)
}
