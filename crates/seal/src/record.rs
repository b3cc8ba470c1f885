//! The record format, version 1: how something that must be given back later lies in the database.
//!
//! ```text
//! 0       format       0x01
//! 1       suite        0x01 = HKDF-SHA-512, AES-256-GCM, 32 bytes of key commitment
//! 2..6    data key     version, u32 big endian
//! 6..38   salt         random
//! 38..70  commitment   bytes 32..64 of what HKDF yields
//! 70..    ciphertext   AES-256-GCM(record key, nonce 0, frame, associated data), then the tag of 16 bytes
//! ```
//!
//! Every record is sealed under a key of its own, derived from the data key and the salt, so the nonce may be constant
//! and there is no number of records after which a data key wears out. The commitment is compared before anything is
//! decrypted: AES-GCM alone lets two keys open one ciphertext. The associated data says where the record belongs, so a
//! record that was moved to another row, column, table or deployment does not open.
//!
//! The frame is the plaintext's length (u32 big endian), the plaintext, and zeros up to a multiple of 256 bytes, so that
//! the size of a row does not tell a short token from a long one.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use zeroize::Zeroizing;

use crate::secret::constant_time_eq;
use crate::{Entropy, SecretBytes};

const FORMAT: u8 = 0x01;
const SUITE: u8 = 0x01;
const TAG_LEN: usize = 16;
const STEP: usize = 256;

/// The most that one record may hold. Larger things are not secrets, they are files.
const MAX_PLAINTEXT: usize = 1 << 20;

/// Where a record belongs: the parts of its associated data that the caller knows. The deployment comes from the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordContext<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The row's id.
    pub row_id: &'a str,
    /// The column's name.
    pub field: &'a str,
    /// How often the row's secret was replaced; 0 where it never is.
    pub generation: u64,
}

/// Why a record was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The table, row id and field are longer than 64 KiB together.
    #[error("the record's context is too long")]
    ContextTooLong,
    /// The ring holds no key for this purpose.
    #[error("there is no data key for this purpose")]
    NoKey,
    /// The source of randomness yielded a salt that was used before (CR-13): nothing may be sealed with it.
    #[error("the source of randomness repeats itself")]
    RepeatedSalt,
    /// The plaintext is longer than 1 MiB.
    #[error("the plaintext is too long")]
    TooLong,
}

/// Why a record did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The ciphertext was changed.
    #[error("the record was changed")]
    Authentication,
    /// The record was sealed for another place or generation, or under another data key of the same version: it was moved,
    /// swapped, or its header was changed. What it commits to includes the context, so nothing is decrypted to find out.
    #[error("the record does not belong here")]
    Commitment,
    /// The record is shorter than the shortest one.
    #[error("the record is cut short")]
    Truncated,
    /// The first byte is not a format that we read.
    #[error("the record has an unknown format")]
    UnknownFormat,
    /// The record names a data key that the ring does not hold.
    #[error("the record's data key is not in the ring")]
    UnknownKey,
    /// The second byte is not a suite that we read.
    #[error("the record has an unknown suite")]
    UnknownSuite,
}

/// The associated data of a record: every part carries its length, so no two contexts encode alike.
pub(crate) fn associated_data(
    deployment_id: &str,
    context: &RecordContext<'_>,
    version: u32,
) -> Vec<u8> {
    let mut aad = Vec::with_capacity(160);
    aad.push(FORMAT);
    // A deployment is one tenant; the format keeps a place for both.
    push_prefixed(&mut aad, deployment_id.as_bytes());
    push_prefixed(&mut aad, deployment_id.as_bytes());
    push_prefixed(&mut aad, context.table.as_bytes());
    push_prefixed(&mut aad, context.row_id.as_bytes());
    push_prefixed(&mut aad, context.field.as_bytes());
    aad.extend_from_slice(&context.generation.to_be_bytes());
    aad.extend_from_slice(&version.to_be_bytes());
    aad.push(SUITE);
    aad
}

/// Appends `part` behind its length (u32 big endian).
pub(crate) fn push_prefixed(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&length(part).to_be_bytes());
    out.extend_from_slice(part);
}

/// A part's length as it is written; the saturation cannot be reached by anything that is kept in a database.
pub(crate) fn length(part: &[u8]) -> u32 {
    u32::try_from(part.len()).unwrap_or(u32::MAX)
}

/// The version of the data key that `sealed` names, after its format and suite were found to be ours.
pub(crate) fn key_version(sealed: &[u8]) -> Result<u32, OpenError> {
    let [format, suite, version @ ..] = sealed else {
        return Err(OpenError::Truncated);
    };
    if *format != FORMAT {
        return Err(OpenError::UnknownFormat);
    }
    if *suite != SUITE {
        return Err(OpenError::UnknownSuite);
    }
    let (version, _) = version
        .split_first_chunk::<4>()
        .ok_or(OpenError::Truncated)?;
    Ok(u32::from_be_bytes(*version))
}

