//! What is said of a wrong value: at every route that takes any, of every kind of wrong, as a client of HTTP understands it.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::contract::openapi;
use testkit::{Answer, Client, Service, System, answer};
use uuid::Uuid;

/// Words of the language that the services are written in, and of its libraries.
const OURS: [&str; 22] = [
    "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64", "usize", "str", "struct", "enum", "tuple", "variant",
    "newtype", "expected", "borrowed", "Option", "None", "DateTime",
];

/// What a body is, and how it is sent.
struct Body {
    method: Method,
    path: String,
    example: Value,
    schema: Value,
    document: Value,
}

/// Every body that a service takes.
fn bodies(document: &Value) -> Vec<Body> {
    let mut bodies = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let body = &operation["requestBody"]["content"]["application/json"];
            if !body.is_null() {
                bodies.push(Body {
                    method: method.to_uppercase().parse().expect("a method"),
                    path: filled(path),
                    example: body["example"].clone(),
                    schema: body["schema"].clone(),
                    document: document.clone(),
                });
            }
        }
    }
    bodies
}

/// A path with ids of nothing.
fn filled(path: &str) -> String {
    let id = Uuid::now_v7().to_string();
    path.replace("{id}", &id).replace("{order}", &id).replace("{action}", "retry")
}

/// Of every JSON type one, and those that are almost another.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!("x"),
        json!("7"),
        json!("x".repeat(20_000)),
        json!("-262143-01-01T00:00:00Z"),
        json!(-1),
        json!(1.5),
        json!(1.0),
        json!(u64::MAX),
        json!(1e300),
        json!([]),
        json!([[1]]),
        json!({}),
        json!({ "x": 1 }),
    ]
}

/// The places of a value, and those that its schema has beside them.
fn places(body: &Body) -> Vec<String> {
    fn walk(value: &Value, at: &str, places: &mut Vec<String>) {
        places.push(at.to_owned());
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| walk(value, &format!("{at}/{name}"), places)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, value)| walk(value, &format!("{at}/{index}"), places));
            }
            _ => {}
        }
    }
    let mut places = Vec::new();
    walk(&body.example, "", &mut places);
    let schema = body.schema["$ref"].as_str().and_then(|reference| body.document.pointer(reference.strip_prefix('#')?));
    let fields = schema.unwrap_or(&body.schema)["properties"].as_object().expect("an object has fields");
    places.extend(fields.keys().map(|name| format!("/{name}")).filter(|place| body.example.pointer(place).is_none()));
    places
}

/// The example with another value at this place.
fn with(example: &Value, place: &str, value: Value) -> Value {
    let mut changed = example.clone();
    match changed.pointer_mut(place) {
        Some(there) => *there = value,
        None => changed[place.strip_prefix('/').expect("a field of the whole")] = value,
    }
    changed
}

/// The example as text, in which the object at this place begins with this.
fn with_text(example: &Value, place: &str, begins: &str) -> String {
    let object = example.pointer(place).expect("a place").to_string();
    let object = format!("{{{begins}{}", &object[1..]);
    with(example, place, json!("\u{1}here")).to_string().replace("\"\\u0001here\"", &object)
}

/// That nothing that is said is in our own words, or of any length.
#[track_caller]
fn is_plain(answer: &Answer, about: &str) {
    let problem = answer.json();
    let errors = problem["errors"].as_array().into_iter().flatten();
    for said in errors.map(|error| &error["detail"]).chain([&problem["detail"]]) {
        let said = said.as_str().expect("words");
        let quoted = said.split('`').step_by(2).collect::<String>();
        let word = quoted.split(|letter: char| !letter.is_alphanumeric()).find(|word| OURS.contains(word));
        assert!(word.is_none() && said.chars().count() <= 200, "{about}: {said}");
    }
    assert!(answer.text.len() < 2_000, "{about}: {}", answer.text);
}

async fn send(client: &Client, body: &Body, text: String) -> Answer {
    let request = client.request(body.method.clone(), &body.path).header("content-type", "application/json");
    answer(request.body(text)).await
}

/// The place that alone is wrong.
#[track_caller]
fn refused_at(answer: &Answer, place: &str, about: &str) {
    let pointers = answer.invalid();
    is_plain(answer, about);
    assert!(
        pointers.iter().all(|pointer| pointer == place || pointer.starts_with(&format!("{place}/"))),
        "{about}: {pointers:?}"
    );
}

