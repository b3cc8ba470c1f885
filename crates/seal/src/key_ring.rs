//! The data keys of this deployment, unwrapped, by purpose and version.
//!
//! The vault fills a ring at start-up and whenever a key is added, and shares it in an `Arc`. Keys rotate: the highest
//! version of a purpose seals and signs, all versions open and compare.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;

use crate::record::{self, OpenError, RecordContext, SealError};
use crate::secret::constant_time_eq;
use crate::{Entropy, SecretBytes};

/// What a data key is for. Each purpose has keys of its own, so that no two uses can meet under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Fingerprints in the audit trail.
    Audit,
    /// Cookies.
    Cookie,
    /// Page cursors.
    Cursor,
    /// Sealed records.
    Record,
    /// The MAC over rows that grant power.
    RowMac,
    /// This issuer's private keys.
    SigningKeys,
    /// The MAC over secrets that we hand out and expect back.
    TokenPepper,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Audit,
        Self::Cookie,
        Self::Cursor,
        Self::Record,
        Self::RowMac,
        Self::SigningKeys,
        Self::TokenPepper,
    ];

    /// The name in the database and in the wrapped key's context.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Cookie => "cookie",
            Self::Cursor => "cursor",
            Self::Record => "record",
            Self::RowMac => "row-mac",
            Self::SigningKeys => "signing-keys",
            Self::TokenPepper => "token-pepper",
        }
    }

    /// The purpose with this name.
    #[expect(
        clippy::should_implement_trait,
        reason = "an absent name is not an error here"
    )]
    pub fn from_str(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == name)
    }
}

/// The unwrapped data keys. Share it in an `Arc`; a rotation builds a new one.
pub struct KeyRing {
    deployment_id: String,
    /// By purpose and version; there are never more than a few dozen.
    keys: Vec<DataKey>,
    recent_salts: RecentSalts,
}

struct DataKey {
    purpose: Purpose,
    version: u32,
    secret: SecretBytes,
    /// The same key, prepared for [`KeyRing::mac`].
    mac: hmac::Key,
}

impl KeyRing {
    /// An empty ring. `deployment_id` is part of every record's context and must never change.
    pub fn new(deployment_id: &str) -> Self {
        Self {
            deployment_id: deployment_id.to_owned(),
            keys: Vec::new(),
            recent_salts: RecentSalts::default(),
        }
    }

    /// Adds a key of 32 bytes. The highest version of a purpose is its current one; the same version again replaces.
    ///
    /// # Panics
    /// When the key is shorter than 32 bytes. [`KeyEncryption::unwrap`](crate::KeyEncryption::unwrap) yields none such.
    pub fn insert(&mut self, purpose: Purpose, version: u32, key: SecretBytes) {
        assert!(key.len() >= 32, "a data key has 32 bytes");
        self.keys
            .retain(|other| (other.purpose, other.version) != (purpose, version));
        let mac = hmac::Key::new(hmac::HMAC_SHA256, key.reveal());
        self.keys.push(DataKey {
            purpose,
            version,
            secret: key,
            mac,
        });
        self.keys.sort_by_key(|key| (key.purpose, key.version));
    }

    /// The version that seals and signs now, if there is a key for `purpose`.
    pub fn current_version(&self, purpose: Purpose) -> Option<u32> {
        self.current(purpose).map(|key| key.version)
    }

    /// The purposes that have no key yet. A server starts to serve when there are none.
    pub fn missing(&self) -> Vec<Purpose> {
        Purpose::ALL
            .into_iter()
            .filter(|purpose| self.current(*purpose).is_none())
            .collect()
    }

    /// Seals `plaintext` (at most 1 MiB) for one place in the database, under the current key.
    pub fn seal(
        &self,
        entropy: &dyn Entropy,
        purpose: Purpose,
        context: &RecordContext<'_>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let key = self.current(purpose).ok_or(SealError::NoKey)?;
        let aad = record::associated_data(&self.deployment_id, context, key.version);
        record::seal(
            entropy,
            key.secret.reveal(),
            key.version,
            &aad,
            plaintext,
            |salt| self.recent_salts.is_new(salt),
        )
    }

