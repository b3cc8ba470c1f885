//! The audit log: who asked for what, and what came of it. One row a request, durable before the answer; never a token.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use seal::Entropy;
use serde::Serialize;
use store::{Batch, Statement, params};

use crate::{Caller, Error, Vault};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A person or API disconnected an account.
    AccountDisconnected,
    /// An account's authorization will end soon, or sooner than before.
    AccountExpiring,
    /// An administrator brought an account along from elsewhere.
    AccountImported,
    /// An account's owner named it.
    AccountLabelled,
    /// Only the account's user can renew its authorization.
    AccountReauthorizationRequired,
    /// An account that failed works again.
    AccountRecovered,
    /// The provider grants other scopes than before.
    AccountScopesChanged,
    /// An administrator changed an API.
    ApiChanged,
    /// An authorization request was answered.
    Authorize,
    /// One of our own APIs did not accept an access token.
    BearerRefused,
    /// A client authenticated, or failed to.
    ClientAuthentication,
    /// An administrator changed a client.
    ClientChanged,
    /// A client got a token of its own.
    ClientCredentials,
    /// An administrator changed what a client was granted.
    ClientGrantChanged,
    /// A code was redeemed.
    CodeRedemption,
    /// An account was connected, or not.
    ConnectCompleted,
    /// A connect flow ended in the browser without a code.
    ConnectRefused,
    /// A connect flow was started.
    ConnectStarted,
    /// An administrator changed a connection, or for whom it is enabled.
    ConnectionChanged,
    /// A connection's client secret was changed, or the next one is used from now on.
    ConnectionSecretChanged,
    /// A connection's client secret will end soon.
    ConnectionSecretExpiring,
    /// A person decided about a client's scopes.
    Consent,
    /// A subject token was exchanged for a provider's token.
    Exchange,
    /// Somebody logged in, or failed to.
    Login,
    /// A session was ended.
    Logout,
    /// The provider's tokens of an account were refreshed.
    ProviderRefresh,
    /// A grant was given back at the provider, or could not be.
    ProviderRevocation,
    /// A request was pushed.
    PushedRequest,
    /// One of our refresh tokens was used.
    RefreshGrant,
    /// Somebody signed up.
    SignUp,
    /// An administrator changed the deployment's settings.
    SettingsChanged,
    /// A signing key was made, rotated or revoked.
    SigningKey,
    /// A token was revoked.
    TokenRevocation,
    /// An administrator changed a user, or ended what they have.
    UserChanged,
}

impl EventKind {
    /// The stable name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountDisconnected => "account.disconnected",
            Self::AccountExpiring => "account.expiring",
            Self::AccountImported => "account.imported",
            Self::AccountLabelled => "account.labelled",
            Self::AccountReauthorizationRequired => "account.reauthorization_required",
            Self::AccountRecovered => "account.recovered",
            Self::AccountScopesChanged => "account.scopes_changed",
            Self::ApiChanged => "api.changed",
            Self::Authorize => "authorize",
            Self::BearerRefused => "bearer.refused",
            Self::ClientAuthentication => "client.authentication",
            Self::ClientChanged => "client.changed",
            Self::ClientCredentials => "grant.client_credentials",
            Self::ClientGrantChanged => "client_grant.changed",
            Self::CodeRedemption => "grant.authorization_code",
            Self::ConnectCompleted => "connect.completed",
            Self::ConnectRefused => "connect.refused",
            Self::ConnectStarted => "connect.started",
            Self::ConnectionChanged => "connection.changed",
            Self::ConnectionSecretChanged => "connection.secret_changed",
            Self::ConnectionSecretExpiring => "connection.secret_expiring",
            Self::Consent => "consent",
            Self::Exchange => "exchange",
            Self::Login => "login",
            Self::Logout => "logout",
            Self::ProviderRefresh => "provider.refresh",
            Self::ProviderRevocation => "provider.revocation",
            Self::PushedRequest => "pushed_request",
            Self::RefreshGrant => "grant.refresh_token",
            Self::SignUp => "sign_up",
            Self::SettingsChanged => "settings.changed",
            Self::SigningKey => "signing_key",
            Self::TokenRevocation => "token.revocation",
            Self::UserChanged => "user.changed",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// We could not do it.
    Failed,
    /// We would not do it.
    Refused,
    /// Done.
    Succeeded,
}

