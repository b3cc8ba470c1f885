//! Giving a grant back at its provider, after the account is gone here (RFC 7009, or what the provider has instead).
//!
//! 1. Claim the row: one node tries at a time.
//! 2. Leave a grant alone that somebody else still uses, where revoking one token ends all of them.
//! 3. Ask the provider, with no database connection held; further tokens of the grant too, where each ends alone.
//! 4. Done, or nothing can be done: the row goes, with its tokens, and the audit log says how it ended.
//! 5. Else it is tried again, later and later, for three days.

use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use provider::{Failure, FailureKind, RefreshGrant, RevokedToken, RevokedTokens};
use store::{Batch, WriteError};

use crate::connection::{self, Connection};
use crate::failure;
use crate::revocation::{self, Revocation};
use crate::token_set::{Arrival, Target, TokenSet, after};
use crate::{Caller, Error, Event, EventKind, Outcome, Vault};

/// How long nobody else tries what one node has claimed; longer than any call to a provider.
const CLAIM: Duration = Duration::from_secs(60);
/// How many are tried in one round, and how many of them at once.
const ROUND: u32 = 200;
const AT_ONCE: usize = 16;

/// How an attempt ended that needs no other.
enum Ended {
    /// The tokens are dead there.
    Revoked,
    /// The provider has no way to.
    NotSupported,
    /// Somebody else uses the same grant.
    Shared,
}

impl Vault {
    /// Begins to give a grant back; nobody waits. What does not succeed is tried again by [`Vault::revoke_due`].
    pub(crate) fn give_back_behind(&self, revocation_id: String) {
        let vault = self.clone();
        self.flights.behind(&revocation_id.clone(), async move {
            if let Err(error) = vault.give_back(&revocation_id).await {
                tracing::warn!(revocation.id = %revocation_id, error = ?error, "a grant is not given back yet");
            }
        });
    }

