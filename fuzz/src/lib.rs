//! Fuzzing on the stable toolchain: a decoder, a corpus of inputs in this crate's `corpus/<target>`, and a seeded mutator.
//!
//! ```no_run
//! waybill_fuzz::drive("traceparent", |input| {
//!     // Must not panic, whatever the input is.
//!     let _ = std::str::from_utf8(input).map(str::trim);
//! });
//! ```
//!
//! A test that calls [`drive`] runs for a moment in every test run and for `WAYBILL_FUZZ_SECONDS` where that is set (`make fuzz SECONDS=60`).
//! An input that makes a target panic is written to its corpus, where every later run begins with it. A target is a function over bytes: it
//! can be given to libFuzzer as it is.

mod mutate;

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::Mutator;

/// How long a target runs where nobody says otherwise: long enough for tens of thousands of inputs, short enough for every test run.
const SECONDS: f64 = 0.25;

/// Runs a target over its corpus, and then over mutations of it until the time is up.
///
/// # Panics
/// Where the target does, after the input was written to the corpus. Where there is no corpus.
pub fn drive(target: &str, mut run: impl FnMut(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "there is no corpus in {}", folder(target).display());
    let seed = number("WAYBILL_FUZZ_SEED").map_or_else(|| fastrand::u64(..), |seed| seed as u64);
    let until = Instant::now() + Duration::from_secs_f64(number("WAYBILL_FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut mutator = Mutator::new(seed, &corpus);
    let mut one = |input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
            let path = folder(target).join(name(input));
            let kept = fs::write(&path, input);
            eprintln!("seed {seed}: {target} panics on {} ({kept:?}): {}", path.display(), String::from_utf8_lossy(input));
            resume_unwind(panic);
        }
    };
    corpus.iter().for_each(|input| one(input));
    let mut inputs = corpus.len();
    while Instant::now() < until {
        for _ in 0..64 {
            one(&mutator.next());
            inputs += 1;
        }
    }
    println!("{target}: {inputs} inputs, seed {seed}");
}

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Every input kept for a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder(target)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

/// A name that is the same for the same input.
fn name(input: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    format!("crash-{:016x}", hasher.finish())
}

fn number(variable: &str) -> Option<f64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_many_and_the_same_for_the_same_seed() {
        let corpus = [br#"{"a":[1,{"b":"text"}]}"#.to_vec(), b"00-abc".to_vec()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, &corpus);
            (0..2_000).map(|_| mutator.next()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        let distinct: std::collections::BTreeSet<Vec<u8>> = inputs(7).into_iter().collect();
        assert!(distinct.len() > 1_000, "only {} are distinct", distinct.len());
        let json = distinct.iter().filter(|input| serde_json::from_slice::<serde_json::Value>(input).is_ok()).count();
        assert!(json > 200, "only {json} are JSON: nothing behind the parser is reached");
        assert_ne!(inputs(7), inputs(8));
    }

    #[test]
    fn a_panic_of_the_target_is_one_of_the_test_and_its_input_is_kept() {
        let folder = folder("of_this_test");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("fine"), "fine").unwrap();
        let panicked = catch_unwind(|| {
            drive("of_this_test", |input| assert!(input == b"fine", "cannot bear {input:?}"));
        });
        let kept: Vec<Vec<u8>> = corpus("of_this_test");
        fs::remove_dir_all(&folder).unwrap();
        assert!(panicked.is_err());
        assert_eq!(kept.len(), 2, "the corpus and the input that failed");
        assert!(kept.iter().any(|input| input != b"fine"));
    }
}
