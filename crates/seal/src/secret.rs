//! Types that hold a secret: they do not print, do not serialise, and wipe themselves.
//!
//! `reveal` is the only way out, so that a reviewer can search for it; `duplicate` is the only way to a second copy.

use std::fmt;

use aws_lc_rs::constant_time;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret text: a token, a client secret, a password.
///
/// It has no `Clone`, `Display`, `Serialize` or `PartialEq` on purpose. Compare with [`constant_time_eq`].
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes over `text`; the buffer is wiped when this value is dropped.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself. What is done with it from here on is the caller's responsibility.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, wiped on its own. Named, so that copies can be found.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(…)")
    }
}

impl<'de> Deserialize<'de> for SecretString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Secret bytes: a key, an opened record.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`; the buffer is wiped when this value is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret itself. What is done with it from here on is the caller's responsibility.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, wiped on its own. Named, so that copies can be found.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

/// Whether `a` and `b` are the same bytes, in a time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_the_name_only() {
        assert_eq!(
            format!("{:?}", SecretString::new("hunter2".into())),
            "SecretString(…)"
        );
        assert_eq!(
            format!("{:#?}", SecretBytes::new(vec![1, 2, 3])),
            "SecretBytes(…)"
        );
    }

    #[test]
    fn a_secret_is_read_from_json_and_revealed() {
        let secret: SecretString = serde_json::from_str(r#""s3cret\"x""#).unwrap();
        assert_eq!(secret.reveal(), "s3cret\"x");
        assert_eq!(secret.len(), 8);
        assert_eq!(secret.duplicate().reveal(), secret.reveal());
    }

    #[test]
    fn equality_looks_at_every_byte_and_the_length() {
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(constant_time_eq(b"", b""));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"ab"));
        assert!(!constant_time_eq(b"abc", b""));
    }
}
