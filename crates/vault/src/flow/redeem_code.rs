//! Redeeming an authorization code (RFC 6749 §4.1.3).
//!
//! 1. Find the code; its secret half, the client, the redirect URI and the verifier have to be right. A wrong one
//!    leaves the code as it is.
//! 2. A code that was used ends everything that came of it (§4.1.2): somebody else has it.
//! 3. Use it up, once over all nodes, together with the refresh token and the audit row.
//! 4. Sign.

use std::collections::BTreeMap;

use oauth::grant;
use oauth::opaque::Opaque;
use oauth::pkce::{CodeChallenge, CodeVerifier};
use oauth::token_response::TokenResponse;
use seal::TokenKind;
use store::{Batch, Row, Statement, WriteError, params};

use crate::access_token::{NewAccessToken, Subject};
use crate::api;
use crate::authorization::{self, AUTHORIZATION_COLUMNS, Authorization, authorization_columns};
use crate::client::Client;
use crate::flow::authenticate_client::AuthenticatedClient;
use crate::refresh_token::Ends;
use crate::{Caller, Error, Event, EventKind, Fault, Reason, Refusal, Vault, user};

/// Seconds that a token for nothing but userinfo lives.
const USERINFO_LIFETIME: u64 = 24 * 3600;

impl Vault {
    /// Redeems a code for tokens.
    ///
    /// # Errors
    /// [`Reason::CodeInvalid`] for everything that can be wrong with the code.
    pub(crate) async fn redeem_code(
        &self,
        client: &AuthenticatedClient,
        code: &Opaque,
        redirect_uri: Option<&str>,
        verifier: Option<&CodeVerifier>,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        let mut event = Event::succeeded(EventKind::CodeRedemption).client(client.client_id());
        let ended = self
            .try_redeem_code(
                &client.client,
                code,
                redirect_uri,
                verifier,
                &mut event,
                caller,
            )
            .await;
        self.settle(event, ended, caller).await
    }

    async fn try_redeem_code(
        &self,
        client: &Client,
        code: &Opaque,
        redirect_uri: Option<&str>,
        verifier: Option<&CodeVerifier>,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        if !client.may_use_grant(grant::AUTHORIZATION_CODE) {
            return Err(Refusal::new(Reason::GrantNotAllowed)
                .answered_as(400, "unauthorized_client")
                .into());
        }
        // Step 1.
        let invalid = || Error::from(Reason::CodeInvalid);
        let presented =
            seal::present(TokenKind::AuthorizationCode, code.reveal()).ok_or_else(invalid)?;
        let row = self
            .first(lookup_statement(&presented.id))
            .await?
            .ok_or_else(invalid)?;
        let stored = StoredCode::from_row(&row)?;
        let authorization = &stored.authorization;
        if !presented.matches(&self.ring, &stored.hash)
            || authorization.client_id != client.client_id
        {
            return Err(invalid());
        }
        event.user_id = Some(authorization.user_id.clone());
        let verified = match (&stored.code_challenge, verifier) {
            (Some(challenge), Some(verifier)) => CodeChallenge::parse(challenge)?.matches(verifier),
            _ => false,
        };
        if redirect_uri != Some(stored.redirect_uri.as_str()) || !verified {
            return Err(invalid());
        }
        // Step 2.
        let now = self.now();
        if stored.is_used {
            self.end_authorization(authorization, "code_replayed", caller)
                .await?;
            return Err(invalid());
        }
        if stored.expires_at <= now || !authorization.is_live {
            return Err(invalid());
        }
        // Step 3.
        let mut batch = Batch::new().with(
            Statement::new(
                "update codes set used_at = $2 where id = $1 and used_at is null",
                params![presented.id.as_str(), now],
            )
            .exactly(1),
        );
        let mut refresh_token = None;
        if authorization.scope.contains("offline_access")
            && client.may_use_grant(grant::REFRESH_TOKEN)
        {
            let ends = Ends {
                family: client.refresh_token.family_end(now),
                idle: client.refresh_token.idle_end(now),
            };
            let (minted, insert) = self.new_refresh_token(&authorization.id, 0, ends, now);
            batch = batch.with(insert);
            refresh_token = Some(minted.token.reveal().to_owned());
        }
        let recorded = event
            .clone()
            .scopes(authorization.scope.to_string())
            .detail("authorization_id", authorization.id.as_str());
        match self
            .db
            .write(batch.with(self.audit_statement(&recorded, caller, now)))
            .await
        {
            Ok(_) => {}
            // Somebody else's request with the same code was faster (threats TK-02).
            Err(WriteError::Expectation { statement: 0, .. }) => {
                self.end_authorization(authorization, "code_replayed", caller)
                    .await?;
                return Err(invalid());
            }
            Err(error) => return Err(error.into()),
        }
        // Step 4.
        self.tokens_of(
            client,
            authorization,
            stored.nonce.as_deref(),
            refresh_token,
        )
        .await
    }

