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

use crate::Error;
use crate::token_set::TokenSet;

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
            match answers.get(&statement) {
                Some(answer) => Arc::clone(answer),
                None => Arc::clone(answers.entry(statement.clone()).or_default()),
            }
        };
        answer
            .get_or_try_init(|| db.look_up(statement))
            .await
            .cloned()
    }

    /// A row's token set; where nobody has opened the same bytes of the same row yet, by opening them.
    pub(crate) fn tokens(
        &self,
        account_id: &str,
        generation: u64,
        sealed: &[u8],
        open: impl FnOnce() -> Result<TokenSet, Error>,
    ) -> Result<Arc<TokenSet>, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let same = opened.iter().find(|opened| {
            opened.account_id == account_id
                && opened.generation == generation
                && opened.sealed == sealed
        });
        if let Some(same) = same {
            return Ok(Arc::clone(&same.tokens));
        }
        let tokens = Arc::new(open()?);
        opened.push(Opened {
            account_id: account_id.to_owned(),
            generation,
            sealed: sealed.to_owned(),
            tokens: Arc::clone(&tokens),
        });
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use store::{Options, params};

    use super::*;
    use crate::token_set::tests::grant;

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

    #[test]
    fn the_same_tokens_are_opened_once_and_others_by_themselves() {
        let reread = Reread::default();
        let mut opened = 0;
        for (account_id, generation, sealed, times) in [
            ("acc_1", 2, b"one", 1),
            ("acc_1", 2, b"one", 1),
            ("acc_1", 3, b"one", 2),
            ("acc_1", 2, b"two", 3),
            ("acc_2", 2, b"one", 4),
            ("acc_2", 2, b"one", 4),
        ] {
            let open = || {
                opened += 1;
                Ok(grant(
                    Some(&format!("{account_id} {generation} {sealed:?}")),
                    None,
                ))
            };
            let tokens = reread.tokens(account_id, generation, sealed, open).unwrap();
            let shown = tokens.whole.refresh_token.as_ref().unwrap();
            assert_eq!(
                shown.reveal(),
                format!("{account_id} {generation} {sealed:?}")
            );
            assert_eq!(opened, times);
        }
    }

    #[test]
    fn what_cannot_be_opened_is_tried_again() {
        let reread = Reread::default();
        let fails = || Err(crate::Fault::Internal("sealed with another key".to_owned()).into());
        assert!(reread.tokens("acc_1", 1, b"one", fails).is_err());
        assert!(
            reread
                .tokens("acc_1", 1, b"one", || Ok(grant(None, None)))
                .is_ok()
        );
    }
}
