//! A connected account: one user's account at one connection, with the sealed token set that the provider gave for it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use store::{Row, Statement, params};

use crate::error::{Error, Fault, Reason};
use crate::lifetime::Ends;
use crate::{Event, EventKind};

/// How an account is, with what belongs to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountStatus {
    /// Its tokens work, as far as we know.
    Active,
    /// A refresh ended without a known outcome and the provider allows no second try.
    OutcomeUnknown,
    /// The provider said that the authorization is over; only the user can renew it.
    ReauthorizationRequired {
        /// Why, as a stable word: `invalid_grant`, `no_refresh_token`, …
        reason: String,
    },
}

impl AccountStatus {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::ReauthorizationRequired { .. } => "reauthorization_required",
        }
    }

    pub(crate) fn from_columns(status: &str, reason: Option<&str>) -> Result<Self, Fault> {
        match status {
            "active" => Ok(Self::Active),
            "outcome_unknown" => Ok(Self::OutcomeUnknown),
            "reauthorization_required" => Ok(Self::ReauthorizationRequired {
                reason: reason.unwrap_or("unknown").to_owned(),
            }),
            other => Err(Fault::Internal(format!("accounts.status '{other}'"))),
        }
    }

    /// Nothing where the account may be used, else why not.
    pub(crate) fn refusal(&self) -> Option<Reason> {
        match self {
            Self::Active => None,
            Self::OutcomeUnknown => Some(Reason::AccountOutcomeUnknown),
            Self::ReauthorizationRequired { .. } => Some(Reason::AccountNeedsReauthorization),
        }
    }
}

/// An account as its row says, the token set still sealed.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) connection_id: String,
    pub(crate) subject: String,
    pub(crate) login: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) display_name: Option<String>,
    /// The workspace, team or tenant there.
    pub(crate) organization: Option<String>,
    /// What its owner calls it.
    pub(crate) label: Option<String>,
    /// What the provider granted.
    pub(crate) scopes: Vec<String>,
    /// What was asked for when it was connected.
    pub(crate) requested_scopes: Vec<String>,
    /// What was learned for it: shop, data centre, the address of its API.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) status: AccountStatus,
    /// Counts token sets: every change of the sealed record raises it.
    pub(crate) generation: u64,
    pub(crate) token_set: Vec<u8>,
    /// When the access token for the whole grant ends.
    pub(crate) access_expires_at: Option<Timestamp>,
    /// When the authorization ends unless it is renewed before.
    pub(crate) refresh_expires_at: Option<Timestamp>,
    /// When it is refreshed even if nobody asks, so that it does not end.
    pub(crate) keep_alive_at: Option<Timestamp>,
    /// Counts refreshes that were begun: fences off a late commit.
    pub(crate) attempt: u64,
    /// Indefinite failures since the last success.
    pub(crate) failures: u32,
    /// The kind of the last indefinite failure.
    pub(crate) failure: Option<String>,
    /// Before this the provider is not asked again.
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) connected_at: Timestamp,
    pub(crate) refreshed_at: Option<Timestamp>,
    /// Whether another node holds the account for a refresh at this moment, by the database's clock.
    pub(crate) leased: bool,
}

/// An account as its owner sees it: the contract's fields (2.8), and who and how it is beside them.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct AccountView {
    /// `cac_…`.
    pub id: String,
    /// The connection's name.
    pub connection: String,
    /// Always `offline`.
    pub access_type: &'static str,
    /// What the provider granted.
    pub scopes: Vec<String>,
    /// When it was first connected.
    pub created_at: Timestamp,
    /// When the authorization ends unless it is renewed before, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When the present access token ends, where it has an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token_expires_at: Option<Timestamp>,
    /// When the provider gave the present tokens.
    pub refreshed_at: Timestamp,
    /// The account's immutable id at the provider.
    pub provider_user_id: String,
    /// The name people log in with there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The e-mail address there. Shown, never used to link anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What the person is called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The workspace, team or tenant there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// What its owner calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What was asked for and not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_scopes: Vec<String>,
    /// What the provider's API is called with beside the token: shop, data centre, address.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// `active`, `reauthorization_required` or `outcome_unknown`.
    pub status: &'static str,
    /// Why it is not active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// The class of the last refresh's failure, where none has succeeded since: `provider_unavailable`, `rate_limited`,
    /// `client_misconfigured`, `outcome_unknown`, … The account is not at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Before this the provider is not asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// What its owner should know before it is too late: `expiring`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<&'static str>,
}

