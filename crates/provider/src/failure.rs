//! What can go wrong at a provider, in the classes that decide what happens next.

use std::time::Duration;

/// The classes. Only [`ReauthorizationRequired`](Self::ReauthorizationRequired) says anything about the user's grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// The provider refuses us: client id, secret, endpoint or scope are wrong. Nobody's account is at fault.
    ClientMisconfigured,
    /// An answer that is none: not JSON, no token, broken characters.
    InvalidResponse,
    /// The request was sent and no usable answer came back: the provider may have acted on it.
    OutcomeUnknown,
    /// The provider asks to wait.
    RateLimited {
        /// How long, at most an hour; None where it does not say, or says nothing that can be believed.
        retry_after: Option<Duration>,
    },
    /// The provider says that code or refresh token is not good any more.
    ReauthorizationRequired,
    /// Our own guard refused the address, or the provider's certificate is not trusted.
    Refused,
    /// The grant does not cover the scopes asked for; it is otherwise good.
    ScopeMissing,
    /// The provider could not be reached, or said that it did nothing.
    Unavailable,
}

/// A failure. It holds fixed texts and checked codes, never what the provider wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    /// The class.
    pub kind: FailureKind,
    /// What happened, for the log.
    pub detail: &'static str,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The provider's `error`, where it is a plain code in one case.
    pub provider_error: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: &'static str) -> Self {
        Self {
            kind,
            detail,
            status: None,
            provider_error: None,
        }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn with_provider_error(mut self, error: Option<&str>) -> Self {
        self.provider_error = error.filter(|error| is_code(error)).map(str::to_owned);
        self
    }
}

/// Provider errors are shown in the audit log, so only what cannot carry anything else passes (threats UP-13): short words
/// of one case, without the digits and the length that a token would have.
fn is_code(text: &str) -> bool {
    let one_case = |lower: bool| {
        text.bytes().all(|byte| {
            byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.')
                || (if lower {
                    byte.is_ascii_lowercase()
                } else {
                    byte.is_ascii_uppercase()
                })
        })
    };
    (1..=64).contains(&text.len())
        && (one_case(true) || one_case(false))
        && text.split(['_', '-', '.']).all(|word| word.len() <= 24)
        && text.bytes().filter(u8::is_ascii_digit).count() <= 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_13_only_plain_codes_are_kept() {
        for (text, expected) in [
            ("invalid_grant", true),
            ("BAD_REFRESH_TOKEN", true),
            ("7000222", true),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", false),
            ("Bad_Refresh", false),
            ("a1b2c3d4e5f6a7b8c9", false),
            ("<script>", false),
            ("invalid grant", false),
            ("a\r\nb", false),
            ("", false),
            (&"x".repeat(65), false),
        ] {
            let failure =
                Failure::new(FailureKind::Unavailable, "x").with_provider_error(Some(text));
            assert_eq!(failure.provider_error.is_some(), expected, "{text}");
        }
    }
}