    /// Opens what [`seal`](Self::seal) made for the same purpose and place, under whichever version it names.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &RecordContext<'_>,
        sealed: &[u8],
    ) -> Result<SecretBytes, OpenError> {
        let version = record::key_version(sealed)?;
        let key = self
            .versions(purpose)
            .find(|key| key.version == version)
            .ok_or(OpenError::UnknownKey)?;
        let aad = record::associated_data(&self.deployment_id, context, version);
        record::open(key.secret.reveal(), &aad, sealed)
    }

    /// The version of the data key that `sealed` names: what a rotation sweeps by.
    pub fn sealed_under(sealed: &[u8]) -> Result<u32, OpenError> {
        record::key_version(sealed)
    }

    /// HMAC-SHA-256 over `domain` and `parts`, each behind its length, under the current key of `purpose`.
    ///
    /// # Panics
    /// When the ring holds no key for `purpose`: see [`missing`](Self::missing).
    #[expect(
        clippy::expect_used,
        reason = "a MAC under a key that is not kept would be worse than none"
    )]
    pub fn mac(&self, purpose: Purpose, domain: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.current(purpose)
            .expect("a server does not serve before its ring is complete")
            .mac(domain, parts)
    }

    /// Whether `expected` is the MAC over `domain` and `parts` under any version of the key, newest first.
    ///
    /// `expected` has 32 bytes, or the first 16 where a row keeps only those; any other length matches nothing.
    pub fn mac_matches(
        &self,
        purpose: Purpose,
        domain: &str,
        parts: &[&[u8]],
        expected: &[u8],
    ) -> bool {
        if expected.len() != 32 && expected.len() != 16 {
            return false;
        }
        self.versions(purpose).any(|key| {
            let mac = key.mac(domain, parts);
            mac.get(..expected.len())
                .is_some_and(|mac| constant_time_eq(mac, expected))
        })
    }

    fn current(&self, purpose: Purpose) -> Option<&DataKey> {
        self.versions(purpose).next()
    }

    /// The keys of a purpose, newest first.
    fn versions(&self, purpose: Purpose) -> impl Iterator<Item = &DataKey> {
        self.keys
            .iter()
            .rev()
            .filter(move |key| key.purpose == purpose)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self
            .keys
            .iter()
            .map(|key| (key.purpose, key.version))
            .collect();
        f.debug_struct("KeyRing")
            .field("deployment_id", &self.deployment_id)
            .field("keys", &versions)
            .finish()
    }
}

impl DataKey {
    fn mac(&self, domain: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.mac);
        // The purpose goes in too: keys that a mistake made equal still do not meet (CR-19).
        let names = [self.purpose.as_str().as_bytes(), domain.as_bytes()];
        for part in names.iter().chain(parts) {
            context.update(&record::length(part).to_be_bytes());
            context.update(part);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }
}

/// Remembers a few salts, to notice a source of randomness that is stuck or was cloned (CR-13).
///
/// A salt's first byte picks the place, eight others are kept. A false alarm needs 64 equal bits in neighbouring draws.
struct RecentSalts([AtomicU64; 64]);

impl Default for RecentSalts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 64])
    }
}

impl RecentSalts {
    fn is_new(&self, salt: &[u8; 32]) -> bool {
        let [place, rest @ ..] = salt;
        let Some((mark, _)) = rest.split_first_chunk::<8>() else {
            return false;
        };
        let mark = u64::from_be_bytes(*mark);
        self.0
            .get(usize::from(*place) % self.0.len())
            .is_some_and(|kept| kept.swap(mark, Ordering::Relaxed) != mark)
    }
}
