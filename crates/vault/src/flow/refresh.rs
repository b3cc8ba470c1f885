//! Refreshing an account's tokens at its provider: the part that others get wrong.
//!
//! 1. One flight a token in this process ([`crate::flight`]); whoever else asks waits for it and reads the row again, once for all
//!    who ask the same ([`crate::reread`]).
//! 2. The flight reads the row. Somebody may have refreshed, disconnected or given up meanwhile: then it is done.
//! 3. Another node or flight holds the account's lease: look again until it is done or gone. The provider was silent for
//!    a while, or has had all that it takes: leave it alone, but for a probe now and then ([`crate::gate`]).
//! 4. Commit the lease and an intent row, where generation and attempt are still those read. If that cannot be
//!    committed, the provider is not called.
//! 5. Call the provider, with no database connection held, renewing the lease meanwhile. The flight is a task of its
//!    own: it outlives the request that began it. A client secret that is refused gives way to the next one.
//! 6. A new token set is sealed and committed where generation and attempt still match: a late commit of a paused node
//!    never overwrites a newer set, and is kept where there is none. If the database does not take it, it goes into the
//!    rescue journal, and the task keeps trying ([`crate::rescue`]).
//! 7. A failure is definite (the provider said `invalid_grant` and the row says that it was about this token) or not.
//!    A definite one ends the account's validity; any other leaves the account as it is and sets a time before which
//!    the provider is not asked again. What is said about a narrow or further token says nothing about the account.
//!
//! An intent without an outcome past its lease is an uncertain refresh: its node died, or the answer was lost, and nobody
//! knows whether the provider had rotated. The next flight tries once more with the token we hold; if the provider then
//! says `invalid_grant`, the account is `outcome_unknown`, because it was us who lost it and not the user who took it
//! back. Its access token is handed out as long as it lives.

use std::time::Duration;

use jiff::Timestamp;
use provider::{
    ConnectionSettings, Downscope, Failure, FailureKind, Profile, RefreshClass, RefreshGrant,
    TokenAnswer,
};
use seal::SecretString;
use store::{Batch, Statement, WriteError, params};

use crate::account::{self, Account, AccountStatus, column};
use crate::connection::{self, Connection};
use crate::failure::{self, FIRST_RETRY, next_retry, waiting_refusal};
use crate::flight::{Flight, Landing};
use crate::gate::Closed;
use crate::lifetime::Ends;
use crate::reread::Reread;
use crate::rescue::{Origin, Rescued};
use crate::token_set::{Arrival, Target, TokenSet};
use crate::{Caller, Error, Event, EventKind, Fault, Outcome, Reason, Refusal, Vault};

/// What a caller needs of the token set; decides when a flight may stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which token.
    pub(crate) target: Target,
    /// The generation with which the one came that was not good enough; None where there was none.
    pub(crate) since: Option<u64>,
}

/// How often a node looks whether another one's refresh has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What step 2 reads, all of one moment.
struct Present {
    account: Account,
    connection: Connection,
    /// An earlier attempt with the same token set has no known outcome.
    is_unfinished: bool,
}

/// A flight after step 2: what it is about.
struct Plan {
    account: Account,
    connection: Connection,
    tokens: TokenSet,
    target: Target,
    class: RefreshClass,
    /// An earlier attempt with the same token set ended without a known outcome, and may have brought another one.
    uncertain: bool,
}

