//! A grant on its way into an account: the row that it makes, or what it makes of the row that is there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use provider::{Identity, Profile, RefreshClass};
use store::Statement;

use crate::account::{self, Account, AccountStatus};
use crate::connection::Connection;
use crate::lifetime::Ends;
use crate::token_set::TokenSet;
use crate::{Error, Event, Vault};

/// What a provider gave.
pub(crate) struct Grant {
    pub(crate) tokens: TokenSet,
    pub(crate) scopes: Vec<String>,
    pub(crate) requested_scopes: Vec<String>,
    /// Seconds that the refresh token lives, where that is known.
    pub(crate) refresh_expires_in: Option<u64>,
    pub(crate) variables: BTreeMap<String, String>,
    /// When the provider gave it; None where nobody knows.
    pub(crate) given_at: Option<Timestamp>,
}

/// Whose it is, and where.
pub(crate) struct Grantee<'a> {
    pub(crate) user_id: &'a str,
    pub(crate) connection: &'a Connection,
    pub(crate) profile: &'a Profile,
    pub(crate) class: RefreshClass,
    pub(crate) identity: &'a Identity,
}

/// A decision, to be written with the record of it.
pub(crate) struct Settled {
    pub(crate) account: Account,
    pub(crate) write: Statement,
    /// What is told beside the grant itself.
    pub(crate) told: Vec<Event>,
}

impl Vault {
    /// Decides the account of a grant: a new one, or the one that the user has at the connection under the same id of the
    /// provider, with the new tokens. The statement holds only where nobody has changed that one since it was read.
    pub(crate) fn decide_account(
        &self,
        grantee: &Grantee<'_>,
        grant: &mut Grant,
        before: Option<&Account>,
    ) -> Result<Settled, Error> {
        let now = self.now();
        let connection = grantee.connection;
        let id = match before {
            Some(account) => account.id.clone(),
            None => seal::random_id(self.entropy.as_ref(), "cac_"),
        };
        let generation = before.map_or(0, |account| account.generation);
        grant.tokens.begin_at(generation + 1);
        let ends = Ends::of_grant(
            &id,
            grantee.profile,
            grantee.class,
            &grant.tokens,
            grant.refresh_expires_in,
            now,
        );
        let identity = grantee.identity;
        let account = Account {
            user_id: grantee.user_id.to_owned(),
            connection_id: connection.id.clone(),
            subject: identity.subject.clone(),
            login: identity.login.clone(),
            email: identity.email.clone(),
            display_name: identity.name.clone(),
            organization: identity.organization.clone(),
            label: before.and_then(|account| account.label.clone()),
            scopes: grant.scopes.clone(),
            requested_scopes: grant.requested_scopes.clone(),
            variables: grant.variables.clone(),
            status: AccountStatus::Active,
            token_set: grant.tokens.seal(self, &id, generation + 1)?,
            generation: generation + 1,
            access_expires_at: grant.tokens.whole.expires_at,
            refresh_expires_at: ends.authorization,
            keep_alive_at: ends.keep_alive,
            // A refresh that is in flight for the old token set may not commit over the new one.
            attempt: before.map_or(0, |account| account.attempt) + 1,
            failures: 0,
            failure: None,
            retry_at: None,
            created_at: before.map_or(now, |account| account.created_at),
            connected_at: now,
            refreshed_at: grant.given_at,
            leased: false,
            id,
        };
        let write = match before {
            None => account::insert_statement(&account)?,
            Some(_) => account::renew_statement(&account, generation)?,
        };
        let told = before.map_or_else(Vec::new, |before| {
            let told = [
                before.recovered(false, &connection.name),
                before.scopes_changed(&account.scopes, &connection.name),
            ];
            told.into_iter().flatten().collect()
        });
        Ok(Settled {
            account,
            write,
            told,
        })
    }
}
