//! What can go wrong, in two kinds that never mix.
//!
//! A [`Refusal`] is ours to say: one [`Reason`] of a closed list, with the standard's code, a status and a sentence
//! that helps. A [`Fault`] is ours to fix: the caller sees an id, the log gets the chain once, at the edge.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};
use store::{ReadError, WriteError};

/// A refusal or a fault.
#[derive(Debug)]
pub enum Error {
    /// The caller may not have this; it is told why.
    Refused(Box<Refusal>),
    /// We could not do it; the caller may try again.
    Fault(Fault),
}

/// A failure of ours. Its chain is for the log and never for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Something inside is broken.
    #[error("{0}")]
    Internal(String),
    /// A sealed value did not open: damaged, swapped or from another deployment.
    #[error("opening a sealed value: {0}")]
    Integrity(String),
    /// The database cannot be reached or has no free connection.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
}

/// Why a request is refused: the reason, and what this occasion adds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    status: u16,
    code: &'static str,
    description: Cow<'static, str>,
    private_reason: &'static str,
    retry_after: Option<Duration>,
    extra: Map<String, Value>,
}

impl Refusal {
    /// A refusal with the reason's own code, status and sentence.
    pub fn new(reason: Reason) -> Self {
        let (status, code, description) = reason.row();
        Self {
            reason,
            status,
            code,
            description: Cow::Borrowed(description),
            private_reason: reason.as_str(),
            retry_after: None,
            extra: Map::new(),
        }
    }

    /// Replaces the sentence. It may name what the caller sent, never what only we know.
    #[must_use]
    pub fn describe(mut self, description: impl Into<Cow<'static, str>>) -> Self {
        self.description = description.into();
        self
    }

    /// Says when to try again (`Retry-After`).
    #[must_use]
    pub fn retry_after_duration(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds a member to the error body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The same about something inside a larger document: `prefix` leads to it, with dots.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        let errors = self.extra.get_mut("validation_errors");
        for error in errors.and_then(Value::as_array_mut).into_iter().flatten() {
            for (name, prefix) in [
                ("field", format!("{prefix}.")),
                ("pointer", format!("/{}", prefix.replace('.', "/"))),
            ] {
                if let Some(Value::String(place)) = error.get_mut(name) {
                    place.insert_str(0, &prefix);
                }
            }
        }
        let separator = if self.extra.contains_key("validation_errors") {
            "."
        } else {
            ": "
        };
        self.description = format!("{prefix}{separator}{}", self.description).into();
        self
    }

    /// Answers with another code and status, as a second dialect of the same grant demands; the reason stays.
    #[must_use]
    pub fn answered_as(mut self, status: u16, code: &'static str) -> Self {
        self.status = status;
        self.code = code;
        self
    }

    /// The reason, for tests and decisions.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The private reason for the log and the audit row, in snake case.
    pub fn private_reason(&self) -> &'static str {
        self.private_reason
    }

    /// The error code on the wire.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A sentence for the caller: printable ASCII without quotes and backslashes (RFC 6749 §5.2).
    pub fn description(&self) -> &str {
        &self.description
    }

    /// How long to wait before asking again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Members beside `error` and `error_description`.
    pub fn extra(&self) -> &Map<String, Value> {
        &self.extra
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $status:literal, $code:literal, $sentence:literal;)*) => {
        /// Every reason for which this product refuses, each with its status, code and sentence.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            /// The wire layer refused what it parsed; the refusal carries that layer's own code and sentence.
            Malformed,
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, for the table in the documentation and the tests that walk it.
            pub const ALL: &'static [Reason] = &[Reason::Malformed, $(Reason::$variant,)*];

            /// The stable private name.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::Malformed => "malformed",
                    $(Self::$variant => $name,)*
                }
            }

            fn row(self) -> (u16, &'static str, &'static str) {
                match self {
                    Self::Malformed => (400, "invalid_request", "The request is malformed."),
                    $(Self::$variant => ($status, $code, $sentence),)*
                }
            }
        }
    };
}

