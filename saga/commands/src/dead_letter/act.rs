//! Sending a dead letter back, as it was or put right, and deleting it.

use std::borrow::Cow;

use async_nats::jetstream;
use async_nats::jetstream::response::Response;
use bytes::Bytes;
use chassis::Packet;
use chassis::broker::Broker;
use envelope::dead_letter::{DEAD_LETTERS, DELIVERIES, OUTBOX, REDRIVES};
use envelope::{BATCH_CONTENT_TYPE, Stream, Topology};
use serde::Deserialize;
use uuid::Uuid;

use super::letter::{self, Letter};
use crate::bulk::Outcome;

/// What is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sent back.
    Redrive,
    /// Sent back with another content.
    Mend(Bytes),
    /// Deleted.
    Drop,
}

impl Action {
    /// What is done, in a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Mend(_) => "edit and redrive",
            Self::Drop => "drop",
        }
    }

    /// What was done.
    pub fn done(&self) -> &'static str {
        match self {
            Self::Redrive | Self::Mend(_) => "sent back",
            Self::Drop => "deleted",
        }
    }
}

/// Does it with one. `stream`: that of the dead letters.
///
/// # Errors
/// Where the broker is in trouble; the same again goes on.
pub async fn act(
    broker: &Broker,
    stream: &jetstream::stream::Stream,
    topology: &Topology,
    action: Action,
    sequence: u64,
) -> anyhow::Result<Outcome> {
    if action != Action::Drop {
        let Some(mut letter) = letter::get(stream, sequence).await? else { return Ok(Outcome::Gone) };
        // The same letter sent back twice within the broker's window is one message: a crash before the deletion repeats nothing.
        let mut id = format!("redrive-{}-{}", letter.sequence, letter.time.timestamp_micros());
        if let Action::Mend(payload) = &action {
            letter.payload = payload.clone();
            id += &format!("-{}", Uuid::now_v7());
        }
        match packed(&letter, topology) {
            Ok(packet) => drop(broker.publish_as(vec![(id, packet)]).await?),
            Err(why) => return Ok(Outcome::Left(why)),
        }
    }
    match delete(broker, sequence).await {
        Ok(()) => Ok(Outcome::Done),
        // Deleting what is not there is an error to the broker, not to us; after a redrive the message is stored, and that counts.
        Err(error) => match letter::get(stream, sequence).await? {
            None if action != Action::Drop => Ok(Outcome::Done),
            None => Ok(Outcome::Gone),
            Some(_) => Err(error),
        },
    }
}

/// Deletes one letter. Without overwriting it on the broker's disk, which the client's own call does, for a hundred times the time.
async fn delete(broker: &Broker, sequence: u64) -> anyhow::Result<()> {
    let subject = format!("STREAM.MSG.DELETE.{DEAD_LETTERS}");
    let request = serde_json::json!({"seq": sequence, "no_erase": true});
    match broker.jetstream().request(subject, &request).await? {
        Response::Ok(Deleted {}) => Ok(()),
        Response::Err { error } => Err(error.into()),
    }
}

/// The broker's answer; its errors are told apart before.
#[derive(Debug, Deserialize)]
struct Deleted {}

/// The message as it goes back.
///
/// # Errors
/// Why it cannot.
pub fn packed(letter: &Letter, topology: &Topology) -> Result<Packet, String> {
    if letter.truncated.is_some() {
        return Err("only its beginning was kept".to_owned());
    }
    // A letter's headers are a service's word. Sending it to a stream it did not come from would lend that service our rights.
    let unpublished = letter.stream == OUTBOX;
    let is_home = |stream: &&Stream| {
        let its_own = if unpublished {
            !stream.producer.is_empty() && stream.producer == letter.consumer
        } else {
            stream.name == letter.stream
        };
        its_own && stream.subjects.iter().any(|pattern| matches(pattern, &letter.subject))
    };
    if unpublished && letter.subject.is_empty() {
        return Err("it holds no message: what it was to tell cannot be made of the history; the reason says why".to_owned());
    }
    if !topology.streams.iter().any(|stream| is_home(&stream)) {
        let whose =
            if unpublished { format!("that the {} service publishes to", letter.consumer) } else { letter.stream.clone() };
        return Err(format!("`{}` is no subject of the stream {whose}", letter.subject.escape_debug()));
    }
    if unpublished {
        // It reached nobody: it goes out as it was.
        let headers = letter.headers.iter().map(|(name, value)| (name.clone().into(), value.clone())).collect();
        return Ok(Packet { subject: letter.subject.clone(), headers, payload: letter.payload.clone() });
    }
    let headers: Vec<(Cow<'static, str>, String)> = vec![
        ("Content-Type".into(), BATCH_CONTENT_TYPE.into()),
        (REDRIVES.into(), (letter.redrives + 1).to_string()),
        (DELIVERIES.into(), letter.deliveries.to_string()),
    ];
    let payload = match letter.index {
        Some(_) => Bytes::from([b"[", letter.payload.as_ref(), b"]"].concat()),
        // Several events are an array already, a batch of their own; a message that is bad as a whole goes back as it was.
        None => letter.payload.clone(),
    };
    Ok(Packet { subject: letter.subject.clone(), headers, payload })
}

/// Whether a subject is under a pattern: `*` is any one word.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some(wanted), Some(word)) if !word.is_empty() && (wanted == "*" || wanted == word) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn subjects_match_word_by_word() {
        assert!(matches("commands.product.*", "commands.product.reserve"));
        assert!(matches("dead.>", "dead.a.b"));
        for subject in ["commands.product", "commands.product.a.b", "commands.product.", "commands.user.reserve"] {
            assert!(!matches("commands.product.*", subject), "{subject}");
        }
    }
}
