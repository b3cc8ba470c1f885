//! Lists, a page at a time: by cursor, whose cost does not grow with the list, or by number, for tools that know nothing
//! else.

use seal::Purpose;
use serde::Serialize;
use store::{Params, Row, Statement, params};

use crate::{Error, Fault, Reason, Vault};

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// What follows a cursor, or the beginning.
    After {
        /// What the page before gave as `next`.
        cursor: Option<String>,
        /// The most items.
        take: u32,
    },
    /// A page by its number, from 0.
    Page {
        /// The number.
        page: u32,
        /// The items of a page.
        per_page: u32,
        /// Whether to count the whole list, which reads all of it.
        with_total: bool,
    },
}

impl Window {
    /// The first so many.
    pub fn first(take: u32) -> Self {
        Self::After { cursor: None, take }
    }

    fn take(&self) -> u32 {
        match self {
            Self::After { take, .. } => *take,
            Self::Page { per_page, .. } => *per_page,
        }
    }

    fn skip(&self) -> u64 {
        match self {
            Self::After { .. } => 0,
            Self::Page { page, per_page, .. } => u64::from(*page) * u64::from(*per_page),
        }
    }
}

/// A part of a list.
#[derive(Debug, Serialize)]
pub struct Listed<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// Where the next part begins; None where this is the last one.
    pub next: Option<String>,
    /// How many items came before, where the window was a page.
    pub start: u64,
    /// The size of the window.
    pub limit: u32,
    /// The length of the whole list, where it was asked for.
    pub total: Option<u64>,
}

impl<T> Listed<T> {
    /// The same part of the list, its items shown otherwise.
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Listed<U> {
        let items = self.items.into_iter().map(show).collect();
        Listed {
            items,
            next: self.next,
            start: self.start,
            limit: self.limit,
            total: self.total,
        }
    }

    /// The same, where showing an item can fail.
    pub(crate) fn try_map<U>(
        self,
        show: impl FnMut(T) -> Result<U, Error>,
    ) -> Result<Listed<U>, Error> {
        let items = self.items.into_iter().map(show).collect::<Result<_, _>>()?;
        Ok(Listed {
            items,
            next: self.next,
            start: self.start,
            limit: self.limit,
            total: self.total,
        })
    }
}

/// How a list stands in the database. Items are ordered by one unique column of text.
pub(crate) struct ListQuery {
    /// What a cursor of the list is bound to, so that it fits no other.
    pub(crate) name: &'static str,
    /// Selects the items whose key is greater than `$1`, by key, at most `$2` after skipping `$3`. Filters begin at `$4`.
    pub(crate) select: &'static str,
    /// Counts the items. Filters begin at `$1`.
    pub(crate) count: &'static str,
    /// The values of the filters.
    pub(crate) filters: Params,
    /// What the filters are, for the cursor: it is good for the same ones only.
    pub(crate) filtered_by: String,
}

impl Vault {
    /// Reads one window of a list.
    ///
    /// # Errors
    /// [`Reason::CursorInvalid`].
    pub(crate) async fn list<T>(
        &self,
        query: ListQuery,
        window: &Window,
        read: impl Fn(&Row) -> Result<T, Error>,
        key: impl Fn(&T) -> &str,
    ) -> Result<Listed<T>, Error> {
        let after = match window {
            Window::After { cursor, .. } => {
                self.read_cursor(query.name, &query.filtered_by, cursor.as_deref())?
            }
            Window::Page { .. } => String::new(),
        };
        let take = window.take();
        let skip = window.skip();
        // One more than asked for tells whether there is a next one.
        let mut bound = params![
            after,
            i64::from(take) + 1,
            i64::try_from(skip).unwrap_or(i64::MAX)
        ];
        bound.append(&query.filters);
        let mut statements = vec![Statement::new(query.select, bound)];
        if let Window::Page {
            with_total: true, ..
        } = window
        {
            statements.push(Statement::new(query.count, query.filters));
        }
        let mut answers = self.db.read_all(statements).await?.into_iter();
        let items = answers
            .next()
            .unwrap_or_default()
            .iter()
            .map(&read)
            .collect::<Result<Vec<T>, Error>>()?;
        let total = match answers.next() {
            None => None,
            Some(rows) => {
                let count = rows
                    .first()
                    .map(|row| row.int(0))
                    .transpose()?
                    .unwrap_or_default();
                Some(u64::try_from(count).map_err(|_| Fault::Internal("a count".to_owned()))?)
            }
        };
        let page = self.page(query.name, &query.filtered_by, items, take, key);
        Ok(Listed {
            items: page.items,
            next: page.next,
            start: skip,
            limit: take,
            total,
        })
    }

    /// Cuts the extra row off that tells whether there is a next page.
    pub(crate) fn page<T>(
        &self,
        list: &str,
        owner: &str,
        mut items: Vec<T>,
        take: u32,
        key: impl Fn(&T) -> &str,
    ) -> Page<T> {
        let take = usize::try_from(take).unwrap_or(usize::MAX);
        let more = items.len() > take;
        items.truncate(take);
        let next = items
            .last()
            .filter(|_| more)
            .map(|last| self.make_cursor(list, owner, key(last)));
        Page { items, next }
    }

    /// A cursor is the last key and a MAC over list, owner and key: one made for another list, user or filter is refused
    /// (threats MG-16). It is printable, whatever the key is.
    pub(crate) fn make_cursor(&self, list: &str, owner: &str, key: &str) -> String {
        let mac = self
            .ring
            .mac(Purpose::Cursor, list, &[owner.as_bytes(), key.as_bytes()]);
        let mut cursor = String::with_capacity(32 + key.len());
        for byte in mac.iter().take(16) {
            cursor.push_str(&format!("{byte:02x}"));
        }
        cursor + key
    }

    /// The key after which a list goes on; empty at its beginning.
    pub(crate) fn read_cursor(
        &self,
        list: &str,
        owner: &str,
        cursor: Option<&str>,
    ) -> Result<String, Error> {
        let Some(cursor) = cursor else {
            return Ok(String::new());
        };
        let key = cursor.get(32..).ok_or(Reason::CursorInvalid)?;
        if key.len() > 1024 {
            return Err(Reason::CursorInvalid.into());
        }
        let expected = self.make_cursor(list, owner, key);
        if seal::constant_time_eq(expected.as_bytes(), cursor.as_bytes()) {
            Ok(key.to_owned())
        } else {
            Err(Reason::CursorInvalid.into())
        }
    }
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// Where the next page begins; None on the last.
    pub next: Option<String>,
}