impl Vault {
    /// Step 1: begins or joins the token's flight and returns when it has landed, or after `patience`. The caller reads
    /// the row again, together with those who waited as well.
    pub(crate) async fn refresh_account(
        &self,
        account_id: &str,
        wanted: Wanted,
        patience: Duration,
        caller: &Caller,
    ) -> Result<Reread, Error> {
        let mut landing = self.begin_flight(account_id, wanted, caller);
        let landed = tokio::time::timeout(patience, landing.wait_for(Option::is_some)).await;
        match landed {
            Err(_elapsed) => Err(Refusal::new(Reason::RefreshPending)
                .retry_after_duration(FIRST_RETRY)
                .into()),
            Ok(Err(_gone)) => {
                Err(Fault::Internal("a refresh ended without a result".to_owned()).into())
            }
            Ok(Ok(landing)) => match landing.as_ref() {
                Some(Landing::Refreshed(reread)) => Ok(reread.clone()),
                Some(Landing::Refused(refusal)) => Err(refusal.clone().into()),
                Some(Landing::Fault) | None => Err(Fault::Unavailable(
                    "the refresh failed; see its own log line".to_owned(),
                )
                .into()),
            },
        }
    }

    /// Returns when nothing of this process is under way behind requests any more. For an orderly end, after the last
    /// request.
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

    fn begin_flight(&self, account_id: &str, wanted: Wanted, caller: &Caller) -> Flight {
        let name = format!("{account_id} {:?}", wanted.target);
        self.flights.join(&name, || {
            let vault = Self {
                // Behind the requests that wait for it, it would wait for all of them, with each step again.
                db: self.db.urgent(),
                ..self.clone()
            };
            let caller = caller.clone();
            let account_id = account_id.to_owned();
            async move {
                match vault.fly(&account_id, wanted, &caller).await {
                    Ok(()) => Landing::Refreshed(Reread::default()),
                    Err(Error::Refused(refusal)) => Landing::Refused(*refusal),
                    Err(Error::Fault(fault)) => {
                        tracing::error!(account.id = %account_id, error = %fault, "a refresh failed");
                        Landing::Fault
                    }
                }
            }
        })
    }

    /// Steps 2 to 7.
    async fn fly(&self, account_id: &str, wanted: Wanted, caller: &Caller) -> Result<(), Error> {
        let patience = tokio::time::Instant::now() + self.settings.refresh_wait;
        loop {
            // Step 2.
            let Some(present) = self.load_for_refresh(account_id).await? else {
                return Err(Reason::AccountNotConnected.into());
            };
            let Present {
                account,
                connection,
                is_unfinished,
            } = present;
            let tokens = TokenSet::open(self, &account.id, account.generation, &account.token_set)?;
            if tokens.has(&wanted) {
                return Ok(());
            }
            if let Some(reason) = account.status.refusal() {
                return Err(reason.into());
            }
            let Some(profile) = connection.profile(self) else {
                return Err(Reason::ProviderClientMisconfigured.into());
            };
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
            let class = connection.refresh_class(profile)?;
            let plan = Plan {
                class,
                // Where asking twice does no harm, nothing can have been lost by asking once.
                uncertain: is_unfinished && class != RefreshClass::Stable,
                target: wanted.target.clone(),
                account,
                connection,
                tokens,
            };
            if plan.shown(now).is_none() {
                return self.end_unrenewable(&plan, caller).await;
            }
            self.pass_gate(&plan, profile, now)?;
            // Step 4.
            let Some(lease) = self.take_lease(&plan).await? else {
                continue;
            };
            // Steps 5 to 7.
            return self.refresh_under_lease(plan, profile, lease, caller).await;
        }
    }

    /// Nothing can bring another token. One that lives is all there is; a dead one for the whole ends the account.
    async fn end_unrenewable(&self, plan: &Plan, caller: &Caller) -> Result<(), Error> {
        let alive = plan
            .tokens
            .get(&plan.target)
            .is_some_and(|token| token.is_alive(self.now()));
        if alive {
            return Ok(());
        }
        if plan.target == Target::Whole {
            let reason = match plan.class {
                RefreshClass::Renewal => "access_token_expired",
                _ => "no_refresh_token",
            };
            let status = AccountStatus::ReauthorizationRequired {
                reason: reason.to_owned(),
            };
            let mut event = plan.event();
            (event.outcome, event.reason) = (Outcome::Failed, Some("no_refresh_token"));
            self.end_account(plan, status, None, event, caller).await?;
        }
        Err(Reason::AccountNeedsReauthorization.into())
    }

