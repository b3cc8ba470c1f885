//! A row of a query's answer, its columns by their place in the select list.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use crate::error::ReadError;
use crate::value::Value;

/// One row. Asking for a column that is missing or of another type is an error, never a panic. Cheap to clone.
///
/// An exchange reads two dozen columns: all texts of a row are one text and all its bytes are one array, in place of an
/// allocation for each column.
#[derive(Clone)]
pub struct Row {
    cells: Arc<Cells>,
    /// Which of the cells are this row's columns.
    columns: Range<usize>,
}

/// What the columns of a row hold, or the parameters of a statement, one after the other.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cells {
    columns: Vec<Column>,
    texts: String,
    bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Column {
    Blob(Range<usize>),
    Int(i64),
    Null,
    Text(Range<usize>),
}

/// What a column takes of a row's texts, so that they seldom grow.
const USUAL_TEXT: usize = 24;
/// What the first blob makes room for: where there is one, a sealed record is seldom far.
const USUAL_BYTES: usize = 1024;

impl Cells {
    /// With room for so many columns.
    pub(crate) fn of(columns: usize) -> Self {
        Self {
            columns: Vec::with_capacity(columns),
            texts: String::with_capacity(columns * USUAL_TEXT),
            // Most have none.
            bytes: Vec::new(),
        }
    }

    /// Appends a column.
    pub(crate) fn push(&mut self, cell: Value<'_>) {
        self.columns.push(match cell {
            Value::Blob(bytes) => {
                if self.bytes.capacity() == 0 {
                    self.bytes.reserve(bytes.len().max(USUAL_BYTES));
                }
                let begin = self.bytes.len();
                self.bytes.extend_from_slice(bytes);
                Column::Blob(begin..self.bytes.len())
            }
            Value::Int(number) => Column::Int(number),
            Value::Null => Column::Null,
            Value::Text(text) => {
                let begin = self.texts.len();
                self.texts.push_str(text);
                Column::Text(begin..self.texts.len())
            }
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        Some(match self.columns.get(index)? {
            Column::Blob(place) => Value::Blob(self.bytes.get(place.clone())?),
            Column::Int(number) => Value::Int(*number),
            Column::Null => Value::Null,
            Column::Text(place) => Value::Text(self.texts.get(place.clone())?),
        })
    }
}

impl From<Cells> for Row {
    fn from(cells: Cells) -> Self {
        Self {
            columns: 0..cells.columns.len(),
            cells: Arc::new(cells),
        }
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Shows how many columns there are: values may be secret.
impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row")
            .field("columns", &self.len())
            .finish_non_exhaustive()
    }
}

impl Row {
    /// The number of columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Takes the columns from `at` on away, as a row of their own: a joined query's answer falls into its tables' rows.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let middle = self.columns.end.min(self.columns.start.saturating_add(at));
        let end = std::mem::replace(&mut self.columns.end, middle);
        Self {
            cells: Arc::clone(&self.cells),
            columns: middle..end,
        }
    }

    /// The same row for itself: one that was split off keeps the whole alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        let mut cells = Cells::of(self.len());
        self.iter().for_each(|cell| cells.push(cell));
        cells.into()
    }

    fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        self.columns
            .clone()
            .map(|index| self.cells.get(index).unwrap_or(Value::Null))
    }

    fn value(&self, index: usize) -> Result<Value<'_>, ReadError> {
        let place = self.columns.start.checked_add(index);
        place
            .filter(|place| self.columns.contains(place))
            .and_then(|place| self.cells.get(place))
            .ok_or(ReadError::Column { index })
    }

    /// A text.
    pub fn text(&self, index: usize) -> Result<&str, ReadError> {
        self.opt_text(index)?.ok_or(ReadError::Column { index })
    }

    /// A text or null.
    pub fn opt_text(&self, index: usize) -> Result<Option<&str>, ReadError> {
        match self.value(index)? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            Value::Blob(_) | Value::Int(_) => Err(ReadError::Column { index }),
        }
    }

    /// A whole number.
    pub fn int(&self, index: usize) -> Result<i64, ReadError> {
        self.opt_int(index)?.ok_or(ReadError::Column { index })
    }

    /// A whole number or null.
    pub fn opt_int(&self, index: usize) -> Result<Option<i64>, ReadError> {
        match self.value(index)? {
            Value::Int(number) => Ok(Some(number)),
            Value::Null => Ok(None),
            Value::Blob(_) | Value::Text(_) => Err(ReadError::Column { index }),
        }
    }

    /// A truth value: 0 is false.
    pub fn bool(&self, index: usize) -> Result<bool, ReadError> {
        Ok(self.int(index)? != 0)
    }

    /// Bytes.
    pub fn blob(&self, index: usize) -> Result<&[u8], ReadError> {
        self.opt_blob(index)?.ok_or(ReadError::Column { index })
    }

    /// Bytes or null.
    pub fn opt_blob(&self, index: usize) -> Result<Option<&[u8]>, ReadError> {
        match self.value(index)? {
            Value::Blob(bytes) => Ok(Some(bytes)),
            Value::Null => Ok(None),
            Value::Int(_) | Value::Text(_) => Err(ReadError::Column { index }),
        }
    }

    /// An instant, stored in microseconds.
    pub fn timestamp(&self, index: usize) -> Result<Timestamp, ReadError> {
        self.opt_timestamp(index)?
            .ok_or(ReadError::Column { index })
    }

    /// An instant or null.
    pub fn opt_timestamp(&self, index: usize) -> Result<Option<Timestamp>, ReadError> {
        self.opt_int(index)?
            .map(|microseconds| {
                Timestamp::from_microsecond(microseconds).map_err(|_| ReadError::Column { index })
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let mut cells = Cells::of(4);
        for cell in [
            Value::Text("tëxt"),
            Value::Int(7),
            Value::Blob(b"bytes"),
            Value::Text(""),
            Value::Null,
            Value::Blob(b"more"),
        ] {
            cells.push(cell);
        }
        cells.into()
    }

    #[test]
    fn each_half_of_a_split_row_has_its_own_columns_only() {
        let mut left = row();
        let mut middle = left.split_off(1);
        let right = middle.split_off(2);
        assert_eq!((left.len(), middle.len(), right.len()), (1, 2, 3));
        assert_eq!(left.text(0).unwrap(), "tëxt");
        assert!(left.int(1).is_err());
        assert_eq!(middle.int(0).unwrap(), 7);
        assert_eq!(middle.blob(1).unwrap(), b"bytes");
        assert!(middle.opt_text(2).is_err());
        assert_eq!(right.text(0).unwrap(), "");
        assert_eq!(right.opt_blob(1).unwrap(), None);
        assert_eq!(right.blob(2).unwrap(), b"more");
        assert!(right.blob(usize::MAX).is_err());
        assert!(left.split_off(9).is_empty());
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn rows_are_the_same_by_what_they_hold() {
        let mut whole = row();
        let part = whole.split_off(2);
        assert!(part == part.detached());
        assert!(part.detached() == row().split_off(2));
        assert!(part != whole);
        assert!(part != row().split_off(3));
        // Not by what the columns look like next to each other.
        let [one, other] = [["ab", "c"], ["a", "bc"]].map(|texts| {
            let mut cells = Cells::of(texts.len());
            for text in texts {
                cells.push(Value::Text(text));
            }
            Row::from(cells)
        });
        assert!(one != other);
    }

    #[test]
    fn a_row_is_not_printed() {
        let mut cells = Cells::of(1);
        cells.push(Value::Text("hunter2"));
        assert_eq!(format!("{:?}", Row::from(cells)), "Row { columns: 1, .. }");
    }
}
