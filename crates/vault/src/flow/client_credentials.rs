//! The client credentials grant (RFC 6749 §4.4): a client for itself, for one API that it was granted.

use std::collections::BTreeMap;

use oauth::grant;
use oauth::scope::Scope;
use oauth::token_response::TokenResponse;

use crate::access_token::{NewAccessToken, Subject};
use crate::client::Client;
use crate::client_grant::{Reach, SubjectType};
use crate::flow::authenticate_client::AuthenticatedClient;
use crate::{Caller, Error, Event, EventKind, Reason, Refusal, Vault};

impl Vault {
    /// Issues a token to a client for itself.
    ///
    /// # Errors
    /// [`Reason::AudienceMissing`], [`Reason::AudienceUnknown`], [`Reason::ApiNotAllowed`].
    pub(crate) async fn client_credentials(
        &self,
        client: &AuthenticatedClient,
        audience: Option<&str>,
        scope: Option<&Scope>,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        let mut event = Event::succeeded(EventKind::ClientCredentials).client(client.client_id());
        let ended = self
            .issue_to_client(&client.client, audience, scope, &mut event, caller)
            .await;
        self.settle(event, ended, caller).await
    }

    async fn issue_to_client(
        &self,
        client: &Client,
        audience: Option<&str>,
        asked: Option<&Scope>,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        // RFC 6749 §4.4: only confidential clients (threats TK-14).
        if !client.is_confidential() {
            return Err(Reason::ClientAuthenticationFailed.into());
        }
        if !client.may_use_grant(grant::CLIENT_CREDENTIALS) {
            return Err(Refusal::new(Reason::GrantNotAllowed)
                .answered_as(400, "unauthorized_client")
                .into());
        }
        let audience = audience.ok_or(Reason::AudienceMissing)?;
        *event = event.clone().detail("audience", audience);
        let Reach {
            api,
            scope: allowed,
        } = self
            .reach(client, audience, SubjectType::Client)
            .await?
            .ok_or(Reason::AudienceUnknown)?;
        let scope = match asked {
            Some(asked) => allowed.intersection(asked),
            None => allowed,
        };
        let access_token = self
            .issue_access_token(NewAccessToken {
                subject: Subject::Client(&client.client_id),
                audience: Some(audience),
                scope: &scope,
                algorithm: api.signing_alg,
                lifetime: api.token_lifetime,
            })
            .await?;
        self.audit(&event.clone().scopes(scope.to_string()), caller)
            .await?;
        Ok(TokenResponse {
            access_token,
            token_type: "Bearer",
            expires_in: api.token_lifetime,
            scope: scope.to_string(),
            issued_token_type: None,
            id_token: None,
            refresh_token: None,
            variables: BTreeMap::new(),
        })
    }
}