impl Outcome {
    /// The stable name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Succeeded => "succeeded",
        }
    }
}

/// One row to be written. What is not known stays empty.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub event: EventKind,
    /// How it ended.
    pub outcome: Outcome,
    /// The private reason of a refusal or fault.
    pub reason: Option<&'static str>,
    /// The client that asked.
    pub client_id: Option<String>,
    /// The user it concerns.
    pub user_id: Option<String>,
    /// The connection's name.
    pub connection: Option<String>,
    /// The connected account.
    pub account_id: Option<String>,
    /// The scopes given, joined with spaces.
    pub scopes: Option<String>,
    /// The worker's own words (1 to 256 characters).
    pub audit_context: Option<String>,
    details: Details,
}

/// What the details of an exchange take.
const USUAL_DETAILS: usize = 256;

/// Further facts, as the text of a JSON object. Never a token, secret or code.
#[derive(Debug, Clone, Default)]
struct Details(Vec<u8>);

impl Details {
    /// Facts that are no JSON are left out.
    fn add(&mut self, name: &'static str, value: &impl Serialize) {
        let before = self.0.len();
        if before == 0 {
            self.0.reserve(USUAL_DETAILS);
        }
        self.0.push(if before == 0 { b'{' } else { b',' });
        // The names are ours, and plain.
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        if serde_json::to_writer(&mut self.0, value).is_err() {
            self.0.truncate(before);
        }
    }

    fn json(&self) -> String {
        if self.0.is_empty() {
            return "{}".to_owned();
        }
        let mut json = Vec::with_capacity(self.0.len() + 1);
        json.extend_from_slice(&self.0);
        json.push(b'}');
        // What `serde_json` writes is UTF-8.
        String::from_utf8(json)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

impl Event {
    /// A successful event with nothing else known yet.
    pub fn succeeded(event: EventKind) -> Self {
        Self {
            event,
            outcome: Outcome::Succeeded,
            reason: None,
            client_id: None,
            user_id: None,
            connection: None,
            account_id: None,
            scopes: None,
            audit_context: None,
            details: Details::default(),
        }
    }

    /// The event of a request that ended in `error`.
    pub fn of_error(event: EventKind, error: &Error) -> Self {
        let mut row = Self::succeeded(event);
        row.end_in(error);
        row
    }

    /// Turns what is known so far into the record of a request that ended in `error`.
    pub fn end_in(&mut self, error: &Error) {
        (self.outcome, self.reason) = match error {
            Error::Refused(refusal) => (Outcome::Refused, Some(refusal.private_reason())),
            Error::Fault(crate::Fault::Unavailable(_)) => (Outcome::Failed, Some("unavailable")),
            Error::Fault(crate::Fault::Integrity(_)) => (Outcome::Failed, Some("integrity")),
            Error::Fault(crate::Fault::Internal(_)) => (Outcome::Failed, Some("internal")),
        };
    }

    /// Names the client.
    #[must_use]
    pub fn client(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Names the user.
    #[must_use]
    pub fn user(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = Some(user_id.into());
        self
    }

    /// Names the connection.
    #[must_use]
    pub fn connection(mut self, name: impl Into<String>) -> Self {
        self.connection = Some(name.into());
        self
    }

    /// Names the account.
    #[must_use]
    pub fn account(mut self, account_id: impl Into<String>) -> Self {
        self.account_id = Some(account_id.into());
        self
    }

    /// Names the scopes, joined with spaces.
    #[must_use]
    pub fn scopes(mut self, scopes: impl Into<String>) -> Self {
        self.scopes = Some(scopes.into());
        self
    }

    /// Adds a fact to the details: never a token, secret or code.
    #[must_use]
    pub fn detail(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.tell(name, value);
        self
    }

    /// How many facts there are, for [`forget_since`](Self::forget_since).
    pub(crate) fn told(&self) -> Told {
        Told(self.details.0.len())
    }

    /// Adds a fact to the details where they are: never a token, secret or code.
    pub(crate) fn tell(&mut self, name: &'static str, value: impl Serialize) {
        self.details.add(name, &value);
    }

    /// Forgets the facts that were added since.
    pub(crate) fn forget_since(&mut self, Told(length): Told) {
        self.details.0.truncate(length);
    }
}

/// How far an event's details had come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told(usize);

impl Vault {
    /// Writes one row and returns when it is durable.
    pub async fn audit(&self, event: &Event, caller: &Caller) -> Result<(), Error> {
        self.db
            .append(Batch::new().with(self.audit_statement(event, caller, self.now())))
            .await?;
        Ok(())
    }

    /// Records what a request ended in where that is a refusal or a fault. A success was recorded with its change.
    pub(crate) async fn settle<T>(
        &self,
        mut event: Event,
        ended: Result<T, Error>,
        caller: &Caller,
    ) -> Result<T, Error> {
        if let Err(error) = &ended {
            event.end_in(error);
            self.audit(&event, caller).await?;
        }
        ended
    }

    /// The row as a statement, for the batch of the change that it records.
    pub(crate) fn audit_statement(
        &self,
        event: &Event,
        caller: &Caller,
        now: Timestamp,
    ) -> Statement {
        let id = self.audit_ids.next(now);
        // Not judged: it inserts its row or fails, and what need not be judged is committed in the same round trip.
        Statement::new(
            "insert into audit (id, at, event, outcome, reason, client_id, user_id, connection, account_id,
                                scopes, address, audit_context, request_id, details)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            params![
                id,
                now,
                event.event.as_str(),
                event.outcome.as_str(),
                event.reason,
                event.client_id.as_deref(),
                event.user_id.as_deref(),
                event.connection.as_deref(),
                event.account_id.as_deref(),
                event.scopes.as_deref(),
                caller.canonical_address().map(|address| address.to_string()),
                event.audit_context.as_deref(),
                &*caller.request_id,
                event.details.json(),
            ],
        )
    }
}

/// Makes the ids of rows: ordered by time, so that they are the key of a page through the log, and unique by what the
/// process drew when it began and by how many it made since.
pub(crate) struct AuditIds {
    process: String,
    made: AtomicU64,
}

impl AuditIds {
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        Self {
            process: seal::random_id(entropy, "_"),
            made: AtomicU64::new(0),
        }
    }

    fn next(&self, at: Timestamp) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        id_at(at) + &self.process + &seal::hex(&number.to_be_bytes())
    }
}

