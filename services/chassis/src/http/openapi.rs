//! The OpenAPI 3.1 document of an HTTP interface, made of its operations.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::http::Operation;
use crate::http::problem::{COMMON, Problem};

/// The prefix of every type of problem.
const PROBLEM: &str = "urn:waybill:problem:";

/// The tag of what every service serves.
const SERVICE: &str = "service";

/// The document of these operations.
pub fn openapi(title: &str, operations: &[Operation]) -> Value {
    let (mut read, mut written) = (generator(false), generator(true));
    let problem = written.subschema_for::<Problem>().to_value();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_default();
        path.insert(operation.method.as_str().to_ascii_lowercase(), described(operation, &mut read, &mut written));
        if operation.plain {
            path.insert("servers".to_owned(), json!([{ "url": "/" }]));
        }
    }
    let mut schemas = written.take_definitions(true);
    for (name, schema) in read.take_definitions(true) {
        let other = schemas.insert(name.clone(), schema.clone());
        assert!(other.is_none_or(|other| other == schema), "two schemas are called {name}");
    }
    let responses = common().into_iter().map(|(status, kinds)| (kinds[0].0.to_owned(), refusal(status, &kinds, &problem)));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Errors are problem details (RFC 9457) with a stable `type`. Every answer bears `x-request-id`.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [
            { "url": "/v1", "description": "Version 1" },
            { "url": "/", "description": "The same without its prefix" },
        ],
        "security": [{}, { "bearer": [] }],
        "tags": tags(operations.iter().map(|operation| json!({ "name": tag(operation) }))),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses.collect::<Map<_, _>>(),
            "securitySchemes": { "bearer": {
                "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                "description": "Wanted where identity is configured",
            } },
        },
    })
}

/// What an operation is about, by the beginning of its path.
fn tag(operation: &Operation) -> &'static str {
    operation.path.split('/').nth(1).filter(|tag| !operation.plain && !tag.is_empty()).unwrap_or(SERVICE)
}

/// Each once. A page of the document shows them in this order: what every service serves comes last.
fn tags(all: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut tags: Vec<Value> = Vec::new();
    for tag in all {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags.sort_by_key(|tag| tag["name"] == SERVICE);
    tags
}

/// What any request may be answered, by status.
fn common() -> BTreeMap<u16, Vec<(&'static str, &'static str)>> {
    let mut common: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for (status, kind, when) in COMMON {
        common.entry(status).or_default().push((kind, when));
    }
    common
}

fn generator(written: bool) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    (if written { settings.for_serialize() } else { settings.for_deserialize() }).with_transform(envelope::words).into_generator()
}

fn described(operation: &Operation, read: &mut SchemaGenerator, written: &mut SchemaGenerator) -> Value {
    let problem = written.subschema_for::<Problem>().to_value();
    let mut described = json!({ "operationId": operation.id, "summary": operation.summary, "tags": [tag(operation)] });
    if let Some(description) = operation.description {
        described["description"] = description.into();
    }
    let parameters = operation.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name, "in": parameter.place, "required": parameter.place == "path",
            "description": parameter.description, "schema": parameter.schema.resolve(read),
        })
    });
    described["parameters"] = parameters.collect();
    if let Some((shape, example)) = &operation.body {
        let content = json!({ "application/json": { "schema": shape.resolve(read), "example": example } });
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    let common = common();
    let mut refusals = common.clone();
    for (status, kind, when) in &operation.refusals {
        refusals.entry(*status).or_default().push((kind, when));
    }
    for (status, kinds) in &refusals {
        let response = match kinds.as_slice() {
            kinds if common.get(status).is_some_and(|common| common == kinds) => {
                json!({ "$ref": format!("#/components/responses/{}", kinds[0].0) })
            }
            kinds => refusal(*status, kinds, &problem),
        };
        responses.insert(status.to_string(), response);
    }
    for answer in &operation.answers {
        let mut response = json!({ "description": answer.description });
        if let Some((content_type, shape)) = &answer.content {
            response["content"] = json!({ (*content_type): { "schema": shape.resolve(written) } });
        }
        for (name, description) in &answer.headers {
            response["headers"][name] = json!({ "description": description, "schema": { "type": "string" } });
        }
        for (operation, parameter, pointer) in &answer.links {
            let from = format!("$response.body#{pointer}");
            response["links"][operation] = json!({ "operationId": operation, "parameters": { (*parameter): from } });
        }
        let kinds = refusals.get(&answer.status).map(|kinds| refusal(answer.status, kinds, &problem));
        if let Some(refused) = kinds {
            response["content"]["application/problem+json"] = refused["content"]["application/problem+json"].clone();
        }
        responses.insert(answer.status.to_string(), response);
    }
    described["responses"] = json!(responses);
    described
}

/// The answer of one status that says what is wrong.
fn refusal(status: u16, kinds: &[(&str, &str)], problem: &Value) -> Value {
    let description: Vec<&str> = kinds.iter().map(|(_, when)| *when).collect();
    let types: Vec<String> = kinds.iter().map(|(kind, _)| format!("{PROBLEM}{kind}")).collect();
    let mut schema = problem.clone();
    schema["properties"] = json!({ "type": { "enum": types }, "status": { "const": status } });
    let mut refusal =
        json!({ "description": description.join(". "), "content": { "application/problem+json": { "schema": schema } } });
    if status == 503 || status == 429 {
        refusal["headers"]["Retry-After"] = json!({ "description": "Seconds", "schema": { "type": "integer" } });
    }
    refusal
}

/// The document of several, as one: what a gateway in front of them serves. What the first is about comes first.
pub fn merged(title: &str, documents: impl IntoIterator<Item = Value>) -> Value {
    documents
        .into_iter()
        .reduce(|mut whole, part| {
            for place in ["/paths", "/components/schemas", "/components/responses"] {
                let (Some(Value::Object(into)), Some(Value::Object(from))) = (whole.pointer_mut(place), part.pointer(place))
                else {
                    continue;
                };
                for (name, value) in from {
                    let other = into.insert(name.clone(), value.clone());
                    assert!(other.is_none_or(|other| other == *value), "two documents differ in {place}/{name}");
                }
            }
            let of_both = [&whole, &part].into_iter().flat_map(|document| document["tags"].as_array().into_iter().flatten());
            whole["tags"] = tags(of_both.cloned()).into();
            whole
        })
        .map(|mut whole| {
            whole["info"]["title"] = title.into();
            prune(&mut whole);
            whole
        })
        .unwrap_or_default()
}

/// Removes the schemas that nothing refers to, and the tags that nothing has.
fn prune(document: &mut Value) {
    let text = document.to_string();
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.retain(|tag| text.contains(&format!("\"tags\":[{}]", tag["name"])));
    }
    loop {
        let text = document.to_string();
        let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else { return };
        let before = schemas.len();
        schemas.retain(|name, _| text.contains(&format!("\"#/components/schemas/{name}\"")));
        if schemas.len() == before {
            return;
        }
    }
}

impl JsonSchema for Problem {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Problem".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "What is wrong (RFC 9457)",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": { "type": "string", "description": "Stable; switch on it" },
                "title": { "type": "string", "description": "The same for every problem of this type" },
                "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                "detail": { "type": "string", "description": "What is wrong this time" },
                "errors": {
                    "type": "array",
                    "description": "For invalid input: what is wrong, and where",
                    "items": {
                        "type": "object",
                        "required": ["pointer", "detail"],
                        "properties": {
                            "pointer": { "type": "string", "description": "Into the body (RFC 6901)" },
                            "detail": { "type": "string" },
                        },
                    },
                },
            },
        })
    }
}
