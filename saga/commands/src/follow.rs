//! Follows streams over whatever happens to the broker. Where to go on is decided here, from what was read last and what the stream is by then:
//! the broker's own readers end with its memory.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream;
use async_nats::jetstream::consumer::pull::MessagesError;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use chassis::broker::Broker;
use chassis::causes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use tokio::time::{sleep, timeout};

use crate::broker::{Stored, stream};
use crate::output::tell;

/// How often a broker that is away is tried.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// How long one try may take.
const TRY_FOR: Duration = Duration::from_secs(3);

/// How often the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A reader that says nothing for twice as long is gone.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Ids of shown events that are remembered, to know those that are published again.
const REMEMBERED: usize = 100_000;

/// Clocks may differ by so much: an event that is published again and this much older than the beginning is shown.
const TOLERANCE: TimeDelta = TimeDelta::minutes(1);

type Messages = SelectAll<BoxStream<'static, (usize, Result<jetstream::Message, MessagesError>)>>;

/// Streams that are followed.
pub struct Follow {
    broker: Broker,
    filter: String,
    positions: Vec<Position>,
    messages: Messages,
    shown: Shown,
}

/// How far a stream was read.
struct Position {
    name: &'static str,
    /// When the stream was made.
    made: DateTime<Utc>,
    /// What was read last, and when it was stored; `None`: nothing yet, everything since is wanted.
    last: Option<(u64, DateTime<Utc>)>,
    since: DateTime<Utc>,
    /// How many messages this reader of the broker's has delivered.
    delivered: u64,
}

/// A stream as it is when reading goes on.
struct Now {
    made: DateTime<Utc>,
    first: u64,
    last: u64,
    /// When the message was stored that has the sequence of the one read last; `None` where there is none.
    stored: Option<DateTime<Utc>>,
}

impl Follow {
    /// Begins at a moment, or with the next event.
    pub async fn begin(
        broker: &Broker,
        names: &[&'static str],
        filter: String,
        since: Option<DateTime<Utc>>,
    ) -> anyhow::Result<Self> {
        let from = since.unwrap_or_else(Utc::now);
        let mut positions = Vec::new();
        for name in names {
            let info = stream(broker, name).await?.get_info().await?;
            let end = (info.state.last_sequence, info.state.last_timestamp);
            positions.push(Position {
                name,
                made: info.created,
                last: since.is_none().then_some(end),
                since: from,
                delivered: 0,
            });
        }
        let mut this = Self { broker: broker.clone(), filter, positions, messages: Messages::new(), shown: Shown::since(from) };
        this.open().await?;
        Ok(this)
    }

    /// The next event, however long it takes.
    pub async fn next(&mut self) -> anyhow::Result<Stored> {
        loop {
            tokio::select! {
                biased;
                message = self.messages.next() => if let Some((index, Ok(message))) = message
                    && let Some(stored) = self.take(index, message)?
                {
                    match self.shown.is_new(&stored) {
                        true => return Ok(stored),
                        false => continue,
                    }
                },
                () = disconnected(&self.broker) => {}
            }
            self.reopen().await;
        }
    }

    /// Takes a message in; `None` where one before it is missing.
    fn take(&mut self, index: usize, message: jetstream::Message) -> anyhow::Result<Option<Stored>> {
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        let (sequence, time, number) = (info.stream_sequence, info.published, info.consumer_sequence);
        let position = &mut self.positions[index];
        if number != position.delivered + 1 {
            return Ok(None);
        }
        (position.delivered, position.last) = (number, Some((sequence, time)));
        let async_nats::Message { subject, headers, payload, .. } = message.message;
        let (subject, headers) = (subject.into_string(), headers.unwrap_or_default());
        Ok(Some(Stored { subject, sequence, time, headers, payload }))
    }

    /// Goes on where it broke off, as soon as the broker lets it. Only a pause that can be noticed is told.
    async fn reopen(&mut self) {
        self.messages.clear();
        let mut waits = false;
        loop {
            let connected = self.broker.is_connected();
            let failure = match connected {
                false => Some(String::new()),
                true => match timeout(TRY_FOR, self.open()).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(causes(&error)),
                    Err(_) => Some("no answer".to_owned()),
                },
            };
            let Some(failure) = failure else { break };
            if !waits {
                tell(&match connected {
                    false => "The broker is away; waiting for it.".to_owned(),
                    true => format!("The broker cannot be read ({failure}); waiting for it."),
                });
            }
            waits = true;
            sleep(if connected { TRY_EVERY } else { LOOK_EVERY }).await;
        }
        if waits {
            tell("The broker is back; going on where it broke off.");
        }
    }

