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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::digest::hex;
    use crate::entropy::tests::Stuck;
    use crate::{SeededEntropy, SystemEntropy};

    fn ring() -> KeyRing {
        let mut ring = KeyRing::new("dep_1");
        for (purpose, byte) in Purpose::ALL.into_iter().zip(1..) {
            ring.insert(purpose, 1, SecretBytes::new(vec![byte; 32]));
        }
        ring
    }

    fn place<'a>(row_id: &'a str, field: &'a str) -> RecordContext<'a> {
        RecordContext {
            table: "token_set",
            row_id,
            field,
            generation: 4,
        }
    }

    fn seal(ring: &KeyRing, context: &RecordContext<'_>, plaintext: &[u8]) -> Vec<u8> {
        ring.seal(&SystemEntropy, Purpose::Record, context, plaintext)
            .unwrap()
    }

    #[test]
    fn cr_01_swapped_rows_do_not_open() {
        let ring = ring();
        let sealed = seal(&ring, &place("cac_a", "tokens"), b"secret of a");
        assert_eq!(
            ring.open(Purpose::Record, &place("cac_b", "tokens"), &sealed)
                .unwrap_err(),
            OpenError::Commitment
        );
    }

    #[test]
    fn cr_02_swapped_columns_tables_deployments_and_purposes_do_not_open() {
        let ring = ring();
        let here = place("cac_a", "access");
        let sealed = seal(&ring, &here, b"secret");
        for elsewhere in [
            place("cac_a", "refresh"),
            RecordContext {
                table: "connection",
                ..here
            },
            RecordContext {
                generation: 3,
                ..here
            },
        ] {
            assert!(ring.open(Purpose::Record, &elsewhere, &sealed).is_err());
        }
        assert!(ring.open(Purpose::SigningKeys, &here, &sealed).is_err());
        let mut other = KeyRing::new("dep_2");
        other.insert(Purpose::Record, 1, SecretBytes::new(vec![4; 32]));
        assert!(other.open(Purpose::Record, &here, &sealed).is_err());
    }

    #[test]
    fn cr_05_an_older_record_opens_for_its_own_generation_only() {
        let ring = ring();
        let now = place("cac_a", "tokens");
        let before = RecordContext {
            generation: 3,
            ..now
        };
        let older = seal(&ring, &before, b"older");
        // Put back with its generation it opens: whoever keeps generations elsewhere can tell. Without, it does not.
        assert!(ring.open(Purpose::Record, &before, &older).is_ok());
        assert!(ring.open(Purpose::Record, &now, &older).is_err());
    }

    #[test]
    fn cr_07_a_record_commits_to_its_data_key() {
        let mut ring = ring();
        let here = place("cac_a", "tokens");
        let sealed = seal(&ring, &here, b"secret");
        ring.insert(Purpose::Record, 2, SecretBytes::new(vec![99; 32]));
        let mut renamed = sealed.clone();
        renamed[5] = 2;
        assert_eq!(
            ring.open(Purpose::Record, &here, &renamed).unwrap_err(),
            OpenError::Commitment
        );
        assert!(ring.open(Purpose::Record, &here, &sealed).is_ok());
    }

    #[test]
    fn cr_08_there_is_one_format_and_no_way_around_it() {
        let ring = ring();
        let here = place("cac_a", "tokens");
        let sealed = seal(&ring, &here, b"secret");
        for byte in (0..=u8::MAX).filter(|byte| *byte != 1) {
            let mut changed = sealed.clone();
            changed[0] = byte;
            assert_eq!(
                ring.open(Purpose::Record, &here, &changed).unwrap_err(),
                OpenError::UnknownFormat
            );
            changed[0] = 1;
            changed[1] = byte;
            assert_eq!(
                ring.open(Purpose::Record, &here, &changed).unwrap_err(),
                OpenError::UnknownSuite
            );
        }
        let mut changed = sealed.clone();
        changed[5] = 9;
        assert_eq!(
            ring.open(Purpose::Record, &here, &changed).unwrap_err(),
            OpenError::UnknownKey
        );
        assert!(ring.open(Purpose::Record, &here, b"secret").is_err());
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_refused() {
        let ring = ring();
        let here = place("cac_a", "tokens");
        let sealed = seal(&ring, &here, b"secret");
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[place] ^= 1 << bit;
                assert!(ring.open(Purpose::Record, &here, &changed).is_err());
            }
            assert!(ring.open(Purpose::Record, &here, &sealed[..place]).is_err());
        }
        let longer = [&sealed[..], &[0]].concat();
        assert!(ring.open(Purpose::Record, &here, &longer).is_err());
    }

    #[test]
    fn cr_13_nothing_is_sealed_twice_with_one_salt() {
        let ring = ring();
        let here = place("cac_a", "tokens");
        let stuck = Stuck(0x42);
        assert!(ring.seal(&stuck, Purpose::Record, &here, b"1").is_ok());
        assert_eq!(
            ring.seal(&stuck, Purpose::Record, &here, b"2").unwrap_err(),
            SealError::RepeatedSalt
        );
        assert_eq!(
            ring.seal(&Stuck(0), Purpose::Record, &here, b"1")
                .unwrap_err(),
            SealError::RepeatedSalt
        );
        let entropy = SeededEntropy::new(1);
        for _ in 0..10_000 {
            assert!(ring.seal(&entropy, Purpose::Record, &here, b"1").is_ok());
        }
    }

    #[test]
    fn cr_19_purposes_do_not_meet_even_under_one_key() {
        let mut ring = KeyRing::new("dep_1");
        for purpose in Purpose::ALL {
            ring.insert(purpose, 1, SecretBytes::new(vec![1; 32]));
        }
        let macs: BTreeSet<_> = Purpose::ALL
            .into_iter()
            .map(|purpose| ring.mac(purpose, "d", &[b"x"]))
            .collect();
        assert_eq!(macs.len(), 7);
    }

    #[test]
    fn lengths_hide_in_steps_of_256() {
        let ring = ring();
        let here = place("cac_a", "tokens");
        let len = |plaintext: usize| seal(&ring, &here, &vec![1; plaintext]).len();
        assert_eq!(len(0), 70 + 256 + 16);
        assert_eq!(len(252), 70 + 256 + 16);
        assert_eq!(len(253), 70 + 512 + 16);
        assert_eq!(
            ring.seal(
                &SystemEntropy,
                Purpose::Record,
                &here,
                &vec![0; (1 << 20) + 1]
            )
            .unwrap_err(),
            SealError::TooLong
        );
        let far = "x".repeat(70_000);
        assert_eq!(
            ring.seal(&SystemEntropy, Purpose::Record, &place(&far, ""), b"")
                .unwrap_err(),
            SealError::ContextTooLong
        );
    }

    #[test]
    fn a_rotation_seals_with_the_new_key_and_opens_with_both() {
        let mut ring = ring();
        let here = place("cac_a", "tokens");
        let old = seal(&ring, &here, b"secret");
        let old_mac = ring.mac(Purpose::RowMac, "grant", &[b"row"]);
        ring.insert(Purpose::Record, 2, SecretBytes::new(vec![21; 32]));
        ring.insert(Purpose::RowMac, 2, SecretBytes::new(vec![22; 32]));
        let new = seal(&ring, &here, b"secret");
        assert_eq!(KeyRing::sealed_under(&old), Ok(1));
        assert_eq!(KeyRing::sealed_under(&new), Ok(2));
        assert_eq!(ring.current_version(Purpose::Record), Some(2));
        for sealed in [&old, &new] {
            let opened = ring.open(Purpose::Record, &here, sealed).unwrap();
            assert_eq!(opened.reveal(), b"secret");
        }
        let new_mac = ring.mac(Purpose::RowMac, "grant", &[b"row"]);
        assert_ne!(old_mac, new_mac);
        for mac in [old_mac, new_mac] {
            assert!(ring.mac_matches(Purpose::RowMac, "grant", &[b"row"], &mac));
            assert!(ring.mac_matches(Purpose::RowMac, "grant", &[b"row"], &mac[..16]));
            assert!(!ring.mac_matches(Purpose::RowMac, "grant", &[b"row"], &mac[..15]));
            assert!(!ring.mac_matches(Purpose::RowMac, "grant", &[b"roW"], &mac));
            assert!(!ring.mac_matches(Purpose::RowMac, "client", &[b"row"], &mac));
        }
    }

    #[test]
    fn a_mac_is_the_one_that_another_implementation_makes() {
        let mut ring = KeyRing::new("dep_1");
        ring.insert(Purpose::RowMac, 1, SecretBytes::new(vec![7; 32]));
        assert_eq!(
            hex(&ring.mac(Purpose::RowMac, "grant", &[b"a", b"", b"bc"])),
            "a26654c2141598066dc8a2a4a98705347f791c95530195dec4ac0a4699a510a7"
        );
    }

    #[test]
    fn a_ring_says_what_it_lacks() {
        let mut ring = KeyRing::new("dep_1");
        assert_eq!(ring.missing(), Purpose::ALL);
        ring.insert(Purpose::Audit, 1, SecretBytes::new(vec![1; 32]));
        assert_eq!(ring.missing().len(), 6);
        let here = place("cac_a", "tokens");
        assert_eq!(
            ring.seal(&SystemEntropy, Purpose::Record, &here, b"")
                .unwrap_err(),
            SealError::NoKey
        );
        assert!(!ring.mac_matches(Purpose::RowMac, "d", &[], &[0; 32]));
        assert!(self::ring().missing().is_empty());
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::from_str(purpose.as_str()), Some(purpose));
        }
        assert_eq!(Purpose::from_str("none"), None);
    }

    #[test]
    fn a_ring_is_shared_between_threads_and_prints_no_key() {
        fn shared<T: Send + Sync>(_: &T) {}
        let ring = ring();
        shared(&ring);
        assert!(
            format!("{ring:?}")
                .starts_with("KeyRing { deployment_id: \"dep_1\", keys: [(Audit, 1)")
        );
        assert!(!format!("{ring:?}").contains("SecretBytes"));
    }

    type Parts = (String, String, String, u64, u32);

    fn encode((table, row_id, field, generation, version): &Parts) -> Vec<u8> {
        let context = RecordContext {
            table,
            row_id,
            field,
            generation: *generation,
        };
        record::associated_data("dep", &context, *version)
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..2000), row in "\\PC{0,40}", field in "[a-z_]{0,10}") {
            let ring = ring();
            let sealed = seal(&ring, &place(&row, &field), &plaintext);
            prop_assert_eq!((sealed.len() - 86) % 256, 0);
            let opened = ring.open(Purpose::Record, &place(&row, &field), &sealed).unwrap();
            prop_assert_eq!(opened.reveal(), &plaintext[..]);
        }

        #[test]
        fn no_two_contexts_encode_alike(
            // A small alphabet, so that moving a boundary between two parts comes up often.
            a in ("[ab]{0,3}", "[ab]{0,3}", "[ab]{0,3}", 0..3_u64, 1..3_u32),
            b in ("[ab]{0,3}", "[ab]{0,3}", "[ab]{0,3}", 0..3_u64, 1..3_u32),
        ) {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }

        #[test]
        fn no_two_lists_of_parts_have_one_mac(
            a in proptest::collection::vec("[ab]{0,2}", 0..4),
            b in proptest::collection::vec("[ab]{0,2}", 0..4),
        ) {
            let ring = ring();
            let mac = |parts: &[String]| {
                let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
                ring.mac(Purpose::RowMac, "d", &parts)
            };
            prop_assert_eq!(a == b, mac(&a) == mac(&b));
        }

        #[test]
        fn opening_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let ring = ring();
            let _ = ring.open(Purpose::Record, &place("r", "f"), &bytes);
            let headed = [&[1, 1, 0, 0, 0, 1], &bytes[..]].concat();
            prop_assert!(ring.open(Purpose::Record, &place("r", "f"), &headed).is_err());
        }
    }
}
