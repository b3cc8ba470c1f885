//! The values that go into a statement and come out of a row.

use jiff::Timestamp;

use crate::row::Cells;

/// A value where it stands. The debug form shows only its kind: values may be secret.
#[derive(Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Bytes.
    Blob(&'a [u8]),
    /// A whole number, a truth value (0, 1) or an instant (microseconds).
    Int(i64),
    /// Nothing.
    Null,
    /// Text.
    Text(&'a str),
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blob(_) => "Blob(…)",
            Self::Int(_) => "Int(…)",
            Self::Null => "Null",
            Self::Text(_) => "Text(…)",
        })
    }
}

/// What can be a parameter.
pub trait Param {
    /// As the value that it is in the database.
    fn value(&self) -> Value<'_>;
}

impl Param for Value<'_> {
    fn value(&self) -> Value<'_> {
        *self
    }
}

impl Param for i64 {
    fn value(&self) -> Value<'_> {
        Value::Int(*self)
    }
}

impl Param for i32 {
    fn value(&self) -> Value<'_> {
        Value::Int(i64::from(*self))
    }
}

impl Param for u32 {
    fn value(&self) -> Value<'_> {
        Value::Int(i64::from(*self))
    }
}

impl Param for bool {
    fn value(&self) -> Value<'_> {
        Value::Int(i64::from(*self))
    }
}

impl Param for Timestamp {
    fn value(&self) -> Value<'_> {
        Value::Int(self.as_microsecond())
    }
}

impl Param for str {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Param for String {
    fn value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl Param for [u8] {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl Param for Vec<u8> {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<const N: usize> Param for [u8; N] {
    fn value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<T: Param> Param for Option<T> {
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Param::value)
    }
}

impl<T: Param + ?Sized> Param for &T {
    fn value(&self) -> Value<'_> {
        (**self).value()
    }
}

/// The parameters of a statement, `$1` first. The debug form shows only their kinds.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Params(Cells);

impl Params {
    /// None yet, with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        Self(Cells::of(count))
    }

    /// Adds one.
    pub fn push(&mut self, param: impl Param) {
        self.0.push(param.value());
    }

    /// Adds those of another list.
    pub fn append(&mut self, more: &Self) {
        for value in more.iter() {
            self.0.push(value);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        self.0.iter()
    }
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Builds the parameters of a statement: `params![id, now, Some(1_i64)]`.
#[macro_export]
macro_rules! params {
    () => {
        $crate::Params::default()
    };
    ($($value:expr),+ $(,)?) => {{
        let mut params = $crate::Params::with_capacity([$(stringify!($value)),+].len());
        $(params.push($value);)+
        params
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_keeps_its_kind() {
        let instant: Timestamp = "1969-12-31T23:59:59.999999Z".parse().unwrap();
        let params = params![
            1_i32,
            u32::MAX,
            i64::MIN,
            true,
            "words",
            &String::from("words"),
            [1_u8, 2],
            &[1_u8, 2][..],
            instant,
            None::<&str>,
            Some(instant),
        ];
        let (words, bytes) = (Value::Text("words"), Value::Blob(&[1, 2]));
        let expected = [
            Value::Int(1),
            Value::Int(4_294_967_295),
            Value::Int(i64::MIN),
            Value::Int(1),
            words,
            words,
            bytes,
            bytes,
            Value::Int(-1),
            Value::Null,
            Value::Int(-1),
        ];
        assert!(params.iter().eq(expected), "{params:?}");
        assert_eq!(params.len(), 11);
        assert!(params![].is_empty());
    }

    #[test]
    fn lists_are_put_together_in_order() {
        let mut all = params!["a", *b"b"];
        all.append(&params![None::<i64>, "c"]);
        all.push(4);
        let parts = [
            Value::Text("a"),
            Value::Blob(b"b"),
            Value::Null,
            Value::Text("c"),
            Value::Int(4),
        ];
        assert!(all.iter().eq(parts), "{all:?}");
    }

    #[test]
    fn a_value_is_not_printed() {
        let printed = format!("{:?}", params!["hunter2", 4242, *b"hunter2", None::<i64>]);
        assert_eq!(printed, "[Text(…), Int(…), Blob(…), Null]");
    }
}
