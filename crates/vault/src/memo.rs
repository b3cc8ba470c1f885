//! What was made of a row, remembered for as long as the row is the same.
//!
//! Clients and connections are read from the database for every request and hold lists and settings as JSON. A memo saves
//! the parsing and nothing else: it is asked with the row that was just read, and answers only where every column is
//! what it was. So there is nothing to invalidate: what another node has changed is another row.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use store::Row;

use crate::Error;

/// How many rows are remembered; all are forgotten when there are more.
const MOST: usize = 1000;

/// Rows with what was made of them. Cheap to clone.
pub(crate) struct Memo<T> {
    known: Arc<RwLock<Known<T>>>,
}

/// By the row's key.
type Known<T> = HashMap<String, (Row, Arc<T>)>;

impl<T> Clone for Memo<T> {
    fn clone(&self) -> Self {
        Self {
            known: Arc::clone(&self.known),
        }
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self {
            known: Arc::default(),
        }
    }
}

impl<T> Memo<T> {
    /// What `parse` makes of the row. Its key is in the first column.
    pub(crate) fn of(
        &self,
        row: Row,
        parse: impl FnOnce(&Row) -> Result<T, Error>,
    ) -> Result<Arc<T>, Error> {
        let key = row.text(0)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((same, made)) = known.get(key)
            && *same == row
        {
            return Ok(Arc::clone(made));
        }
        drop(known);
        let made = Arc::new(parse(&row)?);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key.to_owned(), (row.detached(), Arc::clone(&made)));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use store::{Db, Options, params};

    use super::*;

    async fn row(db: &Db, key: &str, text: &str) -> Row {
        let rows = db.read("select $1, $2", params![key, text]).await;
        rows.unwrap().remove(0)
    }

    #[tokio::test]
    async fn only_the_same_row_is_not_parsed_again() {
        let db = Db::open("sqlite::memory:", Options::default())
            .await
            .unwrap();
        let memo = Memo::default();
        let mut parsed = 0;
        let mut ask = |row: Row| {
            let made = memo.of(row, |row| {
                parsed += 1;
                Ok(row.text(1)?.to_owned())
            });
            (made.unwrap().to_string(), parsed)
        };
        assert_eq!(ask(row(&db, "a", "old").await), ("old".to_owned(), 1));
        assert_eq!(ask(row(&db, "a", "old").await), ("old".to_owned(), 1));
        assert_eq!(ask(row(&db, "a", "new").await), ("new".to_owned(), 2));
        assert_eq!(ask(row(&db, "b", "new").await), ("new".to_owned(), 3));
        assert_eq!(ask(row(&db, "a", "old").await), ("old".to_owned(), 4));
    }

    #[tokio::test]
    async fn it_does_not_grow_without_end() {
        let db = Db::open("sqlite::memory:", Options::default())
            .await
            .unwrap();
        let memo = Memo::default();
        for number in 0..=MOST {
            let row = row(&db, &number.to_string(), "").await;
            memo.of(row, |_| Ok(())).unwrap();
        }
        assert_eq!(memo.known.read().unwrap().len(), 1);
    }
}
