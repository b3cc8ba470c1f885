//! The parameters of a request, decoded from a form, a query or a JSON object, within bounds.
//!
//! RFC 6749 §3.1 and §3.2: a parameter without a value counts as absent, an unknown one is ignored, none may be
//! repeated. JSON is Auth0's second spelling of the same bodies (contract 2.1): one flat object.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use url::form_urlencoded;

use crate::refusal::Refusal;

/// The longest encoded text that is looked at, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// The most parameters that one request may have.
pub const MAX_NAMES: usize = 100;

/// Parameters by name, each once. Values are secrets as often as not: they do not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Reads `application/x-www-form-urlencoded`.
    pub fn from_form(body: &[u8]) -> Result<Self, Refusal> {
        if body.len() > MAX_LEN {
            return Err(too_large());
        }
        let mut params = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            params.add(name.into_owned(), value.into_owned())?;
        }
        Ok(params)
    }

    /// Reads the query of a URL, without its question mark.
    pub fn from_query(query: &str) -> Result<Self, Refusal> {
        Self::from_form(query.as_bytes())
    }

    /// Reads one flat JSON object. Numbers and booleans become text; null is absent.
    pub fn from_json(body: &[u8]) -> Result<Self, Refusal> {
        if body.len() > MAX_LEN {
            return Err(too_large());
        }
        let object: FlatObject = serde_json::from_slice(body).map_err(|_| {
            Refusal::invalid_request(
                "json_malformed",
                "The body has to be one flat JSON object of texts, numbers and booleans, each name once.",
            )
        })?;
        let mut params = Self::default();
        for (name, value) in object.0 {
            params.add(name, value)?;
        }
        Ok(params)
    }

    /// The value of a parameter; None when it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The value of a parameter, or a refusal that names it.
    pub fn require(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| {
            Refusal::invalid_request(
                "parameter_missing",
                format!("The parameter {name} is missing."),
            )
        })
    }

    /// The value of a parameter that may have at most `longest` bytes and no control characters.
    pub fn bounded(&self, name: &'static str, longest: usize) -> Result<Option<&str>, Refusal> {
        match self.get(name) {
            Some(value) if value.len() > longest || value.chars().any(char::is_control) => {
                Err(Refusal::invalid_request(
                    "parameter_malformed",
                    format!(
                        "The parameter {name} is longer than {longest} bytes or holds control characters."
                    ),
                ))
            }
            value => Ok(value),
        }
    }

    /// The names that were sent, with a value or without.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// Every parameter with its value, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn add(&mut self, name: String, value: String) -> Result<(), Refusal> {
        // The decoder puts U+FFFD where bytes are not UTF-8; nobody sends it on purpose.
        let is_text = |text: &str| !text.contains('\0') && !text.contains('\u{fffd}');
        if !is_text(&name) || !is_text(&value) {
            return Err(Refusal::invalid_request(
                "parameter_not_text",
                "A parameter is not valid UTF-8 or holds a NUL.",
            ));
        }
        if self.pairs.iter().any(|(known, _)| *known == name) {
            return Err(Refusal::invalid_request(
                "parameter_repeated",
                "A parameter is given more than once.",
            ));
        }
        if self.pairs.len() == MAX_NAMES {
            return Err(Refusal::invalid_request(
                "too_many_parameters",
                "The request has more than 100 parameters.",
            ));
        }
        self.pairs.push((name, value));
        Ok(())
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

fn too_large() -> Refusal {
    Refusal::invalid_request("request_too_large", "The request is larger than 64 KiB.")
}

/// The members of a JSON object as text. Stops at the first nested value or at one member too many.
struct FlatObject(Vec<(String, String)>);

enum Flat {
    Absent,
    Text(String),
}

