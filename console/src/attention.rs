//! What is stuck, by what it waits for. Looked up at most every few seconds, and at most so many of them: a page answers at once, however many
//! there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use saga_commands::client::Gateway;
use saga_commands::many::Which;
use saga_commands::{CommandLine, View};
use tokio::sync::Mutex;

/// How long what was found is shown again.
const FRESH: Duration = Duration::from_secs(3);

/// Sagas that are looked at.
const LOOKED_AT: usize = 1_000;

/// Of each group so many are shown.
const SHOWN: usize = 5;

/// Sagas that are stuck for the same reason.
#[derive(Debug)]
pub struct Group<C> {
    /// What they wait for, and the last answer.
    pub cause: String,
    /// How many were found.
    pub count: u64,
    /// Whether they are going back: a compensation does not come through.
    pub undoing: bool,
    /// Whether this build can go on with them.
    pub readable: bool,
    /// Since when the first of them waits.
    pub oldest: Option<DateTime<Utc>>,
    /// Some of them.
    pub some: Vec<View<C>>,
}

/// What was found.
#[derive(Debug)]
pub struct Found<C> {
    /// The largest group first; those that go back before those that go forward.
    pub groups: Vec<Group<C>>,
    /// How many were looked at.
    pub seen: usize,
    /// Whether there are more.
    pub more: bool,
}

/// Finds what needs somebody.
#[derive(Debug)]
pub struct Attention<C> {
    last: Mutex<Option<(Instant, Arc<Found<C>>)>>,
}

impl<C> Default for Attention<C> {
    fn default() -> Self {
        Self { last: Mutex::new(None) }
    }
}

impl<C: CommandLine> Attention<C> {
    /// What is stuck now, or was a moment ago.
    pub async fn find(&self, service: &Gateway) -> anyhow::Result<Arc<Found<C>>> {
        let mut last = self.last.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(found.clone());
        }
        let found = Arc::new(groups::<C>(service, Which::stuck("")).await?);
        *last = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// What was done may have changed everything.
    pub async fn forget(&self) {
        *self.last.lock().await = None;
    }
}

/// The first of those that are meant, by what they wait for.
pub async fn groups<C: CommandLine>(service: &Gateway, which: Which) -> anyhow::Result<Found<C>> {
    let mut views = Box::pin(which.views::<C>(service.clone()));
    let mut groups = BTreeMap::<String, Group<C>>::new();
    let (mut seen, mut more) = (0, false);
    while let Some(view) = views.next().await {
        let view = view?;
        if seen == LOOKED_AT {
            more = true;
            break;
        }
        seen += 1;
        let cause = view.cause_in_short().unwrap_or_else(|| "waits for nobody".to_owned());
        let undoing = view.waiting.iter().any(|waiting| waiting.direction == "undo");
        let group = groups.entry(cause).or_insert_with_key(|cause| Group {
            cause: cause.clone(),
            count: 0,
            undoing,
            readable: view.readable,
            oldest: None,
            some: Vec::new(),
        });
        group.count += 1;
        group.oldest = group.oldest.into_iter().chain(view.waiting_since).min();
        if group.some.len() < SHOWN {
            group.some.push(view);
        }
    }
    let mut groups: Vec<Group<C>> = groups.into_values().collect();
    groups.sort_by_key(|group| (!group.undoing, std::cmp::Reverse(group.count)));
    Ok(Found { groups, seen, more })
}

impl<C> Found<C> {
    /// As many as were found, and whether there are more.
    pub fn count(&self) -> String {
        if self.more { format!("more than {}", self.seen) } else { self.seen.to_string() }
    }
}