/// An end that is nearer than this is warned of, and nearer than a quarter of the time that there was.
pub(crate) const WARN_BEFORE: Duration = Duration::from_secs(7 * 24 * 3600);

impl Account {
    pub(crate) fn view(&self, connection: &str, now: Timestamp) -> AccountView {
        AccountView {
            id: self.id.clone(),
            connection: connection.to_owned(),
            access_type: "offline",
            scopes: self.scopes.clone(),
            created_at: self.created_at,
            expires_at: self.refresh_expires_at,
            access_token_expires_at: self.access_expires_at,
            refreshed_at: self.refreshed_at.unwrap_or(self.connected_at),
            provider_user_id: self.subject.clone(),
            login: self.login.clone(),
            email: self.email.clone(),
            name: self.display_name.clone(),
            status: self.status.as_str(),
            status_reason: match &self.status {
                AccountStatus::ReauthorizationRequired { reason } => Some(reason.clone()),
                AccountStatus::Active | AccountStatus::OutcomeUnknown => None,
            },
            organization: self.organization.clone(),
            label: self.label.clone(),
            missing_scopes: self.missing_scopes(),
            variables: self.variables.clone(),
            last_failure: self.failure.clone(),
            retry_at: self.retry_at.filter(|at| *at > now),
            warnings: if self.is_expiring(now) {
                vec!["expiring"]
            } else {
                vec![]
            },
        }
    }

    /// What was asked for and not granted. What names the protocol and no right is granted in silence.
    pub(crate) fn missing_scopes(&self) -> Vec<String> {
        missing_scopes(&self.requested_scopes, &self.scopes)
    }

    /// Whether its end is near and nothing of ours will put it off. The same rule as `upkeep` asks the database.
    fn is_expiring(&self, now: Timestamp) -> bool {
        let (Some(end), None) = (self.refresh_expires_at, self.keep_alive_at) else {
            return false;
        };
        let whole = end.duration_since(self.refreshed_at.unwrap_or(self.connected_at));
        let left = end.duration_since(now);
        left.is_positive()
            && left <= SignedDuration::try_from(WARN_BEFORE).unwrap_or(SignedDuration::MAX)
            && left.saturating_mul(4) <= whole
    }

    fn event(&self, kind: EventKind, connection: &str) -> Event {
        Event::succeeded(kind)
            .user(&*self.user_id)
            .connection(connection)
            .account(&*self.id)
    }

    /// What is told when an account that failed works again.
    pub(crate) fn recovered(&self, was_uncertain: bool, connection: &str) -> Option<Event> {
        let failed = self.failures > 0 || was_uncertain || self.status != AccountStatus::Active;
        failed.then(|| {
            let event = self.event(EventKind::AccountRecovered, connection);
            match &self.failure {
                Some(class) => event.detail("failure", class.as_str()),
                None => event.detail("failure", self.status.as_str()),
            }
        })
    }

    /// What is told when the provider grants other scopes than before.
    pub(crate) fn scopes_changed(&self, scopes: &[String], connection: &str) -> Option<Event> {
        let beyond = |these: &[String], those: &[String]| -> Vec<String> {
            these
                .iter()
                .filter(|scope| !is_protocol_scope(scope) && !those.contains(scope))
                .cloned()
                .collect()
        };
        let (added, removed) = (beyond(scopes, &self.scopes), beyond(&self.scopes, scopes));
        (!added.is_empty() || !removed.is_empty()).then(|| {
            self.event(EventKind::AccountScopesChanged, connection)
                .scopes(scopes.join(" "))
                .detail("added", added)
                .detail("removed", removed)
        })
    }

    /// What is told when a refresh brought an earlier end, or an access token of less than half the life of the last.
    pub(crate) fn shortened(
        &self,
        ends: Ends,
        lifetime_before: Option<Duration>,
        lifetime: Option<Duration>,
        connection: &str,
    ) -> Option<Event> {
        let earlier = matches!(
            (self.refresh_expires_at, ends.authorization),
            (Some(before), Some(end)) if before.duration_since(end) > SignedDuration::from_mins(1)
        );
        let shorter = matches!(
            (lifetime_before, lifetime),
            (Some(before), Some(lifetime)) if lifetime * 2 < before
        );
        let cause = match (earlier, shorter) {
            (true, _) => "authorization_ends_earlier",
            (false, true) => "access_token_lives_shorter",
            (false, false) => return None,
        };
        let mut event = self
            .event(EventKind::AccountExpiring, connection)
            .detail("cause", cause);
        if let Some(end) = ends.authorization {
            event = event.detail("expires_at", end.to_string());
        }
        Some(event)
    }
}

