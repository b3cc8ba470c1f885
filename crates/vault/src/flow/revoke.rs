//! Revoking a token (RFC 7009). A refresh token takes everything with it that hangs on its authorization; an access
//! token only itself. A token that nobody knows is as good as revoked.

use seal::TokenKind;
use store::Batch;

use crate::flow::authenticate_client::AuthenticatedClient;
use crate::refresh_token::Standing;
use crate::{
    Caller, Error, Event, EventKind, Reason, Vault, access_token, authorization, refresh_token,
};

impl Vault {
    /// Revokes a token of the client. The hint is not needed: our tokens tell themselves apart.
    ///
    /// # Errors
    /// [`Reason::TokenOfOtherClient`].
    pub async fn revoke_token(
        &self,
        client: &AuthenticatedClient,
        token: &str,
        _hint: Option<&str>,
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut event = Event::succeeded(EventKind::TokenRevocation).client(client.client_id());
        let ended = self.try_revoke(client, token, &mut event, caller).await;
        self.settle(event, ended, caller).await
    }

    async fn try_revoke(
        &self,
        client: &AuthenticatedClient,
        token: &str,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<(), Error> {
        let now = self.now();
        if let Some(presented) = seal::present(TokenKind::RefreshToken, token) {
            let stored = self
                .first(refresh_token::lookup_statement(&presented.id))
                .await?
                .map(|row| refresh_token::from_row(&row))
                .transpose()?;
            let Some(stored) = stored else {
                return self.nothing_to_revoke(event, caller).await;
            };
            // Whoever shows the secret half of a client's token may end it, also one that was rotated.
            let owner = self.find_client(&stored.authorization.client_id).await?;
            let standing = owner.map(|owner| {
                stored
                    .judged()
                    .standing(&presented, &owner, now, &self.ring)
            });
            if matches!(standing, None | Some(Standing::Invalid)) {
                return self.nothing_to_revoke(event, caller).await;
            }
            if stored.authorization.client_id != client.client_id() {
                return Err(Reason::TokenOfOtherClient.into());
            }
            event.user_id = Some(stored.authorization.user_id.clone());
            let recorded = event
                .clone()
                .detail("authorization_id", stored.authorization.id.as_str())
                .detail("cause", "revoked_by_client");
            self.db
                .write(
                    Batch::new()
                        .with(authorization::revoke_statement(
                            &stored.authorization.id,
                            "revoked_by_client",
                            now,
                        ))
                        .with(self.audit_statement(&recorded, caller, now)),
                )
                .await?;
            return Ok(());
        }
        let Ok(verified) = self.verify_access_token(token, now).await? else {
            return self.nothing_to_revoke(event, caller).await;
        };
        let row = self
            .first(access_token::liveness_statement(&verified))
            .await?;
        let live = match row {
            Some(row) => verified.check_live(&row)?.ok(),
            None => None,
        };
        let Some(token) = live else {
            return self.nothing_to_revoke(event, caller).await;
        };
        if token.client_id != client.client_id() {
            return Err(Reason::TokenOfOtherClient.into());
        }
        event.user_id = token.user_id.clone();
        let recorded = event.clone().detail("jti", token.jti.as_str());
        self.db
            .write(
                Batch::new()
                    .with(access_token::revoke_statement(&token))
                    .with(self.audit_statement(&recorded, caller, now)),
            )
            .await?;
        Ok(())
    }

    async fn nothing_to_revoke(&self, event: &Event, caller: &Caller) -> Result<(), Error> {
        self.audit(&event.clone().detail("known", false), caller)
            .await
    }
}
