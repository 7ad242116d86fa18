//! What is done to many, in this process: a browser that is closed changes nothing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use saga_commands::bulk::Bulk;

/// Those that are remembered, and so the most that go on at once: one that goes on can be watched and stopped.
const KEPT: usize = 100;

/// Why another cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEPT} bulk actions are under way or paused, and there is no room for more until one has ended or is stopped")
    }
}

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
    /// A new one, to be run. In its place the oldest that has ended is forgotten.
    pub fn begin(&self, ask: Ask) -> Result<Arc<Job>, Full> {
        let mut kept = self.lock();
        if kept.len() >= KEPT {
            let oldest = kept.iter().rposition(|job| job.bulk.ended().is_some()).ok_or(Full)?;
            kept.remove(oldest);
        }
        let number = self.last.fetch_add(1, Relaxed) + 1;
        let Ask { what, reason, within, rate, expected } = ask;
        let job = Arc::new(Job { number, what, reason, within, rate, expected, began: Utc::now(), bulk: Arc::default() });
        kept.push_front(job.clone());
        Ok(job)
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

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use saga_commands::bulk::{Outcome, Wish};

    use super::*;

    fn ask() -> Ask {
        Ask { what: String::new(), reason: String::new(), within: "/sagas", rate: 1.0, expected: None }
    }

    #[tokio::test]
    async fn what_goes_on_is_not_forgotten_and_a_hundred_of_these_leave_no_room_for_another() {
        let jobs = Jobs::default();
        for _ in 0..KEPT {
            jobs.begin(ask()).unwrap();
        }
        jobs.get(1).unwrap().bulk.wish(Wish::Pause);
        assert_eq!(jobs.begin(ask()).unwrap_err(), Full);
        let nothing = stream::empty::<anyhow::Result<u64>>();
        jobs.get(40).unwrap().bulk.run(nothing, 1.0, |_| async { Outcome::Done }).await.unwrap();
        assert_eq!(jobs.begin(ask()).unwrap().number, 101);
        assert!(jobs.get(40).is_none() && jobs.get(1).is_some() && jobs.all().len() == KEPT);
    }
}
