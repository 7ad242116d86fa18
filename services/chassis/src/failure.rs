//! Why a batch, or one item of it, was not done, and how long what is in the way of it is waited for.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::causes::causes;
use crate::meaning::Meaning;
use crate::unsure::Unsure;

/// Why a batch, or one item of it, was not done.
#[derive(Debug)]
pub enum Failure {
    /// The database is in trouble; the same work may succeed later. Nothing was done, unless the error is `Unsure`.
    Outage(anyhow::Error),
    /// Somebody else holds a row that this item needs: it may be done later, and nothing else waits for it.
    Busy(anyhow::Error),
    /// At every try another transaction had come first. Nothing was done, and the database is well.
    Conflict(anyhow::Error),
    /// This item fails on its own; trying again would not help.
    Item(anyhow::Error),
}

impl Failure {
    /// By what the error means.
    pub(crate) fn of(error: anyhow::Error) -> Self {
        match Meaning::of_any(&error) {
            Meaning::Own => Self::Item(error),
            Meaning::Busy => Self::Busy(error),
            Meaning::Conflict => Self::Conflict(error),
            // Tried again as often as makes sense, and none of it this item's fault.
            Meaning::StalePlan | Meaning::Outage => Self::Outage(error),
        }
    }

    /// The same of another item of the batch.
    pub(crate) fn copy(&self) -> Self {
        let error = anyhow!(causes(self.error()));
        Self::Outage(if self.error().is::<Unsure>() { error.context(Unsure) } else { error })
    }

    /// The error behind it.
    pub fn error(&self) -> &anyhow::Error {
        let (Self::Outage(error) | Self::Busy(error) | Self::Conflict(error) | Self::Item(error)) = self;
        error
    }
}

/// How long what needs a row that somebody else holds waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    pub(crate) retry: Duration,
    pub(crate) timeout: Duration,
}

impl Busy {
    /// The wait after so many tries: each twice as long as the one before, up to ten times the first.
    pub(crate) fn wait(self, tries: u32) -> Duration {
        self.retry.saturating_mul(1 << tries.min(4)).min(self.retry.saturating_mul(10))
    }

    /// The waits of a request, until its time is up.
    pub(crate) fn waits(self) -> impl Iterator<Item = Duration> {
        let deadline = Instant::now() + self.timeout;
        (0..).map(move |tries| self.wait(tries)).take_while(move |wait| Instant::now() + *wait <= deadline)
    }
}
