//! JSON documents that callers send: a type whose schema is what is enforced and what the OpenAPI document says.
//!
//! A document is checked against the JSON Schema of its type before it becomes one, so that a refusal points at every
//! field that is wrong, and nothing that it says quotes a value: a value may be a secret.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{Error, Fault, Reason, Refusal};

/// Marks a property that is set when an object is made and never after: `#[schemars(extend("x-immutable" = true))]`.
const IMMUTABLE: &str = "x-immutable";

/// The most values that a parameter of a query string may have.
const MOST_REPETITIONS: usize = 100;

/// The most faults that one answer names.
const MOST_FINDINGS: usize = 20;

/// Where a document stood in the request; it is named in `validation_errors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The JSON body.
    Body,
    /// The query string, as an object.
    Query,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Query => "query",
        }
    }
}

/// A type that is read from JSON that somebody sent.
pub trait Document: DeserializeOwned + JsonSchema + 'static {
    /// Checks a value against the type's schema and reads it.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] with `validation_errors`, one for each field that is wrong.
    fn read(value: Value, source: Source) -> Result<Self, Refusal> {
        check::<Self>(&value, source)?;
        // The schema is made of the type; what serde refuses beyond it is a rule that no schema can say.
        serde_json::from_value(value).map_err(|_| Refusal::new(Reason::InvalidBody))
    }
}

impl<T: DeserializeOwned + JsonSchema + 'static> Document for T {}

/// Reads the parameters of a query string as a document: each value as what the schema of its name says, a repeated name
/// where it is a list. An empty value is an absent one, as client libraries send it.
///
/// # Errors
/// [`Reason::InvalidBody`], as [`Document::read`]; a parameter that does not exist is an unknown field.
pub fn read_query<T: Document>(
    pairs: impl Iterator<Item = (String, String)>,
) -> Result<T, Refusal> {
    let compiled = compiled::<T>();
    let mut fields = Map::new();
    for (name, text) in pairs.filter(|(_, text)| !text.is_empty()) {
        let kind = compiled.kinds.get(&name).copied().unwrap_or(Kind::Text);
        let value = match kind {
            Kind::Number => text.parse::<i64>().map_or(Value::String(text), Value::from),
            Kind::Truth => text
                .parse::<bool>()
                .map_or(Value::String(text), Value::from),
            Kind::List | Kind::Text => Value::String(text),
        };
        match (kind, fields.get_mut(&name)) {
            (Kind::List, Some(Value::Array(list))) if list.len() < MOST_REPETITIONS => {
                list.push(value)
            }
            (Kind::List, None) => {
                fields.insert(name, Value::Array(vec![value]));
            }
            (_, None) => {
                fields.insert(name, value);
            }
            (_, Some(_)) => {
                let finding = Finding {
                    pointer: format!("/{name}"),
                    rule: "named too often".to_owned(),
                };
                return Err(refuse(vec![finding], Source::Query));
            }
        }
    }
    T::read(Value::Object(fields), Source::Query)
}

/// Some fields of a document, to be changed: those that are absent stay, null gives one its default back. A field that
/// is an object is replaced as a whole (contract 4.1).
#[derive(Debug)]
pub struct Patch<T> {
    fields: Map<String, Value>,
    of: PhantomData<fn() -> T>,
}

impl<T: Document + Serialize> Patch<T> {
    /// Checks the fields that are there.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`], as [`Document::read`]; a field that cannot change is an unknown one.
    pub fn read(value: Value) -> Result<Self, Refusal> {
        check::<Self>(&value, Source::Body)?;
        match value {
            Value::Object(fields) => Ok(Self {
                fields,
                of: PhantomData,
            }),
            _ => Err(Refusal::new(Reason::InvalidBody)),
        }
    }

    /// The names of the fields, for the audit log.
    pub fn names(&self) -> Vec<String> {
        self.fields.keys().cloned().collect()
    }

    /// The document with these fields in it.
    ///
    /// # Errors
    /// [`Reason::InvalidBody`] where the whole breaks a rule that the fields alone do not.
    pub fn apply(&self, current: &T) -> Result<T, Error> {
        let Value::Object(mut whole) = serde_json::to_value(current)? else {
            return Err(Fault::Internal("a document that is no object".to_owned()).into());
        };
        for (name, value) in &self.fields {
            if value.is_null() {
                whole.remove(name);
            } else {
                whole.insert(name.clone(), value.clone());
            }
        }
        Ok(T::read(Value::Object(whole), Source::Body)?)
    }
}

