//! Sending dead letters back, and deleting them.

use std::borrow::Cow;
use std::process::ExitCode;

use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use chassis::Packet;
use chassis::broker::Broker;
use events::BATCH_CONTENT_TYPE;
use events::dead_letter::{DEAD_LETTERS, OUTBOX};
use events::dead_letter::{DELIVERIES, REDRIVES};
use events::streams::STREAMS;
use futures_util::StreamExt as _;
use futures_util::stream;
use saga_commands::output::{Format, Output, plain, tell, write_out};
use saga_commands::progress::Progress;
use serde::{Deserialize, Serialize};

use super::letter::{self, Letter};
use super::select::Chosen;

/// Letters at work at once.
const AT_ONCE: usize = 32;

/// What is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sent back.
    Redrive,
    /// Deleted.
    Drop,
}

impl Action {
    /// As a question begins.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Redrive => "Redrive",
            Self::Drop => "Delete for good",
        }
    }
}

/// What became of them.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Sent back, or deleted.
    done: u64,
    /// No longer there: somebody else was faster.
    gone: u64,
    /// Left where they are.
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    sequence: u64,
    why: String,
}

/// What became of one.
enum Outcome {
    Done,
    Gone,
    Refused(String),
}

/// Does it with each. What was done before an error stays done; the same command again goes on.
pub async fn run(broker: &Broker, stream: &Stream, action: Action, chosen: Chosen, out: Output) -> anyhow::Result<ExitCode> {
    let progress = Progress::start("letters", Some(chosen.sequences.len() as u64));
    let mut report = Report::default();
    let mut outcomes = stream::iter(chosen.sequences)
        .map(|sequence| async move { (sequence, one(broker, stream, action, sequence).await) })
        .buffer_unordered(AT_ONCE);
    let mut at = 0;
    while let Some((sequence, outcome)) = outcomes.next().await {
        match outcome? {
            Outcome::Done => report.done += 1,
            Outcome::Gone => report.gone += 1,
            Outcome::Refused(why) => report.refused.push(Refused { sequence, why }),
        }
        at += 1;
        progress.at(at, || format!("{at} letters"));
    }
    drop(progress);
    let done = if action == Action::Redrive { "sent back" } else { "deleted" };
    report
        .refused
        .iter()
        .for_each(|Refused { sequence, why }| tell(&plain(format!("dead letter {sequence} is left where it is: {why}"))));
    match out.format {
        Format::Table => {
            let gone = if report.gone > 0 { format!(", {} gone already", report.gone) } else { String::new() };
            write_out(&format!("{} {done}, {} left{gone}", report.done, report.refused.len()))?;
        }
        Format::Json | Format::Jsonl => out.document(&report)?,
    }
    Ok(if report.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn one(broker: &Broker, stream: &Stream, action: Action, sequence: u64) -> anyhow::Result<Outcome> {
    if action == Action::Redrive {
        let Some(letter) = letter::get(stream, sequence).await? else { return Ok(Outcome::Gone) };
        let packet = match packed(&letter) {
            Ok(packet) => packet,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        // The same letter sent back twice within the broker's window is one message: a crash before the deletion repeats nothing.
        let id = format!("redrive-{}-{}", letter.sequence, letter.time.timestamp_micros());
        broker.publish_as(vec![(id, packet)]).await?;
    }
    match delete(broker, sequence).await {
        Ok(()) => Ok(Outcome::Done),
        // Deleting what is not there is an error to the broker, not to us; after a redrive the message is stored, and that counts.
        Err(error) => match letter::get(stream, sequence).await? {
            None if action == Action::Redrive => Ok(Outcome::Done),
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
pub(super) fn packed(letter: &Letter) -> Result<Packet, String> {
    if letter.truncated.is_some() {
        return Err("only its beginning was kept".to_owned());
    }
    // A letter's headers are a service's word. Sending it to a stream it did not come from would lend that service our rights.
    let unpublished = letter.stream == OUTBOX;
    let is_home = |stream: &&events::Stream| {
        let its_own = if unpublished {
            !stream.producer.is_empty() && stream.producer == letter.consumer
        } else {
            stream.name == letter.stream
        };
        its_own && stream.subjects.iter().any(|pattern| matches(pattern, &letter.subject))
    };
    if !STREAMS.iter().any(|stream| is_home(&stream)) {
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
    use async_nats::HeaderMap;
    use events::dead_letter::{INDEX, SUBJECT, TRUNCATED};

    use super::*;
    use saga_commands::broker::Stored;

    fn letter(headers: &[(&str, &str)]) -> Letter {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        let (subject, time) = ("dead.PRODUCT_REPLIES.order".to_owned(), chrono::DateTime::UNIX_EPOCH);
        Stored { subject, sequence: 7, time, headers: map, payload: "{\"a\":1}".into() }.into()
    }

    #[test]
    fn an_event_goes_back_as_a_batch_of_one_with_its_counts() {
        let packet = packed(&letter(&[(SUBJECT, "replies.product"), (INDEX, "3"), (DELIVERIES, "3"), (REDRIVES, "1")])).unwrap();
        assert_eq!((packet.subject.as_str(), packet.payload.as_ref()), ("replies.product", b"[{\"a\":1}]".as_slice()));
        assert!(packet.headers.contains(&(REDRIVES.into(), "2".to_owned())), "{packet:?}");
        assert!(packet.headers.contains(&(DELIVERIES.into(), "3".to_owned())), "{packet:?}");
    }

    #[test]
    fn several_events_go_back_as_one_batch() {
        let mut several = letter(&[(SUBJECT, "replies.product"), (INDEX, "0,3")]);
        several.payload = "[{\"a\":1},{\"b\":2}]".into();
        assert_eq!(packed(&several).unwrap().payload.as_ref(), b"[{\"a\":1},{\"b\":2}]");
    }

    #[test]
    fn a_whole_message_goes_back_as_it_was() {
        let packet = packed(&letter(&[(SUBJECT, "replies.product")])).unwrap();
        assert_eq!(packet.payload.as_ref(), b"{\"a\":1}");
    }

    #[test]
    fn a_letter_goes_nowhere_but_home_and_never_in_part() {
        for subject in ["", "replies.user", "commands.product.release", "replies.product.x", "$JS.API.STREAM.DELETE.X"] {
            assert!(packed(&letter(&[(SUBJECT, subject)])).is_err(), "{subject}");
        }
        assert!(packed(&letter(&[(SUBJECT, "replies.product"), (TRUNCATED, "1000000")])).is_err());
    }

    #[test]
    fn a_message_the_broker_did_not_take_goes_out_as_it_was_and_only_where_its_service_publishes() {
        let unpublished = |service: &str, subject: &str| {
            let mut headers = HeaderMap::new();
            [
                (SUBJECT, subject),
                ("Waybill-Header-ce-id", "7"),
                ("Waybill-Header-ce-subject", "8"),
                ("ce-id", "dead-1"),
                ("Nats-Msg-Id", "dead-1"),
            ]
            .iter()
            .for_each(|(name, value)| headers.insert(*name, *value));
            let stored = Stored {
                subject: format!("dead.OUTBOX.{service}"),
                sequence: 7,
                time: chrono::DateTime::UNIX_EPOCH,
                headers,
                payload: "{\"a\":1}".into(),
            };
            packed(&stored.into())
        };
        let mut packet = unpublished("order", "events.order.confirmed.7").unwrap();
        packet.headers.sort();
        assert_eq!((packet.subject.as_str(), packet.payload.as_ref()), ("events.order.confirmed.7", b"{\"a\":1}".as_slice()));
        assert_eq!(packet.headers, [("ce-id".into(), "7".to_owned()), ("ce-subject".into(), "8".to_owned())]);
        assert!(unpublished("user", "replies.user").is_ok() && unpublished("order", "commands.product.release").is_ok());
        for (service, subject) in [
            ("user", "commands.product.release"),
            ("product", "replies.user"),
            ("nobody", "replies.user"),
            ("order", "dead.OUTBOX.order"),
            ("order", ""),
        ] {
            assert!(unpublished(service, subject).is_err(), "{service} {subject}");
        }
    }

    #[test]
    fn subjects_match_word_by_word() {
        assert!(matches("commands.product.*", "commands.product.reserve"));
        assert!(matches("dead.>", "dead.a.b"));
        for subject in ["commands.product", "commands.product.a.b", "commands.product.", "commands.user.reserve"] {
            assert!(!matches("commands.product.*", subject), "{subject}");
        }
    }
}
