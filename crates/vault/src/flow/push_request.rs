//! Pushing an authorization request (RFC 9126): the client says what it wants over its own connection, and the browser
//! brings only the name of it.
//!
//! 1. The request is checked as `/authorize` would, with the client's authentication behind us, and stored.
//! 2. `/authorize` takes it up by its name, from the browser of whoever brings it; its registration is checked again.
//!    The answer uses it up; until then the page may be loaded again.

use oauth::authorize_request::{AuthorizeRequest, Target};
use oauth::grant;
use oauth::params::Params;
use seal::TokenKind;
use serde::{Deserialize, Serialize};
use store::{Batch, Statement, params};

use crate::client::Client;
use crate::flow::authenticate_client::AuthenticatedClient;
use crate::flow::authorize::Expected;
use crate::token_set::after;
use crate::{Caller, Error, Event, EventKind, Reason, Refusal, Vault};

/// A pushed request's name and life.
#[derive(Debug)]
pub struct PushedRequest {
    /// What `/authorize` takes as `request_uri`.
    pub request_uri: String,
    /// Seconds.
    pub expires_in: u64,
}

const REQUEST_URI: &str = "urn:ietf:params:oauth:request_uri:";

/// A pushed request, as it is stored.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pushed {
    pub(crate) request: AuthorizeRequest,
    pub(crate) expected: Expected,
}

impl Vault {
    /// Stores a request that a client pushes (RFC 9126) and names it.
    pub async fn push_request(
        &self,
        client: &AuthenticatedClient,
        params: &Params,
        caller: &Caller,
    ) -> Result<PushedRequest, Error> {
        let event = Event::succeeded(EventKind::PushedRequest).client(client.client_id());
        let pushed = self
            .store_pushed_request(&client.client, params, &event, caller)
            .await;
        self.settle(event, pushed, caller).await
    }

    async fn store_pushed_request(
        &self,
        client: &Client,
        params: &Params,
        event: &Event,
        caller: &Caller,
    ) -> Result<PushedRequest, Error> {
        if params.get("request_uri").is_some() {
            return Err(Refusal::new(Reason::PushedRequestNested).into());
        }
        let redirect_uri = params.require("redirect_uri")?.to_owned();
        if !client.allows_redirect_uri(&redirect_uri) {
            return Err(Reason::RedirectUriNotAllowed.into());
        }
        let target = Target {
            client_id: client.client_id.clone(),
            redirect_uri,
        };
        let request = AuthorizeRequest::parse(target, params)?;
        if !client.may_use_grant(grant::AUTHORIZATION_CODE) {
            return Err(Reason::GrantNotAllowed.into());
        }
        let expected = self.expected_user(&request).await?;
        let now = self.now();
        let minted = seal::mint(TokenKind::PushedRequest, self.entropy.as_ref(), &self.ring);
        let expires_in = self.settings.pushed_request_lifetime.as_secs();
        let insert = Statement::new(
            "insert into pushed_requests (id, hash, client_id, request, created_at, expires_at)
             values ($1, $2, $3, $4, $5, $6)",
            params![
                minted.id.as_str(),
                minted.hash,
                client.client_id.as_str(),
                serde_json::to_string(&Pushed { request, expected })?,
                now,
                after(now, expires_in),
            ],
        )
        .exactly(1);
        self.db
            .write(
                Batch::new()
                    .with(insert)
                    .with(self.audit_statement(event, caller, now)),
            )
            .await?;
        Ok(PushedRequest {
            request_uri: format!("{REQUEST_URI}{}", minted.token.reveal()),
            expires_in,
        })
    }

    /// Step 2.
    pub(crate) async fn find_pushed_request(
        &self,
        request_uri: &str,
        client: &Client,
    ) -> Result<(String, Pushed), Error> {
        let unknown = || Error::from(Reason::PushedRequestUnknown);
        let presented = request_uri
            .strip_prefix(REQUEST_URI)
            .and_then(|token| seal::present(TokenKind::PushedRequest, token))
            .ok_or_else(unknown)?;
        let row = self
            .db
            .read_one(
                "select hash, client_id, request, expires_at, used_at from pushed_requests where id = $1",
                params![presented.id.as_str()],
            )
            .await?
            .ok_or_else(unknown)?;
        let is_good = presented.matches(&self.ring, row.blob(0)?)
            && row.text(1)? == client.client_id
            && row.timestamp(3)? > self.now()
            && row.opt_timestamp(4)?.is_none();
        if !is_good {
            return Err(unknown());
        }
        let pushed: Pushed = serde_json::from_str(row.text(2)?)?;
        // The registration may have changed since it was pushed.
        if !client.allows_redirect_uri(&pushed.request.redirect_uri) {
            return Err(Reason::RedirectUriNotAllowed.into());
        }
        Ok((presented.id, pushed))
    }
}