/// What was asked for and not granted.
pub(crate) fn missing_scopes(requested: &[String], granted: &[String]) -> Vec<String> {
    requested
        .iter()
        .filter(|scope| !is_protocol_scope(scope) && !granted.contains(scope))
        .cloned()
        .collect()
}

/// Scopes that name the protocol, not a right at the provider; few answers repeat them.
pub(crate) fn is_protocol_scope(scope: &str) -> bool {
    matches!(scope, "openid" | "offline_access" | "profile" | "email")
}

// The columns of `accounts`, in the order that `from_row` reads them.
macro_rules! account_columns {
    () => {
        "a.id, a.user_id, a.connection_id, a.subject, a.login, a.email, a.display_name, a.scopes, a.status,
         a.status_reason, a.generation, a.token_set, a.refresh_expires_at, a.attempt, a.failures, a.failure,
         a.retry_at, a.created_at, a.connected_at, a.organization, a.label, a.requested_scopes, a.variables,
         a.access_expires_at, a.keep_alive_at, a.refreshed_at,
         case when a.lease_until is not null and a.lease_until > {now} then 1 else 0 end"
    };
}
pub(crate) use account_columns;

/// The number of columns of [`account_columns`].
pub(crate) const ACCOUNT_COLUMNS: usize = 27;

/// The account of an id.
pub(crate) fn by_id_statement(id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            account_columns!(),
            " from accounts a where a.id = $1"
        ),
        params![id],
    )
}

/// The accounts of a user with name and strategy of their connections, by id, one window; filter: the user.
pub(crate) fn list_statements() -> (&'static str, &'static str) {
    (
        concat!(
            "select ",
            account_columns!(),
            ", c.name, c.strategy
             from accounts a join connections c on c.id = a.connection_id
            where a.id > $1 and a.user_id = $4
            order by a.id limit $2 offset $3"
        ),
        "select count(*) from accounts a where a.user_id = $1",
    )
}

/// The account that a user has connected under the provider's id for it.
pub(crate) fn by_subject_statement(user_id: &str, connection_id: &str, subject: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            account_columns!(),
            " from accounts a where a.user_id = $1 and a.connection_id = $2 and a.subject = $3"
        ),
        params![user_id, connection_id, subject],
    )
}

/// The row of a new account.
pub(crate) fn insert_statement(account: &Account) -> Result<Statement, Error> {
    Ok(Statement::new(
        "insert into accounts (id, user_id, connection_id, subject, login, email, display_name, organization, label,
                               scopes, requested_scopes, variables, status, generation, token_set, access_expires_at,
                               refresh_expires_at, keep_alive_at, attempt, failures, created_at, connected_at,
                               refreshed_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 0, $20, $21, $22)",
        params![
            account.id.as_str(),
            account.user_id.as_str(),
            account.connection_id.as_str(),
            account.subject.as_str(),
            account.login.as_deref(),
            account.email.as_deref(),
            account.display_name.as_deref(),
            account.organization.as_deref(),
            account.label.as_deref(),
            serde_json::to_string(&account.scopes)?,
            serde_json::to_string(&account.requested_scopes)?,
            serde_json::to_string(&account.variables)?,
            account.status.as_str(),
            column(account.generation),
            account.token_set.clone(),
            account.access_expires_at,
            account.refresh_expires_at,
            account.keep_alive_at,
            column(account.attempt),
            account.created_at,
            account.connected_at,
            account.refreshed_at,
        ],
    )
    .exactly(1))
}

/// Gives an account the tokens of a new grant, where nobody has changed them since they were read.
pub(crate) fn renew_statement(
    account: &Account,
    generation_before: u64,
) -> Result<Statement, Error> {
    Ok(Statement::new(
        "update accounts
            set login = $2, email = $3, display_name = $4, organization = $5, scopes = $6, requested_scopes = $7,
                variables = $8, status = $9, status_reason = null, generation = $10, token_set = $11,
                access_expires_at = $12, refresh_expires_at = $13, keep_alive_at = $14, attempt = $15,
                lease_owner = null, lease_until = null, failures = 0, failure = null, retry_at = null,
                connected_at = $16, refreshed_at = $18, warned_for = null
          where id = $1 and generation = $17",
        params![
            account.id.as_str(),
            account.login.as_deref(),
            account.email.as_deref(),
            account.display_name.as_deref(),
            account.organization.as_deref(),
            serde_json::to_string(&account.scopes)?,
            serde_json::to_string(&account.requested_scopes)?,
            serde_json::to_string(&account.variables)?,
            account.status.as_str(),
            column(account.generation),
            account.token_set.clone(),
            account.access_expires_at,
            account.refresh_expires_at,
            account.keep_alive_at,
            column(account.attempt),
            account.connected_at,
            column(generation_before),
            account.refreshed_at,
        ],
    )
    .exactly(1))
}