/// Seals `plaintext` under a data key, as a whole record.
pub(crate) fn seal(
    entropy: &dyn Entropy,
    key: &[u8],
    version: u32,
    aad: &[u8],
    plaintext: &[u8],
    salt_is_new: impl FnOnce(&[u8; 32]) -> bool,
) -> Result<Vec<u8>, SealError> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(SealError::TooLong);
    }
    let mut salt = [0; 32];
    entropy.fill(&mut salt);
    if !salt_is_new(&salt) {
        return Err(SealError::RepeatedSalt);
    }
    let derived = derive(key, Label::Record, aad, &salt).ok_or(SealError::ContextTooLong)?;

    let frame_len = (4 + plaintext.len()).next_multiple_of(STEP);
    let mut out = Vec::with_capacity(HEADER_LEN + frame_len + TAG_LEN);
    out.extend_from_slice(&[FORMAT, SUITE]);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&derived.commitment);
    out.extend_from_slice(&length(plaintext).to_be_bytes());
    out.extend_from_slice(plaintext);
    out.resize(HEADER_LEN + frame_len, 0);
    derived.encrypt(aad, &mut out, HEADER_LEN);
    Ok(out)
}

/// Opens a whole record whose header [`key_version`] has read.
pub(crate) fn open(key: &[u8], aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, OpenError> {
    let (_, body) = sealed.split_at_checked(6).ok_or(OpenError::Truncated)?;
    let mut frame = open_body(key, Label::Record, aad, body)?;
    let (prefix, rest) = frame
        .split_first_chunk::<4>()
        .ok_or(OpenError::Authentication)?;
    let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if len > rest.len() {
        return Err(OpenError::Authentication);
    }
    // The frame is wiped with its whole capacity, so what is cut off here is wiped too.
    frame.copy_within(4..4 + len, 0);
    frame.truncate(len);
    Ok(SecretBytes::new(std::mem::take(&mut *frame)))
}

const HEADER_LEN: usize = 2 + 4 + 32 + 32;

/// What a key is derived for. Two uses never share a key, even under one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// A record under a data key.
    Record,
    /// A data key under a master key.
    Wrap,
}

impl Label {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Record => b"tv/record/1",
            Self::Wrap => b"tv/wrap/1",
        }
    }
}

/// Seals `plaintext` as it is (no frame): `salt | commitment | ciphertext and tag`.
pub(crate) fn seal_body(
    entropy: &dyn Entropy,
    key: &[u8],
    label: Label,
    aad: &[u8],
    plaintext: &[u8],
) -> Option<Vec<u8>> {
    let mut salt = [0; 32];
    entropy.fill(&mut salt);
    let derived = derive(key, label, aad, &salt)?;
    let mut out = Vec::with_capacity(64 + plaintext.len() + TAG_LEN);
    out.extend_from_slice(&salt);
    out.extend_from_slice(&derived.commitment);
    out.extend_from_slice(plaintext);
    derived.encrypt(aad, &mut out, 64);
    Some(out)
}

/// Opens what [`seal_body`] made. The commitment is compared before anything is decrypted.
pub(crate) fn open_body(
    key: &[u8],
    label: Label,
    aad: &[u8],
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (salt, body) = body.split_first_chunk::<32>().ok_or(OpenError::Truncated)?;
    let (commitment, ciphertext) = body.split_first_chunk::<32>().ok_or(OpenError::Truncated)?;
    if ciphertext.len() < TAG_LEN {
        return Err(OpenError::Truncated);
    }
    let derived = derive(key, label, aad, salt).ok_or(OpenError::Authentication)?;
    if !constant_time_eq(&derived.commitment, commitment) {
        return Err(OpenError::Commitment);
    }
    derived.decrypt(aad, ciphertext)
}

/// A key that is used for one record, and what commits to it.
struct Derived {
    key: LessSafeKey,
    commitment: [u8; 32],
}

/// HKDF over the data key; `None` when the context is longer than its length field can say.
fn derive(key: &[u8], label: Label, aad: &[u8], salt: &[u8; 32]) -> Option<Derived> {
    let aad_len = u16::try_from(aad.len()).ok()?.to_be_bytes();
    let mut okm = Zeroizing::new([0; 64]);
    Salt::new(HKDF_SHA512, salt)
        .extract(key)
        .expand(&[label.as_bytes(), &aad_len, aad], Len64)
        .ok()?
        .fill(&mut *okm)
        .ok()?;
    let (record_key, commitment) = okm.split_first_chunk::<32>()?;
    Some(Derived {
        key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, record_key).ok()?),
        commitment: commitment.try_into().ok()?,
    })
}

impl Derived {
    /// Encrypts `out[from..]` in place and appends the tag.
    #[expect(
        clippy::expect_used,
        reason = "the lengths are bounded above, and half a record must not leave this function"
    )]
    fn encrypt(&self, aad: &[u8], out: &mut Vec<u8>, from: usize) {
        let plaintext = out.get_mut(from..).expect("the header was just written");
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(), Aad::from(aad), plaintext)
            .expect("a record is far below AES-GCM's limit");
        out.extend_from_slice(tag.as_ref());
    }

    fn decrypt(&self, aad: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let len = self
            .key
            .open_in_place(nonce(), Aad::from(aad), &mut buffer)
            .map_err(|_| OpenError::Authentication)?
            .len();
        buffer.truncate(len);
        Ok(buffer)
    }
}

/// Constant, because no key is used twice.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// 64 bytes of key material.
struct Len64;

impl KeyType for Len64 {
    fn len(&self) -> usize {
        64
    }
}
