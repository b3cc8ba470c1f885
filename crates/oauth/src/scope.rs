//! Scopes: a set of words (RFC 6749 §3.3).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::refusal::{Code, Refusal};

/// The most scopes in one request.
pub const MAX_SCOPES: usize = 100;

/// The longest scope, in bytes.
pub const MAX_SCOPE_LEN: usize = 255;

/// A set of scopes. Order and repetition do not matter (RFC 6749 §3.3); it prints in alphabetical order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope(BTreeSet<String>);

impl Scope {
    /// Reads words between single or multiple spaces. Refused: more than 100, longer than 255 bytes, or other
    /// characters than RFC 6749 §3.3 allows.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut words = BTreeSet::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            if word.len() > MAX_SCOPE_LEN || !is_scope_token(word) {
                return Err(Refusal::new(
                    Code::InvalidScope,
                    "scope_malformed",
                    "A scope is longer than 255 bytes or holds characters that a scope cannot have.",
                ));
            }
            words.insert(word.to_owned());
            if words.len() > MAX_SCOPES {
                return Err(Refusal::new(
                    Code::InvalidScope,
                    "too_many_scopes",
                    "More than 100 scopes are asked for.",
                ));
            }
        }
        Ok(Self(words))
    }

    /// Reads what was parsed before and stored, however much that is by now.
    pub fn from_stored(text: &str) -> Self {
        text.split(' ').filter(|word| !word.is_empty()).collect()
    }

    /// Whether the word is one of them.
    pub fn contains(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of these are among those.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// All of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    /// Those in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// Those that the other does not have.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }

    /// The words in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<S: Into<String>> FromIterator<S> for Scope {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        Self(words.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self::from_stored(&text))
    }
}

fn is_scope_token(word: &str) -> bool {
    word.bytes()
        .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_scope_is_a_set() {
        let scope = Scope::parse("openid  email openid https://x.example/a").unwrap();
        assert_eq!(scope.to_string(), "email https://x.example/a openid");
        assert!(scope.contains("email"));
        assert!(Scope::parse("email").unwrap().is_subset(&scope));
        assert_eq!(
            scope
                .difference(&Scope::parse("email").unwrap())
                .iter()
                .count(),
            2
        );
        assert!(Scope::parse("").unwrap().is_empty());
    }

    #[test]
    fn tk_59_scopes_are_bounded() {
        let many = (0..10_001)
            .map(|n| format!("s{n}"))
            .collect::<Vec<_>>()
            .join(" ");
        for text in [
            many.as_str(),
            &"x".repeat(65_536),
            "a\tb",
            "a\nb",
            "a\"b",
            "a\\b",
            "ä",
        ] {
            assert_eq!(Scope::parse(text).unwrap_err().code, Code::InvalidScope);
        }
        let repeated = vec!["a"; 500].join(" ");
        assert_eq!(Scope::parse(&repeated).unwrap().to_string(), "a");
    }

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_again(text in "[a-z:/ ]{0,80}") {
            let scope = Scope::parse(&text).unwrap();
            prop_assert_eq!(Scope::parse(&scope.to_string()).unwrap(), scope);
        }
    }
}
