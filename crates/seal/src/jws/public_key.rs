//! What a public key is made of, and when it is too weak to mean anything (JW-20).

use aws_lc_rs::signature::{
    self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Algorithm, der};
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

/// A public key's numbers, found strong enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
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
    pub(super) fn from_rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
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

    pub(super) fn from_ed25519(x: &[u8]) -> Result<Self, KeyError> {
        let key: &[u8; 32] = x.try_into().map_err(|_| KeyError::Malformed)?;
        if has_small_order_or_is_not_reduced(key) {
            return Err(KeyError::Weak);
        }
        Ok(Self::Ed25519(x.to_vec()))
    }

    /// RFC 7518 §6.2.1.2: each coordinate has the full length.
    pub(super) fn from_coordinates(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        if x.len() != curve.coordinate_len() || y.len() != curve.coordinate_len() {
            return Err(KeyError::Malformed);
        }
        Ok(Self::Ec {
            curve,
            x: x.to_vec(),
            y: y.to_vec(),
        })
    }

    pub(super) fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        let (x, y) = point
            .strip_prefix(&[4])
            .and_then(|rest| rest.split_at_checked(curve.coordinate_len()))
            .ok_or(KeyError::Malformed)?;
        Self::from_coordinates(curve, x, y)
    }

    pub(super) fn family(&self) -> Family {
        match self {
            Self::Ec { curve, .. } => Family::Ec(*curve),
            Self::Ed25519(_) => Family::Ed25519,
            Self::Rsa { .. } => Family::Rsa,
        }
    }

    pub(super) fn parse(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, KeyError> {
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

    pub(super) fn to_jwk(&self) -> Map<String, Value> {
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
pub(super) enum Family {
    Ec(Curve),
    Ed25519,
    Rsa,
}

impl Family {
    pub(super) fn of(algorithm: Algorithm) -> Self {
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
pub(super) enum Curve {
    P256,
    P384,
}

impl Curve {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::P256, Self::P384]
            .into_iter()
            .find(|curve| curve.name() == name)
    }

    pub(super) fn from_oid(oid: &[u8]) -> Option<Self> {
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

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED,
        }
    }
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
