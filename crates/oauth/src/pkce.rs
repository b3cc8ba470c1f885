//! Proof Key for Code Exchange (RFC 7636), method S256 only.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::refusal::Refusal;

/// What the client keeps and shows at the token endpoint: 43 to 128 unreserved characters.
pub struct CodeVerifier(Zeroizing<String>);

/// What the client sends ahead: the base64url SHA-256 of the verifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeChallenge(String);

impl CodeVerifier {
    /// Checks length and characters (RFC 7636 §4.1).
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if is_pkce_text(text) {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(Refusal::invalid_request(
                "code_verifier_malformed",
                "code_verifier has to have 43 to 128 letters, digits, and the signs - . _ ~.",
            ))
        }
    }
}

impl fmt::Debug for CodeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeVerifier(…)")
    }
}

impl CodeChallenge {
    /// Checks length and characters (RFC 7636 §4.2).
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if is_pkce_text(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::invalid_request(
                "code_challenge_malformed",
                "code_challenge has to have 43 to 128 letters, digits, and the signs - . _ ~.",
            ))
        }
    }

    /// The challenge of a verifier, by S256.
    pub fn from_verifier(verifier: &CodeVerifier) -> Self {
        let digest = digest::digest(&digest::SHA256, verifier.0.as_bytes());
        Self(URL_SAFE_NO_PAD.encode(digest))
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the challenge of `verifier`; takes the same time either way.
    pub fn matches(&self, verifier: &CodeVerifier) -> bool {
        let expected = Self::from_verifier(verifier);
        constant_time::verify_slices_are_equal(self.0.as_bytes(), expected.0.as_bytes()).is_ok()
    }
}

fn is_pkce_text(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 7636, appendix B.
        let verifier = CodeVerifier::parse("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
        let challenge =
            CodeChallenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM").unwrap();
        assert!(challenge.matches(&verifier));
        assert_eq!(CodeChallenge::from_verifier(&verifier), challenge);
        let other = CodeVerifier::parse(&"x".repeat(43)).unwrap();
        assert!(!challenge.matches(&other));
        assert_eq!(format!("{verifier:?}"), "CodeVerifier(…)");
    }

    #[test]
    fn tk_08_au_16_length_and_characters() {
        for (text, expected) in [
            ("a".repeat(42), false),
            ("a".repeat(43), true),
            ("a".repeat(128), true),
            ("a".repeat(129), false),
            (format!("{}=", "a".repeat(43)), false),
            (format!("{}+", "a".repeat(43)), false),
            (format!("{}ä", "a".repeat(43)), false),
            ("-._~".repeat(11), true),
        ] {
            assert_eq!(CodeVerifier::parse(&text).is_ok(), expected, "{text}");
            assert_eq!(CodeChallenge::parse(&text).is_ok(), expected, "{text}");
        }
    }
}
