//! Keys that sign and verify. A key that is too weak to mean anything does not become one (JW-20).

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ParsedPublicKey,
    RsaEncoding, RsaKeyPair, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::der::{self, PublicNumbers};
use super::{Algorithm, optional_text};
use crate::SecretBytes;
use crate::digest::sha256;

/// Why something is not a key that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key and the algorithm do not go together.
    #[error("the key is not for this algorithm")]
    Algorithm,
    /// The library could not make a key or a signature.
    #[error("the cryptographic library failed")]
    Library,
    /// The text or the bytes are not a key.
    #[error("not a key in a known form")]
    Malformed,
    /// A private or symmetric key where a public one was expected. Whoever sent it should throw it away.
    #[error("a private key where a public one was expected")]
    Private,
    /// The key says that it is not for signatures.
    #[error("the key is for another use")]
    Use,
    /// RSA below 2048 or above 8192 bits, an exponent that is even or small, an even modulus; a point of small order.
    #[error("the key is too weak")]
    Weak,
}

/// A private key of this issuer, for one algorithm.
pub struct SigningKey {
    algorithm: Algorithm,
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// A new key; RSA keys have 2048 bits. The library draws the randomness itself. RSA takes up to a second.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let library = |_| KeyError::Library;
        let pair = match Family::of(algorithm) {
            Family::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(library)?),
            Family::Ec(curve) => {
                Pair::Ec(EcdsaKeyPair::generate(curve.signing()).map_err(library)?)
            }
            Family::Rsa => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(library)?),
        };
        Self::from_pair(algorithm, pair)
    }

    /// Reads a key that [`to_pkcs8`](Self::to_pkcs8) wrote, or any other PKCS#8 key that goes with `algorithm`.
    pub fn from_pkcs8(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        let rejected = |_| KeyError::Malformed;
        let pair = match Family::of(algorithm) {
            Family::Ed25519 => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(rejected)?)
            }
            Family::Ec(curve) => {
                Pair::Ec(EcdsaKeyPair::from_pkcs8(curve.signing(), der).map_err(rejected)?)
            }
            Family::Rsa => Pair::Rsa(RsaKeyPair::from_pkcs8(der).map_err(rejected)?),
        };
        Self::from_pair(algorithm, pair)
    }

    /// Reads a private key in PEM: PKCS#8, or the older forms for RSA and EC.
    pub fn from_pem(algorithm: Algorithm, text: &str) -> Result<Self, KeyError> {
        let (label, der) = der::pem(text).ok_or(KeyError::Malformed)?;
        let rejected = |_| KeyError::Malformed;
        let pair = match (label, Family::of(algorithm)) {
            ("PRIVATE KEY", _) => return Self::from_pkcs8(algorithm, &der),
            ("RSA PRIVATE KEY", Family::Rsa) => {
                Pair::Rsa(RsaKeyPair::from_der(&der).map_err(rejected)?)
            }
            ("EC PRIVATE KEY", Family::Ec(curve)) => Pair::Ec(
                EcdsaKeyPair::from_private_key_der(curve.signing(), &der).map_err(rejected)?,
            ),
            ("RSA PRIVATE KEY" | "EC PRIVATE KEY", _) => return Err(KeyError::Algorithm),
            _ => return Err(KeyError::Malformed),
        };
        Self::from_pair(algorithm, pair)
    }

    /// The private key in PKCS#8, to be sealed.
    pub fn to_pkcs8(&self) -> Result<SecretBytes, KeyError> {
        let der: Result<Pkcs8V1Der<'_>, _> = match &self.pair {
            Pair::Ec(pair) => {
                let document = pair.to_pkcs8v1().map_err(|_| KeyError::Library)?;
                return Ok(SecretBytes::new(document.as_ref().to_vec()));
            }
            Pair::Ed25519(pair) => pair.as_der(),
            Pair::Rsa(pair) => pair.as_der(),
        };
        let der = der.map_err(|_| KeyError::Library)?;
        Ok(SecretBytes::new(der.as_ref().to_vec()))
    }

    /// The algorithm that it signs by.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key as it stands in the JWKS.
    pub fn public_jwk(&self, kid: &str) -> Value {
        let mut jwk = self.public.to_jwk();
        for (name, value) in [
            ("alg", self.algorithm.as_str()),
            ("kid", kid),
            ("use", "sig"),
        ] {
            jwk.insert(name.to_owned(), value.into());
        }
        Value::Object(jwk)
    }

    /// The public key, prepared to verify what this one signs.
    pub fn verifying_key(&self, kid: Option<&str>) -> Result<VerifyingKey, KeyError> {
        VerifyingKey::new(
            self.public.clone(),
            Some(self.algorithm),
            kid.map(ToOwned::to_owned),
        )
    }

    /// The RFC 7638 thumbprint of the public key: what we use as its `kid`.
    pub fn thumbprint(&self) -> String {
        jwk_thumbprint(&Value::Object(self.public.to_jwk()))
    }

    /// Signs `claims`, which must be an object, as a compact JWS.
    pub fn sign(&self, kid: Option<&str>, typ: &str, claims: &Value) -> Result<String, KeyError> {
        if !claims.is_object() {
            return Err(KeyError::Malformed);
        }
        let mut header = json!({ "alg": self.algorithm.as_str(), "typ": typ });
        if let (Some(kid), Some(header)) = (kid, header.as_object_mut()) {
            header.insert("kid".to_owned(), kid.into());
        }
        let mut token = String::with_capacity(1024);
        URL_SAFE_NO_PAD.encode_string(header.to_string(), &mut token);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.sign_bytes(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The bare signature over `message`.
    pub(super) fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ec(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| KeyError::Library),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                let encoding = rsa_encoding(self.algorithm).ok_or(KeyError::Algorithm)?;
                pair.sign(encoding, &SystemRandom::new(), message, &mut out)
                    .map_err(|_| KeyError::Library)?;
                Ok(out)
            }
        }
    }

    fn from_pair(algorithm: Algorithm, pair: Pair) -> Result<Self, KeyError> {
        let public = match (&pair, Family::of(algorithm)) {
            (Pair::Ec(pair), Family::Ec(curve)) => {
                PublicKey::from_point(curve, pair.public_key().as_ref())?
            }
            (Pair::Ed25519(pair), _) => PublicKey::from_ed25519(pair.public_key().as_ref())?,
            (Pair::Rsa(pair), _) => match der::rsa_public_key(pair.public_key().as_ref()) {
                Some(PublicNumbers::Rsa { n, e }) => PublicKey::from_rsa(n, e)?,
                _ => return Err(KeyError::Library),
            },
            (Pair::Ec(_), _) => return Err(KeyError::Algorithm),
        };
        Ok(Self {
            algorithm,
            pair,
            public,
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm)
    }
}

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

    fn new(
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

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The RFC 7638 thumbprint of a JWK: SHA-256 over its required members, in base64url. Members that are missing count as
/// empty, so give it a key that [`VerifyingKey::from_jwk`] or [`SigningKey::public_jwk`] accepted or made.
pub fn jwk_thumbprint(jwk: &Value) -> String {
    let required: &[&str] = match jwk.get("kty").and_then(Value::as_str) {
        Some("RSA") => &["e", "kty", "n"],
        Some("EC") => &["crv", "kty", "x", "y"],
        _ => &["crv", "kty", "x"],
    };
    // RFC 7638 §3.3: in lexicographic order, without white space. Written by hand, so that no setting of the JSON library
    // can change anybody's key ids.
    let members: Vec<String> = required
        .iter()
        .map(|name| {
            let value = jwk.get(*name).and_then(Value::as_str).unwrap_or_default();
            format!("\"{name}\":{}", Value::from(value))
        })
        .collect();
    URL_SAFE_NO_PAD.encode(sha256(format!("{{{}}}", members.join(",")).as_bytes()))
}

/// The kinds of key, and what each algorithm needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ec(Curve),
    Ed25519,
    Rsa,
}