pub(crate) fn from_row(row: &Row) -> Result<Account, Error> {
    let count = |index: usize| -> Result<u64, Error> {
        Ok(u64::try_from(row.int(index)?)
            .map_err(|_| Fault::Internal("accounts: negative count".to_owned()))?)
    };
    Ok(Account {
        id: row.text(0)?.to_owned(),
        user_id: row.text(1)?.to_owned(),
        connection_id: row.text(2)?.to_owned(),
        subject: row.text(3)?.to_owned(),
        login: row.opt_text(4)?.map(str::to_owned),
        email: row.opt_text(5)?.map(str::to_owned),
        display_name: row.opt_text(6)?.map(str::to_owned),
        scopes: serde_json::from_str(row.text(7)?)?,
        status: AccountStatus::from_columns(row.text(8)?, row.opt_text(9)?)?,
        generation: count(10)?,
        token_set: row.blob(11)?.to_vec(),
        refresh_expires_at: row.opt_timestamp(12)?,
        attempt: count(13)?,
        failures: u32::try_from(count(14)?).unwrap_or(u32::MAX),
        failure: row.opt_text(15)?.map(str::to_owned),
        retry_at: row.opt_timestamp(16)?,
        created_at: row.timestamp(17)?,
        connected_at: row.timestamp(18)?,
        organization: row.opt_text(19)?.map(str::to_owned),
        label: row.opt_text(20)?.map(str::to_owned),
        requested_scopes: serde_json::from_str(row.text(21)?)?,
        variables: serde_json::from_str(row.text(22)?)?,
        access_expires_at: row.opt_timestamp(23)?,
        keep_alive_at: row.opt_timestamp(24)?,
        refreshed_at: row.opt_timestamp(25)?,
        leased: row.bool(26)?,
    })
}

/// A count as a column takes it.
pub(crate) fn column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str, subject: &str, login: &str, email: &str) -> Account {
        Account {
            id: id.to_owned(),
            user_id: "usr_1".to_owned(),
            connection_id: "con_1".to_owned(),
            subject: subject.to_owned(),
            login: Some(login.to_owned()),
            email: Some(email.to_owned()),
            display_name: None,
            organization: None,
            label: None,
            scopes: vec![],
            requested_scopes: vec![],
            variables: BTreeMap::new(),
            status: AccountStatus::Active,
            generation: 1,
            token_set: vec![],
            access_expires_at: None,
            refresh_expires_at: None,
            keep_alive_at: None,
            attempt: 0,
            failures: 0,
            failure: None,
            retry_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            connected_at: Timestamp::UNIX_EPOCH,
            refreshed_at: None,
            leased: false,
        }
    }

    #[test]
    fn what_was_asked_for_and_not_granted_is_missing() {
        let mut account = account("cac_1", "77", "anna", "anna@example.com");
        account.requested_scopes = ["openid", "read", "write"].map(str::to_owned).to_vec();
        account.scopes = vec!["read".to_owned()];
        assert_eq!(account.missing_scopes(), ["write"]);
    }

    #[test]
    fn an_end_is_warned_of_in_its_last_week_and_last_quarter() {
        let day = 24 * 3600;
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        for (lifetime, elapsed, keep_alive, expected) in [
            (90 * day, 82 * day, false, false),
            (90 * day, 84 * day, false, true),
            (90 * day, 84 * day, true, false),
            (90 * day, 91 * day, false, false),
            (day, 17 * 3600, false, false),
            (day, 19 * 3600, false, true),
        ] {
            let mut account = account("cac_1", "77", "anna", "anna@example.com");
            account.refresh_expires_at = Some(at(lifetime));
            account.keep_alive_at = keep_alive.then(|| at(0));
            let warned = account.view("c", at(elapsed)).warnings;
            assert_eq!(warned == ["expiring"], expected, "{lifetime} {elapsed}");
        }
    }
}
