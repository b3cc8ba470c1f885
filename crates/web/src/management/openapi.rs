//! The OpenAPI 3.1 document of the Management API, made of the table of endpoints and the types they name.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::management::BASE;
use crate::management::endpoint::{self, Endpoint};

/// An error of the Management API.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error", example = example())]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    /// The HTTP status.
    status_code: u16,
    /// The status in words.
    error: String,
    /// A sentence that helps.
    message: String,
    /// A stable name for the reason: docs/http.md lists them all.
    error_code: String,
    /// Every field that is wrong, where fields are.
    #[serde(rename = "validation_errors", skip_serializing_if = "Option::is_none")]
    validation_errors: Option<Vec<ValidationError>>,
}

/// A field that is wrong.
#[derive(Debug, Serialize, JsonSchema)]
struct ValidationError {
    /// The rule that it breaks.
    detail: String,
    /// Its name, with dots.
    field: String,
    /// Its place (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// `body` or `query`.
    source: String,
}

fn example() -> Value {
    json!({
        "statusCode": 400,
        "error": "Bad Request",
        "message": "name: required.",
        "errorCode": "invalid_body",
        "validation_errors": [
            { "detail": "required", "field": "name", "pointer": "/name", "source": "body" },
        ],
    })
}

/// The document for a deployment at an origin.
pub(crate) fn document(endpoints: &[Endpoint], origin: &str) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    // What goes in and what comes out differ in what is optional; they are told apart by their names.
    let mut reading = settings.clone().for_deserialize().into_generator();
    let mut writing = settings.for_serialize().into_generator();
    let error: Value = writing.subschema_for::<ErrorBody>().into();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let mut parameters = path_parameters(endpoint.path);
        if let Some(make) = endpoint.query {
            parameters.extend(query_parameters(&make(&mut reading).into()));
        }
        let answer = endpoint
            .answer
            .as_ref()
            .map(|answer| answer.schema(&mut writing));
        let failed = |what: &str| json!({ "description": what, "content": endpoint::content(Some(error.clone())) });
        let mut operation = json!({
            "operationId": endpoint.id,
            "tags": [endpoint.tag],
            "summary": endpoint.summary,
            "security": [{ "bearer": [endpoint.scope] }],
            "parameters": parameters,
            "responses": {
                endpoint.status.to_string(): {
                    "description": endpoint.summary,
                    "content": endpoint::content(answer),
                },
                "4XX": failed("Refused; errorCode says why"),
                "5XX": failed("Failed; try again"),
            },
        });
        if let (Some(make), Some(operation)) = (endpoint.body, operation.as_object_mut()) {
            let schema: Value = make(&mut reading).into();
            operation.insert(
                "requestBody".to_owned(),
                json!({ "required": true, "content": endpoint::content(Some(schema)) }),
            );
        }
        let path = paths
            .entry(format!("{BASE}{}", endpoint.path))
            .or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(endpoint.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    let mut schemas = reading.take_definitions(true);
    for (name, schema) in writing.take_definitions(true) {
        schemas.entry(name).or_insert(schema);
    }
    let scopes: Map<String, Value> = vault::MANAGEMENT_SCOPES
        .iter()
        .map(|(scope, description)| ((*scope).to_owned(), json!(description)))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tokenvault Management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything that an administrator sets and sees. Tokens come from client credentials for \
                            the audience of this API; each operation names the scope that it needs.",
        },
        "servers": [{ "url": origin }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "oauth2",
                    "flows": {
                        "clientCredentials": { "tokenUrl": format!("{origin}/oauth/token"), "scopes": scopes },
                    },
                },
            },
        },
    })
}

/// The parameters in braces.
fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": { "type": "string", "minLength": 1 },
            })
        })
        .collect()
}

/// The members of an object, as parameters of the query string.
fn query_parameters(object: &Value) -> Vec<Value> {
    let properties = object.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let mut schema = property.clone();
            let description = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            // Absent is absent; there is no null in a query string.
            if let Some(Value::Array(types)) = schema.get_mut("type") {
                types.retain(|word| word != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    if let Some(schema) = schema.as_object_mut() {
                        schema.insert("type".to_owned(), only);
                    }
                }
            }
            let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
            if let (Some(description), Some(parameter)) = (description, parameter.as_object_mut()) {
                parameter.insert("description".to_owned(), description);
            }
            parameter
        })
        .collect()
}