    async fn tokens_of(
        &self,
        client: &Client,
        authorization: &Authorization,
        nonce: Option<&str>,
        refresh_token: Option<String>,
    ) -> Result<TokenResponse, Error> {
        let api = match &authorization.audience {
            Some(audience) => self.find_api(audience).await?,
            None => None,
        };
        let lifetime = api
            .as_ref()
            .map_or(USERINFO_LIFETIME, |api| api.token_lifetime);
        let access_token = self
            .issue_access_token(NewAccessToken {
                subject: Subject::User(authorization),
                audience: authorization.audience.as_deref(),
                scope: &authorization.scope,
                algorithm: self.algorithm_for(api.as_ref()),
                lifetime,
            })
            .await?;
        let id_token = self.id_token_of(client, authorization, nonce).await?;
        Ok(TokenResponse {
            access_token,
            token_type: "Bearer",
            expires_in: lifetime,
            scope: authorization.scope.to_string(),
            issued_token_type: None,
            id_token,
            refresh_token,
            variables: BTreeMap::new(),
        })
    }

    /// The ID token of an authorization that covers `openid`.
    pub(crate) async fn id_token_of(
        &self,
        client: &Client,
        authorization: &Authorization,
        nonce: Option<&str>,
    ) -> Result<Option<String>, Error> {
        if !authorization.scope.contains("openid") {
            return Ok(None);
        }
        let user = self
            .first(user::by_id_statement(&authorization.user_id))
            .await?
            .map(|row| user::from_row(&row))
            .transpose()?
            .ok_or_else(|| Fault::Internal("the user of an authorization is gone".to_owned()))?;
        self.issue_id_token(client, &user, authorization, nonce)
            .await
            .map(Some)
    }

    /// What an API's access tokens are signed with.
    pub(crate) fn algorithm_for(&self, api: Option<&api::Api>) -> seal::Algorithm {
        api.map_or(self.settings.access_token_alg, |api| api.signing_alg)
    }
}

struct StoredCode {
    authorization: Authorization,
    hash: Vec<u8>,
    redirect_uri: String,
    code_challenge: Option<String>,
    nonce: Option<String>,
    expires_at: jiff::Timestamp,
    is_used: bool,
}

impl StoredCode {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let at = AUTHORIZATION_COLUMNS;
        Ok(Self {
            authorization: authorization::from_row_at(row, 0)?,
            hash: row.blob(at)?.to_vec(),
            redirect_uri: row.text(at + 1)?.to_owned(),
            code_challenge: row.opt_text(at + 2)?.map(str::to_owned),
            nonce: row.opt_text(at + 3)?.map(str::to_owned),
            expires_at: row.timestamp(at + 4)?,
            is_used: row.opt_timestamp(at + 5)?.is_some(),
        })
    }
}

fn lookup_statement(id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            authorization_columns!(),
            ", o.hash, o.redirect_uri, o.code_challenge, o.nonce, o.expires_at, o.used_at
             from codes o
             join authorizations z on z.id = o.authorization_id
             where o.id = $1"
        ),
        params![id],
    )
}
