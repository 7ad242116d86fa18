//! A whole saga on one line: what was asked for and its history, enough to replay it anywhere.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{Divergence, Entry, Plan, Replay, State, divergence, replay};

/// A plan whose sagas can be written down whole.
pub trait Portable: Plan + Serialize + DeserializeOwned {
    /// What its sagas are called.
    const SAGA: &'static str;

    /// The id of this saga, to tell it from others.
    fn id(&self) -> String;
}

/// A saga and its whole history: `{"saga":"order","order":{...},"entries":[...]}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Waybill<P: Plan> {
    /// What was asked for.
    pub order: P,
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
    /// An entry says what this build has no word for: a step of a later plan, an answer of a service it does not know.
    #[error("{id}: entry {sequence} cannot be read by this build: {why}")]
    Entry {
        /// The saga.
        id: String,
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
    order: P,
    entries: E,
}

impl<P: Portable> Waybill<P> {
    /// Reads one exported line. Added fields are tolerated.
    pub fn read(line: &str) -> Result<Self, Unreadable> {
        match serde_json::from_str::<Line<&str, P, Vec<Entry<P>>>>(line) {
            Ok(Line { saga, order, entries }) if saga == P::SAGA => Ok(Self { order, entries }),
            _ => Self::read_slowly(line),
        }
    }

    /// Reads it again entry by entry, to name the one that stands in the way.
    fn read_slowly(line: &str) -> Result<Self, Unreadable> {
        let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
        let kind: Line<String, &RawValue, &RawValue> = serde_json::from_str(line).map_err(malformed)?;
        if kind.saga != P::SAGA {
            return Err(Unreadable::OtherSaga { found: kind.saga, expected: P::SAGA });
        }
        Self::of_entries(serde_json::from_str(kind.order.get()).map_err(malformed)?, kind.entries.get())
    }

    /// A saga with its history as a JSON array of entries.
    pub fn of_entries(order: P, entries: &str) -> Result<Self, Unreadable> {
        if let Ok(entries) = serde_json::from_str(entries) {
            return Ok(Self { order, entries });
        }
        let raw: Vec<&RawValue> = serde_json::from_str(entries).map_err(|error| Unreadable::Malformed(error.to_string()))?;
        let read = (1..).zip(raw).map(|(position, raw)| {
            serde_json::from_str(raw.get()).map_err(|error| Unreadable::Entry {
                id: order.id(),
                sequence: sequence(raw).unwrap_or(position),
                why: error.to_string(),
            })
        });
        Ok(Self { entries: read.collect::<Result<_, _>>()?, order })
    }

    /// The exported line, without its end.
    pub fn write(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Line { saga: P::SAGA, order: &self.order, entries: &self.entries })
    }
}

impl<P: Plan> Waybill<P> {
    /// See [`replay`].
    pub fn replay(&self, until: Option<u32>) -> Replay<'_, P> {
        replay(&self.order, &self.entries, until)
    }

    /// See [`divergence`].
    pub fn divergence(&self) -> Option<Divergence> {
        divergence(&self.order, &self.entries)
    }

    /// Where the saga stood when this was written; `None`: it has no history.
    pub fn state(&self) -> Option<&State<P>> {
        self.entries.last().map(|entry| &entry.state)
    }
}

fn sequence(entry: &RawValue) -> Option<u32> {
    #[derive(Deserialize)]
    struct Numbered {
        sequence: u32,
    }
    serde_json::from_str::<Numbered>(entry.get()).ok().map(|numbered| numbered.sequence)
}

#[cfg(test)]
mod tests;
