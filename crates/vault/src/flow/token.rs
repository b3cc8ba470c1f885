//! `POST /oauth/token`: one door for every grant.

use oauth::token_request::TokenRequest;
use oauth::token_response::TokenResponse;

use crate::flow::authenticate_client::AuthenticatedClient;
use crate::{Caller, Error, Vault};

impl Vault {
    /// Answers a token request of a client.
    pub async fn token(
        &self,
        client: AuthenticatedClient,
        request: TokenRequest,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        match request {
            // In boxes of their own, because every exchange is as large as the largest of these, and they sign for a millisecond.
            TokenRequest::AuthorizationCode {
                code,
                redirect_uri,
                code_verifier,
            } => {
                Box::pin(self.redeem_code(
                    &client,
                    &code,
                    redirect_uri.as_deref(),
                    code_verifier.as_ref(),
                    caller,
                ))
                .await
            }
            TokenRequest::ClientCredentials { audience, scope } => {
                Box::pin(self.client_credentials(
                    &client,
                    audience.as_deref(),
                    scope.as_ref(),
                    caller,
                ))
                .await
            }
            TokenRequest::RefreshToken {
                refresh_token,
                audience,
                scope,
            } => {
                Box::pin(self.use_refresh_token(
                    &client,
                    &refresh_token,
                    audience.as_deref(),
                    scope.as_ref(),
                    caller,
                ))
                .await
            }
            TokenRequest::VaultExchange(exchange) => self.exchange(client, exchange, caller).await,
        }
    }
}
