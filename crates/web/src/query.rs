//! The query string of a request, as a document of the vault's.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde_json::json;
use url::form_urlencoded;
use vault::{Document, Reason, Refusal};

use crate::error::Failure;

/// The parameters, checked against the schema of their type.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: Document, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()));
        Ok(Self(vault::read_query(pairs)?))
    }
}

/// A refusal that points at one parameter.
pub(crate) fn wrong(field: &'static str, rule: &'static str) -> Refusal {
    Refusal::new(Reason::InvalidBody)
        .describe(format!("{field}: {rule}."))
        .with(
            "validation_errors",
            json!([{ "detail": rule, "field": field, "source": "query" }]),
        )
}