async fn every_wrong_value(client: &Client, body: &Body) -> usize {
    let schema = json!({ "allOf": [body.schema], "components": body.document["components"] });
    let schema = jsonschema::draft202012::new(&schema).expect("a schema");
    let mut refused = 0;
    for place in places(body) {
        for value in values() {
            let changed = with(&body.example, &place, value);
            let about = format!("{} {} {place} {changed:.300}", body.method, body.path);
            let answer = send(client, body, changed.to_string()).await;
            assert!(answer.status < 500, "{about}: {answer:?}");
            if !schema.is_valid(&changed) {
                refused_at(&answer, &place, &about);
                refused += 1;
            } else if answer.status >= 400 {
                is_plain(&answer, &about);
            }
        }
        let Some(fields) = body.example.pointer(&place).and_then(Value::as_object) else { continue };
        // A tag is called as its customer likes.
        if place != "/tags" {
            let long = format!("{}~/", "x".repeat(20_000));
            for (name, told) in [("colour", Some(format!("{place}/colour"))), (long.as_str(), None)] {
                let answer = send(client, body, with_text(&body.example, &place, &format!("\"{name}\":1,"))).await;
                let about = format!("{} {} {place} with one field more", body.method, body.path);
                assert_eq!(answer.invalid().len(), 1, "{about}");
                is_plain(&answer, &about);
                assert!(told.is_none_or(|told| answer.invalid() == [told]), "{about}: {answer:?}");
            }
        }
        for name in fields.keys() {
            let field = format!("{place}/{name}");
            let mut without = body.example.clone();
            without.pointer_mut(&place).and_then(Value::as_object_mut).expect("an object").remove(name);
            let answer = send(client, body, without.to_string()).await;
            let about = format!("{} {} without {field}", body.method, body.path);
            if !schema.is_valid(&without) {
                refused_at(&answer, &field, &about);
                refused += 1;
            } else if answer.status >= 400 {
                is_plain(&answer, &about);
            }
            if place != "/tags" {
                let twice = with_text(&body.example, &place, &format!("\"{name}\":{},", fields[name]));
                let answer = send(client, body, twice).await;
                assert_eq!(answer.invalid(), [field.as_str()], "{field} twice");
                is_plain(&answer, &field);
            }
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_value_of_every_body_is_refused_at_its_place_and_in_words_that_every_client_knows() {
    let system = System::new().await;
    let mut refused = 0;
    for service in Service::ALL {
        for body in bodies(&openapi(service)) {
            refused += every_wrong_value(&system.client(service), &body).await;
        }
    }
    assert!(refused > 500, "only {refused} were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_value_in_a_url_is_refused_by_the_name_of_its_parameter_and_in_words_that_every_client_knows() {
    let system = System::new().await;
    let long = "x".repeat(20_000);
    let values = [
        "",
        "x",
        "-1",
        "1.5",
        "7",
        "true",
        "null",
        "99999999999999999999",
        "2026-13-01",
        "-262143-01-01T00:00:00Z",
        "%2B262142-12-31T23:59:59Z",
        "-200000-01-01T00:00:00Z",
        "00064400-0000-0000-7fff-ffffffffffff",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "%00",
        "%ff",
        "a=,b",
        &long,
    ];
    let mut refused = 0;
    for service in Service::ALL {
        let document = openapi(service);
        let client = system.client(service);
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for parameter in operations["get"]["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                for value in values {
                    let asked = match parameter["in"].as_str() {
                        Some("query") => format!("{}?{name}={value}", filled(path)),
                        Some("path") if !value.is_empty() => filled(&path.replace(&format!("{{{name}}}"), value)),
                        _ => continue,
                    };
                    let answer = client.get(&asked).await;
                    assert!(answer.status < 500, "{asked:.200}: {answer:?}");
                    if answer.status < 400 {
                        continue;
                    }
                    is_plain(&answer, &asked);
                    refused += 1;
                    if answer.status == 400 && parameter["in"] == "query" {
                        let detail = answer.json()["detail"].as_str().expect("words").to_owned();
                        assert!(detail.starts_with(&format!("`{name}`")), "{asked:.200}: {detail}");
                    }
                }
            }
        }
    }
    assert!(refused > 100, "only {refused} were refused");
}
