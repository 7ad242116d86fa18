//! What is said in this shop, for machines to read: a JSON Schema of the data of every type of event, and an AsyncAPI 3.0 document of where they are
//! said, by whom, with which headers. Made of the vocabularies and the streams, so it cannot say anything else.

use std::collections::BTreeMap;

use envelope::dead_letter::{self, DEAD_LETTERS_STREAM};
use envelope::{BATCH_CONTENT_TYPE, BATCH_MAX_EVENTS, Message, Stream};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::streams::{CONSUMERS, STREAMS};
use crate::{order, product, user};

/// How a vocabulary is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In batches, on a subject for each type.
    Commands,
    /// In batches, on one subject.
    Replies,
    /// A message an event, on a subject that ends in an id.
    Events,
}

/// The messages of one side of one context.
struct Vocabulary {
    context: &'static str,
    way: Way,
    kinds: Vec<&'static str>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Vocabulary {
    fn of<M: Message + JsonSchema>(context: &'static str, way: Way) -> Self {
        Self { context, way, kinds: M::kinds(), schema: M::json_schema }
    }

    /// Where a type is said.
    fn address(&self, kind: &str) -> String {
        let (context, word) = (self.context, kind.split('.').nth(2).unwrap_or_default());
        match self.way {
            Way::Commands => format!("commands.{context}.{word}"),
            Way::Replies => format!("replies.{context}"),
            Way::Events => format!("events.{context}.{word}.{{id}}"),
        }
    }
}

fn vocabularies() -> [Vocabulary; 7] {
    [
        Vocabulary::of::<user::Command>("user", Way::Commands),
        Vocabulary::of::<user::Reply>("user", Way::Replies),
        Vocabulary::of::<user::Event>("user", Way::Events),
        Vocabulary::of::<product::Command>("product", Way::Commands),
        Vocabulary::of::<product::Reply>("product", Way::Replies),
        Vocabulary::of::<product::Event>("product", Way::Events),
        Vocabulary::of::<order::Event>("order", Way::Events),
    ]
}

/// The schemas of the data of a vocabulary's types, each with what the type is for. What they refer to stays with the generator.
fn data(vocabulary: &Vocabulary, generator: &mut SchemaGenerator) -> Vec<(&'static str, Value, String)> {
    let whole = (vocabulary.schema)(generator).to_value();
    let of_kind = |kind: &'static str| {
        let forms = whole["oneOf"].as_array().expect("one form for each type");
        let form = forms.iter().find(|form| form["properties"]["type"]["const"] == kind).expect("each type has its form");
        let about = form["description"].as_str().unwrap_or_default().to_owned();
        (kind, form["properties"]["data"].clone(), about)
    };
    vocabulary.kinds.iter().map(|kind| of_kind(kind)).collect()
}

/// What a generator has noted, without words that are for readers of the code.
fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut definitions = generator.take_definitions(true);
    for schema in definitions.values_mut().filter_map(Value::as_object_mut) {
        if schema.get("description").and_then(Value::as_str).is_some_and(|text| text.starts_with("See [")) {
            schema.remove("description");
        }
    }
    definitions
}

/// The JSON Schema of the data of every type of event, by type. Each stands by itself.
pub fn schemas() -> BTreeMap<&'static str, Value> {
    let mut schemas = BTreeMap::new();
    for vocabulary in vocabularies() {
        for kind in &vocabulary.kinds {
            let mut generator = SchemaSettings::draft2020_12().for_serialize().with_transform(envelope::words).into_generator();
            let mut found = data(&vocabulary, &mut generator);
            found.retain(|(found, ..)| found == kind);
            let (_, data, about) = found.remove(0);
            let definitions = definitions(&mut generator);
            let needed = needed(&data, &definitions);
            let definitions: Map<String, Value> = definitions.into_iter().filter(|(name, _)| needed.contains(name)).collect();
            let schema = json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": kind,
                "description": about,
                "allOf": [data],
                "$defs": definitions,
            });
            schemas.insert(*kind, schema);
        }
    }
    schemas
}

