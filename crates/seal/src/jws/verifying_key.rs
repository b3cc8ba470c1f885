//! Public keys that verify: our own, those that clients registered, and those of providers.

use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

use super::der::{self, PublicNumbers};
use super::public_key::{Curve, Family, PublicKey, jwk_thumbprint};
use super::{Algorithm, KeyError, optional_text};

/// A public key, checked, parsed and ready.
pub struct VerifyingKey {
    kid: Option<String>,
    public: PublicKey,
    /// One parsed key for each algorithm that this key may verify.
    parsed: Vec<(Algorithm, ParsedPublicKey)>,
}

impl VerifyingKey {
    /// Reads a JWK (RFC 7517). With an `alg`, it verifies that algorithm only; without, all that go with the kind of key.
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyError> {
        let jwk = jwk.as_object().ok_or(KeyError::Malformed)?;
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
            .iter()
            .any(|name| jwk.contains_key(*name))
        {
            return Err(KeyError::Private);
        }
        match jwk.get("use").map(Value::as_str) {
            None | Some(Some("sig")) => {}
            Some(_) => return Err(KeyError::Use),
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Value::Array(operations)) if operations.iter().any(|one| one == "verify") => {}
            Some(_) => return Err(KeyError::Use),
        }
        let text = |name| optional_text(jwk, name).map_err(|_| KeyError::Malformed);
        let bytes = |name| {
            text(name)?
                .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
                .ok_or(KeyError::Malformed)
        };
        let public = match (text("kty")?.as_deref(), text("crv")?.as_deref()) {
            (Some("RSA"), _) => PublicKey::from_rsa(&bytes("n")?, &bytes("e")?)?,
            (Some("OKP"), Some("Ed25519")) => PublicKey::from_ed25519(&bytes("x")?)?,
            (Some("EC"), Some(curve)) => {
                let curve = Curve::from_name(curve).ok_or(KeyError::Algorithm)?;
                PublicKey::from_coordinates(curve, &bytes("x")?, &bytes("y")?)?
            }
            _ => return Err(KeyError::Algorithm),
        };
        let algorithm = match text("alg")? {
            None => None,
            Some(name) => Some(Algorithm::from_str(&name).ok_or(KeyError::Algorithm)?),
        };
        Self::new(public, algorithm, text("kid")?)
    }

    /// Reads a public key in PEM (`PUBLIC KEY`, `RSA PUBLIC KEY`, or the key in a `CERTIFICATE`, whose signature and dates
    /// are not looked at). It verifies `algorithm` only and has no `kid`.
    pub fn from_public_pem(text: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let (label, der) = der::pem(text).ok_or(KeyError::Malformed)?;
        let numbers = match label {
            "PUBLIC KEY" => der::subject_public_key_info(&der),
            "RSA PUBLIC KEY" => der::rsa_public_key(&der),
            "CERTIFICATE" => der::certificate_key(&der).and_then(der::subject_public_key_info),
            label if label.contains("PRIVATE KEY") => return Err(KeyError::Private),
            _ => None,
        };
        let public = match numbers.ok_or(KeyError::Malformed)? {
            PublicNumbers::Rsa { n, e } => PublicKey::from_rsa(n, e)?,
            PublicNumbers::Ed25519(x) => PublicKey::from_ed25519(x)?,
            PublicNumbers::Ec { curve, point } => {
                let curve = Curve::from_oid(curve).ok_or(KeyError::Algorithm)?;
                PublicKey::from_point(curve, point)?
            }
        };
        Self::new(public, Some(algorithm), None)
    }

    /// The same key under this `kid`.
    #[must_use]
    pub fn with_kid(self, kid: &str) -> Self {
        Self {
            kid: Some(kid.to_owned()),
            ..self
        }
    }

    /// The key's id, if it was given one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithms that it verifies.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.parsed.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether it verifies `algorithm`.
    pub fn supports(&self, algorithm: Algorithm) -> bool {
        self.algorithms().any(|supported| supported == algorithm)
    }

    /// The public key as a JWK, without `kid`, `alg` and `use`.
    pub fn to_jwk(&self) -> Value {
        Value::Object(self.public.to_jwk())
    }

    /// The public key in PEM (`PUBLIC KEY`), as [`Self::from_public_pem`] reads it.
    ///
    /// # Errors
    /// [`KeyError::Library`].
    pub fn to_public_pem(&self) -> Result<String, KeyError> {
        let (_, key) = self.parsed.first().ok_or(KeyError::Library)?;
        let der: PublicKeyX509Der<'_> = key.as_der().map_err(|_| KeyError::Library)?;
        Ok(der::to_pem("PUBLIC KEY", der.as_ref()))
    }

    /// The RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> String {
        jwk_thumbprint(&self.to_jwk())
    }

    /// Whether this key made `signature` over `message` by `algorithm`. For a JWT, use
    /// [`UnverifiedJws::verify`](super::UnverifiedJws::verify).
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.parsed
            .iter()
            .find(|(supported, _)| *supported == algorithm)
            .is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok())
    }

    pub(super) fn new(
        public: PublicKey,
        algorithm: Option<Algorithm>,
        kid: Option<String>,
    ) -> Result<Self, KeyError> {
        let parsed = Algorithm::ALL
            .into_iter()
            .filter(|candidate| algorithm.is_none_or(|only| only == *candidate))
            .filter(|candidate| Family::of(*candidate) == public.family())
            .map(|algorithm| Ok((algorithm, public.parse(algorithm)?)))
            .collect::<Result<Vec<_>, KeyError>>()?;
        if parsed.is_empty() {
            return Err(KeyError::Algorithm);
        }
        Ok(Self {
            kid,
            public,
            parsed,
        })
    }
}

/// When the certificate in a PEM text ends; None where the text is no certificate.
pub fn certificate_end(pem: &str) -> Option<Timestamp> {
    match der::pem(pem)? {
        ("CERTIFICATE", der) => der::certificate_end(&der),
        _ => None,
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
