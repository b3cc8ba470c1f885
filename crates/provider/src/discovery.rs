//! What a provider says of itself: its metadata and its keys, fetched when needed and kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use seal::VerifyingKey;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::failure::{Failure, FailureKind};

/// How long metadata counts as fresh.
pub(crate) const METADATA_LIFE: SignedDuration = SignedDuration::from_mins(10);
/// How long keys count as fresh.
pub(crate) const KEYS_LIFE: SignedDuration = SignedDuration::from_mins(60);
/// How often keys are fetched again because a token names one that is not among them.
pub(crate) const KEYS_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// The most providers that are remembered, and the most keys of one.
const MOST_ENTRIES: usize = 1000;
const MOST_KEYS: usize = 100;

/// The members of the metadata document that are used (OpenID Connect Discovery 1.0 §3).
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) issuer: String,
    pub(crate) authorization_endpoint: String,
    pub(crate) token_endpoint: String,
    pub(crate) userinfo_endpoint: Option<String>,
    pub(crate) revocation_endpoint: Option<String>,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    /// Reads the document. Its issuer has to be the configured one, byte for byte (RFC 8414 §3.3, threats UP-20).
    pub(crate) fn read(body: &[u8], issuer: &str) -> Result<Self, Failure> {
        let metadata: Self = oauth::json::read(body).ok_or_else(|| {
            Failure::new(
                FailureKind::InvalidResponse,
                "the metadata document is malformed",
            )
        })?;
        if metadata.issuer == issuer {
            Ok(metadata)
        } else {
            Err(Failure::new(
                FailureKind::InvalidResponse,
                "the metadata document names another issuer",
            ))
        }
    }
}

/// Where the metadata of an issuer lies.
pub(crate) fn metadata_url(issuer: &str) -> Result<Url, Failure> {
    Url::parse(&format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    ))
    .map_err(|_| Failure::new(FailureKind::ClientMisconfigured, "the issuer is not a URL"))
}

/// A provider's published keys.
#[derive(Debug)]
pub(crate) struct Keys(pub(crate) Vec<VerifyingKey>);

impl Keys {
    /// Reads a JWK set (RFC 7517 §5). Keys that we cannot use are left out, as the RFC says.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = oauth::json::read(body).ok_or_else(|| {
            Failure::new(FailureKind::InvalidResponse, "the key set is malformed")
        })?;
        if set.keys.len() > MOST_KEYS {
            return Err(Failure::new(
                FailureKind::InvalidResponse,
                "the key set has more than 100 keys",
            ));
        }
        Ok(Self(
            set.keys
                .iter()
                .filter(|key| key.get("use").is_none_or(|used| used == "sig"))
                .filter_map(|key| VerifyingKey::from_jwk(key).ok())
                .collect(),
        ))
    }

    pub(crate) fn knows(&self, kid: Option<&str>) -> bool {
        match kid {
            None => !self.0.is_empty(),
            Some(kid) => self
                .0
                .iter()
                .any(|key| key.kid().is_none_or(|known| known == kid)),
        }
    }
}

/// Things by address, with the time at which they were fetched. Bounded: the oldest goes first.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    entries: Mutex<HashMap<String, (Timestamp, Arc<T>)>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
        }
    }
}

impl<T> Cache<T> {
    /// What is known under an address, where it was fetched no longer ago than `life`.
    pub(crate) fn get(
        &self,
        address: &str,
        now: Timestamp,
        life: SignedDuration,
    ) -> Option<Arc<T>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (fetched_at, value) = entries.get(address)?;
        let age = now.duration_since(*fetched_at);
        (age >= SignedDuration::ZERO && age < life).then(|| Arc::clone(value))
    }

    pub(crate) fn put(&self, address: &str, now: Timestamp, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST_ENTRIES
            && !entries.contains_key(address)
            && let Some(oldest) = entries
                .iter()
                .min_by_key(|(_, (fetched_at, _))| *fetched_at)
                .map(|(address, _)| address.clone())
        {
            entries.remove(&oldest);
        }
        entries.insert(address.to_owned(), (now, Arc::clone(&value)));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_20_the_issuer_has_to_be_the_configured_one() {
        let body =
            br#"{"issuer":"https://p.example","authorization_endpoint":"https://p.example/a",
                        "token_endpoint":"https://p.example/t"}"#;
        assert!(Metadata::read(body, "https://p.example").is_ok());
        assert!(Metadata::read(body, "https://p.example/").is_err());
        assert!(Metadata::read(body, "https://evil.example").is_err());
        assert!(Metadata::read(b"<html>", "https://p.example").is_err());
    }

    #[test]
    fn metadata_lies_below_the_issuer() {
        for issuer in ["https://p.example/realm", "https://p.example/realm/"] {
            assert_eq!(
                metadata_url(issuer).unwrap().as_str(),
                "https://p.example/realm/.well-known/openid-configuration"
            );
        }
    }

    #[test]
    fn up_20_too_many_keys_are_refused_and_foreign_ones_left_out() {
        let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; 101].join(","));
        assert!(Keys::read(many.as_bytes()).is_err());
        let keys = Keys::read(br#"{"keys":[{"kty":"oct","k":"AA"},{"kty":"new"}]}"#).unwrap();
        assert!(!keys.knows(None));
    }

    #[test]
    fn the_cache_forgets_by_age_and_by_number() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let cache = Cache::default();
        cache.put("a", at(0), 1);
        assert!(cache.get("a", at(599), METADATA_LIFE).is_some());
        assert!(cache.get("a", at(600), METADATA_LIFE).is_none());
        assert!(cache.get("a", at(-1), METADATA_LIFE).is_none());
        for n in 1..=1000 {
            cache.put(&n.to_string(), at(n), 1);
        }
        assert!(cache.get("a", at(1), METADATA_LIFE).is_none());
        assert!(cache.get("1000", at(1000), METADATA_LIFE).is_some());
    }
}