/// The definitions that a schema refers to, and those that these do.
fn needed(schema: &Value, definitions: &Map<String, Value>) -> Vec<String> {
    let (mut needed, mut open) = (Vec::new(), vec![schema]);
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                open.extend(members.values());
                let name = members.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/$defs/"));
                if let Some((name, definition)) = name.and_then(|name| definitions.get_key_value(name))
                    && !needed.contains(name)
                {
                    needed.push(name.clone());
                    open.push(definition);
                }
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    needed
}

/// The AsyncAPI 3.0 document of every stream.
pub fn asyncapi() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.for_serialize().with_transform(envelope::words).into_generator();
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for vocabulary in vocabularies() {
        for (kind, data, about) in data(&vocabulary, &mut generator) {
            let address = vocabulary.address(kind);
            let stream = stream_of(&address);
            let name = address.replace(".{id}", "").replace('.', "_");
            let channel = channels.entry(name.clone()).or_insert_with(|| channel(&address, &stream));
            channel["messages"][kind] = json!({ "$ref": format!("#/components/messages/{kind}") });
            messages.insert(kind.to_owned(), message(kind, data, &about, vocabulary.way));
            let to = json!({ "$ref": format!("#/channels/{name}") });
            operations.insert(format!("{}_says_{name}", stream.producer), json!({ "action": "send", "channel": to }));
            for consumer in CONSUMERS.iter().filter(|consumer| consumer.stream == stream.name) {
                operations.insert(format!("{}_reads_{name}", consumer.name), json!({ "action": "receive", "channel": to }));
            }
        }
    }
    let mut dead = channel("dead.{stream}.{consumer}", &DEAD_LETTERS_STREAM);
    dead["messages"][dead_letter::TYPE] = json!({ "$ref": format!("#/components/messages/{}", dead_letter::TYPE) });
    channels.insert("dead".to_owned(), dead);
    messages.insert(dead_letter::TYPE.to_owned(), dead_message());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Waybill",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What is said over NATS JetStream. All of it is CloudEvents 1.0: batches between services, one message an event for everyone.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": { "nats": { "host": "127.0.0.1:4222", "protocol": "nats", "description": "What `waybill up` starts" } },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": definitions(&mut generator) },
    })
}

/// The stream that stores an address.
fn stream_of(address: &str) -> Stream {
    let takes = |subject: &str| {
        let (words, parts): (Vec<&str>, Vec<&str>) = (subject.split('.').collect(), address.split('.').collect());
        words.len() == parts.len() && words.iter().zip(&parts).all(|(word, part)| *word == "*" || word == part)
    };
    STREAMS.into_iter().find(|stream| stream.subjects.iter().any(|subject| takes(subject))).expect("every address has its stream")
}

fn channel(address: &str, stream: &Stream) -> Value {
    let consumers: Vec<&str> =
        CONSUMERS.iter().filter(|consumer| consumer.stream == stream.name).map(|consumer| consumer.name).collect();
    let mut channel = json!({
        "address": address,
        "description": stream.description,
        "messages": {},
        "x-jetstream": { "stream": stream.name, "subjects": stream.subjects, "producer": stream.producer, "consumers": consumers },
    });
    for name in address.split('.').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let about = match name {
            "id" => "What it is about: the order, the user or the product",
            "stream" => "The stream it came from, or OUTBOX",
            _ => "Who could not handle it, or send it",
        };
        channel["parameters"][name] = json!({ "description": about });
    }
    channel
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

/// The attributes of a CloudEvent, each with its prefix.
fn attributes(prefix: &str, kind: &str) -> (Map<String, Value>, Vec<String>) {
    let named = |name: &str| format!("{prefix}{name}");
    let attributes = Map::from_iter([
        (named("specversion"), json!({ "type": "string", "const": "1.0" })),
        (named("id"), text("Unique within its source; a repetition bears the same")),
        (named("source"), text("Who says it: `/waybill/order`")),
        (named("type"), json!({ "type": "string", "const": kind })),
        (named("time"), json!({ "type": "string", "format": "date-time", "description": "When, by the speaker's clock" })),
        (named("subject"), text("What it is about: the id of the order, the user or the product")),
        (named("traceparent"), text("The W3C trace context of the request that began it")),
        (named("tracestate"), text("The `tracestate` that came with it, where one did")),
    ]);
    (attributes, ["specversion", "id", "source", "type", "time", "subject"].map(named).to_vec())
}

