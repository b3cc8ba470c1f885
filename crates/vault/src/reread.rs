//! What those who waited for one refresh ask the database after it, asked once.
//!
//! A thousand callers of one account that must be refreshed wait for one flight, and each has to look at the present
//! state again when it has landed. Those who ask the same share one answer: the question is put after the landing, and so
//! after each of them had come. Who comes later has no part in it. So the answer tells each caller everything that was
//! committed before its own request, as if it had asked alone; it lives as long as somebody still waits for it.
//!
//! The token set in it is opened once, too: to hand it out is each caller's own decision, to decrypt it is the same work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use store::{Db, ReadError, Row, Statement};
use tokio::sync::OnceCell;

use crate::candidate::Candidate;
use crate::token_set::TokenSet;
use crate::{Error, Vault};

/// The answers that the callers of one flight share. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Reread {
    answers: Arc<Mutex<HashMap<Statement, Answer>>>,
    /// Few: a landing is one account's.
    opened: Arc<Mutex<Vec<Opened>>>,
}

/// A token set, and what it was opened from.
struct Opened {
    account_id: String,
    generation: u64,
    sealed: Vec<u8>,
    tokens: Arc<TokenSet>,
}

type Answer = Arc<OnceCell<Vec<Row>>>;

impl std::fmt::Debug for Reread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reread")
    }
}

impl Reread {
    /// The answer to a question; where nobody has asked it yet, or whoever did got none, from the database.
    pub(crate) async fn read(&self, db: &Db, statement: Statement) -> Result<Vec<Row>, ReadError> {
        let answer = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(answers.entry(statement.clone()).or_default())
        };
        answer
            .get_or_try_init(|| db.read_rows(statement))
            .await
            .cloned()
    }

    /// The account's tokens; where nobody has opened exactly these yet, by opening them.
    pub(crate) fn tokens(
        &self,
        vault: &Vault,
        account: &Candidate<'_>,
    ) -> Result<Arc<TokenSet>, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let same = opened.iter().find(|opened| {
            opened.account_id == account.id
                && opened.generation == account.generation
                && opened.sealed == account.token_set
        });
        if let Some(same) = same {
            return Ok(Arc::clone(&same.tokens));
        }
        let tokens = TokenSet::open(vault, account.id, account.generation, account.token_set)?;
        let tokens = Arc::new(tokens);
        opened.push(Opened {
            account_id: account.id.to_owned(),
            generation: account.generation,
            sealed: account.token_set.to_owned(),
            tokens: Arc::clone(&tokens),
        });
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use store::{Options, params};

    use super::*;

    async fn opened() -> Db {
        Db::open("sqlite::memory:", Options::default())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once_and_another_one_by_itself() {
        let db = opened().await;
        let reread = Reread::default();
        for (key, reads) in [("a", 1), ("a", 1), ("b", 2), ("a", 2)] {
            let question = Statement::new("select $1", params![key]);
            let rows = reread.read(&db, question).await.unwrap();
            assert_eq!(rows[0].text(0).unwrap(), key);
            assert_eq!(db.traffic().reads, reads);
        }
        // Those of another landing begin anew.
        let question = Statement::new("select $1", params!["a"]);
        Reread::default().read(&db, question).await.unwrap();
        assert_eq!(db.traffic().reads, 3);
    }

    #[tokio::test]
    async fn who_gets_no_answer_leaves_none_behind() {
        let db = opened().await;
        let reread = Reread::default();
        let question = || Statement::new("select name from nowhere", params![]);
        assert!(reread.read(&db, question()).await.is_err());
        assert!(reread.read(&db, question()).await.is_err());
        assert_eq!(db.traffic().reads, 2);
    }
}