impl<'de> Deserialize<'de> for FlatObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = FlatObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a flat object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<FlatObject, A::Error> {
                let mut names = Vec::new();
                let mut pairs = Vec::new();
                while let Some((name, value)) = members.next_entry::<String, Flat>()? {
                    if names.len() > MAX_NAMES || names.contains(&name) {
                        return Err(A::Error::custom("a name twice, or too many"));
                    }
                    if let Flat::Text(text) = value {
                        pairs.push((name.clone(), text));
                    }
                    names.push(name);
                }
                Ok(FlatObject(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl Visitor<'_> for One {
            type Value = Flat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, a boolean or null")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Flat, E> {
                Ok(Flat::Text(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Flat, E> {
                Ok(Flat::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Flat, E> {
                Ok(Flat::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Flat, E> {
                Ok(Flat::Text(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Flat, E> {
                Ok(Flat::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Flat, E> {
                Ok(Flat::Absent)
            }
        }
        deserializer.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_form_a_query_and_json_say_the_same() {
        let expected = Params::from_form(b"grant_type=x&scope=a+b&n=5&yes=true").unwrap();
        assert_eq!(
            Params::from_query("grant_type=x&scope=a%20b&n=5&yes=true").unwrap(),
            expected
        );
        let json = br#"{"grant_type":"x","scope":"a b","n":5,"yes":true,"nothing":null}"#;
        assert_eq!(Params::from_json(json).unwrap(), expected);
        assert_eq!(expected.get("scope"), Some("a b"));
    }

    #[test]
    fn an_empty_value_is_absent() {
        let params = Params::from_form(b"audience=&a=1").unwrap();
        assert_eq!(params.get("audience"), None);
        assert_eq!(
            params.require("audience").unwrap_err().reason,
            "parameter_missing"
        );
    }

    #[test]
    fn tk_11_in_08_a_repeated_parameter_is_refused() {
        for (form, expected) in [
            ("code=1&code=1", "parameter_repeated"),
            ("a=1&a=", "parameter_repeated"),
            ("a=%00", "parameter_not_text"),
            ("a=%ff", "parameter_not_text"),
            ("%00=1", "parameter_not_text"),
        ] {
            let refused = Params::from_form(form.as_bytes()).unwrap_err();
            assert_eq!(refused.reason, expected, "{form}");
            assert_eq!(refused.code.as_str(), "invalid_request");
        }
        // No separator but the ampersand, and no lists.
        let params = Params::from_form(b"a=1;b=2&c[]=3&%2=%zz").unwrap();
        assert_eq!(params.get("a"), Some("1;b=2"));
        assert_eq!(params.get("c[]"), Some("3"));
        assert_eq!(params.get("%2"), Some("%zz"));
    }

    #[test]
    fn in_01_02_04_07_json_within_bounds() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let nested = [br#"{"a":"#.as_slice(), &deep[..20], b"}"].concat();
        let many = format!(
            "{{{}}}",
            (0..200)
                .map(|n| format!("\"{n}\":1"))
                .collect::<Vec<_>>()
                .join(",")
        );
        for body in [
            &b"{\"a\":1,\"a\":1}"[..],
            b"{\"a\":null,\"a\":1}",
            b"{\"a\":{}}",
            b"{\"a\":[1]}",
            b"[]",
            b"1",
            b"",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"{} {}",
            &nested,
            &deep[..MAX_LEN],
            many.as_bytes(),
        ] {
            assert!(Params::from_json(body).is_err());
        }
    }

    #[test]
    fn size_and_number_are_bounded() {
        assert!(Params::from_form(&vec![b'a'; MAX_LEN + 1]).is_err());
        let names = |n: usize| {
            (0..n)
                .map(|n| format!("p{n}=1"))
                .collect::<Vec<_>>()
                .join("&")
        };
        assert!(Params::from_query(&names(MAX_NAMES)).is_ok());
        assert!(Params::from_query(&names(MAX_NAMES + 1)).is_err());
    }

    #[test]
    fn debug_prints_names_only() {
        let params = Params::from_form(b"client_secret=hunter2").unwrap();
        assert_eq!(format!("{params:?}"), "{\"client_secret\"}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Params::from_form(&body);
            let _ = Params::from_json(&body);
        }
    }
}
