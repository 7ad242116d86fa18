//! The architecture, tested: which crate may import which, that files need each other in no circle, what stays pure, and how long a file
//! may be.

mod circles;
mod documents;
mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use self::circles::Sources;

/// What each crate may import of ours. A service never imports another.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("waybill-envelope", &[]),
    ("waybill-events", &["waybill-envelope"]),
    ("waybill-fuzz", &[]),
    ("waybill-saga", &[]),
    ("waybill-chassis", &["waybill-envelope"]),
    ("waybill-saga-runtime", &["waybill-envelope", "waybill-saga", "waybill-chassis"]),
    ("waybill-user", &["waybill-events", "waybill-chassis"]),
    ("waybill-product", &["waybill-events", "waybill-chassis"]),
    ("waybill-gateway", &["waybill-events", "waybill-chassis"]),
    ("waybill-order", &["waybill-events", "waybill-chassis", "waybill-saga", "waybill-saga-runtime"]),
    ("waybill-stack", &[]),
    ("waybill-saga-commands", &["waybill-envelope", "waybill-chassis", "waybill-saga", "waybill-saga-runtime"]),
    (
        "waybill-console",
        &["waybill-envelope", "waybill-chassis", "waybill-saga", "waybill-saga-runtime", "waybill-saga-commands"],
    ),
    ("waybill-cli", ALL),
    ("waybill-trip", ALL),
    ("waybill-tests", ALL),
];

const ALL: &[&str] = &[
    "waybill-envelope",
    "waybill-events",
    "waybill-saga",
    "waybill-saga-runtime",
    "waybill-saga-commands",
    "waybill-console",
    "waybill-chassis",
    "waybill-user",
    "waybill-product",
    "waybill-gateway",
    "waybill-order",
    "waybill-stack",
];

/// Files that may need each other, by their crates. A plan and the types that are generic over it name each other.
const IN_CIRCLES: [(&str, &[&str]); 1] = [("waybill-saga", &["plan", "stages", "state"])];

/// The crates that decide and do nothing else.
const PURE: [&str; 3] = ["waybill-envelope", "waybill-events", "waybill-saga"];

/// What does I/O, or waits.
const IMPURE_CRATES: [&str; 9] = ["tokio", "sqlx", "axum", "async-nats", "reqwest", "hyper", "rand", "fastrand", "getrandom"];

/// What reads a clock, draws a random number or reaches outside.
const IMPURE_WORDS: [&str; 12] = [
    "SystemTime::now",
    "Utc::now",
    "Local::now",
    "Instant::now",
    "rand::",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
];

/// A file that is longer holds more than one thing.
const LINES_MAX: usize = 400;

/// A crate of the workspace as its manifest says.
struct Manifest {
    folder: PathBuf,
    /// What it is built from; tests and build scripts may import what they like.
    dependencies: BTreeSet<String>,
}

fn manifests() -> BTreeMap<String, Manifest> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let manifest = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("a list");
        let built_from = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
        let folder = PathBuf::from(text(&package["manifest_path"])).parent().expect("a folder").to_owned();
        Manifest { folder, dependencies: built_from.map(|dependency| text(&dependency["name"])).collect() }
    };
    let packages = metadata["packages"].as_array().expect("a list");
    packages.iter().map(|package| (text(&package["name"]), manifest(package))).collect()
}

/// The Rust files below a folder, with what is in them.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            found.push((path, text));
        }
    }
    found
}

/// Test modules: `tests.rs`, `testing.rs` and what lies in folders of these names below the crate's own.
fn is_test(path: &Path, manifest: &Manifest) -> bool {
    let path = path.strip_prefix(&manifest.folder).expect("below it");
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs" | "testing" | "testing.rs")))
}

