//! What a saga's table of steps must hold, checked at start-up where the compiler cannot.

use std::collections::BTreeMap;

use envelope::{Consumer, Message as _, Topology};
use saga::{Kind, ShapeError, step_name};
use serde_json::{Value, json};
use thiserror::Error;

use crate::saga::Saga;
use crate::steps::{participants, reply_consumers, reply_kinds};

/// What is missing, by name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Incomplete {
    /// Its commands would be stored by no stream.
    #[error("the step {step} is asked for under {subject}, which is no subject of the stream {stream}")]
    Subject {
        /// The step.
        step: String,
        /// The subject.
        subject: &'static str,
        /// The stream of the participant's commands.
        stream: &'static str,
    },
    /// It can be undone, and nobody could be asked to.
    #[error("the step {0} has a compensation in the plan, and its channel has no subject for it")]
    NoCompensation(String),
    /// People could not be told what is waited for.
    #[error("the step {0} has no words for what is waited for")]
    NoWords(String),
    /// It is persisted by its name, and has none.
    #[error("the step {0} is not written as a name")]
    NoName(String),
    /// It could be sent, and not be read.
    #[error("the reply {0} is among the kinds of replies, and is not read: its arm is missing in `{1}`")]
    Reply(&'static str, &'static str),
    /// The participant would reply, and the saga could not read it.
    #[error("the reply {1} of the participant {0} is not among the kinds of replies that the saga reads")]
    ReplyOfNone(&'static str, &'static str),
    /// Nobody would be asked what replies it.
    #[error("the reply {0} is no participant's by the table of steps")]
    NobodyReplies(&'static str),
    /// It would be taken from somebody who has no business to say it.
    #[error("the reply {0} is that of two participants: {1} and {2}")]
    TwoReply(&'static str, &'static str, &'static str),
    /// Nobody could reply.
    #[error("the participant {0} has no subject for its replies")]
    NoReplies(&'static str),
    /// It would be made by nobody.
    #[error("the stream {0} is not among those that are provisioned")]
    Stream(&'static str),
    /// It would be made by nobody.
    #[error("the consumer {1} of the stream {0} is not among those that are provisioned")]
    Consumer(&'static str, &'static str),
    /// See [`saga::ShapeError`].
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// Checks at start-up what the compiler cannot: names of steps, subjects of commands, words, how replies are read, and that whatever the saga
/// lives by is among what is provisioned.
///
/// # Errors
/// The first thing that is missing, by name.
pub fn verify<S: Saga>(provisioned: &Topology) -> Result<(), Incomplete> {
    saga::verify::<S>()?;
    for spec in S::VERSIONS.iter().flat_map(|(_, stages)| stages.iter()).flatten() {
        let (channel, name) = (S::channel(spec.step), || step_name::<S>(spec.step));
        if !matches!(serde_json::to_value(spec.step), Ok(Value::String(_))) {
            return Err(Incomplete::NoName(name()));
        }
        let commands = channel.participant.commands;
        for subject in [Some(channel.execute), channel.compensate].into_iter().flatten() {
            if !commands.subjects.iter().any(|pattern| stores(pattern, subject)) {
                return Err(Incomplete::Subject { step: name(), subject, stream: commands.name });
            }
        }
        let compensatable = matches!(spec.kind, Kind::Compensatable { .. });
        if compensatable && channel.compensate.is_none() {
            return Err(Incomplete::NoCompensation(name()));
        }
        if channel.executing.is_empty() || (compensatable && channel.compensating.is_empty()) {
            return Err(Incomplete::NoWords(name()));
        }
    }
    verify_replies::<S>()?;
    verify_provisioned::<S>(provisioned)
}

/// Every kind of reply is read, from an envelope and from a history.
fn verify_replies<S: Saga>() -> Result<(), Incomplete> {
    let empty = serde_json::value::RawValue::from_string("{}".to_owned()).expect("JSON");
    let known = S::Reply::kinds();
    let mut whose: BTreeMap<&'static str, &'static str> = BTreeMap::new();
    for participant in participants::<S>() {
        for kind in reply_kinds::<S>(participant) {
            if !known.contains(&kind) {
                return Err(Incomplete::ReplyOfNone(participant.name, kind));
            }
            if let Some(other) = whose.insert(kind, participant.name) {
                return Err(Incomplete::TwoReply(kind, other, participant.name));
            }
        }
    }
    if let Some(kind) = known.iter().find(|kind| !whose.contains_key(*kind)) {
        return Err(Incomplete::NobodyReplies(kind));
    }
    for kind in known {
        if let Err(envelope::DecodeError::Unknown(_)) = S::Reply::decode(kind, &empty) {
            return Err(Incomplete::Reply(kind, "Message::decode"));
        }
        if not_read::<S>(kind).is_some_and(|why| not_read::<S>(NOBODY_KNOWS).is_some_and(|nobody| why == nobody)) {
            return Err(Incomplete::Reply(kind, "Deserialize"));
        }
    }
    Ok(())
}

/// A kind that no set of replies has.
const NOBODY_KNOWS: &str = "nobody.knows.this.v0";

/// Why a reply of a kind with nothing in it is not read from a history, whatever the kind's name. One that is known is read, or lacks something;
/// one that is not known is refused as every other is.
fn not_read<S: Saga>(kind: &str) -> Option<String> {
    let error = serde_json::from_value::<S::Reply>(json!({ "type": kind, "data": {} })).err()?;
    Some(error.to_string().replace(kind, "_"))
}

fn verify_provisioned<S: Saga>(provisioned: &Topology) -> Result<(), Incomplete> {
    let stream = |name| provisioned.streams.iter().any(|stream| stream.name == name);
    let consumer = |consumer: &Consumer| provisioned.consumers.contains(consumer);
    for participant in participants::<S>() {
        if participant.replies.subjects.is_empty() {
            return Err(Incomplete::NoReplies(participant.name));
        }
        for name in [participant.commands.name, participant.replies.name] {
            if !stream(name) {
                return Err(Incomplete::Stream(name));
            }
        }
    }
    if !stream(S::EVENTS.name) {
        return Err(Incomplete::Stream(S::EVENTS.name));
    }
    let consumers = participants::<S>().into_iter().map(|participant| participant.reads()).chain(reply_consumers::<S>());
    match consumers.into_iter().find(|needed| !consumer(needed)) {
        Some(Consumer { stream, name }) => Err(Incomplete::Consumer(stream, name)),
        None => Ok(()),
    }
}

/// Whether a stream with this subject, which may hold `*` and `>`, stores what is sent under that one.
fn stores(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == "*" || wanted == found => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests;