impl<T: JsonSchema> JsonSchema for Patch<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Patch", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::json_schema(generator);
        schema.remove("required");
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.retain(|_, property| property.get(IMMUTABLE).is_none());
            for property in properties.values_mut() {
                *property = or_null(property.take());
            }
        }
        schema
    }
}

/// The same, or null.
fn or_null(schema: Value) -> Value {
    let has = |name: &str, null: Value| {
        let list = schema.get(name).and_then(Value::as_array);
        list.is_some_and(|list| list.contains(&null))
    };
    let allows_null = has("type", json!("null")) || has("anyOf", json!({ "type": "null" }));
    if allows_null {
        return schema;
    }
    // What people read stays outside, where documentation looks for it.
    let description = schema.get("description").cloned();
    let mut either = json!({ "anyOf": [schema, { "type": "null" }] });
    if let (Some(description), Some(either)) = (description, either.as_object_mut()) {
        either.insert("description".to_owned(), description);
    }
    either
}

/// The members of a body that has to be an object.
///
/// # Errors
/// [`Reason::InvalidBody`].
pub(crate) fn object_of(body: Value) -> Result<Map<String, Value>, Refusal> {
    match body {
        Value::Object(members) => Ok(members),
        _ => {
            Err(Refusal::new(Reason::InvalidBody)
                .describe("The request body has to be a JSON object."))
        }
    }
}

/// A refusal that points at one field of a body, for the rules that no schema can say. `field` is a path with dots.
pub(crate) fn wrong(field: &str, rule: impl Into<String>) -> Refusal {
    let rule = rule.into();
    refuse(
        vec![Finding {
            pointer: format!("/{}", field.replace('.', "/")),
            rule,
        }],
        Source::Body,
    )
}

/// Checks a value against the schema of a type.
fn check<T: JsonSchema + 'static>(value: &Value, source: Source) -> Result<(), Refusal> {
    if let Some(pointer) = unstorable(value, String::new()) {
        let rule = "a text without the character U+0000".to_owned();
        return Err(refuse(vec![Finding { pointer, rule }], source));
    }
    let compiled = compiled::<T>();
    let findings: Vec<Finding> = compiled
        .validator
        .iter_errors(value)
        .flat_map(|error| findings(&error))
        .take(MOST_FINDINGS)
        .collect();
    if findings.is_empty() {
        return Ok(());
    }
    Err(refuse(findings, source))
}

/// What a parameter of a query string is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Number,
    Text,
    Truth,
}

/// A schema, ready to check with.
struct Compiled {
    validator: Validator,
    kinds: HashMap<String, Kind>,
}

/// The compiled schema of a type. Compiled once a process: it is a pure function of the type.
fn compiled<T: JsonSchema + 'static>() -> Arc<Compiled> {
    static COMPILED: LazyLock<RwLock<HashMap<TypeId, Arc<Compiled>>>> =
        LazyLock::new(RwLock::default);
    let id = TypeId::of::<T>();
    let known = COMPILED
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&id)
        .cloned();
    known.unwrap_or_else(|| {
        let generator = SchemaSettings::draft2020_12().into_generator();
        let schema = generator.into_root_schema_for::<T>();
        #[expect(
            clippy::expect_used,
            reason = "a schema is made of our own type; a test compiles every one"
        )]
        let validator =
            jsonschema::draft202012::new(schema.as_value()).expect("a derived schema compiles");
        let kinds = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, property)| (name.clone(), kind_of(property)))
            .collect();
        let compiled = Arc::new(Compiled { validator, kinds });
        COMPILED
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&compiled));
        compiled
    })
}

fn kind_of(property: &Value) -> Kind {
    let is = |name: &str| match property.get("type") {
        Some(Value::String(word)) => word == name,
        Some(Value::Array(words)) => words.contains(&json!(name)),
        _ => false,
    };
    match () {
        () if is("array") => Kind::List,
        () if is("boolean") => Kind::Truth,
        () if is("integer") => Kind::Number,
        () => Kind::Text,
    }
}

