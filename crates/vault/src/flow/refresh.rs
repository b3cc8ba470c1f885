//! Refreshing an account's token set at its provider: the part that others get wrong.
//!
//! 1. One flight an account in this process ([`Flights`]); whoever else asks waits for it and reads the row again.
//! 2. The flight reads the row. Somebody may have refreshed, disconnected or given up meanwhile: then it is done.
//! 3. Another node holds the lease: look again until it is done or gone. The provider was silent for a while: leave it
//!    alone, but for a probe now and then.
//! 4. Commit the lease and an intent row, where generation and attempt are still those read. If that cannot be
//!    committed, the provider is not called.
//! 5. Call the provider, with no database connection held, renewing the lease meanwhile. The flight is a task of its
//!    own: it outlives the request that began it.
//! 6. A new token set is sealed and committed where generation and attempt still match: a late commit of a paused node
//!    never overwrites a newer set, and is kept where there is none. If the database does not take it, it goes into the rescue journal, and the task keeps trying.
//! 7. A failure is definite (the provider said `invalid_grant` and the row says that it was about this token) or not.
//!    A definite one ends the account's validity; any other leaves the account as it is and sets a time before which
//!    the provider is not asked again.
//!
//! An intent without an outcome past its lease is an uncertain refresh: its node died, and nobody knows whether the
//! provider had rotated. The next flight tries once more with the token we hold; if the provider then says
//! `invalid_grant`, the account is `outcome_unknown`, because it was us who lost it and not the user who took it back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use provider::{ConnectionSettings, Failure, FailureKind, RefreshGrant, TokenAnswer};
use store::{Batch, Statement, WriteError, params};
use tokio::sync::watch;

use crate::account::{self, Account, AccountStatus, column};
use crate::connection::{self, Connection};
use crate::rescue::Rescued;
use crate::token_set::{Margins, TokenSet, after};
use crate::{Caller, Error, Event, EventKind, Fault, Outcome, Reason, Refusal, Vault};

/// How a flight ended: the row has news, or there is a refusal for everybody who waited.
#[derive(Debug, Clone)]
enum Landing {
    Refreshed,
    Refused(Refusal),
    Fault,
}

/// The flights of this process, by account. Bounded by the accounts that are being refreshed.
#[derive(Clone, Default)]
pub(crate) struct Flights {
    running: Arc<Mutex<HashMap<String, watch::Receiver<Option<Landing>>>>>,
}

impl Flights {
    /// The flight of an account: the running one, or the one that `begin` starts.
    fn join(
        &self,
        account_id: &str,
        begin: impl FnOnce(watch::Sender<Option<Landing>>),
    ) -> watch::Receiver<Option<Landing>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(account_id) {
            return flight.clone();
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(account_id.to_owned(), receiver.clone());
        begin(sender);
        receiver
    }

    /// Everybody who is in the air.
    fn all(&self) -> Vec<watch::Receiver<Option<Landing>>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().cloned().collect()
    }

    fn land(&self, account_id: &str) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(account_id);
    }
}

/// Takes the flight off the list however its task ends, so that a panic does not ground the account.
struct Grounded {
    flights: Flights,
    account_id: String,
}

impl Drop for Grounded {
    fn drop(&mut self) {
        self.flights.land(&self.account_id);
    }
}

/// What a caller needs of the token set; decides when a flight may stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The generation that was not good enough.
    pub(crate) generation: u64,
}

