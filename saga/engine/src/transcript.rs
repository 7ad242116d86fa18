//! A whole saga on one line: what was asked for and its history, enough to replay it anywhere.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::{Divergence, Entry, Plan, Replay, State, divergence, replay};

/// A plan whose sagas can be written down whole.
pub trait Exportable: Plan + Serialize + DeserializeOwned {
    /// What its sagas are called: `plan`. Persisted, in exports.
    const NAME: &'static str;

    /// The id of this saga.
    fn id(&self) -> Uuid;
}

/// A saga and its whole history: `{"saga":"order","order":{...},"entries":[...]}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript<P: Plan> {
    /// What was asked for.
    pub plan: P,
    /// Its history, from the first entry.
    pub entries: Vec<Entry<P>>,
}

/// Why this build cannot read a saga.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// It is no saga written down, or one without its history.
    #[error("not a saga with its history: {0}")]
    Malformed(String),
    /// It is another kind of saga.
    #[error("a saga of the kind `{found}`, not `{expected}`")]
    OtherSaga {
        /// The kind it is.
        found: String,
        /// The kind that was to be read.
        expected: &'static str,
    },
    /// Whoever was to write it down could not read it.
    #[error("{id}: it could not be read when it was exported: {why}")]
    Unread {
        /// The saga.
        id: Uuid,
        /// What stood in the way.
        why: String,
    },
    /// An entry says what this build has no word for: a step of a later plan, an answer of a service it does not know.
    #[error("{id}: entry {sequence} cannot be read by this build: {why}")]
    Entry {
        /// The saga.
        id: Uuid,
        /// The entry's sequence.
        sequence: u32,
        /// What stands in the way.
        why: String,
    },
}

/// How it is written. `E` is read as entries or, to find the one that cannot be, as raw JSON.
#[derive(Serialize, Deserialize)]
struct Line<S, P, E> {
    saga: S,
    #[serde(rename = "order")]
    plan: P,
    entries: E,
}

impl<P: Exportable> Transcript<P> {
    /// Reads one exported line. Added fields are tolerated.
    pub fn read(line: &str) -> Result<Self, Unreadable> {
        match serde_json::from_str::<Line<&str, P, Vec<Entry<P>>>>(line) {
            Ok(Line { saga, plan, entries }) if saga == P::NAME => Ok(Self { plan, entries }),
            _ => Self::read_slowly(line),
        }
    }

    /// Reads it again entry by entry, to name the one that stands in the way.
    fn read_slowly(line: &str) -> Result<Self, Unreadable> {
        let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
        if let Ok(Unread { plan, unreadable: why }) = serde_json::from_str(line) {
            return Err(Unreadable::Unread { id: plan.id, why });
        }
        let kind: Line<String, &RawValue, &RawValue> = serde_json::from_str(line).map_err(malformed)?;
        if kind.saga != P::NAME {
            return Err(Unreadable::OtherSaga { found: kind.saga, expected: P::NAME });
        }
        Self::of_entries(serde_json::from_str(kind.plan.get()).map_err(malformed)?, kind.entries.get())
    }

    /// A saga with its history as a JSON array of entries.
    pub fn of_entries(plan: P, entries: &str) -> Result<Self, Unreadable> {
        if let Ok(entries) = serde_json::from_str(entries) {
            return Ok(Self { plan, entries });
        }
        let raw: Vec<&RawValue> = serde_json::from_str(entries).map_err(|error| Unreadable::Malformed(error.to_string()))?;
        let read = (1..).zip(raw).map(|(position, raw)| {
            serde_json::from_str(raw.get()).map_err(|error| Unreadable::Entry {
                id: plan.id(),
                sequence: sequence(raw).unwrap_or(position),
                why: unreadable(raw).unwrap_or_else(|| error.to_string()),
            })
        });
        Ok(Self { entries: read.collect::<Result<_, _>>()?, plan })
    }

    /// The exported line, without its end.
    pub fn write(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Line { saga: P::NAME, plan: &self.plan, entries: &self.entries })
    }
}

impl<P: Plan> Transcript<P> {
    /// See [`replay`].
    pub fn replay(&self, until: Option<u32>) -> Replay<'_, P> {
        replay(&self.plan, &self.entries, until)
    }

    /// See [`divergence`].
    pub fn divergence(&self) -> Option<Divergence> {
        divergence(&self.plan, &self.entries)
    }

    /// Where the saga stood when this was written; `None`: it has no history.
    pub fn state(&self) -> Option<&State<P>> {
        self.entries.last().map(|entry| &entry.state)
    }
}

/// What stands in place of a saga that could not be read.
#[derive(Deserialize)]
struct Unread {
    #[serde(rename = "order")]
    plan: Identified,
    unreadable: String,
}

#[derive(Deserialize)]
struct Identified {
    id: Uuid,
}

/// Why an entry could not be read when it was written down.
fn unreadable(entry: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Unread {
        unreadable: String,
    }
    serde_json::from_str(entry.get()).ok().map(|Unread { unreadable }| unreadable)
}

fn sequence(entry: &RawValue) -> Option<u32> {
    #[derive(Deserialize)]
    struct Numbered {
        sequence: u32,
    }
    serde_json::from_str::<Numbered>(entry.get()).ok().map(|numbered| numbered.sequence)
}
