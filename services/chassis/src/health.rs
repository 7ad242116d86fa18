//! Health: alive at once, ready when everything a service needs is there and until it begins to stop.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use serde::Serialize;

/// What `/readyz` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Whether requests can be served.
    pub ready: bool,
    /// Each thing the service needs: `ok`, or what is wrong with it.
    pub checks: BTreeMap<&'static str, String>,
    /// What is worth knowing and keeps nobody from working.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<&'static str, String>,
}

/// The state of everything a service needs, written by the tasks that watch it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    checks: BTreeMap<&'static str, Result<(), String>>,
    notes: BTreeMap<&'static str, String>,
}

impl Health {
    /// Names a thing that must be there; it is not until it reports so.
    pub fn expect(&self, name: &'static str) {
        self.set(name, Err("starting".to_owned()));
    }

    /// Reports a thing's state.
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        let before = self.0.write().expect("health is never poisoned").checks.insert(name, state.clone());
        match (before, state) {
            (Some(Ok(())), Err(why)) => tracing::warn!(check = name, why, "no longer ready"),
            (Some(Err(_)), Ok(())) => tracing::info!(check = name, "ready"),
            _ => {}
        }
    }

    /// Notes what is worth knowing.
    pub fn note(&self, name: &'static str, what: String) {
        self.0.write().expect("health is never poisoned").notes.insert(name, what);
    }

    /// Everything there is to say.
    pub fn readiness(&self) -> Readiness {
        let inner = self.0.read().expect("health is never poisoned");
        let checks = &inner.checks;
        Readiness {
            notes: inner.notes.clone(),
            ready: checks.values().all(Result::is_ok),
            checks: checks.iter().map(|(name, state)| (*name, state.clone().err().unwrap_or_else(|| "ok".to_owned()))).collect(),
        }
    }
}