/// The first wait after an indefinite failure; it doubles with every further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after an indefinite failure.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// How often a node looks whether another one's refresh has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Vault {
    /// The margins within which a token counts as ageing or stale.
    pub(crate) fn margins(&self) -> Margins {
        Margins {
            stale: self.settings.refresh_margin,
            ageing: self.settings.refresh_ahead,
        }
    }

    /// Step 1: begins or joins the account's flight and returns when it has landed. The caller reads the row again.
    pub(crate) async fn refresh_account(
        &self,
        account_id: &str,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut landing = self.begin_flight(account_id, wanted, caller);
        let landed = tokio::time::timeout(
            self.settings.refresh_wait,
            landing.wait_for(Option::is_some),
        )
        .await;
        match landed {
            Err(_elapsed) => Err(Refusal::new(Reason::RefreshPending)
                .retry_after_duration(FIRST_RETRY)
                .into()),
            Ok(Err(_gone)) => {
                Err(Fault::Internal("a refresh ended without a result".to_owned()).into())
            }
            Ok(Ok(landing)) => match landing.as_ref() {
                Some(Landing::Refreshed) => Ok(()),
                Some(Landing::Refused(refusal)) => Err(refusal.clone().into()),
                Some(Landing::Fault) | None => Err(Fault::Unavailable(
                    "the refresh failed; see its own log line".to_owned(),
                )
                .into()),
            },
        }
    }

    /// Returns when no refresh of this process is under way any more. For an orderly end, after the last request.
    pub async fn land(&self) {
        for mut flight in self.flights.all() {
            // An error means that the task is gone, which is landed too.
            let _ = flight.wait_for(Option::is_some).await;
        }
    }

    /// Refreshes behind an answer: nobody waits.
    pub(crate) fn refresh_behind(&self, account_id: &str, wanted: Wanted, caller: &Caller) {
        let _nobody_waits = self.begin_flight(account_id, wanted, caller);
    }

    fn begin_flight(
        &self,
        account_id: &str,
        wanted: Wanted,
        caller: &Caller,
    ) -> watch::Receiver<Option<Landing>> {
        self.flights.join(account_id, |sender| {
            let vault = self.clone();
            let caller = caller.clone();
            let account_id = account_id.to_owned();
            tokio::spawn(async move {
                let grounded = Grounded {
                    flights: vault.flights.clone(),
                    account_id: account_id.clone(),
                };
                let landing = match vault.fly(&account_id, wanted, &caller).await {
                    Ok(()) => Landing::Refreshed,
                    Err(Error::Refused(refusal)) => Landing::Refused(*refusal),
                    Err(Error::Fault(fault)) => {
                        tracing::error!(account.id = %account_id, error = %fault, "a refresh failed");
                        Landing::Fault
                    }
                };
                // Off the list first: who comes after the landing begins a new flight and reads a new row.
                drop(grounded);
                let _ = sender.send(Some(landing));
            });
        })
    }

    /// Steps 2 to 7.
    async fn fly(&self, account_id: &str, wanted: Wanted, caller: &Caller) -> Result<(), Error> {
        let patience = tokio::time::Instant::now() + self.settings.refresh_wait;
        loop {
            // Step 2.
            let Some((account, connection)) = self.load_for_refresh(account_id).await? else {
                return Err(Reason::AccountNotConnected.into());
            };
            if account.generation > wanted.generation {
                return Ok(());
            }
            if let Some(reason) = account.status.refusal() {
                return Err(reason.into());
            }
            let now = self.now();
            if let Some(retry_at) = account.retry_at.filter(|at| *at > now) {
                return Err(waiting_refusal(account.failure.as_deref(), retry_at, now).into());
            }
            // Step 3.
            if account.leased {
                if tokio::time::Instant::now() >= patience {
                    return Err(Refusal::new(Reason::RefreshPending)
                        .retry_after_duration(FIRST_RETRY)
                        .into());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            let tokens = TokenSet::open(self, &account.id, account.generation, &account.token_set)?;
            if tokens.refresh_token.is_none() {
                self.end_account(&account, "no_refresh_token", None, caller)
                    .await?;
                return Err(Reason::AccountNeedsReauthorization.into());
            }
            if let Err(wait) = self.breaker.admit(&connection.id, now) {
                return Err(Refusal::new(Reason::ProviderUnavailable)
                    .retry_after_duration(wait)
                    .into());
            }
            // Step 4.
            let Some(lease) = self.take_lease(&account).await? else {
                continue;
            };
            // Steps 5 to 7.
            return self
                .refresh_under_lease(account, connection, tokens, lease, caller)
                .await;
        }
    }

    async fn load_for_refresh(
        &self,
        account_id: &str,
    ) -> Result<Option<(Account, Connection)>, Error> {
        let Some(account) = self
            .first(account::by_id_statement(account_id))
            .await?
            .map(|row| account::from_row(&row))
            .transpose()?
        else {
            return Ok(None);
        };
        let connection = self
            .first(connection::by_id_statement(&account.connection_id))
            .await?
            .map(|row| connection::from_row(&row))
            .transpose()?;
        Ok(connection.map(|connection| (account, connection)))
    }

    /// Step 4: None where another node was faster.
    async fn take_lease(&self, account: &Account) -> Result<Option<Lease>, Error> {
        let attempt = account.attempt + 1;
        let uncertain = self
            .db
            .read_one(
                "select outcome from refresh_intents
                  where account_id = $1 and generation = $2 and (outcome is null or outcome = 'unknown')
                  limit 1",
                params![account.id.as_str(), column(account.generation)],
            )
            .await?
            .is_some();
        let lease = Statement::new(
            "update accounts
                set lease_owner = $4, lease_until = {now} + $5, attempt = $6
              where id = $1 and generation = $2 and attempt = $3
                and (lease_until is null or lease_until <= {now})",
            params![
                account.id.as_str(),
                column(account.generation),
                column(account.attempt),
                self.settings.node.as_str(),
                microseconds(self.settings.refresh_lease),
                column(attempt),
            ],
        )
        .exactly(1);
        let intent = Statement::new(
            "insert into refresh_intents (account_id, attempt, generation, node, started_at)
             values ($1, $2, $3, $4, $5)",
            params![
                account.id.as_str(),
                column(attempt),
                column(account.generation),
                self.settings.node.as_str(),
                self.now(),
            ],
        )
        .exactly(1);
        match self.db.write(Batch::new().with(lease).with(intent)).await {
            Ok(_) => Ok(Some(Lease { attempt, uncertain })),
            Err(WriteError::Expectation { .. } | WriteError::UniqueViolation { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn refresh_under_lease(
        &self,
        account: Account,
        connection: Connection,
        tokens: TokenSet,
        lease: Lease,
        caller: &Caller,
    ) -> Result<(), Error> {
        let settings = match connection.provider_settings(self) {
            Ok(settings) => settings,
            Err(error) => {
                self.give_back(&account, &lease).await?;
                return Err(error);
            }
        };
        // Step 5.
        let called_at = self.now();
        let answer = self
            .call_provider(&account, &connection, &settings, &tokens, &lease)
            .await;
        match &answer {
            Err(failure)
                if matches!(
                    failure.kind,
                    FailureKind::OutcomeUnknown | FailureKind::Unavailable
                ) =>
            {
                self.breaker.silent(&connection.id, self.now());
            }
            _ => self.breaker.answered(&connection.id),
        }
        match answer {
            Ok(answer) => {
                self.keep(&account, &connection, tokens, answer, &lease, caller)
                    .await
            }
            Err(failure) => {
                tracing::warn!(
                    account.id = %account.id,
                    connection.name = %connection.name,
                    failure.kind = failure_name(&failure.kind),
                    failure.status = failure.status,
                    "the provider did not refresh a token"
                );
                self.record_failure(&account, &connection, failure, &lease, called_at, caller)
                    .await
            }
        }
    }

    /// Calls the provider and renews the lease while it thinks.
    async fn call_provider(
        &self,
        account: &Account,
        connection: &Connection,
        settings: &ConnectionSettings,
        tokens: &TokenSet,
        lease: &Lease,
    ) -> Result<TokenAnswer, Failure> {
        let Some(refresh_token) = &tokens.refresh_token else {
            return Err(Failure {
                kind: FailureKind::ReauthorizationRequired,
                detail: "there is no refresh token",
                status: None,
                provider_error: None,
            });
        };
        let (redirect_uri, variables) = (connection.callback_uri(self), BTreeMap::new());
        let grant = RefreshGrant {
            refresh_token,
            access_token: &tokens.access_token,
            scopes: None,
            granted: &account.scopes,
            redirect_uri: &redirect_uri,
            variables: &variables,
            further: None,
        };
        let call = self.provider.refresh(settings, &grant, self.now());
        tokio::pin!(call);
        let mut renew = tokio::time::interval(self.settings.refresh_lease / 3);
        renew.tick().await;
        loop {
            tokio::select! {
                answer = &mut call => return answer,
                _ = renew.tick() => {
                    let renewed = self.db.write(Batch::new().with(Statement::new(
                        "update accounts set lease_until = {now} + $3 where id = $1 and attempt = $2",
                        params![account.id.as_str(), column(lease.attempt), microseconds(self.settings.refresh_lease)],
                    ))).await;
                    if let Err(error) = renewed {
                        // The commit is fenced by the attempt, so a lost lease costs a call, never a token.
                        tracing::warn!(account.id = %account.id, error = %error, "the lease could not be renewed");
                    }
                }
            }
        }
    }

    /// Step 6.
    async fn keep(
        &self,
        account: &Account,
        connection: &Connection,
        before: TokenSet,
        answer: TokenAnswer,
        lease: &Lease,
        caller: &Caller,
    ) -> Result<(), Error> {
        let now = self.now();
        let scopes = answer
            .scopes
            .clone()
            .unwrap_or_else(|| account.scopes.clone());
        let refresh_expires_at = match answer.refresh_token_expires_in {
            Some(seconds) => Some(after(now, seconds)),
            None => account.refresh_expires_at,
        };
        let tokens = TokenSet::from_answer(answer, Some(before), now);
        let rescued = Rescued {
            account_id: account.id.clone(),
            generation: account.generation,
            attempt: lease.attempt,
            token_set: tokens.seal(self, &account.id, account.generation + 1)?,
            scopes,
            access_expires_at: tokens.expires_at,
            refresh_expires_at,
            refreshed_at: now,
        };
        let event = Event::succeeded(EventKind::ProviderRefresh)
            .user(&*account.user_id)
            .connection(&*connection.name)
            .account(&*account.id)
            .scopes(rescued.scopes.join(" "))
            .detail("generation", account.generation + 1)
            .detail("attempt", lease.attempt)
            .detail("node", self.settings.node.as_str());
        self.commit_rescued(rescued, &event, caller).await
    }

    /// Commits a token set that the provider has given, however long the database takes.
    ///
    /// The first try that the database does not take puts the sealed set into the rescue journal, so that not even
    /// the end of this process loses it.
    pub(crate) async fn commit_rescued(
        &self,
        rescued: Rescued,
        event: &Event,
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut rescued = rescued;
        let mut journal = None;
        let mut wait = LOOK_AGAIN;
        loop {
            let batch = Batch::new()
                .with(rescued.commit_statement()?)
                .with(rescued.finish_intent_statement())
                .with(self.audit_statement(event, caller, self.now()));
            let end = match self.db.write(batch).await {
                Ok(_) => Ok(()),
                Err(WriteError::Expectation { .. }) => {
                    match self.fenced_by(&rescued.account_id).await? {
                        // Another attempt began after our lease had ended, and it has brought nothing newer: what we hold
                        // is still the last that the provider gave.
                        Some(fence) if fence.generation == rescued.generation => {
                            if fence.leased {
                                tokio::time::sleep(LOOK_AGAIN).await;
                            } else {
                                rescued.attempt = fence.attempt;
                            }
                            continue;
                        }
                        // The account was connected anew, refreshed by the other attempt, or disconnected.
                        _ => {
                            tracing::warn!(
                                account.id = %rescued.account_id,
                                "a refreshed token set came too late and is dropped"
                            );
                            let mut event = event.clone();
                            (event.outcome, event.reason) = (Outcome::Failed, Some("fenced"));
                            self.audit(&event, caller).await
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(account.id = %rescued.account_id, error = %error, "a refreshed token set is not committed yet");
                    if journal.is_none() {
                        journal = rescued.write_journal(&self.settings).await;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                    continue;
                }
            };
            if let Some(journal) = journal {
                journal.remove().await;
            }
            return end;
        }
    }

    /// What stands in the way of a commit: the account as it is now.
    async fn fenced_by(&self, account_id: &str) -> Result<Option<Account>, Error> {
        let row = self.first(account::by_id_statement(account_id)).await?;
        row.as_ref().map(account::from_row).transpose()
    }

    /// Step 7.
    async fn record_failure(
        &self,
        account: &Account,
        connection: &Connection,
        failure: Failure,
        lease: &Lease,
        called_at: Timestamp,
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut event = Event::succeeded(EventKind::ProviderRefresh)
            .user(&*account.user_id)
            .connection(&*connection.name)
            .account(&*account.id)
            .detail("attempt", lease.attempt)
            .detail("node", self.settings.node.as_str());
        event.outcome = Outcome::Failed;
        event.reason = Some(failure_name(&failure.kind));
        if let Some(error) = &failure.provider_error {
            event = event.detail("provider_error", error.as_str());
        }
        if let Some(status) = failure.status {
            event = event.detail("provider_status", status);
        }

        if matches!(failure.kind, FailureKind::ReauthorizationRequired) {
            // Believed only if the row still holds the token that the provider refused.
            let Some((present, _)) = self.load_for_refresh(&account.id).await? else {
                return Err(Reason::AccountNotConnected.into());
            };
            if present.generation > account.generation {
                return Ok(());
            }
            let reason = failure
                .provider_error
                .as_deref()
                .unwrap_or("invalid_grant")
                .to_owned();
            return if lease.uncertain {
                self.end_account_as(
                    account,
                    AccountStatus::OutcomeUnknown,
                    Some((lease, event)),
                    caller,
                )
                .await?;
                Err(Reason::AccountOutcomeUnknown.into())
            } else {
                self.end_account(account, &reason, Some((lease, event)), caller)
                    .await?;
                Err(Reason::AccountNeedsReauthorization.into())
            };
        }

        let retry_at = next_retry(&failure.kind, account.failures, called_at, self.jitter());
        // Sent without a usable answer: the provider may have rotated. The intent stays uncertain.
        let outcome = match failure.kind {
            FailureKind::OutcomeUnknown | FailureKind::InvalidResponse => "unknown",
            _ => "failed",
        };
        let release = Statement::new(
            "update accounts
                set lease_owner = null, lease_until = null, failures = failures + 1, failure = $3, retry_at = $4
              where id = $1 and attempt = $2",
            params![
                account.id.as_str(),
                column(lease.attempt),
                failure_name(&failure.kind),
                retry_at,
            ],
        );
        self.db
            .write(
                Batch::new()
                    .with(release)
                    .with(finish_intent(
                        &account.id,
                        lease.attempt,
                        outcome,
                        self.now(),
                    ))
                    .with(self.audit_statement(&event, caller, self.now())),
            )
            .await?;
        Err(waiting_refusal(Some(failure_name(&failure.kind)), retry_at, self.now()).into())
    }

    async fn end_account(
        &self,
        account: &Account,
        reason: &str,
        under: Option<(&Lease, Event)>,
        caller: &Caller,
    ) -> Result<(), Error> {
        let status = AccountStatus::ReauthorizationRequired {
            reason: reason.to_owned(),
        };
        self.end_account_as(account, status, under, caller).await
    }

    /// Writes down that an account needs its user, where its token set is still the one that was refused.
    async fn end_account_as(
        &self,
        account: &Account,
        status: AccountStatus,
        under: Option<(&Lease, Event)>,
        caller: &Caller,
    ) -> Result<(), Error> {
        let reason = match &status {
            AccountStatus::ReauthorizationRequired { reason } => Some(reason.as_str()),
            AccountStatus::Active | AccountStatus::OutcomeUnknown => None,
        };
        let attempt = under
            .as_ref()
            .map_or(account.attempt, |(lease, _)| lease.attempt);
        let mut batch = Batch::new().with(Statement::new(
            "update accounts
                set status = $4, status_reason = $5, lease_owner = null, lease_until = null
              where id = $1 and generation = $2 and attempt = $3",
            params![
                account.id.as_str(),
                column(account.generation),
                column(attempt),
                status.as_str(),
                reason,
            ],
        ));
        let event = match under {
            Some((lease, event)) => {
                batch = batch.with(finish_intent(
                    &account.id,
                    lease.attempt,
                    "refused",
                    self.now(),
                ));
                event
            }
            None => {
                let mut event = Event::succeeded(EventKind::ProviderRefresh)
                    .user(&*account.user_id)
                    .account(&*account.id);
                (event.outcome, event.reason) = (Outcome::Failed, Some("no_refresh_token"));
                event
            }
        };
        let batch = batch.with(self.audit_statement(&event, caller, self.now()));
        self.db.write(batch).await?;
        Ok(())
    }

    async fn give_back(&self, account: &Account, lease: &Lease) -> Result<(), Error> {
        self.db
            .write(
                Batch::new()
                    .with(Statement::new(
                        "update accounts set lease_owner = null, lease_until = null where id = $1 and attempt = $2",
                        params![account.id.as_str(), column(lease.attempt)],
                    ))
                    .with(finish_intent(&account.id, lease.attempt, "failed", self.now())),
            )
            .await?;
        Ok(())
    }

    /// A number from 0 to 255, so that nodes and accounts do not come back all at once.
    fn jitter(&self) -> u8 {
        let mut byte = [0_u8; 1];
        self.entropy.fill(&mut byte);
        byte[0]
    }
}

/// The right to refresh one account once.
#[derive(Debug)]
struct Lease {
    attempt: u64,
    /// An earlier attempt with the same token set ended without a known outcome.
    uncertain: bool,
}

/// When the provider may be asked again: what it said itself, else doubling from a second to an hour, plus up to a
/// quarter by chance.
fn next_retry(kind: &FailureKind, failures: u32, now: Timestamp, jitter: u8) -> Timestamp {
    let base = match kind {
        FailureKind::RateLimited { retry_after } => *retry_after,
        _ => FIRST_RETRY
            .saturating_mul(1 << failures.min(12))
            .min(LONGEST_RETRY),
    };
    let with_chance = base + base.mul_f64(f64::from(jitter) / 1024.0);
    SignedDuration::try_from(with_chance)
        .ok()
        .and_then(|wait| now.checked_add(wait).ok())
        .unwrap_or(Timestamp::MAX)
}

/// What a caller hears while the provider is being left alone.
fn waiting_refusal(failure: Option<&str>, retry_at: Timestamp, now: Timestamp) -> Refusal {
    let wait = Duration::try_from(retry_at.duration_since(now)).unwrap_or(FIRST_RETRY);
    let reason = match failure {
        Some("client_misconfigured") => Reason::ProviderClientMisconfigured,
        Some("invalid_response") => Reason::ProviderAnswerInvalid,
        Some("rate_limited") => Reason::ProviderRateLimited,
        _ => Reason::ProviderUnavailable,
    };
    Refusal::new(reason).retry_after_duration(wait)
}

/// The failure classes as they stand in the row, the audit log and the log.
fn failure_name(kind: &FailureKind) -> &'static str {
    match kind {
        FailureKind::ClientMisconfigured => "client_misconfigured",
        FailureKind::InvalidResponse => "invalid_response",
        FailureKind::OutcomeUnknown => "outcome_unknown",
        FailureKind::RateLimited { .. } => "rate_limited",
        FailureKind::ReauthorizationRequired => "reauthorization_required",
        FailureKind::Refused => "outbound_refused",
        FailureKind::ScopeMissing => "scope_missing",
        FailureKind::Unavailable => "provider_unavailable",
    }
}

/// Writes the outcome of an attempt into its intent row.
pub(crate) fn finish_intent(
    account_id: &str,
    attempt: u64,
    outcome: &'static str,
    now: Timestamp,
) -> Statement {
    Statement::new(
        "update refresh_intents set finished_at = $3, outcome = $4 where account_id = $1 and attempt = $2",
        params![account_id, column(attempt), now, outcome],
    )
}

fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_a_quarter() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (failures, jitter, seconds) in [
            (0, 0, 1),
            (1, 0, 2),
            (5, 0, 32),
            (30, 0, 3600),
            (30, 255, 4496),
        ] {
            let wait =
                next_retry(&FailureKind::Unavailable, failures, now, jitter).duration_since(now);
            assert_eq!(
                wait.as_secs(),
                seconds,
                "{failures} failures, jitter {jitter}"
            );
        }
    }

    #[test]
    fn the_providers_own_wait_is_kept() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let kind = FailureKind::RateLimited {
            retry_after: Duration::from_secs(90),
        };
        assert_eq!(
            next_retry(&kind, 9, now, 0).duration_since(now).as_secs(),
            90
        );
    }
}