// Alphabetical. Where Auth0's wire contract fixes a code or status, it is that one.
reasons! {
    /// An administrator hands on rights that they do not have themselves.
    AboveAdministrator, "above_administrator", 403, "access_denied",
        "This would give away scopes of the Management API that your own access token does not have.";
    /// An access token that one of our own APIs does not accept.
    AccessTokenInvalid, "access_token_invalid", 401, "invalid_token",
        "The access token is invalid, expired, revoked or meant for another API.";
    /// The provider no longer honours the account's tokens; the user has to connect again.
    AccountNeedsReauthorization, "account_needs_reauthorization", 401, "federated_connection_refresh_token_flow_failed",
        "The provider no longer accepts the stored authorization. The user has to connect the account again.";
    /// The user has no account at the connection.
    AccountNotConnected, "account_not_connected", 401, "federated_connection_refresh_token_not_found",
        "Federated connection Refresh Token not found. The user has no connected account at this connection.";
    /// The user has accounts at the connection, but none that the hint names.
    AccountNotMatched, "account_not_matched", 401, "user_not_found",
        "Identity User not found. No connected account matches login_hint.";
    /// A refresh was in flight when its node died, and the provider allows no second try.
    AccountOutcomeUnknown, "account_outcome_unknown", 401, "federated_connection_refresh_token_flow_failed",
        "The last refresh ended without a known outcome and cannot be repeated. The user has to connect the account again.";
    /// The user has several accounts that the request could mean, and the deployment wants callers to choose.
    AccountSelectionRequired, "account_selection_required", 400, "account_selection_required",
        "The user has several connected accounts that this could mean. Name one of candidates in login_hint.";
    /// The account id is not one of this user's.
    AccountUnknown, "account_unknown", 404, "not_found", "There is no such connected account.";
    /// The caller's address is not in the client's list.
    AddressNotAllowed, "address_not_allowed", 403, "access_denied",
        "Requests from this network address are not allowed for this client.";
    /// A name or identifier that may be there only once.
    AlreadyExists, "already_exists", 409, "conflict",
        "There is one of that name or identifier already.";
    /// A client without a grant for an API that requires one.
    ApiNotAllowed, "api_not_allowed", 403, "access_denied",
        "The client is not authorized to access this resource server.";
    /// A client asks for a token for itself and does not say for which API.
    AudienceMissing, "audience_missing", 400, "invalid_request",
        "The parameter audience is missing.";
    /// A refresh token is used for an API that it does not cover.
    AudienceNotCovered, "audience_not_covered", 400, "invalid_target",
        "The refresh token is not good for this audience. Add it to refresh_token.policies of the client.";
    /// An audience that the client's access token does not cover.
    AudienceNotLinked, "audience_not_linked", 403, "access_denied",
        "The access token was issued for another API than the one this client represents (resource_server_identifier).";
    /// No API has this identifier.
    AudienceUnknown, "audience_unknown", 400, "invalid_target",
        "There is no API with this audience.";
    /// Somebody else changed the object at the same time, again and again.
    ChangedMeanwhile, "changed_meanwhile", 409, "conflict",
        "This was changed by somebody else at the same time. Read it again and repeat the change.";
    /// The client is unknown, disabled, or did not prove who it is.
    ClientAuthenticationFailed, "client_authentication_failed", 401, "invalid_client",
        "Client authentication failed.";
    /// A browser comes from a client that does not exist.
    ClientUnknown, "client_unknown", 400, "invalid_request",
        "There is no application with this client_id.";
    /// An authorization code that cannot be redeemed.
    CodeInvalid, "code_invalid", 400, "invalid_grant",
        "The authorization code is invalid, expired or was used before, or redirect_uri or code_verifier do not belong to it.";
    /// A connect code that does not belong to the session it is presented with.
    ConnectCodeInvalid, "connect_code_invalid", 403, "access_denied",
        "connect_code does not belong to this auth_session, or has expired.";
    /// The connect flow was completed, or failed, before.
    ConnectFlowFinished, "connect_flow_finished", 409, "invalid_request",
        "This connect flow has already been finished. Start a new one.";
    /// The connect flow is unknown or too old.
    ConnectFlowUnknown, "connect_flow_unknown", 400, "invalid_request",
        "auth_session is unknown or has expired. Start a new connect flow.";
    /// The provider's answer belongs to no flow of this browser.
    ConnectStateMismatch, "connect_state_mismatch", 400, "invalid_request",
        "This answer of the provider does not belong to a connection you started in this browser. Go back to the application and start again.";
    /// The ticket is unknown.
    ConnectTicketUnknown, "connect_ticket_unknown", 400, "invalid_request",
        "This link is not valid. Go back to the application and start again.";
    /// Somebody else than the one who asked is logged in or completes.
    ConnectUserMismatch, "session_user_mismatch", 403, "access_denied",
        "The connect flow was started by another user. Nothing was connected.";
    /// The PKCE verifier is missing or wrong.
    ConnectVerifierMismatch, "connect_verifier_mismatch", 400, "invalid_request",
        "code_verifier is missing or does not match the code_challenge of the connect request.";
    /// A client without the right to use this connection.
    ConnectionNotAllowed, "connection_not_allowed", 403, "access_denied",
        "The connection is not enabled for this client or not active for connected accounts.";
    /// No connection has this name.
    ConnectionUnknown, "connection_unknown", 400, "invalid_request",
        "There is no connection of that name that this client may use.";
    /// The person said no.
    ConsentDenied, "consent_denied", 403, "access_denied",
        "The user did not consent.";
    /// Nobody may be asked for the consent that is missing.
    ConsentRequired, "consent_required", 400, "consent_required",
        "The user has to consent, and prompt none forbids to ask.";
    /// A cursor that this server did not make for this list.
    CursorInvalid, "cursor_invalid", 400, "invalid_request",
        "The paging cursor is not valid for this list. Start again without it.";
    /// A configuration leaves out what is there, and nobody said that it may go.
    DeletionNotAllowed, "deletion_not_allowed", 409, "conflict",
        "The configuration leaves out objects that are there. Allow deletion to have them deleted.";
    /// The grant type is not enabled for the client, or the client may not use it at all.
    GrantNotAllowed, "grant_not_allowed", 403, "unauthorized_client",
        "The grant type is not enabled for this client. Token Vault needs a confidential first-party client with the grant in grant_types.";
    /// A hint that is not an ID token of ours for the client.
    IdTokenHintInvalid, "id_token_hint_invalid", 400, "invalid_request",
        "id_token_hint is not an ID token that this client got from this issuer.";
    /// The provider names no user id and the connection does not allow that.
    IdentityMissing, "identity_missing", 400, "invalid_request",
        "The provider did not say which account this is. Configure userinfo for the connection, or allow accounts without an id (allow_missing_user_id).";
    /// An access token without the scope that an API of ours needs.
    InsufficientScope, "insufficient_scope", 403, "insufficient_scope",
        "The access token lacks the scope for this.";
    /// A page of a login that is finished, too old, or was never begun.
    InteractionUnknown, "interaction_unknown", 400, "invalid_request",
        "This login is over or was started too long ago. Go back to the application and start again.";
    /// A field of a JSON body breaks a rule.
    InvalidBody, "invalid_body", 400, "invalid_request", "The request body is not valid.";
    /// The name is unknown, the password wrong, or the user blocked.
    LoginFailed, "login_failed", 401, "access_denied",
        "Wrong username or password.";
    /// Nobody may be asked for the login that is missing.
    LoginRequired, "login_required", 400, "login_required",
        "The user has to log in, and prompt none forbids to ask.";
    /// Too many failed logins for one account or from one address.
    LoginThrottled, "login_throttled", 429, "too_many_requests",
        "Too many attempts. Wait a few minutes and try again.";
    /// An object of the Management API that does not exist.
    ObjectUnknown, "object_unknown", 404, "not_found",
        "There is no such object.";
    /// A new password that is too short or too long.
    PasswordUnfit, "password_unfit", 400, "invalid_request",
        "The password needs at least 8 characters.";
    /// A worker's access lists are empty or do not name this connection.
    PrivilegedAccessNotGranted, "privileged_access_not_granted", 403, "access_denied",
        "The privileged access of this client does not cover the connection or the scopes asked for.";
    /// The provider's answer cannot be used.
    ProviderAnswerInvalid, "provider_answer_invalid", 502, "server_error",
        "The provider gave an answer that cannot be used. Try again later.";
    /// The provider refused us, not the user.
    ProviderClientMisconfigured, "provider_client_misconfigured", 502, "server_error",
        "The provider refused this vault as a client. An administrator has to check the client id and secret of the connection.";
    /// The provider asks for fewer requests.
    ProviderRateLimited, "provider_rate_limited", 503, "temporarily_unavailable",
        "The provider limits requests at the moment. Try again later.";
    /// The provider refused the code, or the person refused consent.
    ProviderRefused, "provider_refused", 400, "access_denied",
        "The provider did not grant access. Nothing was connected.";
    /// The provider does not answer.
    ProviderUnavailable, "provider_unavailable", 503, "temporarily_unavailable",
        "The provider cannot be reached at the moment. The account is still connected; try again later.";
    /// A pushed request that names a pushed request (RFC 9126 section 2.1).
    PushedRequestNested, "pushed_request_nested", 400, "invalid_request",
        "request_uri cannot be pushed.";
    /// A client that has to push its requests did not (RFC 9126 section 6).
    PushedRequestRequired, "pushed_request_required", 400, "invalid_request",
        "This client has to push its authorization requests (require_pushed_authorization_requests).";
    /// A pushed request that cannot be used.
    PushedRequestUnknown, "pushed_request_unknown", 400, "invalid_request_uri",
        "request_uri is unknown, expired, was used before, or belongs to another client.";
    /// The redirect URI differs from the first request's.
    RedirectUriMismatch, "redirect_uri_mismatch", 400, "invalid_request",
        "redirect_uri differs from the one of the connect request.";
    /// A redirect URI that is not one of the client's callbacks.
    RedirectUriNotAllowed, "redirect_uri_not_allowed", 400, "invalid_request",
        "redirect_uri is not one of the callbacks registered for this client.";
    /// Somebody else's refresh did not end in time.
    RefreshPending, "refresh_pending", 503, "temporarily_unavailable",
        "The token is being refreshed. Try again in a moment.";
    /// A refresh token that cannot be used.
    RefreshTokenInvalid, "refresh_token_invalid", 403, "invalid_grant",
        "Unknown or invalid refresh token.";
    /// A scope that the account does not have, or that cannot be narrowed to.
    ScopeMissing, "scope_missing", 400, "invalid_scope",
        "The connected account does not have this scope, or the provider cannot issue a narrower token.";
    /// Nobody may make their own user.
    SignUpClosed, "sign_up_closed", 403, "access_denied",
        "Signing up is switched off here. Ask an administrator for a login.";
    /// No signing key has this id or algorithm.
    SigningKeyUnknown, "signing_key_unknown", 404, "not_found", "There is no such signing key.";
    /// An object of the Management API that is used by others.
    StillInUse, "still_in_use", 409, "conflict",
        "This is still in use. Delete what uses it first, or say that it shall go as well.";
    /// The access token given as subject is not acceptable.
    SubjectAccessTokenInvalid, "subject_access_token_invalid", 401, "invalid_grant",
        "The subject access token is invalid, expired or revoked.";
    /// The refresh token given as subject is not acceptable.
    SubjectRefreshTokenInvalid, "subject_refresh_token_invalid", 403, "invalid_grant",
        "Unknown or invalid refresh token.";
    /// An object that belongs to the deployment itself.
    SystemObject, "system_object", 403, "access_denied",
        "This belongs to the deployment itself and cannot be changed or deleted.";
    /// A client tries to revoke a token that is not its own.
    TokenOfOtherClient, "token_of_other_client", 400, "invalid_request",
        "The token was issued to another client.";
    /// A new user with a name that exists.
    UsernameTaken, "username_taken", 400, "invalid_request",
        "This username is taken. Log in, or choose another.";
    /// A new user with a name that is none.
    UsernameUnfit, "username_unfit", 400, "invalid_request",
        "A username has 1 to 255 characters and no spaces.";
    /// The JWT of a worker is not acceptable.
    WorkerRequestInvalid, "worker_request_invalid", 401, "invalid_grant",
        "The signed worker request is invalid, too old or was used before.";
}

