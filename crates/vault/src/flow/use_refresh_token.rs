//! The refresh token grant (RFC 6749 §6), with one refresh token for several APIs (contract 2.2).
//!
//! 1. The token has to be this client's, live, and its secret half right.
//! 2. What is asked for: the API it was issued for, or one that the client's policies name. A wrong one does not use
//!    the token up.
//! 3. A rotating token is replaced. One that was used already brings its successor again while the leeway lasts and
//!    nobody used that one; after that it ends the whole family.
//! 4. Sign. An ID token comes with every answer.

use std::collections::BTreeMap;

use oauth::grant;
use oauth::opaque::Opaque;
use oauth::scope::Scope;
use oauth::token_response::TokenResponse;
use seal::{PresentedToken, TokenKind};
use store::{Batch, WriteError};

use crate::access_token::{NewAccessToken, Subject};
use crate::api::Api;
use crate::authorization::Authorization;
use crate::client::{Client, Rotation};
use crate::client_grant::{Reach, SubjectType};
use crate::flow::authenticate_client::AuthenticatedClient;
use crate::refresh_token::{self, Ends, Standing, StoredRefreshToken};
use crate::{Caller, Error, Event, EventKind, Fault, Reason, Refusal, Vault};

/// How often a token that others rotate at this moment is read again.
const ROUNDS: u32 = 3;

/// What an access token may be issued for.
struct Target {
    audience: Option<String>,
    api: Option<Api>,
    /// What the answer says.
    scope: Scope,
    /// What the token says.
    token_scope: Scope,
}

impl Vault {
    /// Uses a refresh token.
    ///
    /// # Errors
    /// [`Reason::RefreshTokenInvalid`], [`Reason::AudienceNotCovered`], [`Reason::ApiNotAllowed`].
    pub(crate) async fn use_refresh_token(
        &self,
        client: &AuthenticatedClient,
        token: &Opaque,
        audience: Option<&str>,
        scope: Option<&Scope>,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        let mut event = Event::succeeded(EventKind::RefreshGrant).client(client.client_id());
        let ended = self
            .try_refresh_token(&client.client, token, audience, scope, &mut event, caller)
            .await;
        self.settle(event, ended, caller).await
    }

    async fn try_refresh_token(
        &self,
        client: &Client,
        token: &Opaque,
        audience: Option<&str>,
        asked: Option<&Scope>,
        event: &mut Event,
        caller: &Caller,
    ) -> Result<TokenResponse, Error> {
        if !client.may_use_grant(grant::REFRESH_TOKEN) {
            return Err(Refusal::new(Reason::GrantNotAllowed)
                .answered_as(400, "unauthorized_client")
                .into());
        }
        let presented = seal::present(TokenKind::RefreshToken, token.reveal())
            .ok_or(Reason::RefreshTokenInvalid)?;
        for _ in 0..ROUNDS {
            // Step 1.
            let stored = self
                .first(refresh_token::lookup_statement(&presented.id))
                .await?
                .map(|row| refresh_token::from_row(&row))
                .transpose()?
                .ok_or(Reason::RefreshTokenInvalid)?;
            let standing = stored
                .judged()
                .standing(&presented, client, self.now(), &self.ring);
            if standing == Standing::Invalid {
                return Err(Reason::RefreshTokenInvalid.into());
            }
            event.user_id = Some(stored.authorization.user_id.clone());
            if standing == Standing::Reused {
                self.end_authorization(&stored.authorization, "refresh_token_reused", caller)
                    .await?;
                return Err(Reason::RefreshTokenInvalid.into());
            }
            // Step 2.
            let target = self
                .target(client, &stored.authorization, audience, asked)
                .await?;
            // Step 3.
            let Some(next) = self
                .next_token(
                    client, token, &presented, &stored, standing, &target, event, caller,
                )
                .await?
            else {
                continue;
            };
            // Step 4.
            return self
                .refreshed(client, &stored.authorization, target, next)
                .await;
        }
        Err(Fault::Unavailable("the refresh token is being rotated by others".to_owned()).into())
    }