/// The forbidden imports of ours.
fn forbidden(manifests: &BTreeMap<String, Manifest>) -> Vec<String> {
    let may: BTreeMap<&str, &[&str]> = MAY_IMPORT.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, manifest) in manifests {
        let Some(allowed) = may.get(name.as_str()) else {
            wrong.push(format!("{name} has no place in the house: say here whom it may import"));
            continue;
        };
        for dependency in manifest.dependencies.iter().filter(|dependency| manifests.contains_key(*dependency)) {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} must not import {dependency}"));
            }
        }
    }
    wrong
}

/// What a source says that a pure one must not. Comments may.
fn impure(text: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines();
    let code = code.filter(|line| !line.trim_start().starts_with("//"));
    code.filter(|line| IMPURE_WORDS.iter().any(|word| line.contains(word))).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_crate_imports_only_whom_it_may() {
    let manifests = manifests();
    assert_eq!(manifests.len(), MAY_IMPORT.len(), "a crate is missing: {:?}", manifests.keys());
    let wrong = forbidden(&manifests);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_forbidden_import_is_found() {
    let mut manifests = manifests();
    manifests.get_mut("waybill-user").unwrap().dependencies.insert("waybill-product".to_owned());
    manifests.get_mut("waybill-events").unwrap().dependencies.insert("waybill-saga".to_owned());
    assert_eq!(
        forbidden(&manifests),
        ["waybill-events must not import waybill-saga", "waybill-user must not import waybill-product"]
    );
}

/// The circles among the files of a crate, each in words; each program below `bin` counts for itself.
fn circles_of(manifest: &Manifest) -> Vec<String> {
    let src = manifest.folder.join("src");
    let mut programs: BTreeMap<PathBuf, Vec<(String, String)>> = BTreeMap::new();
    for (path, text) in sources(&src) {
        let below = path.strip_prefix(&src).expect("below it");
        let root: PathBuf = if below.starts_with("bin") { below.iter().take(2).collect() } else { PathBuf::new() };
        let within = below.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
        programs.entry(root).or_default().push((within, text));
    }
    let circles = programs
        .values()
        .flat_map(|files| Sources::new(files.iter().map(|(path, text)| (path.as_str(), text.as_str()))).circles());
    circles.map(|circle| circle.iter().map(|file| file.join("::")).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn no_files_need_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    for (name, manifest) in &manifests() {
        let excused = IN_CIRCLES.into_iter().find(|(excused, _)| excused == name).map(|(_, files)| files.join(" "));
        let circles = circles_of(manifest);
        assert!(excused.iter().all(|files| circles.contains(files)), "{name}: {excused:?} needs no excuse any more");
        wrong.extend(
            circles.into_iter().filter(|circle| Some(circle) != excused.as_ref()).map(|circle| format!("{name}: {circle}")),
        );
    }
    assert!(wrong.is_empty(), "files that need each other: {wrong:#?}");
}

#[test]
fn what_decides_has_no_clock_no_chance_and_no_outside() {
    let manifests = manifests();
    for name in PURE {
        let manifest = &manifests[name];
        let wrong: Vec<&str> = IMPURE_CRATES.into_iter().filter(|other| manifest.dependencies.contains(*other)).collect();
        assert!(wrong.is_empty(), "{name} must not import {wrong:?}");
        let files = sources(&manifest.folder.join("src"));
        assert!(files.len() > 5, "the sources of {name} are not where they were");
        for (path, text) in files.iter().filter(|(path, _)| !is_test(path, manifest)) {
            assert_eq!(impure(text), [""; 0], "in {}", path.display());
        }
    }
    assert_eq!(impure("// Utc::now in words\nlet now = Utc::now();\n"), ["let now = Utc::now();"]);
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    let mut long = Vec::new();
    let mut seen = 0;
    for manifest in manifests().values() {
        for (path, text) in sources(&manifest.folder.join("src")) {
            seen += 1;
            let lines = text.lines().count();
            if lines > LINES_MAX && !is_test(&path, manifest) {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(seen > 80, "only {seen} source files found");
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:#?}");
}
