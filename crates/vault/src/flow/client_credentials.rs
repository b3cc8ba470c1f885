//! The client credentials grant (RFC 6749 §4.4): a client for itself, for one API that it was granted.

use oauth::grant;
use oauth::scope::Scope;
use oauth::token_response::TokenResponse;

use crate::access_token::{NewAccessToken, Subject};
use crate::api;
use crate::client::{AuthenticatedClient, Client};
use crate::client_grant::{self, SubjectType, allowed_scopes};
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
        let issued = self
            .issue_to_client(&client.client, audience, scope, &mut event, caller)
            .await;
        if let Err(error) = &issued {
            event.end_in(error);
            self.audit(&event, caller).await?;
        }
        issued
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
        let mut rows = self
            .db
            .read_all(vec![
                api::by_identifier_statement(audience),
                client_grant::scopes_statement(&client.client_id, audience, SubjectType::Client),
            ])
            .await?
            .into_iter();
        let mut next = || rows.next().and_then(|rows| rows.into_iter().next());
        let api = next()
            .map(|row| api::from_row(&row))
            .transpose()?
            .ok_or(Reason::AudienceUnknown)?;
        let granted: Option<Scope> = match next() {
            Some(row) => Some(
                row.text(0)?
                    .split(' ')
                    .filter(|word| !word.is_empty())
                    .collect(),
            ),
            None => None,
        };
        let allowed = allowed_scopes(client, &api, SubjectType::Client, granted)?
            .intersection(&api.all_scopes());
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
            token_type: "Bearer".to_owned(),
            expires_in: api.token_lifetime,
            scope: scope.to_string(),
            issued_token_type: None,
            id_token: None,
            refresh_token: None,
        })
    }
}