impl Error {
    /// A refusal of something inside a larger document, as [`Refusal::within`]; a fault stays what it is.
    pub(crate) fn within(self, prefix: &str) -> Self {
        match self {
            Self::Refused(refusal) => refusal.within(prefix).into(),
            fault @ Self::Fault(_) => fault,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Refusal::new(reason).into()
    }
}

impl From<oauth::refusal::Refusal> for Refusal {
    fn from(refusal: oauth::refusal::Refusal) -> Self {
        Self {
            reason: Reason::Malformed,
            status: refusal.code.status(),
            code: refusal.code.as_str(),
            description: refusal.description,
            private_reason: refusal.reason,
            retry_after: None,
            extra: Map::new(),
        }
    }
}

impl From<oauth::refusal::Refusal> for Error {
    fn from(refusal: oauth::refusal::Refusal) -> Self {
        Refusal::from(refusal).into()
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(_) => Self::Unavailable(chain(&error)),
            _ => Self::Internal(chain(&error)),
        }
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Unavailable(_) => Self::Unavailable(chain(&error)),
            _ => Self::Internal(chain(&error)),
        }
    }
}

impl From<seal::OpenError> for Fault {
    fn from(error: seal::OpenError) -> Self {
        Self::Integrity(chain(&error))
    }
}