/// What the ids of an instant begin with; less than any of them.
pub(crate) fn id_at(at: Timestamp) -> String {
    seal::hex(&at.as_microsecond().to_be_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn ids_are_ordered_by_time_and_then_by_when_they_were_made() {
        let ids = AuditIds::new(&seal::SeededEntropy::new(1));
        let other = AuditIds::new(&seal::SeededEntropy::new(2));
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let (early, late) = (
            at("2026-01-02T03:04:05Z"),
            at("2026-01-02T03:04:05.000001Z"),
        );
        let later_first = ids.next(late);
        let of_one_instant: Vec<String> = (0..20).map(|_| ids.next(early)).collect();
        assert!(of_one_instant.is_sorted());
        assert!(of_one_instant.iter().all(|id| *id < later_first));
        assert!(
            of_one_instant
                .iter()
                .all(|id| id.starts_with(&id_at(early)))
        );
        assert!(!of_one_instant.contains(&other.next(early)));
        assert_eq!(id_at(early), format!("{:016x}", early.as_microsecond()));
        assert!(later_first.ends_with("000000000000"), "{later_first}");
        assert!(
            of_one_instant[15].ends_with("000000000010"),
            "{of_one_instant:?}"
        );
    }

    #[test]
    fn details_are_one_json_object() {
        let json =
            |event: &Event| -> Value { serde_json::from_str(&event.details.json()).unwrap() };
        let event = Event::succeeded(EventKind::Exchange);
        assert_eq!(json(&event), json!({}));
        let event = event
            .detail("text", "\"quoted\" \u{1}")
            .detail("numbers", [1, 2])
            .detail("nothing", None::<&str>);
        let all = json!({"text": "\"quoted\" \u{1}", "numbers": [1, 2], "nothing": null});
        assert_eq!(json(&event), all);
        let mut more = event.clone();
        let told = more.told();
        more.tell("more", true);
        assert_eq!(json(&more)["more"], json!(true));
        more.forget_since(told);
        assert_eq!(json(&more), all);
        // What is no JSON spoils nothing.
        let strange = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(json(&event.detail("strange", strange)), all);
    }
}