    /// Step 3, what concerns the provider.
    fn pass_gate(&self, plan: &Plan, profile: &Profile, now: Timestamp) -> Result<(), Error> {
        let per_second = match profile.refresh.per_minute {
            Some(per_minute) => f64::from(per_minute) / 60.0,
            None => f64::from(self.settings.refreshes_per_second),
        };
        self.gates
            .admit(&plan.connection.gate(), per_second, now, self.chance())
            .map_err(|closed| {
                let (reason, wait) = match closed {
                    Closed::Down(wait) => (Reason::ProviderUnavailable, wait),
                    Closed::Full(wait) => (Reason::ProviderRateLimited, wait),
                };
                Refusal::new(reason).retry_after_duration(wait).into()
            })
    }

    /// Step 2, in one round trip: while a herd waits, each one takes its time.
    async fn load_for_refresh(&self, account_id: &str) -> Result<Option<Present>, Error> {
        let unfinished = Statement::new(
            "select i.attempt from accounts a join refresh_intents i
                 on i.account_id = a.id and i.generation = a.generation
              where a.id = $1 and (i.outcome is null or i.outcome = 'unknown')
              limit 1",
            params![account_id],
        );
        let asked = vec![
            account::by_id_statement(account_id),
            connection::of_account_statement(account_id),
            unfinished,
        ];
        let mut answers = self.db.read_all(asked).await?.into_iter();
        let mut first = || answers.next().and_then(|rows| rows.into_iter().next());
        let (Some(account), Some(connection)) = (first(), first()) else {
            return Ok(None);
        };
        Ok(Some(Present {
            account: account::from_row(&account)?,
            connection: connection::from_row(&connection)?,
            is_unfinished: first().is_some(),
        }))
    }

