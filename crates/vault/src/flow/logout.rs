//! Logging out: Auth0's `/v2/logout`, and RP-Initiated Logout 1.0 at `/oidc/logout`.
//!
//! 1. Where to go afterwards: only to a URL that the client registered.
//! 2. Whether the request proves that it means this session: an ID token of it, or its id. Auth0's endpoint needs no
//!    proof (contract 2.10); the standard's asks the person without.
//! 3. End the session. What was issued in it without `offline_access` ends with it.

use oauth::redirect_uri::append_params;
use store::Batch;

use crate::id_token::IdTokenHint;
use crate::session::{self, Session};
use crate::{Caller, Error, Event, EventKind, Vault};

/// A logout request.
#[derive(Debug, Clone, Default)]
pub struct LogoutRequest {
    /// The client that sends the user.
    pub client_id: Option<String>,
    /// Where to go, as the standard calls it.
    pub post_logout_redirect_uri: Option<String>,
    /// Where to go, as Auth0 calls it.
    pub return_to: Option<String>,
    /// An ID token of the session.
    pub id_token_hint: Option<String>,
    /// The session's id (`sid`).
    pub logout_hint: Option<String>,
    /// Comes back at the redirect.
    pub state: Option<String>,
    /// Whether the person has to be asked when nothing proves that this session is meant.
    pub needs_proof: bool,
}

/// How the browser goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogoutStep {
    /// Ask the person.
    Confirm,
    /// Logged out; there is nowhere to go.
    Done,
    /// Logged out; go there.
    Redirect(String),
}

impl Vault {
    /// Steps 1 to 3.
    pub async fn logout(
        &self,
        request: LogoutRequest,
        session: Option<&Session>,
        caller: &Caller,
    ) -> Result<LogoutStep, Error> {
        let hint = match &request.id_token_hint {
            Some(text) => self.read_id_token_hint(text).await?,
            None => None,
        };
        let is_proven = session.is_none_or(|session| proves(&request, hint.as_ref(), session));
        // A hint that is not ours is worse than none: somebody made it up.
        let is_forged = request.id_token_hint.is_some() && hint.is_none();
        if session.is_some() && (is_forged || (request.needs_proof && !is_proven)) {
            return Ok(LogoutStep::Confirm);
        }
        self.end_session(&request, hint.as_ref(), session, caller)
            .await
    }

    /// Steps 1 and 3, after the person said yes.
    pub async fn confirm_logout(
        &self,
        request: LogoutRequest,
        session: Option<&Session>,
        caller: &Caller,
    ) -> Result<LogoutStep, Error> {
        let hint = match &request.id_token_hint {
            Some(text) => self.read_id_token_hint(text).await?,
            None => None,
        };
        self.end_session(&request, hint.as_ref(), session, caller)
            .await
    }

    async fn end_session(
        &self,
        request: &LogoutRequest,
        hint: Option<&IdTokenHint>,
        session: Option<&Session>,
        caller: &Caller,
    ) -> Result<LogoutStep, Error> {
        let target = self.logout_target(request, hint).await?;
        if let Some(session) = session {
            let mut event = Event::succeeded(EventKind::Logout)
                .user(&*session.user_id)
                .detail("session_id", session.id.as_str());
            event.client_id = request.client_id.clone();
            let now = self.now();
            self.db
                .write(
                    Batch::new()
                        .with(session::revoke_statement(&session.id, now))
                        .with(self.audit_statement(&event, caller, now)),
                )
                .await?;
        }
        Ok(target.map_or(LogoutStep::Done, LogoutStep::Redirect))
    }

    /// The redirect with its state, where the client registered it; None elsewhere (threats AU-40).
    async fn logout_target(
        &self,
        request: &LogoutRequest,
        hint: Option<&IdTokenHint>,
    ) -> Result<Option<String>, Error> {
        let wanted = request
            .post_logout_redirect_uri
            .as_ref()
            .or(request.return_to.as_ref());
        let from_hint = hint.and_then(|hint| match hint.audience.as_slice() {
            [client_id] => Some(client_id),
            _ => None,
        });
        let (Some(uri), Some(client_id)) = (wanted, request.client_id.as_ref().or(from_hint))
        else {
            return Ok(None);
        };
        if client_id.len() > 255 {
            return Ok(None);
        }
        let is_registered = self
            .find_client(client_id)
            .await?
            .is_some_and(|client| client.disabled_at.is_none() && client.allows_logout_url(uri));
        if !is_registered {
            return Ok(None);
        }
        Ok(Some(match &request.state {
            Some(state) => append_params(uri, &[("state", state)]),
            None => uri.clone(),
        }))
    }
}

/// Whether a request shows something that only a client of this session has.
fn proves(request: &LogoutRequest, hint: Option<&IdTokenHint>, session: &Session) -> bool {
    let by_token = hint.is_some_and(|hint| {
        hint.user_id == session.user_id
            && hint
                .session_id
                .as_ref()
                .is_none_or(|sid| *sid == session.id)
            && request
                .client_id
                .as_ref()
                .is_none_or(|client_id| hint.audience.contains(client_id))
    });
    by_token || request.logout_hint.as_deref() == Some(&session.id)
}