    /// Reads on after what was read last of each stream.
    async fn open(&mut self) -> anyhow::Result<()> {
        let mut messages = Messages::new();
        for (index, position) in self.positions.iter_mut().enumerate() {
            let stream = stream(&self.broker, position.name).await?;
            let now = position.look(&stream).await?;
            let (deliver_policy, news) = position.go_on(&now);
            let config = pull::Config {
                filter_subject: self.filter.clone(),
                deliver_policy,
                ack_policy: AckPolicy::None,
                inactive_threshold: Duration::from_secs(60),
                memory_storage: true,
                num_replicas: 1,
                description: Some("waybill, following".to_owned()),
                ..Default::default()
            };
            let consumer = stream.create_consumer(config).await.context("the stream cannot be read")?;
            let reader = consumer.stream().heartbeat(HEARTBEAT).expires(Duration::from_secs(30)).messages().await?;
            messages.push(reader.map(move |message| (index, message)).boxed());
            position.begin_at(now.made, deliver_policy);
            if let Some(news) = news {
                tell(&news);
            }
        }
        self.messages = messages;
        Ok(())
    }
}

async fn disconnected(broker: &Broker) {
    while broker.is_connected() {
        sleep(LOOK_EVERY).await;
    }
}

impl Position {
    async fn look(&self, stream: &Stream) -> anyhow::Result<Now> {
        let info = stream.get_info().await?;
        let stored = match self.last {
            Some((last, _)) if last > 0 => stream.get_raw_message(last).await.ok().map(|message| message.time),
            _ => None,
        };
        Ok(Now { made: info.created, first: info.state.first_sequence, last: info.state.last_sequence, stored })
    }

    /// From where, and what is to be told about it.
    fn go_on(&self, now: &Now) -> (DeliverPolicy, Option<String>) {
        let Self { name, last, .. } = self;
        let Some((last, stored)) = *last else {
            return (DeliverPolicy::ByStartTime { start_time: self.since }, None);
        };
        let after = |sequence: u64| DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 };
        if now.made != self.made {
            let news = "was made anew: all that it holds is shown, except what was shown already";
            return (after(0), Some(format!("The stream {name} {news}.")));
        }
        if now.last < last || now.stored.is_some_and(|now| now != stored) {
            let start_time = stored + TimeDelta::nanoseconds(1);
            let news = "does not hold what was shown last (its store was replaced): all that was stored later is shown";
            return (DeliverPolicy::ByStartTime { start_time }, Some(format!("The stream {name} {news}.")));
        }
        if now.first > last + 1 {
            let news = "no longer holds what followed the last event (purged, or past its limits)";
            return (after(now.first - 1), Some(format!("The stream {name} {news}.")));
        }
        (after(last), None)
    }

    /// A reader begins there.
    fn begin_at(&mut self, made: DateTime<Utc>, policy: DeliverPolicy) {
        (self.made, self.delivered) = (made, 0);
        match policy {
            DeliverPolicy::ByStartSequence { start_sequence } => {
                self.last = self.last.map(|(_, stored)| (start_sequence - 1, stored));
            }
            DeliverPolicy::ByStartTime { start_time } => (self.last, self.since) = (None, start_time),
            _ => {}
        }
    }
}

