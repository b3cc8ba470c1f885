//! Plain digests, for things that are not secret or have enough entropy of their own.

use aws_lc_rs::{digest, hmac};

use crate::SecretString;

/// The SHA-256 digest of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// The SHA-256 digest of `data` in lower-case hexadecimal, 64 characters: how a token is named in the audit trail.
pub fn sha256_hex_thumbprint(data: &[u8]) -> String {
    hex(&sha256(data))
}

/// HMAC-SHA-256 of `data` in lower-case hexadecimal, 64 characters, as providers sign what they send through a browser.
pub fn hmac_sha256_hex(key: &SecretString, data: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.reveal().as_bytes());
    hex(hmac::sign(&key, data).as_ref())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_sha256_is_the_published_value() {
        // RFC 4231, test case 2.
        assert_eq!(
            hmac_sha256_hex(
                &SecretString::new("Jefe".to_owned()),
                b"what do ya want for nothing?"
            ),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn sha256_of_abc_is_the_published_value() {
        // FIPS 180-4, example "abc".
        assert_eq!(
            sha256_hex_thumbprint(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
