//! A grant that is still to be given back at its provider: what is left of an account that its owner disconnected.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use seal::RecordContext;
use store::{Row, Statement, params};

use crate::account::column;
use crate::token_set::{TokenSet, after};
use crate::{Error, Fault, Vault};

/// How long giving back is tried. After that the tokens are deleted here too.
const TRY_FOR: Duration = Duration::from_secs(72 * 3600);

/// A revocation as its row says, the tokens still sealed.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    pub(crate) id: String,
    pub(crate) connection_id: String,
    pub(crate) account_id: String,
    pub(crate) user_id: String,
    /// The account's id at the provider; None where nobody ever learned it.
    pub(crate) subject: Option<String>,
    tokens: Vec<u8>,
    pub(crate) variables: BTreeMap<String, String>,
    /// How often it was tried.
    pub(crate) attempts: u64,
    pub(crate) expires_at: Timestamp,
}

/// What it takes to make one.
pub(crate) struct NewRevocation<'a> {
    pub(crate) connection_id: &'a str,
    pub(crate) account_id: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) subject: Option<&'a str>,
    pub(crate) tokens: &'a TokenSet,
    pub(crate) variables: &'a BTreeMap<String, String>,
}

impl Revocation {
    pub(crate) fn open_tokens(&self, vault: &Vault) -> Result<TokenSet, Error> {
        TokenSet::open_as(vault, &context(&self.id), &self.tokens)
    }

    /// Keeps the tokens that a refresh brought.
    pub(crate) fn keep_tokens_statement(
        &self,
        vault: &Vault,
        tokens: &TokenSet,
    ) -> Result<Statement, Error> {
        Ok(Statement::new(
            "update revocations set tokens = $2 where id = $1",
            params![self.id.as_str(), tokens.seal_as(vault, &context(&self.id))?,],
        ))
    }
}

impl Vault {
    /// The row of a new revocation, due at once, and its id.
    pub(crate) fn revocation_statement(
        &self,
        new: &NewRevocation<'_>,
    ) -> Result<(String, Statement), Error> {
        let id = seal::random_id(self.entropy.as_ref(), "rev_");
        let now = self.now();
        let statement = Statement::new(
            "insert into revocations (id, connection_id, account_id, user_id, subject, tokens, variables, attempts,
                                      next_attempt_at, created_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, 0, $8, $8, $9)",
            params![
                id.as_str(),
                new.connection_id,
                new.account_id,
                new.user_id,
                new.subject.filter(|subject| !subject.is_empty()),
                new.tokens.seal_as(self, &context(&id))?,
                serde_json::to_string(new.variables)?,
                now,
                after(now, TRY_FOR.as_secs()),
            ],
        )
        .exactly(1);
        Ok((id, statement))
    }
}

fn context(id: &str) -> RecordContext<'_> {
    RecordContext {
        table: "revocations",
        row_id: id,
        field: "tokens",
        generation: 1,
    }
}

/// The revocation of an id.
pub(crate) fn by_id_statement(id: &str) -> Statement {
    Statement::new(
        "select id, connection_id, account_id, user_id, subject, tokens, variables, attempts, expires_at
           from revocations where id = $1",
        params![id],
    )
}

/// Those that are due, oldest first.
pub(crate) fn due_statement(now: Timestamp, most: u32) -> Statement {
    Statement::new(
        "select id from revocations where next_attempt_at <= $1 order by next_attempt_at limit $2",
        params![now, i64::from(most)],
    )
}

/// Takes one that is due, so that nobody else tries it until `again_at`.
pub(crate) fn claim_statement(id: &str, now: Timestamp, again_at: Timestamp) -> Statement {
    Statement::new(
        "update revocations set next_attempt_at = $3, attempts = attempts + 1 where id = $1 and next_attempt_at <= $2",
        params![id, now, again_at],
    )
    .exactly(1)
}

/// Tries it again later.
pub(crate) fn postpone_statement(id: &str, attempts: u64, at: Timestamp) -> Statement {
    Statement::new(
        "update revocations set next_attempt_at = $3 where id = $1 and attempts = $2",
        params![id, column(attempts), at],
    )
}

/// Forgets it, with its tokens.
pub(crate) fn delete_statement(id: &str) -> Statement {
    Statement::new("delete from revocations where id = $1", params![id])
}

// `cross join` keeps SQLite from reading every account: the few connections first, then their index by subject.

/// Whether the same grant may be somebody else's too: the account is connected through the same client at the provider,
/// by another user or at another connection, or by the same user once more.
pub(crate) fn shared_statement(strategy: &str, client_id: &str, subject: &str) -> Statement {
    Statement::new(
        "select a.id from connections c
          cross join accounts a
          where c.strategy = $1 and c.client_id = $2 and a.connection_id = c.id and a.subject = $3
          limit 1",
        params![strategy, client_id, subject],
    )
}

/// An account like that, beside the user's own at the connection: its id.
pub(crate) fn elsewhere_statement(
    strategy: &str,
    client_id: &str,
    subject: &str,
    (user_id, connection_id): (&str, &str),
) -> Statement {
    Statement::new(
        "select a.id from connections c
          cross join accounts a
          where c.strategy = $1 and c.client_id = $2 and a.connection_id = c.id and a.subject = $3
            and not (a.user_id = $4 and a.connection_id = $5)
          limit 1",
        params![strategy, client_id, subject, user_id, connection_id],
    )
}

/// The same where the subject was never learned: any account of the user at the connection could be it.
pub(crate) fn maybe_shared_statement(connection_id: &str, user_id: &str) -> Statement {
    Statement::new(
        "select id from accounts where connection_id = $1 and user_id = $2 limit 1",
        params![connection_id, user_id],
    )
}

pub(crate) fn from_row(row: &Row) -> Result<Revocation, Error> {
    Ok(Revocation {
        id: row.text(0)?.to_owned(),
        connection_id: row.text(1)?.to_owned(),
        account_id: row.text(2)?.to_owned(),
        user_id: row.text(3)?.to_owned(),
        subject: row.opt_text(4)?.map(str::to_owned),
        tokens: row.blob(5)?.to_vec(),
        variables: serde_json::from_str(row.text(6)?)?,
        attempts: u64::try_from(row.int(7)?)
            .map_err(|_| Fault::Internal("revocations: negative count".to_owned()))?,
        expires_at: row.timestamp(8)?,
    })
}
