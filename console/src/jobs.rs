//! What is done to many, in this process: a browser that is closed changes nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use saga_commands::bulk::Bulk;

/// Those that are remembered.
const KEPT: usize = 100;

/// Something done to many.
#[derive(Debug)]
pub struct Job {
    /// By which it is found.
    pub number: u64,
    /// What is done, to whom, in words.
    pub what: String,
    /// Why.
    pub reason: String,
    /// The path below which each has its page.
    pub within: &'static str,
    /// How many a second.
    pub rate: f64,
    /// How many there were when it was asked for, if that was counted.
    pub expected: Option<u64>,
    /// When it was asked for.
    pub began: DateTime<Utc>,
    /// How far it is.
    pub bulk: Arc<Bulk>,
}

/// What is asked for.
#[derive(Debug)]
pub struct Ask {
    /// What is done, to whom, in words.
    pub what: String,
    /// Why.
    pub reason: String,
    /// The path below which each has its page.
    pub within: &'static str,
    /// How many a second.
    pub rate: f64,
    /// How many there are, if that was counted.
    pub expected: Option<u64>,
}

/// All that are remembered, the newest first.
#[derive(Debug, Default)]
pub struct Jobs {
    last: AtomicU64,
    kept: Mutex<VecDeque<Arc<Job>>>,
}

impl Jobs {
    /// A new one, to be run.
    pub fn begin(&self, ask: Ask) -> Arc<Job> {
        let number = self.last.fetch_add(1, Relaxed) + 1;
        let Ask { what, reason, within, rate, expected } = ask;
        let job = Arc::new(Job { number, what, reason, within, rate, expected, began: Utc::now(), bulk: Arc::default() });
        let mut kept = self.lock();
        kept.push_front(job.clone());
        kept.truncate(KEPT);
        job
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Job>> {
        self.lock().iter().cloned().collect()
    }

    /// One.
    pub fn get(&self, number: u64) -> Option<Arc<Job>> {
        self.lock().iter().find(|job| job.number == number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
