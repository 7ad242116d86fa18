//! The dead letters, by what is wrong with them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::Stream;
use chassis::broker::Broker;
use chrono::{DateTime, Utc};
use envelope::dead_letter::DEAD_LETTERS;
use saga_commands::broker::{Reader, stream};
use saga_commands::dead_letter::Letter;

/// Letters that are looked at for their reasons.
const LOOKED_AT: usize = 10_000;

/// Reasons that are told apart.
const GROUPS: usize = 50;

/// What tells a reason from another.
const TELLING: usize = 100;

/// Which letters: of a stream, with a reason that begins so; all, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Which {
    /// The stream they came from.
    pub stream: String,
    /// The consumer that could not handle them.
    pub consumer: String,
    /// How the reason begins.
    pub reason: String,
}

/// Letters of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub which: Which,
    /// How many.
    pub count: u64,
    /// When the first was buried.
    pub oldest: DateTime<Utc>,
}

impl Which {
    fn of(letter: &Letter) -> Self {
        let (stream, consumer) = (letter.stream.clone(), letter.consumer.clone());
        Self { stream, consumer, reason: letter.reason.chars().take(TELLING).collect() }
    }

    fn wants(&self, letter: &Letter) -> bool {
        letter.reason.starts_with(&self.reason)
    }

    /// The subject that they are kept under.
    fn subject(&self) -> String {
        let word =
            |word: &str| if word.is_empty() || word.contains(['.', '*', '>', ' ']) { "*".to_owned() } else { word.to_owned() };
        format!("dead.{}.{}", word(&self.stream), word(&self.consumer))
    }
}

/// The stream of dead letters.
pub async fn kept(broker: Option<&Broker>) -> anyhow::Result<(Broker, Stream)> {
    let broker = broker.context("this console was started without a broker: dead letters are kept there")?;
    anyhow::ensure!(broker.is_connected(), "the broker does not answer; dead letters are kept there");
    Ok((broker.clone(), stream(broker, DEAD_LETTERS).await?))
}

/// What is wrong, the most frequent first; and whether there are more than were looked at.
pub async fn groups(stream: &Stream) -> anyhow::Result<(Vec<Group>, bool)> {
    let mut reader = Reader::heads(stream, "", DeliverPolicy::All).await?;
    let (mut groups, mut seen) = (BTreeMap::<Which, Group>::new(), 0);
    while let Some(stored) = reader.next().await? {
        if seen == LOOKED_AT {
            break;
        }
        seen += 1;
        let letter = Letter::from(stored);
        let mut which = Which::of(&letter);
        if groups.len() >= GROUPS && !groups.contains_key(&which) {
            which.reason = String::new();
        }
        let group = groups.entry(which.clone()).or_insert(Group { which, count: 0, oldest: letter.time });
        group.count += 1;
        group.oldest = group.oldest.min(letter.time);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    Ok((groups, seen == LOOKED_AT))
}

/// Some of them from a sequence on, and the sequence that comes after them.
pub async fn some(stream: &Stream, which: &Which, from: u64, rows: usize) -> anyhow::Result<(Vec<Letter>, Option<u64>)> {
    let start = DeliverPolicy::ByStartSequence { start_sequence: from.max(1) };
    let mut reader = Reader::open(stream, &which.subject(), start).await?;
    let mut letters = Vec::new();
    while let Some(stored) = reader.next().await? {
        let letter = Letter::from(stored);
        if which.wants(&letter) {
            if letters.len() == rows {
                return Ok((letters, Some(letter.sequence)));
            }
            letters.push(letter);
        }
    }
    Ok((letters, None))
}

/// The sequences of all of them; those that come later are left out.
pub async fn all(stream: &Stream, which: &Which) -> anyhow::Result<Vec<u64>> {
    let mut reader = Reader::heads(stream, &which.subject(), DeliverPolicy::All).await?;
    let mut sequences = Vec::new();
    while let Some(stored) = reader.next().await? {
        let letter = Letter::from(stored);
        if which.wants(&letter) {
            sequences.push(letter.sequence);
        }
    }
    Ok(sequences)
}
