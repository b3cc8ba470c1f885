//! A row of the Management API's table.

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::app::App;
use crate::management::listing;

/// Makes the schema of a type with a generator that collects what it refers to.
pub(crate) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// One endpoint: how it is reached, who may, and what goes in and out.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    /// Below `/api/v2`.
    pub(crate) path: &'static str,
    pub(crate) scope: &'static str,
    /// The resource, in the OpenAPI document.
    pub(crate) tag: &'static str,
    /// The name of the operation, in the OpenAPI document; unique.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    /// The query string as an object.
    pub(crate) query: Option<MakeSchema>,
    pub(crate) body: Option<MakeSchema>,
    pub(crate) status: u16,
    pub(crate) answer: Option<Answer>,
    pub(crate) route: MethodRouter<Arc<App>>,
}

/// What a good answer holds.
pub(crate) enum Answer {
    /// A part of a list, in one of its three forms, under this name.
    List(&'static str, MakeSchema),
    /// A part of a list that is read by cursor only, under this name.
    ListByCursor(&'static str, MakeSchema),
    /// One document.
    One(MakeSchema),
}

macro_rules! by_method {
    ($($name:ident $method:ident $status:literal;)*) => {$(
        pub(crate) fn $name<H: Handler<T, Arc<App>>, T: 'static>(
            path: &'static str,
            scope: &'static str,
            handler: H,
        ) -> Self {
            Self::new(Method::$method, path, scope, $status, routing::$name(handler))
        }
    )*};
}

impl Endpoint {
    by_method! {
        delete DELETE 204;
        get GET 200;
        patch PATCH 200;
        post POST 201;
        put PUT 200;
    }

    fn new(
        method: Method,
        path: &'static str,
        scope: &'static str,
        status: u16,
        route: MethodRouter<Arc<App>>,
    ) -> Self {
        Self {
            method,
            path,
            scope,
            tag: "",
            id: "",
            summary: "",
            query: None,
            body: None,
            status,
            answer: None,
            route,
        }
    }

    /// The resource, the name of the operation, and a sentence without its full stop.
    pub(crate) fn called(
        mut self,
        tag: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        (self.tag, self.id, self.summary) = (tag, id, summary);
        self
    }

    /// Takes these parameters in the query string.
    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(|generator| T::json_schema(generator));
        self
    }

    /// Takes this document as its body.
    pub(crate) fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(|generator| generator.subschema_for::<T>());
        self
    }

    /// Answers with another status than is usual for the method.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Answers with one document.
    pub(crate) fn answers<T: JsonSchema>(mut self) -> Self {
        self.answer = Some(Answer::One(|generator| generator.subschema_for::<T>()));
        self
    }

    /// Answers with a part of a list, as [`listing::Paging`] asks for it.
    pub(crate) fn lists<T: JsonSchema>(mut self, name: &'static str) -> Self {
        self.answer = Some(Answer::List(name, listing::part_of::<T>));
        self
    }

    /// Answers with a part of a list, as [`listing::Cursor`] asks for it.
    pub(crate) fn lists_by_cursor<T: JsonSchema>(mut self, name: &'static str) -> Self {
        self.answer = Some(Answer::ListByCursor(name, |generator| {
            generator.subschema_for::<T>()
        }));
        self
    }
}

impl Answer {
    /// The schema of the answer's body.
    pub(crate) fn schema(&self, generator: &mut SchemaGenerator) -> Value {
        match self {
            Self::One(make) => make(generator).into(),
            Self::List(name, make) => listing::schema(name, &make(generator).into()),
            Self::ListByCursor(name, make) => listing::cursor_schema(name, &make(generator).into()),
        }
    }
}

/// An answer without a body is `null` in no schema: nothing is said of it.
pub(crate) fn content(schema: Option<Value>) -> Value {
    schema.map_or(
        json!({}),
        |schema| json!({ "application/json": { "schema": schema } }),
    )
}
