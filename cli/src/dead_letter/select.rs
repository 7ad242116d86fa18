//! Which dead letters are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::Stream;
use chrono::{DateTime, TimeDelta, Utc};
use clap::builder::PossibleValuesParser;
use clap_complete::ArgValueCandidates;
use events::dead_letter::OUTBOX;
use events::streams::CONSUMERS;
use saga_commands::age;
use saga_commands::broker::Reader;
use saga_commands::dead_letter::{self, Letter};
use saga_commands::output::table;
use saga_commands::usage::number;
use uuid::Uuid;

use super::complete;

/// A part of all letters.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Only those from this stream; OUTBOX for messages that the broker did not take.
    #[arg(long, value_parser = streams())]
    stream: Option<String>,
    /// Only those whose reason holds this text, in any case of letters.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those buried at least so long ago: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "AGE", value_parser = age::parse, allow_hyphen_values = true)]
    older_than: Option<Duration>,
}

fn streams() -> PossibleValuesParser {
    PossibleValuesParser::new(CONSUMERS.map(|consumer| consumer.stream).into_iter().chain([OUTBOX]))
}

/// Letters by their sequences, or all that pass a filter.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("letters").required(true))]
pub struct Which {
    /// Their sequences.
    #[arg(
        value_name = "SEQUENCE",
        group = "letters",
        value_parser = number::<u64, 1, { u64::MAX }>,
        conflicts_with_all = ["stream", "reason", "older_than", "limit"],
        add = ArgValueCandidates::new(complete::dead_letters)
    )]
    sequences: Vec<u64>,
    /// All that pass the filters.
    #[arg(long, group = "letters")]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// At most so many, from the oldest.
    #[arg(long, value_name = "N", value_parser = number::<usize, 1, { u64::MAX }>)]
    limit: Option<usize>,
}

/// Letters one by one.
pub struct Letters<'a> {
    reader: Reader,
    filter: &'a Filter,
    /// Those buried later are too young.
    before: Option<DateTime<Utc>>,
}

impl Filter {
    /// Reads those that pass, the oldest first; letters that come meanwhile are left out.
    pub async fn read(&self, stream: &Stream) -> anyhow::Result<Letters<'_>> {
        let subject = self.stream.as_ref().map_or_else(|| "dead.>".to_owned(), |stream| format!("dead.{stream}.>"));
        let before = self.older_than.and_then(|age| TimeDelta::from_std(age).ok()).map(|age| Utc::now() - age);
        Ok(Letters { reader: Reader::open(stream, &subject, DeliverPolicy::All).await?, filter: self, before })
    }

    fn wants(&self, letter: &Letter) -> bool {
        let holds = |text: &String| letter.reason.to_lowercase().contains(&text.to_lowercase());
        self.reason.as_ref().is_none_or(holds)
    }
}

impl Letters<'_> {
    /// The next one.
    pub async fn next(&mut self) -> anyhow::Result<Option<Letter>> {
        while let Some(stored) = self.reader.next().await? {
            if self.before.is_some_and(|before| stored.time > before) {
                return Ok(None);
            }
            let letter = Letter::from(stored);
            if self.filter.wants(&letter) {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }
}

/// The letters that were chosen: their sequences, and what they are in sum.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Their sequences, in order.
    pub sequences: Vec<u64>,
    /// Sequences that were named, and are not there.
    pub missing: Vec<u64>,
    /// The saga that the only one is about.
    pub saga: Option<Uuid>,
    groups: BTreeMap<(String, String, String), u64>,
}

/// Groups that are told apart; the rest is one.
const GROUPS: usize = 20;

impl Which {
    /// Looks which they are. Nothing else is kept of them: there may be very many.
    pub async fn choose(&self, stream: &Stream) -> anyhow::Result<Chosen> {
        let mut chosen = Chosen::default();
        if !self.all {
            for sequence in &self.sequences {
                match dead_letter::get(stream, *sequence).await? {
                    Some(letter) => chosen.add(&letter),
                    None => chosen.missing.push(*sequence),
                }
            }
            anyhow::ensure!(
                chosen.missing.is_empty(),
                "there is no dead letter {}; `waybill dead-letter list` shows those that are there",
                list(&chosen.missing)
            );
            return Ok(chosen);
        }
        let mut letters = self.filter.read(stream).await?;
        while chosen.sequences.len() < self.limit.unwrap_or(usize::MAX) {
            let Some(letter) = letters.next().await? else { break };
            chosen.add(&letter);
        }
        Ok(chosen)
    }
}

impl Chosen {
    fn add(&mut self, letter: &Letter) {
        self.sequences.push(letter.sequence);
        self.saga = letter.saga.filter(|_| self.sequences.len() == 1);
        let group = (letter.stream.clone(), letter.consumer.clone(), letter.reason.chars().take(100).collect());
        let known = self.groups.len() < GROUPS || self.groups.contains_key(&group);
        let group = if known { group } else { (String::new(), String::new(), "other reasons".to_owned()) };
        *self.groups.entry(group).or_default() += 1;
    }

    /// Which they are, in a line.
    pub fn words(&self) -> String {
        let places = self.groups.keys().map(|(stream, consumer, _)| format!("{stream} to {consumer}"));
        let places: BTreeSet<String> = places.filter(|place| place != " to ").collect();
        let of = format!("of {}", places.into_iter().collect::<Vec<_>>().join(", "));
        match self.sequences[..] {
            [sequence] => format!("dead letter {sequence} {of}"),
            [_, ..] if self.sequences.len() <= 5 => format!("dead letters {} {of}", list(&self.sequences)),
            _ => format!("{} dead letters {of}", self.sequences.len()),
        }
    }

    /// How many of what.
    pub fn text(&self) -> String {
        let rows = self
            .groups
            .iter()
            .map(|((stream, consumer, reason), count)| vec![count.to_string(), stream.clone(), consumer.clone(), reason.clone()]);
        table(&["LETTERS", "STREAM", "CONSUMER", "REASON"], rows)
    }
}

fn list(sequences: &[u64]) -> String {
    sequences.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
