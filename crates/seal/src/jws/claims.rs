//! What a verified token says.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::JwsError;

/// What a signed token says. Only [`UnverifiedJws::verify`] makes one.
pub struct Claims {
    pub(super) typ: Option<String>,
    pub(super) claims: Map<String, Value>,
}

impl Claims {
    /// The header's `typ`, which the signature covers.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// Whether the header's `typ` is `expected`. Letters' case and a leading `application/` do not matter
    /// (RFC 7515 §4.1.9); an absent `typ` is none.
    pub fn is_typ(&self, expected: &str) -> bool {
        is_typ(self.typ(), expected)
    }

    /// A text claim; `None` when absent, an error when it is anything but a text.
    pub fn str(&self, name: &str) -> Result<Option<&str>, JwsError> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JwsError::ClaimType(name.to_owned())),
        }
    }

    /// A NumericDate claim; `None` when absent, an error when it is anything but a number that is an instant.
    pub fn timestamp(&self, name: &str) -> Result<Option<Timestamp>, JwsError> {
        // JW-14: a number in quotes is not a number (RFC 7519 §2).
        match self.claims.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => numeric_date(number)
                .map(Some)
                .ok_or_else(|| JwsError::ClaimType(name.to_owned())),
            Some(_) => Err(JwsError::ClaimType(name.to_owned())),
        }
    }

    /// The audiences, none when `aud` is absent; an error when it is neither a text nor a list of texts.
    pub fn audience(&self) -> Result<Vec<&str>, JwsError> {
        let wrong = || JwsError::ClaimType("aud".to_owned());
        match self.claims.get("aud") {
            None => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(many)) => many
                .iter()
                .map(|one| one.as_str().ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// Whether `aud` is one text and not a list: some profiles accept nothing else.
    pub fn audience_is_single_string(&self) -> bool {
        matches!(self.claims.get("aud"), Some(Value::String(_)))
    }

    /// A claim as it stands there.
    pub fn raw(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// All claims.
    pub fn into_map(self) -> Map<String, Value> {
        self.claims
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Claims are personal data: names only.
        f.debug_struct("Claims")
            .field("typ", &self.typ)
            .field("names", &self.claims.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Whether two media types are the same, written in full or not.
pub(super) fn is_typ(typ: Option<&str>, expected: &str) -> bool {
    typ.is_some_and(|typ| {
        let bare = typ
            .split_at_checked("application/".len())
            .filter(|(media, _)| media.eq_ignore_ascii_case("application/"))
            .map_or(typ, |(_, bare)| bare);
        bare.eq_ignore_ascii_case(expected)
    })
}

/// Seconds since the epoch, perhaps with a fraction (RFC 7519 §2), rounded down to microseconds.
fn numeric_date(number: &serde_json::Number) -> Option<Timestamp> {
    if let Some(seconds) = number.as_i64() {
        return Timestamp::from_second(seconds).ok();
    }
    let microseconds = (number.as_f64()? * 1e6).floor();
    // Beyond 2^53 a float no longer counts microseconds, and the year is past 2255.
    if microseconds.abs() >= 9e15 {
        return None;
    }
    Timestamp::from_microsecond(microseconds as i64).ok()
}
