//! What a saga says of itself, so that the runtime can run it.

use envelope::{Message, Participant, Stream};
use saga::{Exportable, Phase, State};
use uuid::Uuid;

/// How a step is asked for, and how people are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// Whoever does it.
    pub participant: Participant,
    /// The subject of the command that does it.
    pub execute: &'static str,
    /// The subject of the command that undoes it; needed where the plan has a compensation.
    pub compensate: Option<&'static str>,
    /// The kinds of its participant's replies: `<user::Reply as Message>::kinds`. No other participant's replies are among them.
    pub replies: fn() -> Vec<&'static str>,
    /// What is being done, in words: "waiting for the user service to *validate the user*".
    pub executing: &'static str,
    /// What is being done when it is undone: "waiting for the product service to *give back the stock*"; empty where nothing is.
    pub compensating: &'static str,
}

/// A word for where a saga stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusWord {
    /// The word.
    pub name: &'static str,
    /// Whether the saga has come to an end.
    pub is_final: bool,
}

impl StatusWord {
    /// Of a saga under way.
    pub const fn under_way(name: &'static str) -> Self {
        Self { name, is_final: false }
    }

    /// Of a saga that has come to an end.
    pub const fn ended(name: &'static str) -> Self {
        Self { name, is_final: true }
    }
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