/// One thing that is wrong.
struct Finding {
    /// RFC 6901.
    pointer: String,
    /// What would be right.
    rule: String,
}

/// PostgreSQL keeps no text with U+0000 in it.
fn unstorable(value: &Value, pointer: String) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then_some(pointer),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| unstorable(item, format!("{pointer}/{index}"))),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if name.contains('\0') {
                return Some(pointer.clone());
            }
            unstorable(member, format!("{pointer}/{name}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn findings(error: &ValidationError<'_>) -> Vec<Finding> {
    let at = error.instance_path().to_string();
    let one = |rule: String| {
        vec![Finding {
            pointer: at.clone(),
            rule,
        }]
    };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
            .iter()
            .map(|name| Finding {
                pointer: format!("{at}/{name}"),
                rule: "unknown field".to_owned(),
            })
            .collect(),
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            // The branch that is meant is one that fails further inside than at its type, and of these the one that fits
            // best.
            let meant = context
                .iter()
                .filter(|errors| {
                    !errors.iter().any(|inner| {
                        matches!(inner.kind(), ValidationErrorKind::Type { .. })
                            && inner.instance_path() == error.instance_path()
                    })
                })
                .map(|errors| errors.iter().flat_map(findings).collect::<Vec<_>>())
                .min_by_key(Vec::len);
            meant.unwrap_or_else(|| match context.first() {
                Some(errors) => errors.iter().flat_map(findings).collect(),
                None => one("not one of the forms that it may have".to_owned()),
            })
        }
        ValidationErrorKind::Required { property } => vec![Finding {
            pointer: format!("{at}/{}", property.as_str().unwrap_or_default()),
            rule: "required".to_owned(),
        }],
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> = options
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            one(format!("one of: {}", words.join(", ")))
        }
        ValidationErrorKind::Constant { expected_value } => one(format!(
            "has to be {}",
            expected_value.as_str().unwrap_or("another value")
        )),
        ValidationErrorKind::MaxItems { limit } => one(format!("at most {limit} entries")),
        ValidationErrorKind::MinItems { limit } => one(format!("at least {limit} entries")),
        ValidationErrorKind::MaxLength { limit } => one(format!("at most {limit} characters")),
        ValidationErrorKind::MinLength { limit } => one(format!("at least {limit} characters")),
        ValidationErrorKind::MaxProperties { limit } => one(format!("at most {limit} members")),
        ValidationErrorKind::Maximum { limit } => one(format!("at most {limit}")),
        ValidationErrorKind::Minimum { limit } => one(format!("at least {limit}")),
        ValidationErrorKind::Pattern { pattern } => one(format!("has to match {pattern}")),
        ValidationErrorKind::Format { format } => one(format!("not of the format {format}")),
        ValidationErrorKind::UniqueItems => one("no entry twice".to_owned()),
        // Everything else in the library's words, with every value left out.
        _ => one(error.masked().to_string()),
    }
}

/// The refusal that names what was found.
fn refuse(findings: Vec<Finding>, source: Source) -> Refusal {
    let errors: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let pointer = printable(&finding.pointer);
            let field = pointer.trim_start_matches('/').replace('/', ".");
            json!({
                "detail": printable(&finding.rule),
                "field": field,
                "pointer": pointer,
                "source": source.as_str(),
            })
        })
        .collect();
    let first = errors.first().map_or_else(String::new, |error| {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        match part("field") {
            "" => format!("The {} is wrong: {}.", source.as_str(), part("detail")),
            field => format!("{field}: {}.", part("detail")),
        }
    });
    Refusal::new(Reason::InvalidBody)
        .describe(first)
        .with("validation_errors", errors)
}