/// The events that were shown.
struct Shown {
    since: DateTime<Utc>,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Shown {
    fn since(since: DateTime<Utc>) -> Self {
        Self { since: since - TOLERANCE, ids: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether an event is to be shown: one that is published again only if it is not older than what was asked for, and was not shown.
    fn is_new(&mut self, stored: &Stored) -> bool {
        if stored.header("ce-republished").is_some() {
            let made = stored.header("ce-time").and_then(|time| time.parse::<DateTime<Utc>>().ok());
            if made.is_some_and(|made| made < self.since) || stored.header("ce-id").is_some_and(|id| self.ids.contains(id)) {
                return false;
            }
        }
        if let Some(id) = stored.header("ce-id")
            && self.ids.insert(id.to_owned())
        {
            self.order.push_back(id.to_owned());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn position(last: Option<(u64, DateTime<Utc>)>) -> Position {
        Position { name: "ORDER_EVENTS", made: at(1), last, since: at(5), delivered: 0 }
    }

    #[test]
    fn reading_goes_on_after_what_was_read_last_of_this_very_stream() {
        let same = || Now { made: at(1), first: 1, last: 9, stored: Some(at(10)) };
        let cases = [
            (None, same(), DeliverPolicy::ByStartTime { start_time: at(5) }, None),
            (Some((7, at(10))), same(), DeliverPolicy::ByStartSequence { start_sequence: 8 }, None),
            (Some((0, at(0))), Now { stored: None, ..same() }, DeliverPolicy::ByStartSequence { start_sequence: 1 }, None),
            // What it was may be past the stream's limits by now.
            (
                Some((7, at(10))),
                Now { stored: None, first: 9, ..same() },
                DeliverPolicy::ByStartSequence { start_sequence: 9 },
                Some("no longer holds"),
            ),
            (
                Some((7, at(10))),
                Now { made: at(2), ..same() },
                DeliverPolicy::ByStartSequence { start_sequence: 1 },
                Some("anew"),
            ),
            (
                Some((12, at(10))),
                Now { stored: None, ..same() },
                DeliverPolicy::ByStartTime { start_time: at(10) + TimeDelta::nanoseconds(1) },
                Some("replaced"),
            ),
            (
                Some((7, at(11))),
                same(),
                DeliverPolicy::ByStartTime { start_time: at(11) + TimeDelta::nanoseconds(1) },
                Some("replaced"),
            ),
        ];
        for (last, now, expected, news) in cases {
            let (policy, told) = position(last).go_on(&now);
            assert_eq!(policy, expected, "{last:?}");
            assert_eq!(told.is_some(), news.is_some(), "{last:?}: {told:?}");
            assert!(news.is_none_or(|news| told.as_ref().is_some_and(|told| told.contains(news))), "{last:?}: {told:?}");
            // Told once: the next time, with nothing read meanwhile, reading begins at the same place.
            let mut position = position(last);
            position.begin_at(now.made, policy);
            let stored =
                now.stored.filter(|_| position.last.is_some_and(|(position, _)| last.is_some_and(|(last, _)| last == position)));
            assert_eq!(position.go_on(&Now { stored, ..now }), (policy, None), "{last:?}");
        }
    }

    #[test]
    fn what_is_published_again_is_shown_once_and_only_if_it_was_asked_for() {
        let stored = |id: &str, made: DateTime<Utc>, again: bool| {
            let mut headers = HeaderMap::new();
            headers.insert("ce-id", id);
            headers.insert("ce-time", made.to_rfc3339());
            if again {
                headers.insert("ce-republished", "true");
            }
            Stored { subject: "events.order.placed.1".to_owned(), sequence: 1, time: at(900), headers, payload: "{}".into() }
        };
        let mut shown = Shown::since(at(600));
        assert!(shown.is_new(&stored("a", at(700), false)));
        assert!(!shown.is_new(&stored("a", at(700), true)));
        assert!(shown.is_new(&stored("b", at(700), true)), "it was lost before it was shown");
        assert!(!shown.is_new(&stored("b", at(700), true)));
        assert!(!shown.is_new(&stored("c", at(100), true)), "it is older than what was asked for");
        assert!(shown.is_new(&stored("c", at(100), false)), "as the stream has it");
    }
}