    /// Step 2.
    async fn target(
        &self,
        client: &Client,
        authorization: &Authorization,
        audience: Option<&str>,
        asked: Option<&Scope>,
    ) -> Result<Target, Error> {
        let audience = audience.or(authorization.audience.as_deref());
        let Some(audience) = audience else {
            return Ok(Target {
                audience: None,
                api: None,
                scope: authorization.scope.clone(),
                token_scope: authorization.scope.clone(),
            });
        };
        let is_first = authorization.audience.as_deref() == Some(audience);
        let policy: Option<Scope> = client
            .refresh_token
            .policies
            .iter()
            .find(|policy| policy.audience == audience)
            .map(|policy| policy.scope.iter().cloned().collect());
        if !is_first && policy.is_none() {
            return Err(Reason::AudienceNotCovered.into());
        }
        let Reach {
            api,
            scope: allowed,
        } = self
            .reach(client, audience, SubjectType::User)
            .await?
            .ok_or(Reason::AudienceNotCovered)?;
        let mut covered = if is_first {
            authorization.scope.intersection(&allowed)
        } else {
            Scope::default()
        };
        if let Some(policy) = policy {
            covered = covered.union(&policy.intersection(&allowed));
        }
        // Contract 2.2: what is not covered is dropped.
        let scope = match asked {
            Some(asked) => covered.intersection(asked),
            None => covered,
        };
        Ok(Target {
            audience: Some(audience.to_owned()),
            api: Some(api),
            // The standard scopes are for userinfo, which only the first API's token reaches: one audience a token
            // for the others (contract 1, row 21). The answer names them all the same (contract 2.2).
            token_scope: if is_first {
                scope.union(&authorization.oidc_scope())
            } else {
                scope.clone()
            },
            scope: scope.union(&authorization.oidc_scope()),
        })
    }

    /// Step 3: the refresh token that the answer carries. None where others rotated it meanwhile.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of one flow, told apart to be read"
    )]
    async fn next_token(
        &self,
        client: &Client,
        token: &Opaque,
        presented: &PresentedToken,
        stored: &StoredRefreshToken,
        standing: Standing,
        target: &Target,
        event: &Event,
        caller: &Caller,
    ) -> Result<Option<String>, Error> {
        let now = self.now();
        let mut recorded = event
            .clone()
            .scopes(target.scope.to_string())
            .detail("authorization_id", stored.authorization.id.as_str());
        if let Some(audience) = &target.audience {
            recorded = recorded.detail("audience", audience.as_str());
        }
        if standing == Standing::Retried {
            let successor = match &stored.successor_id {
                Some(_) => stored.open_successor(token.reveal(), &presented.id, &self.ring)?,
                None => None,
            };
            let successor = successor.ok_or_else(|| {
                Fault::Internal("a used refresh token has no successor".to_owned())
            })?;
            self.audit(&recorded.detail("retried", true), caller)
                .await?;
            return Ok(Some(successor.reveal().to_owned()));
        }
        if client.refresh_token.rotation_type == Rotation::NonRotating {
            match stored.judged().touch_statement(&presented.id, client, now) {
                Some(touch) => {
                    let record = self.audit_statement(&recorded, caller, now);
                    self.db.write(Batch::new().with(touch).with(record)).await?;
                }
                None => self.audit(&recorded, caller).await?,
            }
            // Repeated in the answer: a browser client forgets what an answer does not carry (contract 3.4).
            return Ok(Some(token.reveal().to_owned()));
        }
        let (minted, insert) = self.new_refresh_token(
            &stored.authorization.id,
            stored.sequence + 1,
            Ends {
                family: stored.expires_at(),
                idle: client.refresh_token.idle_end(now),
            },
            now,
        );
        let batch = Batch::new()
            .with(self.rotate_statement(presented, token.reveal(), &minted, now)?)
            .with(insert)
            .with(self.audit_statement(&recorded, caller, now));
        match self.db.write(batch).await {
            Ok(_) => Ok(Some(minted.token.reveal().to_owned())),
            Err(WriteError::Expectation { .. } | WriteError::UniqueViolation { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn refreshed(
        &self,
        client: &Client,
        authorization: &Authorization,
        target: Target,
        refresh_token: String,
    ) -> Result<TokenResponse, Error> {
        let lifetime = target
            .api
            .as_ref()
            .map_or(24 * 3600, |api| api.token_lifetime);
        let access_token = self
            .issue_access_token(NewAccessToken {
                subject: Subject::User(authorization),
                audience: target.audience.as_deref(),
                scope: &target.token_scope,
                algorithm: self.algorithm_for(target.api.as_ref()),
                lifetime,
            })
            .await?;
        Ok(TokenResponse {
            access_token,
            token_type: "Bearer",
            expires_in: lifetime,
            scope: target.scope.to_string(),
            issued_token_type: None,
            id_token: self.id_token_of(client, authorization, None).await?,
            refresh_token: Some(refresh_token),
            variables: BTreeMap::new(),
        })
    }
}
