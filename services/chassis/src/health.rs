//! Health: alive at once, ready when everything a service needs is there and until it begins to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

use schemars::JsonSchema;
use serde::Serialize;

use crate::held::Held;
use crate::topology::Drift;

/// What `/readyz` answers.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Readiness {
    /// Whether requests can be served.
    pub ready: bool,
    /// Each thing the service needs: `ok`, or what is wrong with it.
    pub checks: BTreeMap<&'static str, String>,
    /// Informational: does not affect readiness.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<&'static str, String>,
}

/// The note of dead letters that were not kept.
const LET_GO: &str = "dead letters";

/// The state of everything a service needs, written by the tasks that watch it, and how much it has answered.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<RwLock<Inner>>,
    answered: Arc<Answered>,
}

/// How many requests were answered, and how many of them with a failure of the service's own. Relaxed: they guard no other data.
#[derive(Debug, Default)]
struct Answered {
    requests: AtomicU64,
    errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    checks: BTreeMap<&'static str, Result<(), String>>,
    notes: BTreeMap<&'static str, String>,
    drifts: BTreeMap<&'static str, Drift>,
    behind: BTreeMap<&'static str, u64>,
    let_go: BTreeMap<&'static str, u64>,
    held: Option<Arc<Held>>,
}

impl Health {
    /// Names a thing that must be there; it is not until it reports so.
    pub fn expect(&self, name: &'static str) {
        self.set(name, Err("starting".to_owned()));
    }

    /// Reports a thing's state.
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        let before = self.state.write().expect("health is never poisoned").checks.insert(name, state.clone());
        match (before, state) {
            (Some(Ok(())), Err(why)) => tracing::warn!(check = name, why, "no longer ready"),
            (Some(Err(_)), Ok(())) => tracing::info!(check = name, "ready"),
            _ => {}
        }
    }

    /// A check that shows only while it fails does not.
    pub fn forget(&self, name: &'static str) {
        if let Some(Err(_)) = self.state.write().expect("health is never poisoned").checks.remove(name) {
            tracing::info!(check = name, "ready");
        }
    }

    /// Notes what is worth knowing.
    pub fn note(&self, name: &'static str, what: String) {
        self.state.write().expect("health is never poisoned").notes.insert(name, what);
    }

    /// It is no longer worth knowing.
    pub(crate) fn unnote(&self, name: &'static str) {
        self.state.write().expect("health is never poisoned").notes.remove(name);
    }

    /// Reports that a stream, or a consumer of it, is not as it must be, or is again. It shows as the check, or the note, of that name.
    pub(crate) fn drifted(&self, name: &'static str, drift: Option<Drift>) {
        let drifts = &mut self.state.write().expect("health is never poisoned").drifts;
        if drifts.get(name) == drift.as_ref() {
            return;
        }
        match drift {
            Some(drift) => {
                tracing::warn!(check = name, why = drift.what, "the topology is not as it must be");
                drifts.insert(name, drift);
            }
            None => {
                tracing::info!(check = name, "the topology is as it must be");
                drifts.remove(name);
            }
        }
    }

    /// Reports how many messages of a stream wait, where that is a backlog. It shows as a note of that name.
    pub(crate) fn behind(&self, name: &'static str, messages: Option<u64>) {
        let behind = &mut self.state.write().expect("health is never poisoned").behind;
        let before = match messages {
            Some(messages) => behind.insert(name, messages),
            None => behind.remove(name),
        };
        match (before, messages) {
            (None, Some(messages)) => tracing::warn!(stream = name, messages, "messages wait: what they are about takes longer"),
            (Some(_), None) => tracing::info!(stream = name, "no longer behind"),
            _ => {}
        }
    }

    /// Counts dead letters of a stream that were not kept: since the service began, they show as a note.
    pub(crate) fn let_go(&self, name: &'static str, letters: u64) {
        *self.state.write().expect("health is never poisoned").let_go.entry(name).or_default() += letters;
    }

    /// From now on it is noted which rows somebody else holds.
    pub(crate) fn follow(&self, held: Arc<Held>) {
        self.state.write().expect("health is never poisoned").held = Some(held);
    }

    /// A request was answered, not about the service itself; with a failure of the service's own, or not.
    pub(crate) fn count(&self, is_error: bool) {
        self.answered.requests.fetch_add(1, Relaxed);
        if is_error {
            self.answered.errors.fetch_add(1, Relaxed);
        }
    }

    /// How many requests were answered, and how many of them with a failure of the service's own.
    pub fn answered(&self) -> (u64, u64) {
        (self.answered.requests.load(Relaxed), self.answered.errors.load(Relaxed))
    }

    /// Everything there is to say.
    pub fn readiness(&self) -> Readiness {
        let inner = self.state.read().expect("health is never poisoned");
        let (mut checks, mut notes) = (inner.checks.clone(), inner.notes.clone());
        for (name, drift) in &inner.drifts {
            if drift.fatal {
                // Where it cannot be read at all, that is what counts.
                let state = checks.entry(name).or_insert(Ok(()));
                *state = state.clone().and(Err(drift.what.clone()));
            } else {
                notes.insert(name, drift.what.clone());
            }
        }
        for (name, messages) in &inner.behind {
            let what = format!("{messages} messages wait to be read: what they are about takes longer");
            notes.entry(name).and_modify(|said| *said = format!("{said}; {what}")).or_insert(what);
        }
        if !inner.let_go.is_empty() {
            let counts: Vec<String> = inner.let_go.iter().map(|(stream, letters)| format!("{letters} of {stream}")).collect();
            notes.insert(
                LET_GO,
                format!("not kept since the start, because there were too many of one kind: {}", counts.join(", ")),
            );
        }
        if let Some(locks) = inner.held.as_ref().and_then(|held| held.note()) {
            notes.insert("locks", locks);
        }
        Readiness {
            notes,
            ready: checks.values().all(Result::is_ok),
            checks: checks.into_iter().map(|(name, state)| (name, state.err().unwrap_or_else(|| "ok".to_owned()))).collect(),
        }
    }
}
