//! `waybill import` against a fake: its patience, its counting and its second run.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::{nowhere, run, run_with_input};

const PRODUCTS: &str = r#"{"product":1,"name":"Bread","package":"20 OZ","cents":100}
{"product":2,"name":"Beans","package":"","cents":69}
"#;

/// Four orders of two households, one basket that the edge refuses, one without its product, and one line that is no basket.
const BASKETS: &str = r#"{"basket":11,"household":7,"at":"2017-01-01T11:53:26","lines":[[1,1]]}
{"basket":12,"household":7,"lines":[[1,0]]}
{"basket":13,"household":8,"lines":[[1,2],[2,1]]}
{"basket":14,"household":
{"basket":15,"household":8,"lines":[[99,1]]}
{"basket":16,"household":7,"lines":[[2,5]]}
{"basket":17,"household":7,"lines":[[2,6]]}
"#;

/// A file that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, contents: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("waybill-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn against_a_fake_a_second_import_makes_nothing_twice_and_every_line_is_accounted_for() {
    let fake = Fake { looks: AtomicU32::new(6), outcome: Mutex::new("confirmed"), ..Fake::default() };
    let (fake, gateway) = fake.start();
    let products = Scratch::new("twice-products", &gzip(PRODUCTS));
    let args = ["import", "--products", products.path(), "--baskets", "-", "-o", "json"];

    let (code, stdout, stderr) = run_with_input(&gateway, &args, BASKETS.as_bytes());
    assert_eq!(code, Some(1), "a line could not be read: {stderr}");
    assert!(stderr.contains("stdin:4:"), "{stderr}");
    let first: Value = serde_json::from_str(&stdout).unwrap();
    let refused = json!({"/items/*/quantity: must be 1 to 100000": 1});
    assert_eq!(first["products"], json!({"created": 2, "already_there": 0, "refused_at_the_edge": {}}));
    assert_eq!(first["users"], json!({"created": 2, "already_there": 0, "refused_at_the_edge": {}}));
    assert_eq!(first["orders"], json!({"created": 4, "already_there": 0, "refused_at_the_edge": refused}));
    assert_eq!((&first["baskets_without_product"], &first["malformed_lines"]), (&json!(1), &json!(1)));
    let total = json!({"amount": 4 * 1999, "currency": "USD"});
    let outcomes = json!({"confirmed": 4, "rejected": {}, "cancelled": 0, "pending": 0, "missing": 0, "total": total});
    assert_eq!(first["outcomes"], outcomes);
    assert_eq!(fake.looks.load(std::sync::atomic::Ordering::SeqCst), 0, "it did not wait for the pending orders");

    let (_, stdout, _) = run_with_input(&gateway, &args, &gzip(BASKETS));
    let second: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(second["orders"], json!({"created": 0, "already_there": 4, "refused_at_the_edge": refused}));
    assert_eq!(second["users"]["already_there"], 2);
    assert_eq!(second["products"]["already_there"], 2);
    assert_eq!(second["outcomes"], outcomes);
    assert_eq!(fake.made.lock().unwrap().len(), 2 + 2 + 4);
}

#[test]
fn against_a_fake_a_busy_gateway_is_asked_again_when_it_says() {
    let fake = Fake { busy: AtomicU32::new(2), outcome: Mutex::new("rejected"), ..Fake::default() };
    let (fake, gateway) = fake.start();
    let products = Scratch::new("busy-products", PRODUCTS.as_bytes());
    let baskets = Scratch::new("busy-baskets", BASKETS.lines().next().unwrap().as_bytes());
    let started = Instant::now();
    let args = ["import", "--products", products.path(), "--baskets", baskets.path(), "-o", "json"];
    let (code, stdout, stderr) = run(&gateway, &args);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(started.elapsed() >= Duration::from_secs(1), "came back before Retry-After");
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&summary["products"]["created"], &summary["retries"]), (&json!(2), &json!(2)));
    assert_eq!(summary["outcomes"]["rejected"], json!({"insufficient_stock": 1}));
    let posts = fake.seen.lock().unwrap().iter().filter(|request| *request == "POST /products").count();
    assert_eq!(posts, 4);
}

#[test]
fn a_gateway_that_stays_away_ends_the_patience_and_the_message_says_how_to_go_on() {
    let products = Scratch::new("away-products", PRODUCTS.as_bytes());
    let started = Instant::now();
    let args = ["import", "--products", products.path(), "--baskets", products.path(), "--patience", "1"];
    let (code, stdout, stderr) = run(&nowhere(), &args);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&started.elapsed()));
    assert!(stderr.contains("The same command again continues"), "{stderr}");
}

#[test]
fn a_file_that_is_not_there_is_noticed_before_anything_is_sent() {
    let (fake, gateway) = Fake::default().start();
    let products = Scratch::new("missing-products", PRODUCTS.as_bytes());
    let (code, _, stderr) = run(&gateway, &["import", "--products", products.path(), "--baskets", "/nonexistent/baskets"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("/nonexistent/baskets"), "{stderr}");
    assert!(fake.seen.lock().unwrap().is_empty());
}
