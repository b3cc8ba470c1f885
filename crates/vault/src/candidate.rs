//! Which of a user's accounts a request means.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Row, Statement, params};

use crate::account::AccountStatus;
use crate::{AccountSelection, Error, Fault, Reason, Refusal};

/// A connected account as it is looked at to be picked and handed out from: what it is known by, and its tokens, still
/// sealed.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: &'a str,
    pub(crate) user_id: &'a str,
    /// A JSON list, as `variables` is JSON: not everybody needs them.
    scopes: &'a str,
    variables: &'a str,
    pub(crate) status: AccountStatus,
    /// As in [`Account`](crate::account::Account).
    pub(crate) generation: u64,
    pub(crate) token_set: &'a [u8],
    connected_at: Timestamp,
    /// Where they were asked for.
    names: Option<Names<'a>>,
}

/// What people tell accounts apart by, and what was asked for when it was connected.
#[derive(Debug)]
struct Names<'a> {
    subject: &'a str,
    login: Option<&'a str>,
    email: Option<&'a str>,
    display_name: Option<&'a str>,
    /// The workspace, team or tenant there.
    organization: Option<&'a str>,
    /// What its owner calls it.
    label: Option<&'a str>,
    /// A JSON list.
    requested_scopes: &'a str,
}

#[derive(PartialEq, Eq)]
enum Match {
    Id,
    Name,
}

impl<'a> Candidate<'a> {
    /// Whether `select` needs the names.
    pub(crate) fn is_named_for(hint: Option<&str>, selection: AccountSelection) -> bool {
        hint.is_some() || selection == AccountSelection::Required
    }

    fn names(&self) -> Result<&Names<'a>, Fault> {
        self.names
            .as_ref()
            .ok_or_else(|| Fault::Internal("an account's names were not asked for".to_owned()))
    }

    /// What people tell accounts apart by.
    fn shown(&self) -> Result<Value, Fault> {
        let names = self.names()?;
        let mut shown = json!({ "id": self.id, "provider_user_id": names.subject });
        for (name, value) in [
            ("login", names.login),
            ("email", names.email),
            ("name", names.display_name),
            ("organization", names.organization),
            ("label", names.label),
        ] {
            if let (Some(value), Some(members)) = (value, shown.as_object_mut()) {
                members.insert(name.to_owned(), value.into());
            }
        }
        Ok(shown)
    }

    /// Whether a `login_hint` means this account, by the provider's id first, else by login or e-mail.
    fn matches(&self, hint: &str) -> Result<Option<Match>, Fault> {
        let names = self.names()?;
        let is_named =
            |name: Option<&str>| name.is_some_and(|name| name.eq_ignore_ascii_case(hint));
        Ok(if names.subject == hint || self.id == hint {
            Some(Match::Id)
        } else if is_named(names.login) || is_named(names.email) {
            Some(Match::Name)
        } else {
            None
        })
    }

    /// What the provider granted.
    pub(crate) fn scopes(&self) -> Result<Vec<String>, Error> {
        Ok(serde_json::from_str(self.scopes)?)
    }

    /// What was asked for when it was connected.
    pub(crate) fn requested_scopes(&self) -> Result<Vec<String>, Error> {
        Ok(serde_json::from_str(self.names()?.requested_scopes)?)
    }

    /// What was learned for it: shop, data centre, the address of its API.
    pub(crate) fn variables(&self) -> Result<BTreeMap<String, String>, Error> {
        Ok(serde_json::from_str(self.variables)?)
    }

    /// From the columns of `candidate_columns`, with the names or without.
    pub(crate) fn from_row(row: &'a Row) -> Result<Self, Error> {
        let names = if row.len() > UNNAMED_COLUMNS {
            Some(Names {
                subject: row.text(9)?,
                login: row.opt_text(10)?,
                email: row.opt_text(11)?,
                display_name: row.opt_text(12)?,
                organization: row.opt_text(13)?,
                label: row.opt_text(14)?,
                requested_scopes: row.text(15)?,
            })
        } else {
            None
        };
        Ok(Self {
            id: row.text(0)?,
            user_id: row.text(1)?,
            scopes: row.text(2)?,
            variables: row.text(3)?,
            status: AccountStatus::from_columns(row.text(4)?, row.opt_text(5)?)?,
            generation: u64::try_from(row.int(6)?)
                .map_err(|_| Fault::Internal("accounts.generation".to_owned()))?,
            token_set: row.blob(7)?,
            connected_at: row.timestamp(8)?,
            names,
        })
    }
}

