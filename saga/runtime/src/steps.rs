//! What follows from a saga's table of steps.

use envelope::{CloudEvent, Consumer, DecodeError, Message as _, Participant, Topology};
use saga::{Direction, Plan, step_name};
use serde_json::value::RawValue;

use crate::saga::Saga;

/// Every step of every version of the plan, each once.
pub fn steps<S: Saga>() -> Vec<S::Step> {
    let mut steps: Vec<S::Step> =
        S::VERSIONS.iter().flat_map(|(_, stages)| stages.iter()).flatten().map(|spec| spec.step).collect();
    steps.sort();
    steps.dedup();
    steps
}

/// The names of the steps, as they are persisted.
pub fn step_names<S: Saga>() -> Vec<String> {
    steps::<S>().into_iter().map(step_name::<S>).collect()
}

/// The step of a name.
///
/// # Errors
/// Names the steps there are.
pub fn step_named<S: Saga>(name: &str) -> Result<S::Step, String> {
    let found = steps::<S>().into_iter().find(|step| step_name::<S>(*step) == name);
    found.ok_or_else(|| format!("`{name}` is not one of {}", step_names::<S>().join(", ")))
}

/// The plan versions this build knows, as a state's JSON names them.
pub fn known_plans<S: Saga>() -> Vec<String> {
    S::VERSIONS.iter().map(|(version, _)| version.to_string()).collect()
}

/// Every participant, each once.
pub fn participants<S: Saga>() -> Vec<Participant> {
    let mut participants: Vec<Participant> = Vec::new();
    for participant in steps::<S>().into_iter().map(|step| S::channel(step).participant) {
        if !participants.contains(&participant) {
            participants.push(participant);
        }
    }
    participants
}

/// The consumers that bring a saga the replies of its participants.
pub fn reply_consumers<S: Saga>() -> Vec<Consumer> {
    participants::<S>().iter().map(|participant| participant.replies_to(S::NAME)).collect()
}

/// The kinds of a participant's replies.
pub fn reply_kinds<S: Saga>(participant: Participant) -> Vec<&'static str> {
    let channels = steps::<S>().into_iter().map(S::channel).filter(|channel| channel.participant == participant);
    let mut kinds: Vec<&'static str> = channels.flat_map(|channel| (channel.replies)()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Reads a reply from its envelope.
pub type ReadReply<S> = Box<dyn Fn(&RawValue) -> Result<<S as Plan>::Reply, DecodeError> + Send + Sync>;

/// How each participant's replies are read: the consumer that brings them, and what reads one. A reply that is another participant's is none.
pub fn reply_readers<S: Saga>() -> Vec<(Consumer, ReadReply<S>)> {
    let reader = |participant: Participant| {
        let kinds = reply_kinds::<S>(participant);
        let read: ReadReply<S> = Box::new(move |json| {
            let reply = CloudEvent::<S::Reply>::decode(json)?.message;
            if kinds.contains(&reply.kind()) { Ok(reply) } else { Err(DecodeError::Unknown(reply.kind().to_owned())) }
        });
        (participant.replies_to(S::NAME), read)
    };
    participants::<S>().into_iter().map(reader).collect()
}

/// The streams and consumers that a saga lives by: commands and replies of its participants, its events, and the dead letters.
pub fn topology<S: Saga>() -> Topology {
    let participants = participants::<S>();
    let mut streams = Vec::new();
    for stream in participants.iter().flat_map(|participant| [participant.commands, participant.replies]) {
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    streams.extend([S::EVENTS, envelope::dead_letter::DEAD_LETTERS_STREAM]);
    let mut consumers: Vec<Consumer> = participants.iter().map(Participant::reads).collect();
    consumers.extend(reply_consumers::<S>());
    // Made once for each kind of saga, and kept for as long as the process.
    Topology { streams: streams.leak(), consumers: consumers.leak() }
}

/// What a saga waits for while a command is outstanding, in words: "waiting for the product service to reserve the stock".
pub fn waiting_for<S: Saga>(step: S::Step, direction: Direction) -> String {
    let channel = S::channel(step);
    let what = match direction {
        Direction::Execute => channel.executing,
        Direction::Compensate => channel.compensating,
    };
    format!("waiting for the {} service to {what}", channel.participant.name)
}