    /// Step 4: None where another node was faster.
    async fn take_lease(&self, plan: &Plan) -> Result<Option<Lease>, Error> {
        let account = &plan.account;
        let attempt = account.attempt + 1;
        // Neither has to be undone where the lease is somebody else's: then both touch nothing, and so the database need
        // not be asked what they did before the commit.
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
        );
        let intent = Statement::new(
            "insert into refresh_intents (account_id, attempt, generation, node, started_at)
             select id, attempt, generation, lease_owner, $5 from accounts
              where id = $1 and generation = $2 and attempt = $3 and lease_owner = $4",
            params![
                account.id.as_str(),
                column(account.generation),
                column(attempt),
                self.settings.node.as_str(),
                self.now(),
            ],
        );
        match self.db.write(Batch::new().with(lease).with(intent)).await {
            Ok(written) => {
                let is_ours = written.rows_affected(0) == 1;
                Ok(is_ours.then_some(Lease { attempt }))
            }
            // This node's other flight of the account was faster, and has written its intent.
            Err(WriteError::UniqueViolation { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn refresh_under_lease(
        &self,
        plan: Plan,
        profile: &Profile,
        lease: Lease,
        caller: &Caller,
    ) -> Result<(), Error> {
        // Step 5.
        let called_at = self.now();
        let asked = self
            .ask_as_client(&plan.connection, |settings| {
                self.call_provider(&plan, settings, &lease)
            })
            .await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => {
                let refused = vec![finish_intent(
                    &plan.account.id,
                    lease.attempt,
                    "failed",
                    self.now(),
                )];
                self.give_back_lease(&plan, &lease, refused).await?;
                return Err(error);
            }
        };
        let closed_until = self.tell_gate(&plan, &answer);
        match answer {
            Ok(answer) => self.keep(plan, profile, answer, &lease, caller).await,
            Err(failure) => {
                tracing::warn!(
                    account.id = %plan.account.id,
                    connection.name = %plan.connection.name,
                    failure.kind = failure::class(&failure.kind),
                    failure.status = failure.status,
                    "the provider did not refresh a token"
                );
                let retry_at = next_retry(
                    &failure.kind,
                    plan.account.failures,
                    called_at,
                    self.chance(),
                    closed_until,
                );
                self.record_failure(&plan, failure, &lease, retry_at, caller)
                    .await
            }
        }
    }

    /// Until when the gate is closed, where the provider did not answer.
    fn tell_gate(&self, plan: &Plan, answer: &Result<TokenAnswer, Failure>) -> Option<Timestamp> {
        let (gate, now) = (plan.connection.gate(), self.now());
        match answer.as_ref().map_err(|failure| &failure.kind) {
            Err(FailureKind::OutcomeUnknown | FailureKind::Unavailable) => {
                return self
                    .gates
                    .silent(&gate, &plan.account.id, now, self.chance());
            }
            Err(FailureKind::RateLimited {
                retry_after: Some(wait),
            }) => self.gates.limited(&gate, *wait, now),
            _ => self.gates.answered(&gate),
        }
        None
    }

    /// Calls the provider and renews the lease while it thinks.
    async fn call_provider(
        &self,
        plan: &Plan,
        settings: ConnectionSettings,
        lease: &Lease,
    ) -> Result<TokenAnswer, Failure> {
        let (account, tokens) = (&plan.account, &plan.tokens);
        let now = self.now();
        let Some(refresh_token) = plan.shown(now) else {
            return Err(Failure {
                kind: FailureKind::ReauthorizationRequired,
                detail: "there is no refresh token",
                status: None,
                provider_error: None,
            });
        };
        let redirect_uri = plan.connection.callback_uri(self);
        let narrow: Option<Vec<String>> = match &plan.target {
            Target::Narrow(scopes) => Some(scopes.iter().cloned().collect()),
            Target::Further(_) | Target::Whole => None,
        };
        let grant = RefreshGrant {
            refresh_token,
            access_token: &tokens
                .get(&plan.target)
                .unwrap_or(&tokens.whole)
                .access_token,
            scopes: narrow.as_deref(),
            granted: &account.scopes,
            redirect_uri: &redirect_uri,
            variables: &account.variables,
            further: match &plan.target {
                Target::Further(name) => Some(name),
                Target::Narrow(_) | Target::Whole => tokens.whole.stands_in.as_deref(),
            },
        };
        let call = self.provider.refresh(&settings, &grant, now);
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
        plan: Plan,
        profile: &Profile,
        answer: TokenAnswer,
        lease: &Lease,
        caller: &Caller,
    ) -> Result<(), Error> {
        let now = self.now();
        let said = answer.refresh_token_expires_in;
        let event = plan
            .event()
            .detail("generation", plan.account.generation + 1)
            .detail("attempt", lease.attempt)
            .detail("node", self.settings.node.as_str());
        let Plan {
            account,
            connection,
            tokens,
            target,
            class,
            uncertain,
        } = plan;
        let lifetime_before = tokens.whole.lifetime();
        let generation = account.generation + 1;
        let whole = target == Target::Whole;
        // A further token has a refresh token of its own: using that one keeps nothing else alive.
        let own_grant = matches!(target, Target::Further(_));
        let tokens = tokens.renewed(
            answer,
            Arrival {
                target,
                generation,
                at: now,
                ends_others: profile.refresh.invalidates_access_token,
            },
        );
        // Where a token is good for one resource, its scopes are not all that was granted.
        let scopes = match profile.refresh.downscope {
            Downscope::Resource => None,
            Downscope::None | Downscope::Scope => tokens.scopes(),
        }
        .unwrap_or_else(|| account.scopes.clone());
        let ends = if own_grant {
            Ends::of_account(&account)
        } else {
            Ends::after_refresh(&account, profile, class, &tokens, said, now)
        };
        let mut events = vec![event.scopes(scopes.join(" "))];
        events.extend(account.recovered(uncertain, &connection.name));
        events.extend(account.scopes_changed(&scopes, &connection.name));
        if whole {
            events.extend(account.shortened(
                ends,
                lifetime_before,
                tokens.whole.lifetime(),
                &connection.name,
            ));
        }
        let rescued = Rescued {
            token_set: tokens.seal(self, &account.id, generation)?,
            generation: account.generation,
            attempt: lease.attempt,
            scopes,
            access_expires_at: tokens.whole.expires_at,
            refresh_expires_at: ends.authorization,
            keep_alive_at: ends.keep_alive,
            refreshed_at: now,
            origin: Origin {
                connection_id: account.connection_id,
                user_id: account.user_id,
                subject: account.subject,
                variables: account.variables,
            },
            account_id: account.id,
        };
        self.commit_rescued(rescued, &events, caller).await
    }

    /// Step 7.
    async fn record_failure(
        &self,
        plan: &Plan,
        failure: Failure,
        lease: &Lease,
        retry_at: Timestamp,
        caller: &Caller,
    ) -> Result<(), Error> {
        let class = failure::class(&failure.kind);
        let mut event = plan
            .event()
            .detail("attempt", lease.attempt)
            .detail("node", self.settings.node.as_str());
        (event.outcome, event.reason) = (Outcome::Failed, Some(class));
        if let Some(error) = &failure.provider_error {
            event = event.detail("provider_error", error.as_str());
        }
        if let Some(status) = failure.status {
            event = event.detail("provider_status", status);
        }
        let refused = match (&failure.kind, &plan.target) {
            (FailureKind::ReauthorizationRequired, Target::Whole) => {
                return self
                    .record_refusal(plan, &failure, lease, event, caller)
                    .await;
            }
            // What is said about a part of the grant says nothing about the rest.
            (FailureKind::ReauthorizationRequired, _) => Some(Reason::AccountNeedsReauthorization),
            (FailureKind::ScopeMissing, Target::Narrow(_)) => Some(Reason::ScopeMissing),
            _ => None,
        };
        if let Some(reason) = refused {
            let rows = vec![
                finish_intent(&plan.account.id, lease.attempt, "failed", self.now()),
                self.audit_statement(&event, caller, self.now()),
            ];
            self.give_back_lease(plan, lease, rows).await?;
            return Err(reason.into());
        }

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
                plan.account.id.as_str(),
                column(lease.attempt),
                class,
                retry_at,
            ],
        );
        self.db
            .write(
                Batch::new()
                    .with(release)
                    .with(finish_intent(
                        &plan.account.id,
                        lease.attempt,
                        outcome,
                        self.now(),
                    ))
                    .with(self.audit_statement(&event, caller, self.now())),
            )
            .await?;
        Err(waiting_refusal(Some(class), retry_at, self.now()).into())
    }

