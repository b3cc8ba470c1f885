//! Why the wire layer refuses: a standard's error code, a sentence, and a stable private reason.

use std::borrow::Cow;

/// The error codes that this server says, from RFC 6749 §4.1.2.1 and §5.2, RFC 8693, RFC 8707, RFC 9101 and OpenID
/// Connect Core §3.1.2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The resource owner or the server said no.
    AccessDenied,
    /// The client has to send the user to consent.
    ConsentRequired,
    /// Client authentication failed.
    InvalidClient,
    /// The code, refresh token or assertion is not good.
    InvalidGrant,
    /// A parameter is missing, malformed or repeated.
    InvalidRequest,
    /// The pushed request is unknown, expired or used.
    InvalidRequestUri,
    /// A scope is malformed or not allowed.
    InvalidScope,
    /// The audience or resource is not one that may be asked for.
    InvalidTarget,
    /// The client has to send the user to log in.
    LoginRequired,
    /// Request objects are not understood.
    RequestNotSupported,
    /// The client may not use this grant or response type.
    UnauthorizedClient,
    /// The grant type does not exist here.
    UnsupportedGrantType,
    /// The response type does not exist here.
    UnsupportedResponseType,
}

impl Code {
    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::ConsentRequired => "consent_required",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidRequestUri => "invalid_request_uri",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::LoginRequired => "login_required",
            Self::RequestNotSupported => "request_not_supported",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
        }
    }

    /// The HTTP status at an endpoint that answers with JSON.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidClient => 401,
            Self::AccessDenied => 403,
            _ => 400,
        }
    }
}

/// A refusal of the wire layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error code.
    pub code: Code,
    /// A sentence for the caller, in the characters that RFC 6749 §5.2 allows. It never quotes what was sent.
    pub description: Cow<'static, str>,
    /// The private reason for log and audit, in snake case.
    pub reason: &'static str,
}

impl Refusal {
    /// A refusal with a fixed sentence.
    pub fn new(
        code: Code,
        reason: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            code,
            description: description.into(),
            reason,
        }
    }

    /// `invalid_request`.
    pub fn invalid_request(
        reason: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(Code::InvalidRequest, reason, description)
    }
}