/// Names come from the caller, and a description has no quotes and backslashes (RFC 6749 §5.2): only a bounded, printable
/// part goes back.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| match c {
            '"' => '\'',
            '\\' => '/',
            ' '..='~' => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Cat {
        #[schemars(length(min = 1, max = 3))]
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("x-immutable" = true))]
        chip: Option<String>,
        #[serde(default)]
        #[schemars(range(max = 40))]
        age: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        home: Option<Home>,
        #[serde(default)]
        toys: Vec<Toy>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Home {
        street: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Toy {
        Ball,
        Mouse,
    }

    fn pointers(refusal: &Refusal) -> Vec<String> {
        refusal.extra()["validation_errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| {
                format!(
                    "{} {}",
                    error["pointer"].as_str().unwrap(),
                    error["detail"].as_str().unwrap()
                )
            })
            .collect()
    }

    #[test]
    fn every_wrong_field_is_pointed_at_and_no_value_is_quoted() {
        let refusal = Cat::read(
            json!({
                "name": "hunter2",
                "age": 41,
                "home": {"number": "hunter2"},
                "toys": ["ball", "hunter2"],
                "surp\"rise": "hunter2",
            }),
            Source::Body,
        )
        .unwrap_err();
        let mut found = pointers(&refusal);
        found.sort();
        assert_eq!(
            found,
            [
                "/age at most 40",
                "/home/number unknown field",
                "/home/street required",
                "/name at most 3 characters",
                "/surp'rise unknown field",
                "/toys/1 one of: ball, mouse",
            ]
        );
        let said = format!("{refusal:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for value in [json!(null), json!([]), json!("x"), json!(1)] {
            assert_eq!(
                Cat::read(value, Source::Body).unwrap_err().reason(),
                Reason::InvalidBody
            );
        }
        let refusal = Cat::read(json!({"name": "a\0"}), Source::Query).unwrap_err();
        assert_eq!(
            pointers(&refusal),
            ["/name a text without the character U+0000"]
        );
        assert_eq!(refusal.extra()["validation_errors"][0]["source"], "query");
    }

    #[test]
    fn mg_08_a_patch_changes_what_it_names_and_nothing_else() {
        let cat = Cat {
            name: "Tom".to_owned(),
            chip: Some("1".to_owned()),
            age: 7,
            home: Some(Home {
                street: "Elm".to_owned(),
            }),
            toys: vec![Toy::Ball],
        };
        let patch = Patch::<Cat>::read(json!({"age": null, "home": {"street": "Oak"}})).unwrap();
        let patched = patch.apply(&cat).unwrap();
        assert_eq!(
            patched,
            Cat {
                age: 0,
                home: Some(Home {
                    street: "Oak".to_owned()
                }),
                ..cat
            }
        );
        let without = Patch::<Cat>::read(json!({"home": null}))
            .unwrap()
            .apply(&patched)
            .unwrap();
        assert_eq!(without.home, None);
    }

    #[test]
    fn a_query_is_read_by_its_schema() {
        #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct Asked {
            #[serde(default)]
            take: Option<u32>,
            #[serde(default)]
            names: Vec<String>,
            #[serde(default)]
            all: Option<bool>,
        }
        let read = |query: &[(&str, &str)]| {
            read_query::<Asked>(
                query
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            )
        };
        let asked = read(&[
            ("take", "3"),
            ("names", "a"),
            ("names", "7"),
            ("all", "true"),
        ])
        .unwrap();
        assert_eq!(
            asked,
            Asked {
                take: Some(3),
                names: vec!["a".to_owned(), "7".to_owned()],
                all: Some(true)
            }
        );
        assert_eq!(read(&[("take", "")]).unwrap().take, None);
        for query in [
            &[("take", "x")][..],
            &[("take", "-1")],
            &[("take", "1"), ("take", "2")],
            &[("all", "1")],
            &[("surprise", "1")],
        ] {
            let refusal = read(query).unwrap_err();
            assert_eq!(
                refusal.extra()["validation_errors"][0]["source"],
                "query",
                "{query:?}"
            );
        }
    }

    #[test]
    fn a_patch_is_checked_field_by_field() {
        for (patch, expected) in [
            (json!({"chip": "2"}), "/chip unknown field"),
            (json!({"name": ""}), "/name at least 1 characters"),
            (json!({"home": {}}), "/home/street required"),
            (json!({"toys": ["x"]}), "/toys/0 one of: ball, mouse"),
        ] {
            let refusal = Patch::<Cat>::read(patch).unwrap_err();
            assert_eq!(pointers(&refusal), [expected]);
        }
        // A field without a default cannot be taken away.
        let cat = Cat {
            name: "Tom".to_owned(),
            chip: None,
            age: 0,
            home: None,
            toys: vec![],
        };
        assert!(
            Patch::<Cat>::read(json!({"name": null}))
                .unwrap()
                .apply(&cat)
                .is_err()
        );
    }
}
