//! One operation of an HTTP interface: who may use it, how it is asked for, what it takes and what it answers, said beside its handler in
//! [`Routes`](super::Routes). What is served, who may, which queries are taken and the OpenAPI document are one table.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::http::access::{Rule, Who};
use crate::http::page::LIMIT_MAX;

/// A schema: that of a type, or one that no type has.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Of a type.
    Type(fn(&mut SchemaGenerator) -> Schema),
    /// As it is.
    Value(Value),
}

impl Shape {
    /// That of a type.
    pub fn of<T: JsonSchema>() -> Self {
        Self::Type(|generator| generator.subschema_for::<T>())
    }

    /// A cursor of a list in the order of ids.
    pub fn id_cursor() -> Self {
        Self::Value(json!({ "type": "string", "pattern": "^([0-9a-f]{32})?$" }))
    }

    pub(super) fn resolve(&self, generator: &mut SchemaGenerator) -> Value {
        match self {
            Self::Type(schema) => schema(generator).to_value(),
            Self::Value(value) => value.clone(),
        }
    }
}

/// A parameter in the path, the query or a header.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub place: &'static str,
    pub description: String,
    pub schema: Shape,
}

/// What is answered where all is well.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub description: &'static str,
    pub content: Option<(&'static str, Shape)>,
    pub headers: Vec<(&'static str, &'static str)>,
    /// What can be asked next: an operation, the parameter of it, and where in the answer its value is.
    pub links: Vec<(&'static str, &'static str, &'static str)>,
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Operation {
    pub(super) who: Who,
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: Option<&'static str>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<(Shape, Value)>,
    pub(super) answers: Vec<Answer>,
    /// Problems of this operation's own: the status, the last part of the type, and when.
    pub(super) refusals: Vec<(u16, &'static str, &'static str)>,
    /// Served without the prefix alone, without a database behind it.
    pub(super) plain: bool,
}

impl Operation {
    fn new(who: Who, method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let ids = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameter = |name| Parameter {
            name,
            place: "path",
            description: "The id".to_owned(),
            schema: Shape::Value(json!({ "type": "string", "format": "uuid" })),
        };
        Self {
            who,
            method,
            path,
            id,
            summary,
            description: None,
            parameters: ids.map(parameter).collect(),
            body: None,
            answers: Vec::new(),
            refusals: Vec::new(),
            plain: false,
        }
    }

    /// GET, for these callers. A parameter of the path is an id, if [`Self::path`] does not say otherwise.
    pub fn get(who: Who, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(who, Method::GET, path, id, summary)
    }

    /// POST, for these callers.
    pub fn post(who: Who, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(who, Method::POST, path, id, summary)
    }

    /// PATCH, for these callers.
    pub fn patch(who: Who, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(who, Method::PATCH, path, id, summary)
    }

    /// More than a line about it.
    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = Some(description);
        self
    }

    /// What a parameter of the path is.
    pub fn path(mut self, name: &str, description: &str, schema: Value) -> Self {
        let parameter = self.parameters.iter_mut().find(|parameter| parameter.name == name).expect("it is in the path");
        (parameter.description, parameter.schema) = (description.to_owned(), Shape::Value(schema));
        self
    }

    /// A parameter of the query. All others are refused by name.
    pub fn query(mut self, name: &'static str, description: &str, schema: Shape) -> Self {
        self.parameters.push(Parameter { name, place: "query", description: description.to_owned(), schema });
        self
    }

    /// A header that is looked at.
    pub fn header(mut self, name: &'static str, description: &str, schema: Value) -> Self {
        let (description, schema) = (description.to_owned(), Shape::Value(schema));
        self.parameters.push(Parameter { name, place: "header", description, schema });
        self
    }

    /// The body, as JSON, and an example of one.
    pub fn body<T: JsonSchema>(mut self, example: Value) -> Self {
        self.body = Some((Shape::of::<T>(), example));
        self.refuses(422, "invalid", "A field is missing, unknown or invalid: `errors` says which and why")
    }

    /// What is answered, as JSON.
    pub fn answers(self, status: u16, description: &'static str, shape: Shape) -> Self {
        self.answers_as(status, description, "application/json", shape)
    }

    /// What is answered, as something else.
    pub fn answers_as(mut self, status: u16, description: &'static str, content_type: &'static str, shape: Shape) -> Self {
        let content = Some((content_type, shape));
        self.answers.push(Answer { status, description, content, headers: Vec::new(), links: Vec::new() });
        self
    }

    /// An answer without a body.
    pub fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, content: None, headers: Vec::new(), links: Vec::new() });
        self
    }

    /// A page of a list, with what asks for one.
    pub fn page<T: JsonSchema>(self) -> Self {
        self.page_of(Shape::id_cursor(), Shape::Type(|generator| {
            let item = generator.subschema_for::<T>().to_value();
            let unreadable = json!({ "type": "object", "required": ["unreadable"], "properties": { "unreadable": { "type": "string" } } });
            json!({
                "type": "object",
                "required": ["items", "next_cursor"],
                "properties": {
                    "items": { "type": "array", "maxItems": LIMIT_MAX, "items": { "anyOf": [item, unreadable] } },
                    "next_cursor": { "type": ["string", "null"], "description": "Asks for the next page; null where this is the last" },
                },
            }).try_into().expect("an object")
        }))
    }

    /// The same with a cursor and a page of another shape.
    pub fn page_of(self, cursor: Shape, page: Shape) -> Self {
        self.query(
            "limit",
            "How many items, at most",
            Shape::Value(json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX })),
        )
        .query("cursor", "The `next_cursor` of the page before", cursor)
        .answers(200, "A page", page)
        .with_header("Link", "The next page, if there is one: `rel=\"next\"`")
    }

    /// A header of the last answer.
    pub fn with_header(mut self, name: &'static str, description: &'static str) -> Self {
        self.answer().headers.push((name, description));
        self
    }

    /// What can be asked with the last answer: an operation, the parameter of its path, and where in the answer its value is (RFC 6901).
    pub fn link(mut self, operation: &'static str, parameter: &'static str, pointer: &'static str) -> Self {
        self.answer().links.push((operation, parameter, pointer));
        self
    }

    fn answer(&mut self) -> &mut Answer {
        self.answers.last_mut().expect("an answer was named")
    }

    /// It honours `Idempotency-Key`.
    pub fn keyed(self) -> Self {
        self.header(
            "Idempotency-Key",
            "The same request with the same key has one effect, and is answered alike",
            json!({ "type": "string", "minLength": 1, "maxLength": super::headers::KEY_SENT_MAX, "pattern": "^[ -~]*[!#-~][ -~]*$" }),
        )
        .with_header("Idempotency-Replayed", "`true` where the key was used for the same before")
        .refuses(422, "idempotency-key-reused", "The key was used for another request")
    }

    /// A problem of its own: the status, the last part of its type, and when.
    pub fn refuses(mut self, status: u16, kind: &'static str, when: &'static str) -> Self {
        self.refusals.push((status, kind, when));
        self
    }

    /// There may be no such thing.
    pub fn may_be_missing(self) -> Self {
        self.refuses(404, "not-found", "There is no such thing")
    }

    pub(super) fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Who may use it.
    pub fn rule(&self) -> Rule {
        Rule { method: Some(self.method.clone()), path: self.path, who: self.who }
    }

    /// The names of its query parameters.
    pub(super) fn queries(&self) -> Vec<&'static str> {
        self.parameters.iter().filter(|parameter| parameter.place == "query").map(|parameter| parameter.name).collect()
    }
}