    /// Tries every revocation that is due. Run it now and then, on every node.
    pub async fn revoke_due(&self) -> Result<(), Error> {
        let rows = self
            .db
            .read_rows(revocation::due_statement(self.now(), ROUND))
            .await?;
        let mut ids = Vec::new();
        for row in &rows {
            ids.push(row.text(0)?.to_owned());
        }
        let tried: Vec<Result<(), Error>> = futures_util::stream::iter(ids)
            .map(|id| async move { self.give_back(&id).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        tried.into_iter().collect()
    }

    async fn give_back(&self, id: &str) -> Result<(), Error> {
        // Step 1.
        let now = self.now();
        let claim = revocation::claim_statement(id, now, after(now, CLAIM.as_secs()));
        match self.db.write(Batch::new().with(claim)).await {
            Ok(_) => {}
            Err(WriteError::Expectation { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let Some(row) = self.first(revocation::by_id_statement(id)).await? else {
            return Ok(());
        };
        let revocation = revocation::from_row(&row)?;
        let Some(row) = self
            .first(connection::by_id_statement(&revocation.connection_id))
            .await?
        else {
            return Ok(());
        };
        let connection = connection::from_row(&row)?;
        let event = Event::succeeded(EventKind::ProviderRevocation)
            .user(&*revocation.user_id)
            .connection(&*connection.name)
            .account(&*revocation.account_id)
            .detail("attempts", revocation.attempts);
        // Steps 2 and 3.
        match self.end_grant(&connection, &revocation).await? {
            Ok(ended) => {
                let outcome = match ended {
                    Ended::Revoked => "revoked",
                    Ended::NotSupported => "not_supported",
                    Ended::Shared => "shared_grant",
                };
                self.end_revocation(&revocation, event.detail("provider", outcome))
                    .await
            }
            Err(failure) => self.try_again(&revocation, event, &failure).await,
        }
    }

    async fn end_grant(
        &self,
        connection: &Connection,
        revocation: &Revocation,
    ) -> Result<Result<Ended, Failure>, Error> {
        let ends_grant = connection
            .profile(self)
            .is_none_or(|profile| profile.revocation.ends_grant);
        if ends_grant && self.is_shared(connection, revocation).await? {
            return Ok(Ok(Ended::Shared));
        }
        let tokens = match self.tokens_to_end(connection, revocation).await? {
            Ok(Some(tokens)) => tokens,
            Ok(None) => return Ok(Ok(Ended::Revoked)),
            Err(failure) => return Ok(Err(failure)),
        };
        let ended = self.revoke_whole(connection, revocation, &tokens).await?;
        if ends_grant || !matches!(ended, Ok(Ended::Revoked)) {
            return Ok(ended);
        }
        for (_, token) in tokens.further() {
            let ended = self
                .revoke_tokens(
                    connection,
                    &RevokedTokens {
                        access_token: &token.access_token,
                        refresh_token: token.refresh_token.as_ref(),
                        variables: &revocation.variables,
                    },
                )
                .await?;
            if ended.is_err() {
                return Ok(ended);
            }
        }
        Ok(ended)
    }

    /// The tokens that the provider is shown. Where that is the access token and it has ended, it says nothing any more
    /// about the grant: a fresh one is needed, and kept, because the refresh token may have changed with it. None where
    /// the grant is over.
    async fn tokens_to_end(
        &self,
        connection: &Connection,
        revocation: &Revocation,
    ) -> Result<Result<Option<TokenSet>, Failure>, Error> {
        let tokens = revocation.open_tokens(self)?;
        let now = self.now();
        let profile = connection
            .profile(self)
            .filter(|profile| profile.revocation.token == RevokedToken::AccessToken);
        let (Some(profile), Some(refresh_token), false) = (
            profile,
            &tokens.whole.refresh_token,
            tokens.whole.is_alive(now),
        ) else {
            return Ok(Ok(Some(tokens)));
        };
        let redirect_uri = connection.callback_uri(self);
        let grant = RefreshGrant {
            refresh_token,
            access_token: &tokens.whole.access_token,
            scopes: None,
            granted: tokens.whole.scopes.as_deref().unwrap_or_default(),
            redirect_uri: &redirect_uri,
            variables: &revocation.variables,
            further: tokens.whole.stands_in.as_deref(),
        };
        let asked = self
            .ask_as_client(connection, |settings| {
                let grant = &grant;
                async move { self.provider.refresh(&settings, grant, now).await }
            })
            .await?;
        let answer = match asked {
            Ok(answer) => answer,
            Err(failure) if failure.kind == FailureKind::ReauthorizationRequired => {
                return Ok(Ok(None));
            }
            Err(failure) => return Ok(Err(failure)),
        };
        let arrival = Arrival {
            target: Target::Whole,
            generation: tokens.whole.since + 1,
            at: now,
            ends_others: profile.refresh.invalidates_access_token,
        };
        let tokens = tokens.renewed(answer, arrival);
        let kept = revocation.keep_tokens_statement(self, &tokens)?;
        self.db.write(Batch::new().with(kept)).await?;
        Ok(Ok(Some(tokens)))
    }

    async fn is_shared(
        &self,
        connection: &Connection,
        revocation: &Revocation,
    ) -> Result<bool, Error> {
        let statement = match &revocation.subject {
            Some(subject) => {
                revocation::shared_statement(&connection.strategy, &connection.client_id, subject)
            }
            None => {
                revocation::maybe_shared_statement(&revocation.connection_id, &revocation.user_id)
            }
        };
        Ok(self.first(statement).await?.is_some())
    }

    async fn revoke_whole(
        &self,
        connection: &Connection,
        revocation: &Revocation,
        tokens: &TokenSet,
    ) -> Result<Result<Ended, Failure>, Error> {
        self.revoke_tokens(
            connection,
            &RevokedTokens {
                access_token: &tokens.whole.access_token,
                refresh_token: tokens.whole.refresh_token.as_ref(),
                variables: &revocation.variables,
            },
        )
        .await
    }

    async fn revoke_tokens(
        &self,
        connection: &Connection,
        tokens: &RevokedTokens<'_>,
    ) -> Result<Result<Ended, Failure>, Error> {
        let now = self.now();
        let asked = self
            .ask_as_client(connection, |settings| async move {
                self.provider.revoke(&settings, tokens, now).await
            })
            .await?;
        Ok(match asked {
            Ok(true) => Ok(Ended::Revoked),
            Ok(false) => Ok(Ended::NotSupported),
            // Dead already.
            Err(failure) if failure.kind == FailureKind::ReauthorizationRequired => {
                Ok(Ended::Revoked)
            }
            Err(failure) => Err(failure),
        })
    }

    /// Step 4.
    async fn end_revocation(&self, revocation: &Revocation, event: Event) -> Result<(), Error> {
        let batch = Batch::new()
            .with(revocation::delete_statement(&revocation.id))
            .with(self.audit_statement(&event, &Caller::default(), self.now()));
        self.db.write(batch).await?;
        Ok(())
    }

    /// Step 5.
    async fn try_again(
        &self,
        revocation: &Revocation,
        event: Event,
        failure: &Failure,
    ) -> Result<(), Error> {
        let class = failure::class(&failure.kind);
        tracing::warn!(
            account.id = %revocation.account_id,
            failure.kind = class,
            failure.status = failure.status,
            "the provider did not take a grant back"
        );
        let now = self.now();
        let failures = u32::try_from(revocation.attempts).unwrap_or(u32::MAX);
        let at: Timestamp = failure::next_retry(&failure.kind, failures, now, self.chance(), None);
        if at < revocation.expires_at {
            let postponed = revocation::postpone_statement(&revocation.id, revocation.attempts, at);
            self.db.write(Batch::new().with(postponed)).await?;
            return Ok(());
        }
        let mut event = event.detail("failure", class);
        (event.outcome, event.reason) = (Outcome::Failed, Some("not_revoked"));
        if let Some(error) = &failure.provider_error {
            event = event.detail("provider_error", error.as_str());
        }
        self.end_revocation(revocation, event).await
    }
}
