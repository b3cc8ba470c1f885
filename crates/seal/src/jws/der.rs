//! Enough DER and PEM to take a public key out of the texts that people paste: a public key, or a certificate.
//!
//! Nothing here decides whether a key is good; `key.rs` does, for keys of every origin alike.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use zeroize::Zeroizing;

/// A public key's numbers, borrowed from the DER they were found in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicNumbers<'a> {
    /// A point, uncompressed, with the curve's OID.
    Ec { curve: &'a [u8], point: &'a [u8] },
    /// Ed25519.
    Ed25519(&'a [u8]),
    /// Modulus and exponent, without leading zeros.
    Rsa { n: &'a [u8], e: &'a [u8] },
}

/// The OID of P-256.
pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// The OID of P-384.
pub(super) const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_0: u8 = 0xa0;

/// The first PEM block of a text: its label and its bytes.
pub(super) fn pem(text: &str) -> Option<(&str, Zeroizing<Vec<u8>>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, end) = rest.split_once("-----END ")?;
    end.strip_prefix(label)?.strip_prefix("-----")?;
    let body: Zeroizing<String> = Zeroizing::new(
        body.chars()
            .filter(|letter| !letter.is_ascii_whitespace())
            .collect(),
    );
    Some((
        label,
        Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?),
    ))
}

/// A PEM block, its lines as long as RFC 7468 §2 wants them.
pub(super) fn to_pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (index, letter) in body.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

/// The numbers in a `SubjectPublicKeyInfo` (RFC 5280 §4.1).
pub(super) fn subject_public_key_info(der: &[u8]) -> Option<PublicNumbers<'_>> {
    let (info, rest) = element(SEQUENCE, der)?;
    rest.is_empty().then_some(())?;
    let (algorithm, info) = element(SEQUENCE, info)?;
    let (bits, rest) = element(BIT_STRING, info)?;
    rest.is_empty().then_some(())?;
    // The first byte counts unused bits at the end; a key has none.
    let key = bits.strip_prefix(&[0])?;
    match element(OBJECT_ID, algorithm)? {
        (RSA_ENCRYPTION, _) => rsa_public_key(key),
        (ED25519, _) => Some(PublicNumbers::Ed25519(key)),
        (EC_PUBLIC_KEY, parameters) => Some(PublicNumbers::Ec {
            curve: element(OBJECT_ID, parameters)?.0,
            point: key,
        }),
        _ => None,
    }
}

/// The numbers in an `RSAPublicKey` (RFC 8017 §A.1.1).
pub(super) fn rsa_public_key(der: &[u8]) -> Option<PublicNumbers<'_>> {
    let (numbers, rest) = element(SEQUENCE, der)?;
    rest.is_empty().then_some(())?;
    let (n, numbers) = element(INTEGER, numbers)?;
    let (e, rest) = element(INTEGER, numbers)?;
    rest.is_empty().then_some(())?;
    Some(PublicNumbers::Rsa {
        n: positive(n)?,
        e: positive(e)?,
    })
}

/// The `SubjectPublicKeyInfo` in a certificate (RFC 5280 §4.1). The certificate is a wrapping here; who signed it and
/// until when is not looked at.
pub(super) fn certificate_key(der: &[u8]) -> Option<&[u8]> {
    // Serial number, signature algorithm, issuer, validity, subject; then the key.
    let fields = certificate_fields(der, &[INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE])?;
    let (_, rest) = element(SEQUENCE, fields)?;
    fields.get(..fields.len() - rest.len())
}

/// When a certificate says that it ends (RFC 5280 §4.1.2.5): `UTCTime` until 2049, `GeneralizedTime` after.
pub(super) fn certificate_end(der: &[u8]) -> Option<Timestamp> {
    let fields = certificate_fields(der, &[INTEGER, SEQUENCE, SEQUENCE])?;
    let (validity, _) = element(SEQUENCE, fields)?;
    let (_, end) = element(UTC_TIME, validity).or_else(|| element(GENERALIZED_TIME, validity))?;
    let text = match element(UTC_TIME, end) {
        Some((text, _)) => {
            let text = std::str::from_utf8(text).ok()?;
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        None => std::str::from_utf8(element(GENERALIZED_TIME, end)?.0)
            .ok()?
            .to_owned(),
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

/// What follows these fields of a certificate's body.
fn certificate_fields<'a>(der: &'a [u8], skipped: &[u8]) -> Option<&'a [u8]> {
    let (certificate, _) = element(SEQUENCE, der)?;
    let (mut fields, _) = element(SEQUENCE, certificate)?;
    if let Some((_, rest)) = element(EXPLICIT_0, fields) {
        fields = rest;
    }
    for tag in skipped {
        (_, fields) = element(*tag, fields)?;
    }
    Some(fields)
}

/// The content of the element at the beginning, if it has this tag, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            let len = bytes
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            (len, rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(len))?
}

/// A positive INTEGER's bytes without the zero that keeps it positive.
fn positive(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [] | [0] | [0x80..=0xff, ..] => None,
        [0, rest @ ..] => Some(rest),
        rest => Some(rest),
    }
}
