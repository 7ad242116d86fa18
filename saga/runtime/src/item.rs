//! What comes to sagas, and what becomes of it.

use std::borrow::Cow;

use envelope::TraceContext;
use saga::{Action, Verdict};
use uuid::Uuid;

use crate::saga::{Saga, View};

/// A saga to be.
#[derive(Clone, Debug)]
pub struct NewSaga<S: Saga> {
    /// What is asked for.
    pub request: S,
    /// The Idempotency-Key it came with.
    pub key: Option<String>,
    /// The trace of the request.
    pub trace: TraceContext,
}

/// What comes to a saga under way.
#[derive(Clone, Debug)]
pub enum Trigger<S: Saga> {
    /// A participant's reply.
    Reply(S::Reply),
    /// The sweeper found it due.
    Timer,
    /// Whoever began it cancels, perhaps with an Idempotency-Key.
    Cancel(Option<String>),
    /// An operator takes a hand in it.
    Operator {
        /// What the operator does.
        action: Action<S::Step>,
        /// Who it is.
        by: String,
        /// Why.
        reason: String,
    },
}

impl<S: Saga> Trigger<S> {
    /// The Idempotency-Key it came with.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Cancel(key) => key.as_deref(),
            _ => None,
        }
    }
}

/// What a batch holds.
#[derive(Clone, Debug)]
pub(crate) enum Item<S: Saga> {
    /// A saga begins.
    Begin(NewSaga<S>),
    /// Something comes to a saga.
    Input(Uuid, Trigger<S>),
}

/// What became of a saga that was to begin.
#[derive(Debug)]
pub enum Begun<S: Saga> {
    /// It has begun.
    Placed(View<S>),
    /// The key was used for the same before.
    Replayed(View<S>),
    /// The key was used for something else.
    KeyReused,
}

/// What became of what came to a saga.
#[derive(Debug)]
pub struct Moved<S: Saga> {
    /// The saga.
    pub id: Uuid,
    /// Where it stands now.
    pub status: Cow<'static, str>,
    /// The sequence of its last entry now.
    pub(crate) sequence: u32,
    /// The same as whoever began it sees it, where one cancels.
    pub view: Option<View<S>>,
    /// What the saga made of it.
    pub outcome: Outcome,
}

impl<S: Saga> Moved<S> {
    /// A saga that was left where it stands.
    pub(crate) fn nothing(id: Uuid, status: Cow<'static, str>, outcome: Outcome) -> Self {
        Self { id, status, sequence: 0, view: None, outcome }
    }
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to decide: a timer was not up after all.
    Nothing,
    /// The saga decided.
    Decided(Verdict),
    /// An operator's retry was refused, because the history has reached its limit.
    HistoryFull,
    /// This build cannot read the saga's state, and left it alone.
    Unreadable(String),
    /// The cancellation's key was used before, to cancel this saga.
    KeyUsed(Uuid),
}

impl Outcome {
    /// Why it changed nothing, for metrics; `None` where it did, or was none of the saga's business.
    pub(crate) fn ignored_because(&self) -> Option<&'static str> {
        match self {
            Self::Decided(Verdict::Moved) | Self::Nothing | Self::KeyUsed(_) => None,
            Self::Decided(Verdict::Ignored(why)) => Some(why.name()),
            Self::HistoryFull => Some("history_full"),
            Self::Unreadable(_) => Some("unreadable"),
        }
    }
}
