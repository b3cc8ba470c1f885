//! Reading a JSON object that a caller sent, field by field, so that a refusal points at every field that is wrong.

use serde_json::{Map, Value, json};

use crate::error::{Reason, Refusal};

/// A JSON object being read. What is left over at the end is an unknown field.
pub(crate) struct Body {
    fields: Map<String, Value>,
    parent: &'static str,
    errors: Vec<Value>,
}

impl Body {
    pub(crate) fn new(value: Value) -> Result<Self, Refusal> {
        Self::nested(value, "").ok_or_else(|| {
            Refusal::new(Reason::InvalidBody).describe("The request body has to be a JSON object.")
        })
    }

    fn nested(value: Value, parent: &'static str) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                fields,
                parent,
                errors: Vec::new(),
            }),
            _ => None,
        }
    }

    /// A text of `min` to `max` characters. Absent and null are the same.
    pub(crate) fn text(&mut self, name: &'static str, min: usize, max: usize) -> Option<String> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text))
                if (min..=max).contains(&text.chars().count()) && !text.contains('\0') =>
            {
                Some(text)
            }
            Some(_) => {
                self.wrong(name, format!("a string of {min} to {max} characters"));
                None
            }
        }
    }

    /// The same, and it has to be there.
    pub(crate) fn required_text(&mut self, name: &'static str, min: usize, max: usize) -> String {
        let present = self.fields.get(name).is_some_and(|value| !value.is_null());
        if !present {
            self.fields.remove(name);
            self.wrong(name, "required".to_owned());
            return String::new();
        }
        self.text(name, min, max).unwrap_or_default()
    }

    /// One of a few words.
    pub(crate) fn word(&mut self, name: &'static str, words: &[&'static str]) -> Option<String> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if words.contains(&text.as_str()) => Some(text),
            Some(_) => {
                self.wrong(name, format!("one of: {}", words.join(", ")));
                None
            }
        }
    }

    /// A whole number from 0 to `max`.
    pub(crate) fn number(&mut self, name: &'static str, max: u64) -> Option<u64> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_u64() {
                Some(number) if number <= max => Some(number),
                _ => {
                    self.wrong(name, format!("a whole number from 0 to {max}"));
                    None
                }
            },
        }
    }

    /// A list of `1..=most` different texts of 1 to 255 characters without blanks.
    pub(crate) fn words(&mut self, name: &'static str, most: usize) -> Option<Vec<String>> {
        let rule = || {
            format!(
                "an array of 1 to {most} different strings of 1 to 255 characters without blanks"
            )
        };
        let value = match self.fields.remove(name) {
            None | Some(Value::Null) => return None,
            Some(value) => value,
        };
        let Value::Array(items) = value else {
            self.wrong(name, rule());
            return None;
        };
        let mut words: Vec<String> = Vec::with_capacity(items.len().min(most));
        let count = items.len();
        for item in items.into_iter().take(most) {
            match item {
                Value::String(word)
                    if (1..=255).contains(&word.len())
                        && word.bytes().all(|byte| byte.is_ascii_graphic())
                        && !words.contains(&word) =>
                {
                    words.push(word);
                }
                _ => {}
            }
        }
        if words.is_empty() || words.len() != count {
            self.wrong(name, rule());
            return None;
        }
        Some(words)
    }

    /// An object within this one.
    pub(crate) fn object(&mut self, name: &'static str) -> Option<Body> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => {
                let nested = Self::nested(value, name);
                if nested.is_none() {
                    self.wrong(name, "an object".to_owned());
                }
                nested
            }
        }
    }

    /// Takes over what is wrong with a nested object.
    pub(crate) fn absorb(&mut self, nested: Body) {
        let nested = nested.with_leftovers();
        self.errors.extend(nested.errors);
    }

    /// Refuses when anything was wrong or is left over.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        let done = self.with_leftovers();
        if done.errors.is_empty() {
            return Ok(());
        }
        let first = done
            .errors
            .first()
            .and_then(|error| {
                Some(format!(
                    "{}: {}.",
                    error.get("field")?.as_str()?,
                    error.get("detail")?.as_str()?
                ))
            })
            .unwrap_or_default();
        Err(Refusal::new(Reason::InvalidBody)
            .describe(first)
            .with("validation_errors", done.errors))
    }

    /// Says that a field breaks a rule that only the caller of this reader knows.
    pub(crate) fn wrong(&mut self, name: &str, rule: String) {
        let (field, pointer) = if self.parent.is_empty() {
            (name.to_owned(), format!("/{name}"))
        } else {
            (
                format!("{}.{name}", self.parent),
                format!("/{}/{name}", self.parent),
            )
        };
        self.errors.push(json!({
            "detail": rule,
            "field": field,
            "pointer": pointer,
            "source": "body",
        }));
    }

    fn with_leftovers(mut self) -> Self {
        // Names come from the caller: only a bounded, printable part goes back.
        let leftovers: Vec<String> = self
            .fields
            .keys()
            .take(20)
            .map(|name| {
                name.chars()
                    .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
                    .take(64)
                    .collect()
            })
            .collect();
        self.fields.clear();
        for name in leftovers {
            self.wrong(&name, "unknown field".to_owned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_pointed_at() {
        let mut body = Body::new(json!({
            "connection": 7,
            "scopes": ["a", "a"],
            "authorization_params": {"prompt": "never", "x": 1},
            "surprise": true,
        }))
        .unwrap();
        body.required_text("connection", 1, 128);
        body.required_text("redirect_uri", 1, 2048);
        body.words("scopes", 100);
        let mut nested = body.object("authorization_params").unwrap();
        nested.word("prompt", &["none", "login"]);
        body.absorb(nested);
        let refusal = body.finish().unwrap_err();
        let pointers: Vec<&str> = refusal.extra()["validation_errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(
            pointers,
            [
                "/connection",
                "/redirect_uri",
                "/scopes",
                "/authorization_params/prompt",
                "/authorization_params/x",
                "/surprise"
            ]
        );
    }
}
