//! A row of a query's answer, its columns by their place in the select list.

use jiff::Timestamp;

use crate::error::ReadError;
use crate::value::Value;

/// One row. Asking for a column that is missing or of another type is an error, never a panic.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self { values }
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Takes the columns from `at` on away, as a row of their own: a joined query's answer falls into its tables' rows.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        Self {
            values: self.values.split_off(at.min(self.values.len())),
        }
    }

    fn value(&self, index: usize) -> Result<&Value, ReadError> {
        self.values.get(index).ok_or(ReadError::Column { index })
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
            Value::Int(number) => Ok(Some(*number)),
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
