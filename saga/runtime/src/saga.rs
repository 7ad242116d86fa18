//! What a saga says of itself, so that the runtime can run it; how it is kept and shown; and a saga as it is kept.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use envelope::{Message, Stream, TraceContext};
use saga::{Exportable, Milestone, Phase, State, Timers};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use uuid::Uuid;

pub use crate::channel::{Channel, StatusWord};
use crate::table::{Table, Values};

/// A history, for the event that tells a saga's end.
#[derive(Clone, Copy, Debug)]
pub enum History<'a> {
    /// Not part of this event.
    None,
    /// Its entries, each as JSON.
    Whole(&'a [Box<RawValue>]),
    /// The same, too large for the broker: to be claimed instead of carried.
    Claimed(&'a [Box<RawValue>]),
}

/// A saga that the runtime can run: a plan, and one table ([`Saga::channel`]) that says everything about its steps.
pub trait Saga:
    Exportable<
        Step: Send + Sync,
        Command: Message + Send,
        Reply: Message + Send + Sync,
        Output: Send + Sync,
        Refusal: Send + Sync,
    > + Send
    + Sync
{
    /// What everyone is told of it.
    type Event: Message;

    /// How it is kept and shown: [`Plain`](crate::Plain), or with columns of its own.
    type Layout: Layout<Self>;

    /// Who speaks for it, as a URI reference: `/waybill/order`.
    const SOURCE: &'static str;

    /// The stream of its events.
    const EVENTS: Stream;

    /// Every word that [`Saga::status`] has.
    const STATUSES: &'static [StatusWord] = &[
        StatusWord::under_way("running"),
        StatusWord::under_way("compensating"),
        StatusWord::ended("completed"),
        StatusWord::ended("compensated"),
    ];

    /// How a step is asked for: the only table of steps beside the plan.
    fn channel(step: Self::Step) -> &'static Channel;

    /// The saga that a reply is for.
    fn correlate(reply: &Self::Reply) -> Uuid;

    /// The event of a milestone, and the word for it in the event's subject.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn event(milestone: Milestone, record: &Record<Self>, history: History<'_>) -> anyhow::Result<(&'static str, Self::Event)>;

    /// Where a saga stands, in a word of [`Saga::STATUSES`].
    fn status(state: &State<Self>) -> &'static str {
        match state.phase() {
            Phase::New | Phase::Running => "running",
            Phase::Compensating(_) => "compensating",
            Phase::Completed => "completed",
            Phase::Compensated(_) => "compensated",
        }
    }
}

/// The columns of a saga's own in its row, written in the same statement as the runtime's, and what people see of it. [`Plain`](crate::Plain) is one that needs
/// nothing particular.
pub trait Layout<S: Saga>: Send + Sync + 'static {
    /// What the row keeps beside the state; `()` for most.
    type Projection: Clone + Debug + Default + Send + Sync + 'static;
    /// What whoever began it sees of it.
    type View: Clone + Debug + Serialize + Send + Sync + 'static;

    /// Where the sagas are kept.
    const TABLE: Table;

    /// Notes in the projection what a state brought.
    fn project(_projection: &mut Self::Projection, _state: &State<S>) {}

    /// What whoever began it sees.
    fn view(record: &Record<S>) -> Self::View;

    /// The same from its row, whatever its state is: what its customer sees never depends on a build that can read the state.
    ///
    /// # Errors
    /// Where a column is not what it was written as.
    fn view_of_row(row: &PgRow) -> sqlx::Result<Self::View>;

    /// The id of what is seen.
    fn id_of(view: &Self::View) -> Uuid;

    /// Whether what is seen has come to its end.
    fn is_final(view: &Self::View) -> bool;

    /// Whether two requests ask for the same; ids are ours.
    fn is_same(first: &S, second: &S) -> bool;

    /// What was asked for, from a row.
    ///
    /// # Errors
    /// Where a column is not what it was written as.
    fn request(row: &PgRow) -> sqlx::Result<S>;

    /// The projection, from a row.
    ///
    /// # Errors
    /// Where a column is not what it was written as.
    fn projection(_row: &PgRow) -> sqlx::Result<Self::Projection> {
        Ok(Self::Projection::default())
    }

    /// What operators' lists show of a saga to tell it from others, beside its id.
    ///
    /// # Errors
    /// Where a column is not what it was written as.
    fn summary(_row: &PgRow) -> sqlx::Result<Map<String, Value>> {
        Ok(Map::new())
    }

    /// The values of the columns that are written when sagas begin, in the order of [`Table::placed`].
    ///
    /// # Errors
    /// Where they cannot be written.
    fn placed(records: &[&Record<S>]) -> anyhow::Result<Vec<Values>>;

    /// The values of the columns that are written at every step, in the order of [`Table::moved`].
    ///
    /// # Errors
    /// Where they cannot be written.
    fn moved(_records: &[&Record<S>]) -> anyhow::Result<Vec<Values>> {
        Ok(Vec::new())
    }
}

/// What whoever began a saga of this layout sees of it.
pub type View<S> = <<S as Saga>::Layout as Layout<S>>::View;

/// What the row of a saga of this layout keeps beside its state.
pub type Projection<S> = <<S as Saga>::Layout as Layout<S>>::Projection;

/// A saga and where it stands: one row.
#[derive(Clone, Debug)]
pub struct Record<S: Saga> {
    /// What was asked for.
    pub request: S,
    /// Where it stands.
    pub state: State<S>,
    /// What the row keeps beside the state.
    pub projection: Projection<S>,
    /// The sequence of its last history entry.
    pub sequence: u32,
    /// The bytes of its history, the first entry apart.
    pub history_bytes: u64,
    /// The trace of the request that began it.
    pub trace: TraceContext,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it last moved.
    pub updated_at: DateTime<Utc>,
    /// What its deadline counts from. A reading of the steady clock, as the timers are.
    pub began_at: DateTime<Utc>,
    /// Of its outstanding commands.
    pub timers: Timers<S>,
}

impl<S: Saga> Record<S> {
    /// A saga that is about to begin. `steady`: what the steady clock says.
    pub fn new(request: S, trace: impl Into<TraceContext>, now: DateTime<Utc>, steady: DateTime<Utc>) -> Self {
        Self {
            request,
            state: State::new(),
            projection: Projection::<S>::default(),
            sequence: 0,
            history_bytes: 0,
            trace: trace.into(),
            created_at: now,
            updated_at: now,
            began_at: steady,
            timers: Timers::none(),
        }
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.request.id()
    }

    /// Where it stands, in a word.
    pub fn status(&self) -> &'static str {
        S::status(&self.state)
    }

    /// Sagas that began together must not all come back together.
    pub(crate) fn seed(&self) -> u64 {
        self.id().as_u128() as u64
    }
}

/// A saga with its whole history.
#[derive(Clone, Debug)]
pub struct LoadedSaga<S: Saga> {
    /// Its row.
    pub record: Record<S>,
    /// Its history, each entry as JSON.
    pub history: Vec<Box<RawValue>>,
}

/// The status of a name.
///
/// # Errors
/// Names the statuses there are.
pub fn status_named<S: Saga>(name: &str) -> Result<StatusWord, String> {
    let found = S::STATUSES.iter().find(|word| word.name == name).copied();
    found.ok_or_else(|| {
        let names: Vec<&str> = S::STATUSES.iter().map(|word| word.name).collect();
        format!("`{name}` is not one of {}", names.join(", "))
    })
}
