//! Which of a user's accounts a request means.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Row, Statement, params};

use crate::account::AccountStatus;
use crate::{AccountSelection, Error, Fault, Reason, Refusal};

/// A connected account as it is looked at to be picked and handed out from: what it is known by, and its tokens, still
/// sealed.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    pub(crate) user_id: String,
    subject: String,
    login: Option<String>,
    email: Option<String>,
    display_name: Option<String>,
    /// The workspace, team or tenant there.
    organization: Option<String>,
    /// What its owner calls it.
    label: Option<String>,
    /// What the provider granted.
    pub(crate) scopes: Vec<String>,
    /// What was asked for when it was connected: a JSON list, which few need.
    requested_scopes: String,
    /// What was learned for it: shop, data centre, the address of its API.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) status: AccountStatus,
    /// As in [`Account`](crate::account::Account).
    pub(crate) generation: u64,
    pub(crate) token_set: Vec<u8>,
    connected_at: Timestamp,
}

#[derive(PartialEq, Eq)]
enum Match {
    Id,
    Name,
}

impl Candidate {
    /// What people tell accounts apart by.
    fn shown(&self) -> Value {
        let mut shown = json!({ "id": self.id, "provider_user_id": self.subject });
        for (name, value) in [
            ("login", &self.login),
            ("email", &self.email),
            ("name", &self.display_name),
            ("organization", &self.organization),
            ("label", &self.label),
        ] {
            if let (Some(value), Some(members)) = (value, shown.as_object_mut()) {
                members.insert(name.to_owned(), value.as_str().into());
            }
        }
        shown
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

    /// What was asked for when it was connected.
    pub(crate) fn requested_scopes(&self) -> Result<Vec<String>, Error> {
        Ok(serde_json::from_str(&self.requested_scopes)?)
    }

    /// From the columns of `candidate_columns`.
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.text(0)?.to_owned(),
            user_id: row.text(1)?.to_owned(),
            subject: row.text(2)?.to_owned(),
            login: row.opt_text(3)?.map(str::to_owned),
            email: row.opt_text(4)?.map(str::to_owned),
            display_name: row.opt_text(5)?.map(str::to_owned),
            organization: row.opt_text(6)?.map(str::to_owned),
            label: row.opt_text(7)?.map(str::to_owned),
            scopes: serde_json::from_str(row.text(8)?)?,
            requested_scopes: row.text(9)?.to_owned(),
            status: AccountStatus::from_columns(row.text(10)?, row.opt_text(11)?)?,
            generation: u64::try_from(row.int(12)?)
                .map_err(|_| Fault::Internal("accounts.generation".to_owned()))?,
            token_set: row.blob(13)?.to_vec(),
            connected_at: row.timestamp(14)?,
            variables: serde_json::from_str(row.text(15)?)?,
        })
    }
}

/// Picks the account that an exchange means. `accounts` are one user's at one connection, most recently connected
/// first; that order decides where the hint leaves a choice, unless the deployment wants callers to choose.
pub(crate) fn select(
    accounts: Vec<Candidate>,
    hint: Option<&str>,
    selection: AccountSelection,
) -> Result<Candidate, Refusal> {
    if accounts.is_empty() {
        return Err(Refusal::new(Reason::AccountNotConnected));
    }
    let matched: Vec<Candidate> = match hint {
        None => accounts,
        Some(hint) => {
            let mut by_name = Vec::new();
            for account in accounts {
                match account.matches(hint) {
                    Some(Match::Id) => return Ok(account),
                    Some(Match::Name) => by_name.push(account),
                    None => {}
                }
            }
            by_name
        }
    };
    if matched.len() > 1 && selection == AccountSelection::Required {
        let candidates: Vec<Value> = matched.iter().map(Candidate::shown).collect();
        return Err(Refusal::new(Reason::AccountSelectionRequired).with("candidates", candidates));
    }
    matched
        .into_iter()
        .next()
        .ok_or_else(|| Refusal::new(Reason::AccountNotMatched))
}

/// The order in which an exchange prefers one user's accounts.
pub(crate) fn most_recently_connected_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.connected_at
        .cmp(&a.connected_at)
        .then_with(|| a.id.cmp(&b.id))
}

// The columns of `accounts`, in the order that `Candidate::from_row` reads them.
macro_rules! candidate_columns {
    () => {
        "a.id, a.user_id, a.subject, a.login, a.email, a.display_name, a.organization, a.label, a.scopes,
         a.requested_scopes, a.status, a.status_reason, a.generation, a.token_set, a.connected_at, a.variables"
    };
}
pub(crate) use candidate_columns;

/// One user's accounts at the connection of a name, most recently connected first.
pub(crate) fn of_user_statement(user_id: &str, connection: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            candidate_columns!(),
            " from accounts a
              where a.user_id = $1
                and a.connection_id = (select c.id from connections c where c.name = $2)
              order by a.connected_at desc, a.id
              limit 100"
        ),
        params![user_id, connection],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, subject: &str, login: &str, email: &str) -> Candidate {
        Candidate {
            id: id.to_owned(),
            user_id: "usr_1".to_owned(),
            subject: subject.to_owned(),
            login: Some(login.to_owned()),
            email: Some(email.to_owned()),
            display_name: None,
            organization: None,
            label: None,
            scopes: vec![],
            requested_scopes: "[]".to_owned(),
            variables: BTreeMap::new(),
            status: AccountStatus::Active,
            generation: 1,
            token_set: vec![],
            connected_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_hint_means_the_providers_id_before_a_name() {
        let accounts = || {
            vec![
                candidate("cac_1", "77", "anna", "anna@example.com"),
                candidate("cac_2", "anna", "bea", "bea@example.com"),
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
            let picked = select(accounts(), hint, AccountSelection::Latest);
            assert_eq!(
                picked
                    .map(|found| found.id)
                    .map_err(|refusal| refusal.reason()),
                expected.map(str::to_owned),
                "{hint:?}"
            );
        }
    }

    #[test]
    fn where_callers_have_to_choose_they_are_told_between_what() {
        let accounts = || {
            vec![
                candidate("cac_1", "77", "anna", "anna@example.com"),
                candidate("cac_2", "78", "bea", "anna@example.com"),
            ]
        };
        for (hint, expected) in [
            (Some("78"), Some("cac_2")),
            (Some("bea"), Some("cac_2")),
            (Some("anna@example.com"), None),
            (None, None),
        ] {
            let picked = select(accounts(), hint, AccountSelection::Required);
            match (picked, expected) {
                (Ok(found), Some(id)) => assert_eq!(found.id, id, "{hint:?}"),
                (Err(refusal), None) => {
                    assert_eq!(refusal.reason(), Reason::AccountSelectionRequired);
                    let candidates = refusal.extra()["candidates"].as_array().unwrap();
                    assert_eq!(candidates.len(), 2);
                    assert_eq!(candidates[1]["login"], "bea");
                }
                (picked, _) => panic!("{hint:?}: {picked:?}"),
            }
        }
        // One account leaves no choice.
        let mut one = accounts();
        one.truncate(1);
        assert!(select(one, None, AccountSelection::Required).is_ok());
    }

    #[test]
    fn without_any_account_a_hint_changes_nothing() {
        for hint in [None, Some("anna")] {
            assert_eq!(
                select(vec![], hint, AccountSelection::Latest)
                    .map(|found| found.id)
                    .map_err(|refusal| refusal.reason()),
                Err(Reason::AccountNotConnected)
            );
        }
    }
}