impl From<seal::SealError> for Fault {
    fn from(error: seal::SealError) -> Self {
        Self::Internal(chain(&error))
    }
}

impl From<serde_json::Error> for Fault {
    // What serde says of a value may quote it; only the kind of failure is kept.
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(format!("a stored JSON value: {:?}", error.classify()))
    }
}

macro_rules! through_fault {
    ($($source:ty),*) => {$(
        impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::Fault(Fault::from(error))
            }
        }
    )*};
}
through_fault!(
    ReadError,
    WriteError,
    seal::OpenError,
    seal::SealError,
    serde_json::Error
);

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_is_documented_as_it_is() {
        let page = include_str!("../../../docs/http.md");
        for reason in Reason::ALL
            .iter()
            .filter(|reason| **reason != Reason::Malformed)
        {
            let (status, code, _) = reason.row();
            let row = format!("| `{}` | {status} | `{code}` |", reason.as_str());
            assert!(page.contains(&row), "docs/http.md has no row: {row}");
        }
    }

    #[test]
    fn every_reason_has_a_name_of_its_own_and_a_printable_sentence() {
        let mut names = HashSet::new();
        for reason in Reason::ALL {
            let refusal = Refusal::new(*reason);
            assert!(names.insert(reason.as_str()), "{reason:?} twice");
            assert!((400..=599).contains(&refusal.status()), "{reason:?}");
            // RFC 6749 §5.2 limits what error_description may hold.
            assert!(
                refusal
                    .description()
                    .chars()
                    .all(|c| matches!(c, ' '..='!' | '#'..='[' | ']'..='~')),
                "{reason:?}"
            );
            assert!(refusal.description().ends_with('.'), "{reason:?}");
        }
    }
}
