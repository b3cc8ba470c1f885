//! The OpenAPI document as a page to read: every operation with its scope, its fields and their rules. No script.

use askama::Template;
use serde_json::Value;

/// The whole page.
#[derive(Template)]
#[template(path = "reference.html")]
pub(crate) struct ReferencePage {
    pub(crate) base: String,
    pub(crate) audience: String,
    pub(crate) sections: Vec<Section>,
}

/// A resource.
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) operations: Vec<Operation>,
}

/// An operation.
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) summary: String,
    pub(crate) scope: String,
    pub(crate) parameters: Vec<Field>,
    pub(crate) body: Vec<Field>,
    pub(crate) example: Option<String>,
    pub(crate) status: String,
    pub(crate) answer: Vec<Field>,
}

/// A parameter, or a member of a document.
pub(crate) struct Field {
    /// With dots where it stands in another.
    pub(crate) name: String,
    /// The type, and what bounds it.
    pub(crate) kind: String,
    pub(crate) required: bool,
    pub(crate) description: String,
}

/// How deep members of members are shown.
const DEPTH: usize = 3;

impl ReferencePage {
    /// The page of a document that [`super::openapi::document`] made.
    pub(crate) fn new(document: &Value, base: String, audience: String) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        let paths = at(document, "paths").as_object().into_iter().flatten();
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                let tag = text(operation.pointer("/tags/0").unwrap_or(&Value::Null));
                let shown = Operation::new(document, method, path, operation);
                match sections.iter_mut().find(|section| section.name == tag) {
                    Some(section) => section.operations.push(shown),
                    None => sections.push(Section {
                        name: tag,
                        operations: vec![shown],
                    }),
                }
            }
        }
        sections.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            base,
            audience,
            sections,
        }
    }
}

impl Operation {
    fn new(document: &Value, method: &str, path: &str, operation: &Value) -> Self {
        let schema_of = |content: &Value| at(at(content, "application/json"), "schema").clone();
        let body = schema_of(at(at(operation, "requestBody"), "content"));
        let (status, answer) = at(operation, "responses")
            .as_object()
            .and_then(|responses| responses.iter().find(|(status, _)| status.starts_with('2')))
            .map(|(status, response)| (status.clone(), schema_of(at(response, "content"))))
            .unwrap_or_default();
        let parameters = at(operation, "parameters")
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| Field {
                name: text(at(parameter, "name")),
                kind: kind(document, at(parameter, "schema")),
                required: at(parameter, "required") == true,
                description: text(at(parameter, "description")),
            })
            .collect();
        let example = at(resolved(document, &body), "examples").get(0).cloned();
        Self {
            id: text(at(operation, "operationId")),
            method: method.to_uppercase(),
            path: path.to_owned(),
            summary: text(at(operation, "summary")),
            scope: text(
                operation
                    .pointer("/security/0/bearer/0")
                    .unwrap_or(&Value::Null),
            ),
            parameters,
            body: fields(document, &body, "", DEPTH),
            example: example.and_then(|example| serde_json::to_string_pretty(&example).ok()),
            status,
            answer: fields(document, &answer, "", DEPTH),
        }
    }
}

/// The members of an object, or of the items of a list, with their own below them.
fn fields(document: &Value, schema: &Value, prefix: &str, depth: usize) -> Vec<Field> {
    let schema = resolved(document, schema);
    if at(schema, "type") == "array" {
        return fields(document, at(schema, "items"), prefix, depth);
    }
    // A list has several forms; its bare one says what the items are. What may be null is what it is otherwise.
    if let Some(first) = at(schema, "anyOf").get(0) {
        return fields(document, first, prefix, depth);
    }
    let required = at(schema, "required");
    let mut rows = Vec::new();
    for (name, property) in at(schema, "properties").as_object().into_iter().flatten() {
        let name_here = format!("{prefix}{name}");
        rows.push(Field {
            kind: kind(document, property),
            required: required
                .as_array()
                .is_some_and(|names| names.iter().any(|known| known == name)),
            description: description(document, property),
            name: name_here.clone(),
        });
        if depth > 1 {
            rows.extend(fields(
                document,
                property,
                &format!("{name_here}."),
                depth - 1,
            ));
        }
    }
    rows
}

/// The type in words, with its bounds.
fn kind(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    if let Some(first) = at(schema, "anyOf").get(0) {
        return kind(document, first);
    }
    if let Some(words) = at(schema, "enum").as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return words.join(" | ");
    }
    if let Some(forms) = at(schema, "oneOf").as_array() {
        let words: Vec<&str> = forms
            .iter()
            .filter_map(|form| at(form, "const").as_str())
            .collect();
        return words.join(" | ");
    }
    let name = match at(schema, "type") {
        Value::String(name) => name.clone(),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")
            .unwrap_or_default()
            .to_owned(),
        _ => String::new(),
    };
    let bounds = |least: &str, most: &str, what: &str| match (
        at(schema, least).as_u64(),
        at(schema, most).as_u64(),
    ) {
        (Some(least), Some(most)) => format!(", {least} to {most}{what}"),
        (None, Some(most)) => format!(", at most {most}{what}"),
        (Some(least), None) if least > 0 => format!(", at least {least}{what}"),
        (Some(_) | None, None) => String::new(),
    };
    match name.as_str() {
        "array" => format!(
            "list of {}{}",
            kind(document, at(schema, "items")),
            bounds("minItems", "maxItems", " entries")
        ),
        "integer" => format!("whole number{}", bounds("minimum", "maximum", "")),
        "boolean" => "true or false".to_owned(),
        "string" if at(schema, "format") == "date-time" => "time (RFC 3339)".to_owned(),
        "string" => format!("text{}", bounds("minLength", "maxLength", " characters")),
        _ => name,
    }
}

/// What stands behind a reference.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match at(schema, "$ref")
        .as_str()
        .and_then(|to| document.pointer(to.strip_prefix('#')?))
    {
        Some(found) => found,
        None => schema,
    }
}

fn description(document: &Value, property: &Value) -> String {
    match text(at(property, "description")) {
        empty if empty.is_empty() => text(&resolved(document, property)["description"]),
        own => own,
    }
}

/// A member; null where there is none.
fn at<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::management::{endpoints, openapi};

    #[test]
    fn every_operation_is_shown_with_a_scope_and_whoever_takes_a_body_says_its_fields() {
        let endpoints = endpoints();
        let document = openapi::document(&endpoints, "https://vault.test");
        let page = ReferencePage::new(&document, String::new(), String::new());
        let shown: Vec<&Operation> = page
            .sections
            .iter()
            .flat_map(|section| &section.operations)
            .collect();
        assert_eq!(shown.len(), endpoints.len());
        for endpoint in &endpoints {
            let operation = shown
                .iter()
                .find(|operation| operation.id == endpoint.id)
                .unwrap();
            assert_eq!(operation.scope, endpoint.scope);
            assert_eq!(
                operation.body.is_empty(),
                endpoint.body.is_none(),
                "{}",
                endpoint.id
            );
        }
        let create = shown
            .iter()
            .find(|operation| operation.id == "createClient")
            .unwrap();
        let field = |name: &str| create.body.iter().find(|field| field.name == name).unwrap();
        assert!(field("name").required);
        assert_eq!(field("name").kind, "text, 1 to 150 characters");
        assert_eq!(field("refresh_token.leeway").kind, "whole number, 0 to 60");
        assert!(create.example.is_some());
    }
}