/// Picks the account that an exchange means. `accounts` are one user's at one connection, most recently connected
/// first; that order decides where the hint leaves a choice, unless the deployment wants callers to choose.
pub(crate) fn select<'a>(
    accounts: Vec<Candidate<'a>>,
    hint: Option<&str>,
    selection: AccountSelection,
) -> Result<Candidate<'a>, Error> {
    if accounts.is_empty() {
        return Err(Reason::AccountNotConnected.into());
    }
    let matched: Vec<Candidate<'_>> = match hint {
        None => accounts,
        Some(hint) => {
            let mut by_name = Vec::new();
            for account in accounts {
                match account.matches(hint)? {
                    Some(Match::Id) => return Ok(account),
                    Some(Match::Name) => by_name.push(account),
                    None => {}
                }
            }
            by_name
        }
    };
    if matched.len() > 1 && selection == AccountSelection::Required {
        let candidates: Vec<Value> = matched
            .iter()
            .map(Candidate::shown)
            .collect::<Result<_, _>>()?;
        return Err(Refusal::new(Reason::AccountSelectionRequired)
            .with("candidates", candidates)
            .into());
    }
    matched
        .into_iter()
        .next()
        .ok_or_else(|| Reason::AccountNotMatched.into())
}

/// The order in which an exchange prefers one user's accounts.
pub(crate) fn most_recently_connected_first(
    a: &Candidate<'_>,
    b: &Candidate<'_>,
) -> std::cmp::Ordering {
    b.connected_at
        .cmp(&a.connected_at)
        .then_with(|| a.id.cmp(b.id))
}

// The columns of `accounts`, in the order that `Candidate::from_row` reads them.
macro_rules! candidate_columns {
    () => {
        concat!(
            $crate::candidate::candidate_columns!(unnamed),
            ", a.subject, a.login, a.email, a.display_name, a.organization, a.label, a.requested_scopes"
        )
    };
    (unnamed) => {
        "a.id, a.user_id, a.scopes, a.variables, a.status, a.status_reason, a.generation, a.token_set, a.connected_at"
    };
}
pub(crate) use candidate_columns;

/// How many columns `candidate_columns` names without the names.
const UNNAMED_COLUMNS: usize = 9;

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

    fn refusal(error: Error) -> Refusal {
        match error {
            Error::Refused(refusal) => *refusal,
            Error::Fault(fault) => panic!("{fault}"),
        }
    }

    fn candidate<'a>(
        id: &'a str,
        subject: &'a str,
        login: &'a str,
        email: &'a str,
    ) -> Candidate<'a> {
        Candidate {
            id,
            user_id: "usr_1",
            scopes: "[]",
            variables: "{}",
            status: AccountStatus::Active,
            generation: 1,
            token_set: &[],
            connected_at: Timestamp::UNIX_EPOCH,
            names: Some(Names {
                subject,
                login: Some(login),
                email: Some(email),
                display_name: None,
                organization: None,
                label: None,
                requested_scopes: "[]",
            }),
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
                    .map_err(|error| refusal(error).reason()),
                expected,
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
                (Err(error), None) => {
                    let refusal = refusal(error);
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
                    .map_err(|error| refusal(error).reason()),
                Err(Reason::AccountNotConnected)
            );
        }
    }
}