fn message(kind: &str, data: Value, about: &str, way: Way) -> Value {
    let mut message = json!({ "name": kind, "title": about, "summary": about });
    if way == Way::Events {
        let (mut headers, mut required) = attributes("ce-", kind);
        headers.insert("Content-Type".to_owned(), json!({ "type": "string", "const": "application/json" }));
        headers.insert("Nats-Msg-Id".to_owned(), text("De-duplicates within the stream's window"));
        headers.insert("traceparent".to_owned(), text("As `ce-traceparent`"));
        headers.insert("tracestate".to_owned(), text("As `ce-tracestate`, which is percent-encoded"));
        headers.insert("ce-republished".to_owned(), text("`true` where the stream had lost it; it comes later than it did"));
        required.push("Content-Type".to_owned());
        message["contentType"] = "application/json".into();
        message["headers"] = json!({ "type": "object", "required": required, "properties": headers });
        message["payload"] = data;
        return message;
    }
    let (mut event, mut required) = attributes("", kind);
    event.insert("data".to_owned(), data);
    event.insert(
        "attempt".to_owned(),
        json!({ "type": "integer", "minimum": 1, "description": "Of a command: which attempt this is" }),
    );
    required.push("data".to_owned());
    message["contentType"] = BATCH_CONTENT_TYPE.into();
    message["headers"] = json!({
        "type": "object",
        "required": ["Content-Type", "Nats-Msg-Id"],
        "properties": {
            "Content-Type": { "type": "string", "const": BATCH_CONTENT_TYPE },
            "Nats-Msg-Id": text("The outbox row it came from"),
        },
    });
    // Other types of the same subject may stand beside this one.
    message["payload"] = json!({
        "type": "array", "minItems": 1, "maxItems": BATCH_MAX_EVENTS,
        "items": { "type": "object", "required": required, "properties": event },
    });
    message
}

fn dead_message() -> Value {
    let (mut headers, _) = attributes("ce-", dead_letter::TYPE);
    for (name, about) in [
        (dead_letter::REASON, "Why it could not be handled"),
        (dead_letter::STREAM, "The stream it came from"),
        (dead_letter::CONSUMER, "The consumer that could not handle it"),
        (dead_letter::SUBJECT, "The subject it came under, and goes back to"),
        (dead_letter::SEQUENCE, "The sequence of its message"),
        (dead_letter::INDEX, "Its place in the message, from 0; of several each, separated by commas"),
        (dead_letter::DELIVERIES, "How often it was delivered"),
        (dead_letter::REDRIVES, "How often an operator sent it back"),
        (dead_letter::TRUNCATED, "The bytes it had, where only its beginning is kept"),
    ] {
        headers.insert(name.to_owned(), text(about));
    }
    let about = "What could not be handled, as it was";
    json!({
        "name": dead_letter::TYPE,
        "title": about,
        "summary": about,
        "headers": { "type": "object", "required": [dead_letter::REASON], "properties": headers },
        "payload": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_schema_and_a_message_on_a_stream() {
        let (schemas, document) = (schemas(), asyncapi());
        let kinds: Vec<&str> = vocabularies().into_iter().flat_map(|vocabulary| vocabulary.kinds).collect();
        assert_eq!(schemas.len(), kinds.len());
        let mut said = Vec::new();
        for (name, channel) in document["channels"].as_object().unwrap() {
            assert!(!channel["x-jetstream"]["stream"].is_null(), "{name}");
            said.extend(channel["messages"].as_object().unwrap().keys().cloned());
        }
        assert!(kinds.iter().all(|kind| said.iter().any(|said| said == kind)), "{said:?}");
    }

    #[test]
    fn a_batch_is_bounded_and_an_id_is_a_uuid() {
        let document = asyncapi();
        let payload = &document["components"]["messages"]["waybill.product.reserve.v1"]["payload"];
        assert_eq!(payload["maxItems"], BATCH_MAX_EVENTS);
        assert_eq!(document["components"]["schemas"]["OrderId"]["format"], "uuid");
        assert_eq!(document["channels"]["events_order_placed"]["address"], "events.order.placed.{id}");
        assert!(document["operations"]["product_reads_commands_product_reserve"].is_object());
    }
}
