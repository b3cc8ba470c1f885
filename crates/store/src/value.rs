//! The values that go into a statement.

use jiff::Timestamp;

/// A parameter. The debug form shows only its kind: values may be secret.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Bytes.
    Blob(Vec<u8>),
    /// A whole number, a truth value (0, 1) or an instant (microseconds).
    Int(i64),
    /// Nothing.
    Null,
    /// Text.
    Text(String),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blob(_) => "Blob(…)",
            Self::Int(_) => "Int(…)",
            Self::Null => "Null",
            Self::Text(_) => "Text(…)",
        })
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.as_microsecond())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Builds the parameters of a statement: `params![id, now, Some(1_i64)]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::Value::from($value)),*]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_keeps_its_kind() {
        let instant: Timestamp = "1969-12-31T23:59:59.999999Z".parse().unwrap();
        let values = params![
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
        let words = || Value::Text("words".to_owned());
        let bytes = || Value::Blob(vec![1, 2]);
        let expected = [
            Value::Int(1),
            Value::Int(4_294_967_295),
            Value::Int(i64::MIN),
            Value::Int(1),
            words(),
            words(),
            bytes(),
            bytes(),
            Value::Int(-1),
            Value::Null,
            Value::Int(-1),
        ];
        assert!(values == expected, "{values:?}");
    }

    #[test]
    fn a_value_is_not_printed() {
        let printed = format!("{:?}", params!["hunter2", 4242, *b"hunter2", None::<i64>]);
        assert_eq!(printed, "[Text(…), Int(…), Blob(…), Null]");
    }
}
