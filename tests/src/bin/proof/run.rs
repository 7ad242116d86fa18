//! One row under way: what it counted and measured, kept also when it ends in a panic.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

/// A row that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(1800);

/// What a row does.
pub type Body = fn(Run) -> BoxFuture<'static, ()>;

/// One row under way.
#[derive(Clone)]
pub struct Run {
    /// The row's number.
    pub row: u8,
    /// How often the fault is to happen.
    pub times: usize,
    seed: u64,
    counted: Arc<Mutex<Counted>>,
}

/// What came of a row.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// How often the fault happened, as somebody else than its author saw.
    pub fired: usize,
    /// Orders that were taken and ended as they should while the row ran.
    pub orders: usize,
    /// From the fault until a service or a client noticed it.
    pub detected: Vec<Duration>,
    /// From the end of the fault until an order placed after it was final.
    pub healed: Vec<Duration>,
    /// What there is to say besides.
    pub notes: Vec<String>,
    /// Why the row was not run at all: it needs something that is not here.
    pub skipped: Option<String>,
    /// How long all of it took.
    pub took: Duration,
    /// What was broken.
    pub violation: Option<String>,
}

impl Run {
    /// A run of this row.
    pub fn new(row: u8, times: usize, seed: u64) -> Self {
        Self { row, times, seed, counted: Arc::default() }
    }

    /// Random numbers of this row's own: the same for the same seed, whatever rows are run beside it.
    pub fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ u64::from(self.row).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Runs it. A panic is a violation, and so is to heal slower than this.
    pub async fn carry_out(self, body: Body, heals_within: Duration) -> Counted {
        let began = Instant::now();
        let ended = tokio::time::timeout(LONGEST, tokio::spawn(body(self.clone()))).await;
        let violation = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(words(error)),
            Err(_) => Some(format!("not done after {} s", LONGEST.as_secs())),
        };
        let mut counted = self.counted().clone();
        counted.took = began.elapsed();
        counted.violation = violation.or_else(|| counted.idle(self.times)).or_else(|| counted.slow(heals_within));
        counted
    }

    /// The fault happened.
    pub fn fired(&self) {
        self.counted().fired += 1;
    }

    /// So many orders were taken and ended as they should.
    pub fn succeeded(&self, orders: usize) {
        self.counted().orders += orders;
    }

    /// Somebody noticed.
    pub fn detected(&self, after: Duration) {
        self.counted().detected.push(after);
    }

    /// All is as before, so long after the end of the fault.
    pub fn healed(&self, after: Duration) {
        let mut counted = self.counted();
        counted.healed.push(after);
        let detected = counted.detected.last().map(|after| format!(", detected after {:.2} s", after.as_secs_f64()));
        eprintln!(
            "  {}: fired {} of {}{}, healed after {:.2} s",
            self.row,
            counted.fired,
            self.times,
            detected.unwrap_or_default(),
            after.as_secs_f64()
        );
    }

    /// Something to say besides.
    pub fn note(&self, words: impl Into<String>) {
        self.counted().notes.push(words.into());
    }

    /// The row cannot be run here, and why.
    pub fn skip(&self, why: impl Into<String>) {
        self.counted().skipped = Some(why.into());
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Counted {
    /// Why a row proves nothing in which nothing was broken.
    fn idle(&self, times: usize) -> Option<String> {
        if self.skipped.is_some() {
            return None;
        }
        if self.fired < times {
            return Some(format!("the fault happened {} times of {times}", self.fired));
        }
        (self.orders == 0).then(|| "no order succeeded meanwhile".to_owned())
    }

    /// What took too long to heal.
    fn slow(&self, within: Duration) -> Option<String> {
        let slowest = self.healed.iter().max().filter(|slowest| **slowest > within)?;
        Some(format!("it healed after {:.2} s, and must within {} s", slowest.as_secs_f64(), within.as_secs()))
    }
}

/// What a panic said.
pub fn words(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast::<&str>().map_or_else(|_| "a panic without words".to_owned(), |text| (*text).to_owned()),
        },
        Err(error) => error.to_string(),
    }
}