    /// The provider says that the whole grant is over: believed only if the row still holds the token that it refused.
    async fn record_refusal(
        &self,
        plan: &Plan,
        failure: &Failure,
        lease: &Lease,
        event: Event,
        caller: &Caller,
    ) -> Result<(), Error> {
        let Some(present) = self.load_for_refresh(&plan.account.id).await? else {
            return Err(Reason::AccountNotConnected.into());
        };
        if present.account.generation > plan.account.generation {
            return Ok(());
        }
        let status = if plan.uncertain {
            AccountStatus::OutcomeUnknown
        } else {
            let reason = failure.provider_error.as_deref().unwrap_or("invalid_grant");
            AccountStatus::ReauthorizationRequired {
                reason: reason.to_owned(),
            }
        };
        let reason = status
            .refusal()
            .unwrap_or(Reason::AccountNeedsReauthorization);
        self.end_account(plan, status, Some(lease), event, caller)
            .await?;
        Err(reason.into())
    }

    /// Writes down that an account needs its user, where its token set is still the one that was refused.
    async fn end_account(
        &self,
        plan: &Plan,
        status: AccountStatus,
        lease: Option<&Lease>,
        event: Event,
        caller: &Caller,
    ) -> Result<(), Error> {
        let account = &plan.account;
        let reason = match &status {
            AccountStatus::ReauthorizationRequired { reason } => reason.as_str(),
            AccountStatus::Active | AccountStatus::OutcomeUnknown => status.as_str(),
        };
        let attempt = lease.map_or(account.attempt, |lease| lease.attempt);
        let end = Statement::new(
            "update accounts
                set status = $4, status_reason = $5, keep_alive_at = null, lease_owner = null, lease_until = null
              where id = $1 and generation = $2 and attempt = $3",
            params![
                account.id.as_str(),
                column(account.generation),
                column(attempt),
                status.as_str(),
                reason,
            ],
        )
        .exactly(1);
        let now = self.now();
        let told = Event::succeeded(EventKind::AccountReauthorizationRequired)
            .user(&*account.user_id)
            .connection(&*plan.connection.name)
            .account(&*account.id)
            .detail("status", status.as_str())
            .detail("status_reason", reason);
        let mut batch = Batch::new()
            .with(end)
            .with(self.audit_statement(&event, caller, now))
            .with(self.audit_statement(&told, caller, now));
        if let Some(lease) = lease {
            batch = batch.with(finish_intent(&account.id, lease.attempt, "refused", now));
        }
        match self.db.write(batch).await {
            Ok(_) => Ok(()),
            // Connected anew, refreshed by somebody else, or gone: it is not this token set's turn to end it.
            Err(WriteError::Expectation { .. }) => self.audit(&event, caller).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn give_back_lease(
        &self,
        plan: &Plan,
        lease: &Lease,
        with: Vec<Statement>,
    ) -> Result<(), Error> {
        let mut batch = Batch::new().with(Statement::new(
            "update accounts set lease_owner = null, lease_until = null where id = $1 and attempt = $2",
            params![plan.account.id.as_str(), column(lease.attempt)],
        ));
        for statement in with {
            batch = batch.with(statement);
        }
        self.db.write(batch).await?;
        Ok(())
    }

    /// A number from 0 to 255, so that nodes and accounts do not come back all at once.
    pub(crate) fn chance(&self) -> u8 {
        let mut byte = [0_u8; 1];
        self.entropy.fill(&mut byte);
        let [chance] = byte;
        chance
    }
}

impl Plan {
    /// What is shown to the provider for the next token: the refresh token, or the access token where that renews
    /// itself, which it can only do while it lives.
    fn shown(&self, now: Timestamp) -> Option<&SecretString> {
        match (&self.target, self.class) {
            (Target::Whole, RefreshClass::Renewal) => {
                let whole = &self.tokens.whole;
                whole.is_alive(now).then_some(&whole.access_token)
            }
            _ => self.tokens.refresh_token(&self.target),
        }
    }

    /// The record of this refresh.
    fn event(&self) -> Event {
        let event = Event::succeeded(EventKind::ProviderRefresh)
            .user(&*self.account.user_id)
            .connection(&*self.connection.name)
            .account(&*self.account.id);
        match &self.target {
            Target::Whole => event,
            Target::Further(name) => event.detail("token", name.as_str()),
            Target::Narrow(scopes) => {
                let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
                event.detail("narrowed_to", scopes.join(" "))
            }
        }
    }
}

impl TokenSet {
    /// Whether there is a token that is newer than the one that was not good enough.
    fn has(&self, wanted: &Wanted) -> bool {
        self.get(&wanted.target)
            .is_some_and(|token| wanted.since.is_none_or(|since| token.since > since))
    }
}

/// The right to refresh one account once.
#[derive(Debug)]
struct Lease {
    attempt: u64,
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
