//! The contracts that machines read: that they are of this build, that they break nobody, and that what is served is what they say.

use reqwest::Method;
use serde_json::Value;
use testkit::contract::{committed, event, folder, openapi};
use testkit::{Service, System, answer};
use uuid::Uuid;

#[test]
fn the_committed_contracts_are_those_of_this_build_and_break_nobody() {
    let mut wrong: Vec<String> = Vec::new();
    let mut hold = |file: &str, built: &Value, given: bool| wrong.extend(committed(file, built, given).err());
    for service in Service::ALL {
        hold(&format!("openapi/{}.json", service.name()), &openapi(service), true);
    }
    hold("asyncapi.json", &events::contract::asyncapi(), true);
    let schemas = events::contract::schemas();
    for (kind, schema) in &schemas {
        hold(&format!("schemas/{kind}.json"), schema, true);
    }
    for file in std::fs::read_dir(folder().join("schemas")).expect("the schemas") {
        let file = file.expect("a file").path();
        let kind = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if !schemas.contains_key(kind) {
            wrong.push(format!("{}: nobody says this type any more, and somebody may still read it", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_an_example_shows_is_what_its_schema_takes() {
    let mut seen = 0;
    for service in Service::ALL {
        let document = openapi(service);
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let body = &operation["requestBody"]["content"]["application/json"];
                if body.is_null() {
                    continue;
                }
                let schema = serde_json::json!({ "allOf": [body["schema"]], "components": document["components"] });
                let errors: Vec<String> = jsonschema::draft202012::options()
                    .should_validate_formats(true)
                    .build(&schema)
                    .expect("a schema")
                    .iter_errors(&body["example"])
                    .map(|error| error.to_string())
                    .collect();
                assert!(errors.is_empty(), "{method} {path}: {errors:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "only {seen} bodies");
}

/// What `OPTIONS` says of a path, as the document says it.
fn allowed(operations: &Value) -> Vec<String> {
    let methods = operations.as_object().expect("operations").keys().filter(|name| *name != "servers");
    let mut methods: Vec<String> = methods.map(|name| name.to_uppercase()).collect();
    if methods.iter().any(|name| name == "GET") {
        methods.push("HEAD".to_owned());
    }
    methods.sort();
    methods
}

/// That what is served has its place in the document is so by construction: the router is made of the operations, and every answer of every
/// end-to-end test is looked up there. This is the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn every_service_serves_its_document_and_everything_in_it() {
    let system = System::new().await;
    for service in Service::ALL {
        let client = system.client(service);
        let document = client.get("/openapi.json").await.expect(200);
        assert_eq!(document, openapi(service), "the {} service", service.name());
        for (path, operations) in document["paths"].as_object().expect("paths") {
            let id = Uuid::now_v7().to_string();
            let path = path.replace("{id}", &id).replace("{order}", &id).replace("{action}", "retry");
            for prefix in ["", "/v1"] {
                let path = if path == "/" && !prefix.is_empty() { "" } else { &path };
                let options = answer(client.request(Method::OPTIONS, &format!("{prefix}{path}"))).await;
                if prefix == "/v1" && operations.get("servers").is_some() {
                    assert_eq!(options.status, 404, "{path} has no version");
                    continue;
                }
                assert_eq!(options.status, 204, "{prefix}{path} {options:?}");
                let mut methods: Vec<&str> =
                    options.header("allow").split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
                methods.sort_unstable();
                assert_eq!(methods, allowed(operations), "{prefix}{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_from_elsewhere() {
    let system = System::builder().without(Service::User).without(Service::Product).without(Service::Order).start().await;
    let client = system.client(Service::Gateway);
    let page = client.get("/docs").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!page.text.contains("http"), "{}", page.text);
    for part in ["docs/swagger-ui.js", "docs/swagger-ui.css", "docs/start.js"] {
        assert!(page.text.contains(part), "{part}");
        let part = answer(client.request(Method::GET, &format!("/{part}")).header("accept-encoding", "gzip")).await;
        assert_eq!(part.status, 200);
    }
}

#[test]
fn a_page_of_the_document_opens_with_what_a_service_is_for_and_ends_with_what_every_service_serves() {
    for (service, first) in Service::ALL.into_iter().zip(["users", "products", "orders", "orders"]) {
        let document = openapi(service);
        let tags: Vec<&str> = document["tags"].as_array().expect("tags").iter().filter_map(|tag| tag["name"].as_str()).collect();
        assert_eq!((tags.first(), tags.last()), (Some(&first), Some(&"service")), "the {} service", service.name());
    }
}

#[test]
fn every_sample_is_what_its_schema_says() {
    let mut seen = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/samples")).expect("the samples") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a sample");
        let sample: Value = serde_json::from_str(&text).expect("JSON");
        event(sample["type"].as_str().expect("a type"), &sample["data"]).unwrap_or_else(|why| panic!("{why}"));
        seen += 1;
    }
    assert!(seen >= 15, "only {seen} samples");
}
