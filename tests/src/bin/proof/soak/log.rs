//! What happened in a round of the soak.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::{DateTime, Utc};

/// What happened when, how often, and what should not have.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    began: Instant,
    file: Mutex<File>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    violations: Mutex<Vec<String>>,
    /// When order events were lost that were stored: between these moments, as this process saw.
    losses: Mutex<Vec<(DateTime<Utc>, DateTime<Utc>)>>,
}

impl Log {
    /// A log in this folder.
    pub fn begin(folder: &Path) -> Self {
        let file = Mutex::new(File::create(folder.join("faults.log")).expect("a log"));
        let (counts, violations, losses) = Default::default();
        Self(Arc::new(Inner { began: Instant::now(), file, counts, violations, losses }))
    }

    /// A line.
    pub fn say(&self, words: impl AsRef<str>) {
        let mut file = self.0.file.lock().expect("never poisoned");
        let _ = writeln!(
            file,
            "{} +{:9.3} s {}",
            Utc::now().format("%H:%M:%S%.3f"),
            self.0.began.elapsed().as_secs_f64(),
            words.as_ref()
        );
    }

    /// A fault that happened.
    pub fn fired(&self, kind: &'static str, words: impl AsRef<str>) {
        *self.0.counts.lock().expect("never poisoned").entry(kind).or_default() += 1;
        self.say(format!("{kind}: {}", words.as_ref()));
    }

    /// Order events that were stored may be lost since a moment.
    pub fn lost_since(&self, since: DateTime<Utc>) {
        self.0.losses.lock().expect("never poisoned").push((since, Utc::now()));
    }

    /// Whether order events may have been lost at any time between two moments.
    pub fn lost_between(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.0.losses.lock().expect("never poisoned").iter().any(|(began, ended)| *began <= until && from <= *ended)
    }

    /// Something that no fault excuses.
    pub fn violated(&self, what: String) {
        self.say(format!("VIOLATION: {what}"));
        self.0.violations.lock().expect("never poisoned").push(what);
    }

    /// All of these, at most some dozens.
    pub fn violations(&self) -> Vec<String> {
        self.0.violations.lock().expect("never poisoned").iter().take(30).cloned().collect()
    }

    /// Faults by kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.counts.lock().expect("never poisoned").clone()
    }
}
