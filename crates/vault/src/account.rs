//! A connected account: one user's account at one connection, with the sealed token set that the provider gave for it.

use jiff::Timestamp;
use serde::Serialize;
use store::{Row, Statement, params};

use crate::error::{Error, Fault, Reason};

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

    fn from_columns(status: &str, reason: Option<&str>) -> Result<Self, Fault> {
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
    /// What the provider granted.
    pub(crate) scopes: Vec<String>,
    pub(crate) status: AccountStatus,
    /// Counts token sets: every change of the sealed record raises it.
    pub(crate) generation: u64,
    pub(crate) token_set: Vec<u8>,
    pub(crate) refresh_expires_at: Option<Timestamp>,
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
    /// When the provider's refresh token ends, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
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
    /// `active`, `reauthorization_required` or `outcome_unknown`.
    pub status: &'static str,
    /// Why it is not active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
}

impl Account {
    pub(crate) fn view(&self, connection: &str) -> AccountView {
        AccountView {
            id: self.id.clone(),
            connection: connection.to_owned(),
            access_type: "offline",
            scopes: self.scopes.clone(),
            created_at: self.created_at,
            expires_at: self.refresh_expires_at,
            provider_user_id: self.subject.clone(),
            login: self.login.clone(),
            email: self.email.clone(),
            name: self.display_name.clone(),
            status: self.status.as_str(),
            status_reason: match &self.status {
                AccountStatus::ReauthorizationRequired { reason } => Some(reason.clone()),
                AccountStatus::Active | AccountStatus::OutcomeUnknown => None,
            },
        }
    }

    /// Whether a `login_hint` means this account, by the provider's id first, else by login or e-mail.
    fn matches(&self, hint: &str) -> Option<Match> {
        let names = |name: &Option<String>| {
            name.as_deref()
                .is_some_and(|name| name.eq_ignore_ascii_case(hint))
        };
        if self.subject == hint || self.id == hint {
            Some(Match::Id)
        } else if names(&self.login) || names(&self.email) {
            Some(Match::Name)
        } else {
            None
        }
    }
}

#[derive(PartialEq, Eq)]
enum Match {
    Id,
    Name,
}

/// Picks the account that an exchange means. `accounts` are one user's at one connection, most recently connected
/// first; without a hint that order decides.
pub(crate) fn select(accounts: Vec<Account>, hint: Option<&str>) -> Result<Account, Reason> {
    let Some(hint) = hint else {
        return accounts
            .into_iter()
            .next()
            .ok_or(Reason::AccountNotConnected);
    };
    if accounts.is_empty() {
        return Err(Reason::AccountNotConnected);
    }
    let mut by_name = None;
    for account in accounts {
        match account.matches(hint) {
            Some(Match::Id) => return Ok(account),
            Some(Match::Name) if by_name.is_none() => by_name = Some(account),
            Some(Match::Name) | None => {}
        }
    }
    by_name.ok_or(Reason::AccountNotMatched)
}

// The columns of `accounts`, in the order that `from_row` reads them.
macro_rules! account_columns {
    () => {
        "a.id, a.user_id, a.connection_id, a.subject, a.login, a.email, a.display_name, a.scopes, a.status,
         a.status_reason, a.generation, a.token_set, a.refresh_expires_at, a.attempt, a.failures, a.failure,
         a.retry_at, a.created_at, a.connected_at,
         case when a.lease_until is not null and a.lease_until > {now} then 1 else 0 end"
    };
}
pub(crate) use account_columns;

/// The number of columns of [`account_columns`].
pub(crate) const ACCOUNT_COLUMNS: usize = 20;

/// One user's accounts at the connection of a name, most recently connected first.
///
/// `user` is the id itself; the refresh token exchange, which learns its user in the same round trip, has its own
/// statement below.
pub(crate) fn of_user_statement(user_id: &str, connection: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            account_columns!(),
            " from accounts a
              where a.user_id = $1
                and a.connection_id = (select c.id from connections c where c.name = $2)
              order by a.connected_at desc, a.id
              limit 100"
        ),
        params![user_id, connection],
    )
}

/// The same for the user behind one of our refresh tokens.
pub(crate) fn of_refresh_token_statement(refresh_token_id: &str, connection: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            account_columns!(),
            " from accounts a
              where a.user_id = (select z.user_id
                                   from refresh_tokens r
                                   join authorizations z on z.id = r.authorization_id
                                  where r.id = $1)
                and a.connection_id = (select c.id from connections c where c.name = $2)
              order by a.connected_at desc, a.id
              limit 100"
        ),
        params![refresh_token_id, connection],
    )
}

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
        leased: row.bool(19)?,
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
            scopes: vec![],
            status: AccountStatus::Active,
            generation: 1,
            token_set: vec![],
            refresh_expires_at: None,
            attempt: 0,
            failures: 0,
            failure: None,
            retry_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            connected_at: Timestamp::UNIX_EPOCH,
            leased: false,
        }
    }

    #[test]
    fn a_hint_means_the_providers_id_before_a_name() {
        let accounts = || {
            vec![
                account("cac_1", "77", "anna", "anna@example.com"),
                account("cac_2", "anna", "bea", "bea@example.com"),
            ]
        };
        for (hint, expected) in [
            (None, Ok("cac_1")),
            (Some("anna"), Ok("cac_2")),
            (Some("77"), Ok("cac_1")),
            (Some("ANNA@example.com"), Ok("cac_1")),
            (Some("cac_2"), Ok("cac_2")),
            (Some("carl"), Err(Reason::AccountNotMatched)),
        ] {
            assert_eq!(
                select(accounts(), hint).map(|found| found.id),
                expected.map(str::to_owned),
                "{hint:?}"
            );
        }
    }

    #[test]
    fn without_any_account_a_hint_changes_nothing() {
        for hint in [None, Some("anna")] {
            assert_eq!(
                select(vec![], hint).map(|found| found.id),
                Err(Reason::AccountNotConnected)
            );
        }
    }
}
