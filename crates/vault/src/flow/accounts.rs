//! A user's own accounts and what they could connect: lists by cursor, and disconnecting (contract 2.8, 2.9).

use seal::Purpose;
use serde::Serialize;
use store::{Batch, Statement, Value, WriteError, params};

use crate::access_token::AccessToken;
use crate::account::{self, ACCOUNT_COLUMNS, AccountView, account_columns};
use crate::connection::{self, ConnectionView};
use crate::{Caller, Error, Event, EventKind, Reason, Vault};

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// Where the next page begins; None on the last.
    pub next: Option<String>,
}

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
        bound.extend(
            (0..MOST_FILTERS).map(|index| Value::from(connections.get(index).map(String::as_str))),
        );
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
        let mut views = Vec::with_capacity(rows.len());
        for row in &rows {
            views.push(account::from_row(row)?.view(row.text(ACCOUNT_COLUMNS)?));
        }
        Ok(self.page("accounts", user_id, views, take, |view| &view.id))
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
            .read_all(vec![connection::list_for_client_statement(
                &me.client_id,
                &after,
                take + 1,
            )])
            .await?
            .into_iter()
            .flatten();
        let mut views = Vec::new();
        for row in rows {
            views.push(connection::from_row(&row)?.view());
        }
        Ok(self.page("connections", user_id, views, take, |view| &view.name))
    }

    /// Removes an account and everything kept for it. The provider is not told; copies of its tokens live on there
    /// until they end (contract 2.9).
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
        let delete = Statement::new(
            "delete from accounts where id = $1 and user_id = $2",
            params![account_id, me.user_id.as_deref()],
        )
        .exactly(1);
        let batch =
            Batch::new()
                .with(delete)
                .with(self.audit_statement(&event, caller, self.now()));
        match self.db.write(batch).await {
            Ok(_) => Ok(()),
            Err(WriteError::Expectation { .. }) => {
                // Unknown and somebody else's are one answer (threats CN-28).
                let error = Error::from(Reason::AccountUnknown);
                event.end_in(&error);
                self.audit(&event, caller).await?;
                Err(error)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Cuts the extra row off that tells whether there is a next page.
    fn page<T>(
        &self,
        list: &str,
        user_id: &str,
        mut items: Vec<T>,
        take: u32,
        key: impl Fn(&T) -> &String,
    ) -> Page<T> {
        let take = usize::try_from(take).unwrap_or(usize::MAX);
        let more = items.len() > take;
        items.truncate(take);
        let next = items
            .last()
            .filter(|_| more)
            .map(|last| self.make_cursor(list, user_id, key(last)));
        Page { items, next }
    }

    /// A cursor is the last key and a MAC over list, user and key: one made for another list or user is refused
    /// (threats MG-16).
    fn make_cursor(&self, list: &str, user_id: &str, key: &str) -> String {
        let mac = self
            .ring
            .mac(Purpose::Cursor, list, &[user_id.as_bytes(), key.as_bytes()]);
        let mut cursor = String::with_capacity(32 + key.len());
        for byte in mac.iter().take(16) {
            cursor.push_str(&format!("{byte:02x}"));
        }
        cursor + key
    }

    fn read_cursor(
        &self,
        list: &str,
        user_id: &str,
        cursor: Option<&str>,
    ) -> Result<String, Error> {
        let Some(cursor) = cursor else {
            return Ok(String::new());
        };
        let key = cursor.get(32..).ok_or(Reason::CursorInvalid)?;
        if key.len() > 128 {
            return Err(Reason::CursorInvalid.into());
        }
        let expected = self.make_cursor(list, user_id, key);
        if seal::constant_time_eq(expected.as_bytes(), cursor.as_bytes()) {
            Ok(key.to_owned())
        } else {
            Err(Reason::CursorInvalid.into())
        }
    }
}
