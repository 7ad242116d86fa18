//! The dead letters, by what is wrong with them. Which there are is remembered: only what came since is read, and what was deleted is asked for. So a page
//! shows all of them at once, however many there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::Stream;
use chassis::broker::Broker;
use chrono::{DateTime, Utc};
use envelope::dead_letter::DEAD_LETTERS;
use saga_commands::broker::{Reader, stream};
use saga_commands::dead_letter::Letter;

/// Reasons that are told apart.
const GROUPS: usize = 50;

/// How long a page waits for what came since.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often is looked if nobody asks.
const EVERY: Duration = Duration::from_secs(10);

/// After so many that were read, others see them.
const SOME: u64 = 10_000;

/// What tells a reason from another.
const TELLING: usize = 100;

/// Which reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// Whatever it is.
    #[default]
    Any,
    /// One that begins with this, which is all that tells it from others.
    Is(String),
    /// Those that are not told apart any more.
    Others,
}

/// Which letters: of a stream, with a reason; all, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    /// The stream they came from.
    pub stream: String,
    /// The consumer that could not handle them.
    pub consumer: String,
    /// Why.
    pub reason: Reason,
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
        Self { stream, consumer, reason: Reason::Is(letter.reason.chars().take(TELLING).collect()) }
    }

    /// Whether letters of a kind are meant.
    fn wants(&self, kind: &Self) -> bool {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let reason = self.reason == Reason::Any || self.reason == kind.reason;
        is(&self.stream, &kind.stream) && is(&self.consumer, &kind.consumer) && reason
    }
}

/// All letters: of which kind each is, and when it was buried.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// When the stream was made: one made anew begins from nothing.
    made: Option<DateTime<Utc>>,
    /// The last that was read.
    last: u64,
    kinds: Vec<Which>,
    letters: BTreeMap<u64, (usize, DateTime<Utc>)>,
}

impl Index {
    /// What is wrong, the most frequent first.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Option<Group>> = vec![None; self.kinds.len()];
        for (kind, time) in self.letters.values() {
            let group = groups[*kind].get_or_insert_with(|| Group { which: self.kinds[*kind].clone(), count: 0, oldest: *time });
            group.count += 1;
            group.oldest = group.oldest.min(*time);
        }
        let mut groups: Vec<Group> = groups.into_iter().flatten().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }

    /// The last letter that was seen.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The sequences of those that are meant, from one on.
    pub fn those(&self, which: &Which, from: u64) -> impl Iterator<Item = u64> {
        let wanted: Vec<bool> = self.kinds.iter().map(|kind| which.wants(kind)).collect();
        self.letters.range(from..).filter(move |(_, (kind, _))| wanted[*kind]).map(|(sequence, _)| *sequence)
    }

    fn take(&mut self, letter: &Letter) {
        let mut which = Which::of(letter);
        if self.kinds.len() >= GROUPS && !self.kinds.contains(&which) {
            which.reason = Reason::Others;
        }
        let kind = self.kinds.iter().position(|kind| *kind == which).unwrap_or_else(|| {
            self.kinds.push(which);
            self.kinds.len() - 1
        });
        self.letters.insert(letter.sequence, (kind, letter.time));
        self.last = self.last.max(letter.sequence);
    }
}

/// The letters that are there, looked at again when somebody asks.
#[derive(Debug, Default)]
pub struct Letters {
    known: Mutex<Arc<Index>>,
    /// One looks at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Letters {
    /// Those that are there or, where looking takes long, that were there a moment ago; and whether it is so.
    pub async fn at_once(self: &Arc<Self>, stream: &Stream) -> anyhow::Result<(Arc<Index>, bool)> {
        let (letters, stream) = (self.clone(), stream.clone());
        let looking = tokio::spawn(async move { letters.all(&stream).await });
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(looked) => Ok((looked??, false)),
            Err(_) => Ok((self.known(), true)),
        }
    }

    /// Those that are there.
    pub async fn all(&self, stream: &Stream) -> anyhow::Result<Arc<Index>> {
        let _one = self.looking.lock().await;
        let state = stream.get_info().await?;
        let mut known = self.known();
        if known.made != Some(state.created) {
            known = Arc::new(Index { made: Some(state.created), ..Index::default() });
        }
        if state.state.last_sequence == known.last && state.state.messages == known.letters.len() as u64 {
            return Ok(known);
        }
        let index = Arc::make_mut(&mut known);
        if state.state.last_sequence > index.last {
            let from = DeliverPolicy::ByStartSequence { start_sequence: index.last + 1 };
            let mut reader = Reader::heads(stream, "", from).await?;
            let mut read = 0;
            while let Some(stored) = reader.next().await? {
                index.take(&Letter::from(stored));
                read += 1;
                if read % SOME == 0 {
                    // Whoever looks meanwhile sees how far it is.
                    *self.lock() = Arc::new(index.clone());
                }
            }
        }
        index.last = index.last.max(state.state.last_sequence);
        let now = stream.get_info().await?.state;
        if now.messages != index.letters.len() as u64 {
            let deleted = stream.info_builder().with_deleted(true).fetch().await?.info.state;
            index.letters = index.letters.split_off(&deleted.first_sequence);
            for sequence in deleted.deleted.iter().flatten() {
                index.letters.remove(sequence);
            }
        }
        if index.letters.is_empty() {
            index.kinds.clear();
        }
        *self.lock() = known.clone();
        Ok(known)
    }

    /// Looks every few seconds, so that a page need not wait for the first look.
    pub async fn keep(self: Arc<Self>, broker: Option<Broker>) {
        loop {
            if let Ok((_, stream)) = kept(broker.as_ref()).await
                && let Err(error) = self.all(&stream).await
            {
                tracing::debug!(error = chassis::causes(&error), "the dead letters cannot be read");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn known(&self) -> Arc<Index> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Index>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The stream of dead letters.
pub async fn kept(broker: Option<&Broker>) -> anyhow::Result<(Broker, Stream)> {
    let broker = broker.context("this console was started without a broker: dead letters are kept there")?;
    anyhow::ensure!(broker.is_connected(), "the broker does not answer; dead letters are kept there");
    Ok((broker.clone(), stream(broker, DEAD_LETTERS).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(sequence: u64, reason: &str) -> Letter {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(envelope::dead_letter::REASON, reason);
        let (subject, payload) = ("dead.PRODUCT_REPLIES.order".to_owned(), bytes::Bytes::new());
        Letter::from(saga_commands::broker::Stored { subject, sequence, time: DateTime::UNIX_EPOCH, headers, payload })
    }

    #[test]
    fn a_kind_is_neither_one_that_begins_like_it_nor_those_that_are_not_told_apart() {
        let mut index = Index::default();
        let reasons = (0..GROUPS as u64 + 7).map(|n| format!("line 1 column {n}")).chain([String::new()]);
        for (sequence, reason) in (1..).zip(reasons) {
            index.take(&letter(sequence, &reason));
        }
        let of = |reason: Reason| {
            let which = Which { stream: "PRODUCT_REPLIES".to_owned(), consumer: "order".to_owned(), reason };
            index.those(&which, 0).collect::<Vec<_>>()
        };
        assert_eq!(of(Reason::Is("line 1 column 3".to_owned())), [4]);
        assert!(of(Reason::Is("line 1".to_owned())).is_empty());
        assert_eq!(of(Reason::Others), (51..=58).collect::<Vec<_>>());
        assert_eq!((of(Reason::Any).len(), index.last()), (58, 58));
        for group in index.groups() {
            assert_eq!(index.those(&group.which, 0).count() as u64, group.count, "{group:?}");
        }
    }
}
