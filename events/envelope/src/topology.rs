//! Streams and the durable consumers that read them, as values: whoever provisions them makes what it is given.

/// A JetStream stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The name.
    pub name: &'static str,
    /// The subjects it stores.
    pub subjects: &'static [&'static str],
    /// What it holds, shown by `nats stream ls`.
    pub description: &'static str,
    /// The service that publishes to it; empty where every reader does.
    pub producer: &'static str,
}

/// A durable pull consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The stream it reads.
    pub stream: &'static str,
    /// The name: the service that reads.
    pub name: &'static str,
}

/// The streams and consumers that belong together: those of one shop, or of one saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The streams.
    pub streams: &'static [Stream],
    /// The durable consumers.
    pub consumers: &'static [Consumer],
}

/// Somebody who is asked to do steps of sagas, and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its name: it reads its commands by a consumer of this name.
    pub name: &'static str,
    /// The stream of its commands.
    pub commands: Stream,
    /// The stream of its replies.
    pub replies: Stream,
}

impl Participant {
    /// By what it reads its commands.
    pub const fn reads(&self) -> Consumer {
        Consumer { stream: self.commands.name, name: self.name }
    }

    /// By what a saga of this name reads its replies.
    pub const fn replies_to(&self, saga: &'static str) -> Consumer {
        Consumer { stream: self.replies.name, name: saga }
    }
}

impl Consumer {
    /// Where what this consumer could not handle is kept.
    pub fn dead_subject(&self) -> String {
        format!("dead.{}.{}", self.stream, self.name)
    }
}

/// The subject of one event for everyone: `events.order.placed.<order>`.
pub fn event_subject(context: &str, word: &str, id: &impl std::fmt::Display) -> String {
    format!("events.{context}.{word}.{id}")
}
