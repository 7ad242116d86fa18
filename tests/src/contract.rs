//! The contracts that machines read, as this build has them, and what is held against them: every answer that a test gets, and every event that it
//! reads.

pub mod breaking;
mod files;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::Service;

pub use files::{committed, folder};

/// The OpenAPI document of a service; the gateway's is about what is behind it too.
pub fn openapi(service: Service) -> Value {
    match service {
        Service::User => user::openapi(),
        Service::Product => product::openapi(),
        Service::Order => order::openapi(),
        Service::Gateway => {
            let mut parts = [gateway::openapi(), order::openapi(), product::openapi(), user::openapi()];
            for part in &mut parts[1..] {
                let paths = part["paths"].as_object_mut().expect("an object");
                paths.retain(|path, _| {
                    gateway::PATHS.iter().any(|served| path == served || path.starts_with(&format!("{served}/")))
                });
            }
            chassis::http::merged("Waybill", parts)
        }
    }
}

/// What all services together say of their answers.
struct Interface {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    document: chassis::http::merged("all", [gateway::openapi(), user::openapi(), product::openapi(), order::openapi()]),
    validators: Mutex::default(),
});

/// An answer as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub status: u16,
    pub content_type: &'a str,
    pub text: &'a str,
}

/// Whether an answer is one that the documents name, in its status, its content type and its body.
///
/// # Errors
/// In what it differs.
pub(crate) fn answer(method: &Method, path: &str, given: Given<'_>) -> Result<(), String> {
    let interface = &*INTERFACE;
    let kind = given.content_type.split(';').next().unwrap_or_default().trim();
    let json = || serde_json::from_str::<Value>(given.text).map_err(|error| format!("its body is not JSON: {error}"));
    let verb = if *method == Method::HEAD { "get".to_owned() } else { method.as_str().to_ascii_lowercase() };
    let response = match interface.operations(path).map(|operations| &operations[&verb]) {
        // A problem that no single operation names: nobody serves this, or not here.
        _ if given.status == 404 && given.text.contains("there is nothing here") => problem(),
        Some(Value::Null) if given.status == 405 => problem(),
        Some(Value::Null) if *method == Method::OPTIONS && given.status == 204 => json!({}),
        None | Some(Value::Null) => interface.common(given.status),
        Some(operation) => operation["responses"][given.status.to_string()].clone(),
    };
    if response.is_null() {
        return Err(format!("the status {} is not documented", given.status));
    }
    let content = &interface.resolved(&response)["content"];
    if content.is_null() || *method == Method::HEAD {
        return if given.text.is_empty() { Ok(()) } else { Err("a body is not documented".to_owned()) };
    }
    match &content[kind]["schema"] {
        Value::Null => Err(format!("the content type `{kind}` is not documented for the status {}", given.status)),
        schema if kind.ends_with("json") && kind != "application/x-ndjson" => interface.validate(schema, &json()?),
        _ => Ok(()),
    }
}

fn problem() -> Value {
    json!({ "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } })
}

impl Interface {
    /// The operations of a path, with or without its prefix: of several templates that fit, those of the one with the most words of its own.
    fn operations(&self, path: &str) -> Option<&Value> {
        let unprefixed = match path.strip_prefix("/v1") {
            Some("") => Some("/"),
            rest => rest.filter(|rest| rest.starts_with('/')),
        };
        let (path, is_version) = (unprefixed.unwrap_or(path), unprefixed.is_some());
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let words: Vec<&str> = template.split('/').collect();
            let fits = words.len() == parts.len()
                && words.iter().zip(&parts).all(|(word, part)| word == part || (word.starts_with('{') && !part.is_empty()));
            fits.then(|| words.iter().filter(|word| !word.starts_with('{')).count())
        };
        let paths = self.document["paths"].as_object()?.iter();
        paths
            .filter_map(|(template, operations)| Some((fits(template)?, operations)))
            .max_by_key(|(words, _)| *words)
            .map(|(_, found)| found)
            // Health and the documents have no version.
            .filter(|found| !is_version || found.get("servers").is_none())
    }

    /// What any request may be answered.
    fn common(&self, status: u16) -> Value {
        let responses = self.document["components"]["responses"].as_object().expect("an object");
        let found = responses.values().find(|response| {
            response.pointer("/content/application~1problem+json/schema/properties/status/const") == Some(&status.into())
        });
        found.cloned().unwrap_or_default()
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        pointer.map_or(value, |pointer| self.document.pointer(pointer).expect("what is referred to"))
    }

    fn validate(&self, schema: &Value, body: &Value) -> Result<(), String> {
        let key = schema.to_string();
        let known = self.validators.lock().expect("never poisoned").get(&key).cloned();
        let validator = known.unwrap_or_else(|| {
            let made = Arc::new(validator(&json!({ "allOf": [schema], "components": self.document["components"] })));
            self.validators.lock().expect("never poisoned").insert(key, made.clone());
            made
        });
        valid(&validator, body)
    }
}

fn validator(schema: &Value) -> Validator {
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(schema).unwrap_or_else(|error| panic!("{error} in the schema {schema:#}"))
}

fn valid(validator: &Validator, value: &Value) -> Result<(), String> {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{error} at `{}`", error.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Whether the data of an event is what the JSON Schema of its type says.
///
/// # Errors
/// In what it differs, or that nobody knows the type.
pub fn event(kind: &str, data: &Value) -> Result<(), String> {
    static SCHEMAS: LazyLock<BTreeMap<String, Validator>> = LazyLock::new(|| {
        events::contract::schemas().into_iter().map(|(kind, schema)| (kind.to_owned(), validator(&schema))).collect()
    });
    let validator = SCHEMAS.get(kind).ok_or_else(|| format!("no schema of `{kind}`"))?;
    valid(validator, data).map_err(|why| format!("`{kind}` is not what its schema says: {why}"))
}
