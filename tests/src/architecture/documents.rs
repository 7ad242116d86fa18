//! What the documents say is there is there: a test that one of them names exists by that name, a manifest lists what is needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A name of fewer words may be a field or a flag.
const WORDS_MIN: usize = 4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// The documents: in the root, in `docs`, and beside each example.
fn documents() -> Vec<(PathBuf, String)> {
    let examples = std::fs::read_dir(root().join("examples")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let folders = [root(), root().join("docs")].into_iter().chain(examples.filter(|path| path.is_dir()));
    let files =
        folders.flat_map(|folder| std::fs::read_dir(folder).expect("a folder")).map(|entry| entry.expect("an entry").path());
    let documents = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a document"))).collect()
}

/// The names of tests in a document. Metrics begin with the system's name, or the process's.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |word: &&str| {
        let plain = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        plain && word.split('_').count() >= WORDS_MIN && !["waybill_", "process_"].iter().any(|metric| word.starts_with(metric))
    };
    text.split('`').skip(1).step_by(2).filter(is_name)
}

/// The tests of a source file.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_test = |line: &&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let at: Vec<usize> = (0..lines.len()).filter(|&at| is_test(&lines[at])).collect();
    let function = move |at: usize| {
        let line = lines[at..].iter().find(|line| line.contains("fn "))?;
        line.split_once("fn ")?.1.split('(').next()
    };
    at.into_iter().filter_map(function)
}

#[test]
fn every_test_that_a_document_names_exists() {
    let manifests = super::manifests();
    let folders = manifests.values().flat_map(|manifest| ["src", "tests"].map(|folder| manifest.folder.join(folder)));
    let sources: Vec<String> =
        folders.filter(|folder| folder.is_dir()).flat_map(|folder| super::sources(&folder)).map(|(_, text)| text).collect();
    let known: BTreeSet<&str> = sources.iter().flat_map(|text| tests(text)).collect();
    assert!(known.len() > 300, "only {} tests found", known.len());
    let documents = documents();
    let mut count = 0;
    for (path, text) in &documents {
        for name in named(text) {
            count += 1;
            assert!(known.contains(name), "{} names the test `{name}`, and there is none", path.display());
        }
    }
    assert!(count > 40, "only {count} names found");
    assert_eq!(
        named("a `waybill_a_b_c`, `process_a_b_c` and `four_words_make_one`, `not_this`").collect::<Vec<_>>(),
        ["four_words_make_one"]
    );
}

/// The names that a manifest's section gives to what it depends on.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let section = manifest.split("[dependencies]\n").nth(1).expect("a section");
    let lines = section.lines().take_while(|line| !line.is_empty() && !line.starts_with(['[', '`']));
    lines.filter_map(|line| line.split([' ', '.', '=']).next()).collect()
}

#[test]
fn the_crate_of_a_stranger_depends_on_what_the_example_does() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a file");
    let (document, example) = (read("docs/your-own-saga.md"), read("examples/trip/Cargo.toml"));
    assert!(dependencies(&example).contains("saga_runtime"));
    assert_eq!(dependencies(&document), dependencies(&example));
}