impl Family {
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::EdDsa => Self::Ed25519,
            Algorithm::Es256 => Self::Ec(Curve::P256),
            Algorithm::Es384 => Self::Ec(Curve::P384),
            Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512
            | Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512 => Self::Rsa,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn from_name(name: &str) -> Option<Self> {
        [Self::P256, Self::P384]
            .into_iter()
            .find(|curve| curve.name() == name)
    }

    fn from_oid(oid: &[u8]) -> Option<Self> {
        match oid {
            der::P256 => Some(Self::P256),
            der::P384 => Some(Self::P384),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED,
        }
    }
}

/// A public key's numbers, found strong enough.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PublicKey {
    Ec {
        curve: Curve,
        x: Vec<u8>,
        y: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl PublicKey {
    fn from_rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        // RFC 7518 §2: base64urlUInt has no leading zeros; some issuers write one, and it does no harm.
        let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
        let bits = n
            .first()
            .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        let exponent = match e.len() {
            0..=8 => e
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)),
            _ => return Err(KeyError::Weak),
        };
        let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        // FIPS 186-5 §5.1: the exponent is odd and above 2^16; the library takes 33 bits at most.
        if !(2048..=8192).contains(&bits)
            || !odd(n)
            || !odd(e)
            || !(65_537..1 << 33).contains(&exponent)
        {
            return Err(KeyError::Weak);
        }
        Ok(Self::Rsa {
            n: n.to_vec(),
            e: e.to_vec(),
        })
    }

    fn from_ed25519(x: &[u8]) -> Result<Self, KeyError> {
        let key: &[u8; 32] = x.try_into().map_err(|_| KeyError::Malformed)?;
        if has_small_order_or_is_not_reduced(key) {
            return Err(KeyError::Weak);
        }
        Ok(Self::Ed25519(x.to_vec()))
    }

    /// RFC 7518 §6.2.1.2: each coordinate has the full length.
    fn from_coordinates(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        if x.len() != curve.coordinate_len() || y.len() != curve.coordinate_len() {
            return Err(KeyError::Malformed);
        }
        Ok(Self::Ec {
            curve,
            x: x.to_vec(),
            y: y.to_vec(),
        })
    }

    fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        let (x, y) = point
            .strip_prefix(&[4])
            .and_then(|rest| rest.split_at_checked(curve.coordinate_len()))
            .ok_or(KeyError::Malformed)?;
        Self::from_coordinates(curve, x, y)
    }

    fn family(&self) -> Family {
        match self {
            Self::Ec { curve, .. } => Family::Ec(*curve),
            Self::Ed25519(_) => Family::Ed25519,
            Self::Rsa { .. } => Family::Rsa,
        }
    }

    fn parse(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, KeyError> {
        match self {
            // The library refuses a point that is not on the curve.
            Self::Ec { curve, x, y } => {
                ParsedPublicKey::new(curve.verification(), [&[4], &x[..], &y[..]].concat())
            }
            Self::Ed25519(x) => ParsedPublicKey::new(&signature::ED25519, x),
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .to_parsed_public_key(rsa_parameters(algorithm).ok_or(KeyError::Algorithm)?),
        }
        .map_err(|_| KeyError::Malformed)
    }

    fn to_jwk(&self) -> Map<String, Value> {
        let encode = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
        let members = match self {
            Self::Ec { curve, x, y } => vec![
                ("kty", "EC".into()),
                ("crv", curve.name().into()),
                ("x", encode(x)),
                ("y", encode(y)),
            ],
            Self::Ed25519(x) => vec![
                ("kty", "OKP".into()),
                ("crv", "Ed25519".into()),
                ("x", encode(x)),
            ],
            Self::Rsa { n, e } => vec![("kty", "RSA".into()), ("n", encode(n)), ("e", encode(e))],
        };
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn without_leading_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}

/// Under a point of small order there are signatures that fit every message; and a coordinate that is not below the
/// field's prime would be a second name for one key.
fn has_small_order_or_is_not_reduced(key: &[u8; 32]) -> bool {
    // The y coordinates of the eight points of small order, little endian, with the sign bit of x put aside.
    const ZERO: [u8; 32] = [0; 32];
    const ONE: [u8; 32] = {
        let mut y = [0; 32];
        y[0] = 1;
        y
    };
    const ORDER_8: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    const ORDER_8_NEGATED: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    let mut y = *key;
    y[31] &= 0x7f;
    // From 2^255 - 20 = p - 1 on: -1, which has order 2, and everything that is not reduced.
    let [first, middle @ .., last] = &y;
    let minus_one_or_more =
        *first >= 0xec && middle.iter().all(|byte| *byte == 0xff) && *last == 0x7f;
    minus_one_or_more || [ZERO, ONE, ORDER_8, ORDER_8_NEGATED].contains(&y)
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Es384 => return None,
    })
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
        Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
        Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Es384 => return None,
    })
}
