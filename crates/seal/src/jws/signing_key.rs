//! Private keys of this issuer.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::der::{self, PublicNumbers};
use super::public_key::{Curve, Family, PublicKey, jwk_thumbprint};
use super::{Algorithm, KeyError, VerifyingKey};
use crate::{SecretBytes, SecretString};

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
                Pair::Ec(EcdsaKeyPair::generate(curve_signing(curve)).map_err(library)?)
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
                Pair::Ec(EcdsaKeyPair::from_pkcs8(curve_signing(curve), der).map_err(rejected)?)
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
                EcdsaKeyPair::from_private_key_der(curve_signing(curve), &der).map_err(rejected)?,
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

    /// The private key as a PKCS#8 PEM text, to be handed to whoever signs with it.
    pub fn to_pem(&self) -> Result<SecretString, KeyError> {
        let body = Zeroizing::new(STANDARD.encode(self.to_pkcs8()?.reveal()));
        let mut text = String::from("-----BEGIN PRIVATE KEY-----\n");
        for (index, c) in body.chars().enumerate() {
            if index > 0 && index % 64 == 0 {
                text.push('\n');
            }
            text.push(c);
        }
        text.push_str("\n-----END PRIVATE KEY-----\n");
        Ok(SecretString::new(text))
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
        self.sign_with(kid, typ, None, claims)
    }

    /// The same with one more member in the header, such as `x5t#S256`.
    pub fn sign_with(
        &self,
        kid: Option<&str>,
        typ: &str,
        member: Option<(&str, &str)>,
        claims: &Value,
    ) -> Result<String, KeyError> {
        if !claims.is_object() {
            return Err(KeyError::Malformed);
        }
        let mut header = json!({ "alg": self.algorithm.as_str(), "typ": typ });
        if let Some(header) = header.as_object_mut() {
            for (name, value) in kid.map(|kid| ("kid", kid)).into_iter().chain(member) {
                header.insert(name.to_owned(), value.into());
            }
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

fn curve_signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
    }
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
