//! What of a change lets those down who rely on a contract. Additions do not: readers tolerate added fields, and what may be left out is left out.

use serde_json::Value;

/// Who writes what a schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Others do, and must go on being understood: nothing that was taken may be refused.
    Taken,
    /// We do: what was promised must still be there.
    Given,
}

/// Two documents, and what was found.
struct Comparison<'a> {
    before: &'a Value,
    now: &'a Value,
    side: Side,
    found: Vec<String>,
}

/// What breaks between two documents: OpenAPI, AsyncAPI, or a JSON Schema by itself. `given`: a schema by itself is of what we write.
pub fn changes(before: &Value, now: &Value, given: bool) -> Vec<String> {
    let side = if given { Side::Given } else { Side::Taken };
    let mut comparison = Comparison { before, now, side, found: Vec::new() };
    if before.get("openapi").is_some() {
        comparison.paths();
    } else if before.get("asyncapi").is_some() {
        comparison.channels();
    } else {
        comparison.schema(before, now, "", 0);
    }
    comparison.found
}

/// The members of an object.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The items of an array.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The types that a schema names.
fn types(schema: &Value) -> Vec<&str> {
    let one = schema["type"].as_str();
    one.into_iter().chain(items(&schema["type"]).iter().filter_map(Value::as_str)).collect()
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

impl Comparison<'_> {
    fn says(&mut self, at: &str, what: impl Into<String>) {
        self.found.push(format!("{at}: {}", what.into()));
    }

    fn paths(&mut self) {
        let (before, now) = (self.before, self.now);
        for (path, operations) in members(&before["paths"]) {
            for (method, operation) in members(operations).filter(|(method, _)| *method != "servers") {
                let (at, new) = (format!("{} {path}", method.to_uppercase()), &now["paths"][path][method]);
                if new.is_null() {
                    self.says(&at, "is gone");
                } else {
                    self.operation(&at, operation, new);
                }
            }
        }
    }

    fn operation(&mut self, at: &str, before: &Value, now: &Value) {
        let same = |one: &Value, other: &Value| one["name"] == other["name"] && one["in"] == other["in"];
        self.side = Side::Taken;
        for old in items(&before["parameters"]) {
            let at = format!("{at} {}", old["name"]);
            match items(&now["parameters"]).iter().find(|new| same(old, new)) {
                None => self.says(&at, "is not taken any more"),
                Some(new) => self.schema(&old["schema"], &new["schema"], &at, 0),
            }
        }
        for new in items(&now["parameters"]).iter().filter(|new| new["required"] == true) {
            if !items(&before["parameters"]).iter().any(|old| same(old, new) && old["required"] == true) {
                self.says(&format!("{at} {}", new["name"]), "is required now");
            }
        }
        let json = "/requestBody/content/application~1json/schema";
        match (before.pointer(json), now.pointer(json)) {
            (Some(old), Some(new)) => self.schema(old, new, &format!("{at} body"), 0),
            (None, Some(_)) => self.says(at, "wants a body now"),
            _ => {}
        }
        self.side = Side::Given;
        let (first, second) = (self.before, self.now);
        for (status, old) in members(&before["responses"]) {
            let at = format!("{at} {status}");
            if now["responses"][status].is_null() {
                self.says(&at, "is not answered any more");
                continue;
            }
            let (old, new) = (resolved(first, old), resolved(second, &now["responses"][status]));
            for (kind, content) in members(&old["content"]) {
                match &new["content"][kind]["schema"] {
                    Value::Null => self.says(&at, format!("`{kind}` is not answered any more")),
                    new => self.schema(&content["schema"], new, &at, 0),
                }
            }
        }
    }

    fn channels(&mut self) {
        let (before, now) = (self.before, self.now);
        self.side = Side::Given;
        for (name, channel) in members(&before["channels"]) {
            let new = &now["channels"][name];
            if new.is_null() {
                self.says(name, "is gone");
                continue;
            }
            if channel["address"] != new["address"] {
                self.says(name, format!("its address is not {} any more", channel["address"]));
            }
            for (message, _) in members(&channel["messages"]) {
                if new["messages"][message].is_null() {
                    self.says(name, format!("`{message}` is not said any more"));
                }
            }
        }
        for (name, message) in members(&before["components"]["messages"]) {
            let new = &now["components"]["messages"][name];
            for part in ["headers", "payload"].into_iter().filter(|_| !new.is_null()) {
                self.schema(&message[part], &new[part], &format!("{name} {part}"), 0);
            }
        }
    }

    /// Two schemas. Those that refer to themselves are looked at a few times.
    fn schema(&mut self, before: &Value, now: &Value, at: &str, depth: usize) {
        let (before, now) = (resolved(self.before, before), resolved(self.now, now));
        if depth > 12 || before == now {
            return;
        }
        self.kinds(before, now, at);
        self.limits(before, now, at);
        for (name, old) in members(&before["properties"]) {
            let at = format!("{at}/{name}");
            match &now["properties"][name] {
                // Given, it is missed; taken, it is refused.
                Value::Null => self.says(&at, "is gone"),
                new => self.schema(old, new, &at, depth + 1),
            }
        }
        let (old, new) = (items(&before["required"]), items(&now["required"]));
        let (more, fewer, what) = match self.side {
            Side::Taken => (new, old, "is required now"),
            Side::Given => (old, new, "may be left out now"),
        };
        for name in
            more.iter().filter(|name| !fewer.contains(name) && now["properties"].get(name.as_str().unwrap_or_default()).is_some())
        {
            self.says(&format!("{at}/{}", name.as_str().unwrap_or_default()), what);
        }
        if before["items"].is_object() {
            self.schema(&before["items"], &now["items"], &format!("{at}/*"), depth + 1);
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            let (old, new) = (items(&before[word]), items(&now[word]));
            for (index, old) in old.iter().enumerate() {
                match new.get(index) {
                    Some(new) => self.schema(old, new, at, depth + 1),
                    None if self.side == Side::Taken || word == "allOf" => self.says(at, "one of its forms is gone"),
                    None => {}
                }
            }
        }
    }

    /// The types and the values that there may be.
    fn kinds(&mut self, before: &Value, now: &Value, at: &str) {
        let (old, new) = (types(before), types(now));
        let lost = match self.side {
            Side::Taken => old.iter().find(|kind| !new.is_empty() && !new.contains(kind)),
            Side::Given => {
                new.iter().find(|kind| !old.is_empty() && !old.contains(kind)).or(old.first().filter(|_| new.is_empty()))
            }
        };
        if let Some(kind) = lost {
            self.says(at, format!("was {}, and is {} (`{kind}`)", old.join(" or "), new.join(" or ")));
        }
        // A word more is an addition; a word less is missed by whoever says it.
        if now.get("enum").is_some() {
            for value in items(&before["enum"]).iter().filter(|value| !items(&now["enum"]).contains(value)) {
                self.says(at, format!("{value} is not a value any more"));
            }
        }
        if self.side == Side::Taken && before.get("enum").is_none() && now.get("enum").is_some() {
            self.says(at, "takes only certain values now");
        }
        for word in ["const", "format"] {
            if before.get(word).is_some_and(|old| now.get(word) != Some(old))
                || (self.side == Side::Taken && before.get(word).is_none() && now.get(word).is_some())
            {
                self.says(at, format!("`{word}` was {}, and is {}", before[word], now[word]));
            }
        }
    }

    /// Limits: what is taken may not become less, what is given not more.
    fn limits(&mut self, before: &Value, now: &Value, at: &str) {
        for (word, upper) in [
            ("maximum", true),
            ("maxLength", true),
            ("maxItems", true),
            ("exclusiveMaximum", true),
            ("minimum", false),
            ("minLength", false),
            ("minItems", false),
        ] {
            let (old, new) = (before[word].as_f64(), now[word].as_f64());
            let narrower = match (old, new) {
                (Some(old), Some(new)) if upper => new < old,
                (Some(old), Some(new)) => new > old,
                (old, new) => old.is_none() && new.is_some(),
            };
            if old != new && narrower == (self.side == Side::Taken) {
                self.says(at, format!("`{word}` was {}, and is {}", before[word], now[word]));
            }
        }
        if self.side == Side::Taken && before["pattern"] != now["pattern"] && now.get("pattern").is_some() {
            self.says(at, format!("`pattern` was {}, and is {}", before["pattern"], now["pattern"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "openapi": "3.1.0",
            "paths": { "/orders": { "post": {
                "parameters": [{ "name": "limit", "in": "query", "schema": { "type": "integer", "maximum": 200 } }],
                "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/New" } } } },
                "responses": { "201": { "content": { "application/json": { "schema": {
                    "type": "object", "required": ["id"], "properties": { "id": { "type": "string" }, "note": { "type": ["string", "null"] } },
                } } } } },
            } } },
            "components": { "schemas": { "New": {
                "type": "object", "required": ["user"], "properties": { "user": { "type": "string", "maxLength": 9 }, "as": { "enum": ["a", "b"] } },
            } } },
        })
    }

    #[track_caller]
    fn says(change: impl FnOnce(&mut Value), expected: &[&str]) {
        let mut now = document();
        change(&mut now);
        assert_eq!(changes(&document(), &now, true), expected);
    }

    #[test]
    fn what_breaks_is_named() {
        let new = "/components/schemas/New";
        let answer = "/paths/~1orders/post/responses/201/content/application~1json/schema";
        let set = |pointer: &str, name: &str, value: Value| {
            let (pointer, name) = (pointer.to_owned(), name.to_owned());
            move |now: &mut Value| now.pointer_mut(&pointer).unwrap()[name] = value
        };
        let remove = |pointer: &str, name: &str| {
            let (pointer, name) = (pointer.to_owned(), name.to_owned());
            move |now: &mut Value| drop(now.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(&name))
        };
        says(remove("/paths", "/orders"), &["POST /orders: is gone"]);
        says(remove("/paths/~1orders/post/responses", "201"), &["POST /orders 201: is not answered any more"]);
        says(set("/paths/~1orders/post", "parameters", json!([])), &["POST /orders \"limit\": is not taken any more"]);
        says(
            set("/paths/~1orders/post/parameters/0/schema", "maximum", json!(100)),
            &["POST /orders \"limit\": `maximum` was 200, and is 100"],
        );
        says(set("/paths/~1orders/post/parameters/0", "required", json!(true)), &["POST /orders \"limit\": is required now"]);
        says(remove(&format!("{new}/properties"), "user"), &["POST /orders body/user: is gone"]);
        says(set(new, "required", json!(["user", "as"])), &["POST /orders body/as: is required now"]);
        says(
            set(&format!("{new}/properties/user"), "maxLength", json!(5)),
            &["POST /orders body/user: `maxLength` was 9, and is 5"],
        );
        says(
            set(&format!("{new}/properties/as"), "enum", json!(["a"])),
            &["POST /orders body/as: \"b\" is not a value any more"],
        );
        says(
            set(&format!("{new}/properties/user"), "type", json!("integer")),
            &["POST /orders body/user: was string, and is integer (`string`)"],
        );
        says(remove(&format!("{answer}/properties"), "note"), &["POST /orders 201/note: is gone"]);
        says(set(answer, "required", json!([])), &["POST /orders 201/id: may be left out now"]);
        says(
            set(&format!("{answer}/properties/id"), "type", json!(["string", "null"])),
            &["POST /orders 201/id: was string, and is string or null (`null`)"],
        );
    }

    #[test]
    fn what_is_added_breaks_nothing() {
        says(|now| now["paths"]["/more"] = json!({ "get": { "responses": {} } }), &[]);
        says(|now| now["components"]["schemas"]["New"]["properties"]["more"] = json!({ "type": "string" }), &[]);
        says(|now| now["components"]["schemas"]["New"]["required"] = json!([]), &[]);
        says(|now| now["components"]["schemas"]["New"]["properties"]["user"]["maxLength"] = json!(10), &[]);
        says(|now| now["paths"]["/orders"]["post"]["responses"]["202"] = json!({}), &[]);
    }
}
