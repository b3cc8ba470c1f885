//! How a list is asked for and answered (contract 4): by cursor (`from`, `take`), or by page (`page`, `per_page`), bare or
//! with totals. `fields` picks members of the items.

use axum::Json;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vault::{Listed, Window};

use crate::error::Failure;

/// The parameters of every list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Paging {
    /// Where to go on: what the part before gave as `next`.
    #[schemars(length(max = 1200))]
    from: Option<String>,
    /// The most items, by cursor. Default: 50.
    #[schemars(range(min = 1, max = 100))]
    take: Option<u32>,
    /// The page, from 0. At most the first 100,000 items can be had by page.
    #[schemars(range(max = 99_999))]
    page: Option<u32>,
    /// The items of a page. Default: 50.
    #[schemars(range(min = 1, max = 100))]
    per_page: Option<u32>,
    /// Whether to count the whole list.
    include_totals: Option<bool>,
    /// The members of each item that are wanted, with commas; or unwanted, with `include_fields=false`.
    #[schemars(length(max = 1000))]
    fields: Option<String>,
    /// Whether `fields` names what is wanted. Default: true.
    include_fields: Option<bool>,
}

/// The items that page after page may reach: each one reads all that came before it. Past them, a cursor.
const MOST_BY_PAGE: u32 = 100_000;

impl Paging {
    /// The window that is asked for. A cursor wins over a page.
    pub(crate) fn window(&self) -> Result<Window, Failure> {
        if self.is_by_cursor() {
            return Ok(Window::After {
                cursor: self.from.clone(),
                take: self.take.unwrap_or(50),
            });
        }
        let page = self.page.unwrap_or(0);
        let per_page = self.per_page.unwrap_or(50);
        if page.saturating_mul(per_page) >= MOST_BY_PAGE && page > 0 {
            return Err(crate::query::wrong(
                "page",
                "at most the first 100,000 items; use from and take to go on",
            )
            .into());
        }
        Ok(Window::Page {
            page,
            per_page,
            with_total: self.include_totals.unwrap_or(false),
        })
    }

    fn is_by_cursor(&self) -> bool {
        self.from.is_some() || self.take.is_some()
    }

    /// The answer, in the form that was asked for.
    pub(crate) fn answer<T: Serialize>(
        &self,
        name: &str,
        listed: Listed<T>,
    ) -> Result<Json<Value>, Failure> {
        let mut items = Vec::with_capacity(listed.items.len());
        for item in &listed.items {
            items.push(self.project(serde_json::to_value(item).map_err(vault::Error::from)?));
        }
        if self.is_by_cursor() {
            let mut answer = Map::new();
            answer.insert(name.to_owned(), items.into());
            if let Some(next) = listed.next {
                answer.insert("next".to_owned(), next.into());
            }
            return Ok(Json(answer.into()));
        }
        let Some(total) = listed.total else {
            return Ok(Json(items.into()));
        };
        Ok(Json(json!({
            "start": listed.start,
            "limit": listed.limit,
            "length": items.len(),
            "total": total,
            name: items,
        })))
    }

    /// Leaves the members that are wanted.
    fn project(&self, mut item: Value) -> Value {
        if let (Some(fields), Value::Object(members)) = (&self.fields, &mut item) {
            let wanted = self.include_fields.unwrap_or(true);
            members.retain(|name, _| fields.split(',').any(|field| field.trim() == name) == wanted);
        }
        item
    }
}

/// The parameters of a list that is read by cursor only.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cursor {
    /// Where to go on: what the part before gave as `next`.
    #[schemars(length(max = 1200))]
    from: Option<String>,
    /// The most items. Default: 50.
    #[schemars(range(min = 1, max = 100))]
    take: Option<u32>,
}

impl Cursor {
    /// The window that is asked for.
    pub(crate) fn window(&self) -> Window {
        Window::After {
            cursor: self.from.clone(),
            take: self.take.unwrap_or(50),
        }
    }
}

/// The answer to a list that is read by cursor only.
pub(crate) fn answer_by_cursor<T: Serialize>(
    name: &str,
    listed: Listed<T>,
) -> Result<Json<Value>, Failure> {
    let paging = Paging {
        take: Some(listed.limit),
        ..Paging::default()
    };
    paging.answer(name, listed)
}

/// The schema of an item of which `fields` may leave out any member.
pub(crate) fn part_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let whole = generator.subschema_for::<T>();
    let name = T::schema_name();
    let Some(Value::Object(mut part)) = generator.definitions().get(name.as_ref()).cloned() else {
        return whole;
    };
    part.remove("required");
    let part_name = format!("{name}Part");
    let definitions = generator.definitions_mut();
    definitions.insert(part_name.clone(), part.into());
    json_schema!({ "$ref": format!("#/components/schemas/{part_name}") })
}

/// The schema of a list's answer, in each of its forms.
pub(crate) fn schema(name: &str, item: &Value) -> Value {
    let items = json!({ "type": "array", "items": item });
    json!({
        "anyOf": [
            items,
            cursor_schema(name, item),
            {
                "type": "object",
                "required": ["start", "limit", "length", "total", name],
                "properties": {
                    "start": { "type": "integer" },
                    "limit": { "type": "integer" },
                    "length": { "type": "integer" },
                    "total": { "type": "integer" },
                    name: items,
                },
            },
        ],
    })
}

/// The schema of the answer to a list that is read by cursor.
pub(crate) fn cursor_schema(name: &str, item: &Value) -> Value {
    json!({
        "type": "object",
        "required": [name],
        "properties": {
            name: { "type": "array", "items": item },
            "next": { "type": "string", "description": "Where the next part begins; absent in the last one." },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed<Value> {
        Listed {
            items: vec![json!({"id": 1, "name": "a", "x": true})],
            next: Some("more".to_owned()),
            start: 0,
            limit: 1,
            total: Some(7),
        }
    }

    #[test]
    fn a_list_has_three_forms() {
        let paging = Paging {
            take: Some(1),
            ..Paging::default()
        };
        assert_eq!(
            paging.answer("cats", listed()).unwrap().0,
            json!({"cats": [{"id": 1, "name": "a", "x": true}], "next": "more"})
        );
        let paging = Paging {
            fields: Some("id, name".to_owned()),
            ..Paging::default()
        };
        assert_eq!(
            paging.answer("cats", listed()).unwrap().0,
            json!({"start": 0, "limit": 1, "length": 1, "total": 7, "cats": [{"id": 1, "name": "a"}]})
        );
        let bare = Listed {
            total: None,
            ..listed()
        };
        let paging = Paging {
            fields: Some("x".to_owned()),
            include_fields: Some(false),
            ..Paging::default()
        };
        assert_eq!(
            paging.answer("cats", bare).unwrap().0,
            json!([{"id": 1, "name": "a"}])
        );
    }

    #[test]
    fn mg_17_a_page_that_is_too_far_is_refused() {
        let far = Paging {
            page: Some(1000),
            per_page: Some(100),
            ..Paging::default()
        };
        assert!(far.window().is_err());
        let last = Paging {
            page: Some(999),
            per_page: Some(100),
            ..Paging::default()
        };
        assert!(last.window().is_ok());
    }
}
