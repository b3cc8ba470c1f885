//! A user's own accounts and what they could connect: lists by cursor, labels, and disconnecting (contract 2.8, 2.9).

use schemars::JsonSchema;
use serde::Deserialize;
use store::{Batch, Statement, WriteError, params};

use crate::access_token::AccessToken;
use crate::account::{self, ACCOUNT_COLUMNS, Account, AccountView, account_columns, column};
use crate::connection::{self, ConnectionView};
use crate::listing::Page;
use crate::revocation::NewRevocation;
use crate::token_set::TokenSet;
use crate::{Caller, Document, Error, Event, EventKind, Fault, Reason, Refusal, Source, Vault};

/// What an account shall be called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRequest {
    #[schemars(length(max = 128), regex(pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$"))]
    label: Option<String>,
}

impl LabelRequest {
    /// Reads the body: `label`, 1 to 128 characters; empty or null takes the name away.
    pub fn parse(body: serde_json::Value) -> Result<Self, Refusal> {
        let request = Self::read(body, Source::Body)?;
        Ok(Self {
            label: request.label.filter(|label| !label.is_empty()),
        })
    }
}

/// How often a disconnect that lost a race against a refresh of the same account is tried again.
const REMOVE_ATTEMPTS: u32 = 5;

/// The most connection names a list may be filtered by (contract 2.11).
pub const MOST_FILTERS: usize = 20;

impl Vault {
    /// The caller's accounts, oldest first, optionally only those at some connections.
    pub async fn list_accounts(
        &self,
        me: &AccessToken,
        connections: &[String],
        from: Option<&str>,
        take: u32,
    ) -> Result<Page<AccountView>, Error> {
        let user_id = me.user_id.as_deref().ok_or(Reason::ConnectUserMismatch)?;
        let after = self.read_cursor("accounts", user_id, from)?;
        // Ids sort by nothing but themselves, which is all that a cursor needs. Absent names of the filter are null.
        let mut bound = params![user_id, after, i64::from(take) + 1, connections.is_empty(),];
        for index in 0..MOST_FILTERS {
            bound.push(connections.get(index));
        }
        let rows = self
            .db
            .read(
                concat!(
                    "select ",
                    account_columns!(),
                    ", c.name
                     from accounts a
                     join connections c on c.id = a.connection_id
                    where a.user_id = $1 and a.id > $2
                      and ($4 = 1 or c.name in ($5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                                                $15, $16, $17, $18, $19, $20, $21, $22, $23, $24))
                    order by a.id
                    limit $3"
                ),
                bound,
            )
            .await?;
        let now = self.now();
        let mut views = Vec::with_capacity(rows.len());
        for row in &rows {
            views.push(account::from_row(row)?.view(row.text(ACCOUNT_COLUMNS)?, now));
        }
        Ok(self.page("accounts", user_id, views, take, |view| view.id.as_str()))
    }

    /// The connections that the caller's client can connect accounts at.
    pub async fn list_connections(
        &self,
        me: &AccessToken,
        from: Option<&str>,
        take: u32,
    ) -> Result<Page<ConnectionView>, Error> {
        let user_id = me.user_id.as_deref().ok_or(Reason::ConnectUserMismatch)?;
        let after = self.read_cursor("connections", user_id, from)?;
        let rows = self
            .db
            .read_rows(connection::list_for_client_statement(
                &me.client_id,
                &after,
                take + 1,
            ))
            .await?;
        let mut views = Vec::new();
        for row in rows {
            views.push(connection::from_row(&row)?.view());
        }
        Ok(self.page("connections", user_id, views, take, |view| {
            view.name.as_str()
        }))
    }

    /// Names one of the caller's accounts, so that people can tell two apart.
    pub async fn label_account(
        &self,
        me: &AccessToken,
        account_id: &str,
        request: LabelRequest,
        caller: &Caller,
    ) -> Result<AccountView, Error> {
        let mut event = Event::succeeded(EventKind::AccountLabelled)
            .client(&*me.client_id)
            .account(account_id);
        event.user_id = me.user_id.clone();
        let update = Statement::new(
            "update accounts set label = $3 where id = $1 and user_id = $2",
            params![account_id, me.user_id.as_deref(), request.label],
        )
        .exactly(1);
        let batch =
            Batch::new()
                .with(update)
                .with(self.audit_statement(&event, caller, self.now()));
        let ended = match self.db.write(batch).await {
            Ok(_) => {
                let user_id = me.user_id.as_deref().unwrap_or_default();
                self.account_of(user_id, account_id).await
            }
            // Unknown and somebody else's are one answer (threats CN-28).
            Err(WriteError::Expectation { .. }) => Err(Reason::AccountUnknown.into()),
            Err(error) => Err(error.into()),
        };
        let account = self.settle(event, ended, caller).await?;
        let connection = self
            .first(connection::by_id_statement(&account.connection_id))
            .await?
            .map(|row| connection::from_row(&row))
            .transpose()?
            .ok_or(Reason::AccountUnknown)?;
        Ok(account.view(&connection.name, self.now()))
    }

    /// Removes an account and everything kept for it, at once. The provider is told behind the answer, for as long as it
    /// takes ([`crate::flow::give_back`]).
    pub async fn disconnect(
        &self,
        me: &AccessToken,
        account_id: &str,
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut event = Event::succeeded(EventKind::AccountDisconnected)
            .client(&*me.client_id)
            .account(account_id);
        event.user_id = me.user_id.clone();
        let user_id = me.user_id.as_deref().unwrap_or_default();
        let ended = self
            .remove_account(user_id, account_id, &event, caller)
            .await;
        let revocation_id = self.settle(event, ended, caller).await?;
        self.give_back_behind(revocation_id);
        Ok(())
    }

    /// Deletes the account and notes its grant to be given back, in one transaction.
    pub(crate) async fn remove_account(
        &self,
        user_id: &str,
        account_id: &str,
        event: &Event,
        caller: &Caller,
    ) -> Result<String, Error> {
        for _ in 0..REMOVE_ATTEMPTS {
            let account = self.account_of(user_id, account_id).await?;
            let tokens = TokenSet::open(self, &account.id, account.generation, &account.token_set)?;
            let (revocation_id, revocation) = self.revocation_statement(&NewRevocation {
                connection_id: &account.connection_id,
                account_id: &account.id,
                user_id: &account.user_id,
                subject: Some(&account.subject),
                tokens: &tokens,
                variables: &account.variables,
            })?;
            let delete = Statement::new(
                "delete from accounts where id = $1 and user_id = $2 and generation = $3",
                params![account_id, user_id, column(account.generation)],
            )
            .exactly(1);
            let batch = Batch::new()
                .with(delete)
                .with(revocation)
                .with(self.audit_statement(event, caller, self.now()));
            match self.db.write(batch).await {
                Ok(_) => return Ok(revocation_id),
                // A refresh came between, or another disconnect: what is there now is given back, if anything is.
                Err(WriteError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Fault::Unavailable("the account is being written by others".to_owned()).into())
    }

    /// Unknown and somebody else's are one answer (threats CN-28).
    async fn account_of(&self, user_id: &str, account_id: &str) -> Result<Account, Error> {
        let account = self
            .first(account::by_id_statement(account_id))
            .await?
            .map(|row| account::from_row(&row))
            .transpose()?
            .filter(|account| account.user_id == user_id);
        Ok(account.ok_or(Reason::AccountUnknown)?)
    }
}
