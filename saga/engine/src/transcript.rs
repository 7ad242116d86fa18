//! A whole saga on one line: what was asked for and its history, enough to replay it anywhere.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::{Divergence, Entry, Plan, Replay, State, divergence, replay};

/// A plan whose sagas can be written down whole.
pub trait Exportable: Plan + Serialize + DeserializeOwned {
    /// What its sagas are called: `order`. Persisted, in exports: it is the kind of the saga, and the key of what was asked for.
    const NAME: &'static str;

    /// The id of this saga.
    fn id(&self) -> Uuid;
}

/// A saga and its whole history: `{"saga":"order","order":{...},"entries":[...]}`, a trip's `{"saga":"trip","trip":{...},"entries":[...]}`.
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

/// The key that every saga's request had once, whatever its kind.
const OLD_KEY: &str = "order";

/// A line as it is read, with what it has of it. Entries are read as such or, to find the one that cannot be, as raw JSON.
struct Line<P, R, E> {
    saga: Option<String>,
    request: Option<R>,
    entries: Option<E>,
    /// Why the whole saga could not be read when it was written down.
    unreadable: Option<String>,
    plan: PhantomData<P>,
}

impl<'de, P: Exportable, R: Deserialize<'de>, E: Deserialize<'de>> Deserialize<'de> for Line<P, R, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self { saga: None, request: None, entries: None, unreadable: None, plan: PhantomData })
    }
}

impl<'de, P: Exportable, R: Deserialize<'de>, E: Deserialize<'de>> Visitor<'de> for Line<P, R, E> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} with its history", P::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "saga" => self.saga = Some(map.next_value()?),
                "entries" => self.entries = Some(map.next_value()?),
                "unreadable" => self.unreadable = Some(map.next_value()?),
                key if key == P::NAME || key == OLD_KEY => self.request = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self)
    }
}

/// A line as it is written.
struct Whole<'a, P: Plan>(&'a Transcript<P>);

impl<P: Exportable> Serialize for Whole<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(Some(3))?;
        line.serialize_entry("saga", P::NAME)?;
        line.serialize_entry(P::NAME, &self.0.plan)?;
        line.serialize_entry("entries", &self.0.entries)?;
        line.end()
    }
}

impl<P: Exportable> Transcript<P> {
    /// Reads one exported line. Added fields are tolerated.
    pub fn read(line: &str) -> Result<Self, Unreadable> {
        match serde_json::from_str::<Line<P, P, Vec<Entry<P>>>>(line) {
            Ok(Line { saga: Some(saga), request: Some(plan), entries: Some(entries), .. }) if saga == P::NAME => {
                Ok(Self { plan, entries })
            }
            _ => Self::read_slowly(line),
        }
    }

    /// Reads it again entry by entry, to name the one that stands in the way.
    fn read_slowly(line: &str) -> Result<Self, Unreadable> {
        let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
        let missing = |field: &str| Unreadable::Malformed(format!("missing field `{field}`"));
        let read: Line<P, &RawValue, &RawValue> = serde_json::from_str(line).map_err(malformed)?;
        let saga = read.saga.ok_or_else(|| missing("saga"))?;
        if saga != P::NAME {
            return Err(Unreadable::OtherSaga { found: saga, expected: P::NAME });
        }
        let request = read.request.ok_or_else(|| missing(P::NAME))?.get();
        if let Some(why) = read.unreadable {
            let Identified { id } = serde_json::from_str(request).map_err(malformed)?;
            return Err(Unreadable::Unread { id, why });
        }
        let entries = read.entries.ok_or_else(|| missing("entries"))?;
        Self::of_entries(serde_json::from_str(request).map_err(malformed)?, entries.get())
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
        serde_json::to_string(&Whole(self))
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

/// What is left of a saga that could not be read.
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
