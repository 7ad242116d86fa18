//! The stream of events as the broker describes it.

use std::time::Duration;

use chassis::broker::Broker;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::store::completeness::Checkpoint;

/// Bytes below the limit at which the oldest messages give way: no message is larger.
const NEAR_LIMIT: i64 = 2 * 1024 * 1024;

/// The broker's and our idea of an age may differ so much.
const SLACK: TimeDelta = TimeDelta::seconds(60);

/// What the stream is like at a moment.
pub struct Stream {
    broker: Broker,
    name: &'static str,
    /// When it was made.
    pub incarnation: String,
    pub first_sequence: i64,
    pub last_sequence: i64,
    /// Messages missing between the first and the last.
    pub deleted: i64,
    /// The process of the broker.
    pub server: String,
    first_stored: DateTime<Utc>,
    last_stored: DateTime<Utc>,
    messages: i64,
    bytes: i64,
    max_bytes: i64,
    max_age: Duration,
    now: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Info {
    created: String,
    config: Config,
    state: State,
    ts: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    max_bytes: i64,
    /// Nanoseconds.
    #[serde(default)]
    max_age: u64,
}

#[derive(Deserialize)]
struct State {
    messages: i64,
    bytes: i64,
    first_seq: i64,
    first_ts: DateTime<Utc>,
    last_seq: i64,
    last_ts: DateTime<Utc>,
    #[serde(default)]
    num_deleted: i64,
    #[serde(default)]
    deleted: Vec<i64>,
}

async fn info(broker: &Broker, name: &str, deleted: bool) -> anyhow::Result<Info> {
    Ok(serde_json::from_value(broker.stream_info(name, deleted).await?)?)
}

impl Stream {
    /// Asks the broker.
    pub async fn read(broker: &Broker, name: &'static str) -> anyhow::Result<Self> {
        let Info { created, config, state, ts } = info(broker, name, false).await?;
        Ok(Self {
            broker: broker.clone(),
            name,
            incarnation: created,
            first_sequence: state.first_seq,
            last_sequence: state.last_seq,
            deleted: state.num_deleted,
            server: broker.server_id(),
            first_stored: state.first_ts,
            last_stored: micros(state.last_ts),
            messages: state.messages,
            bytes: state.bytes,
            max_bytes: config.max_bytes,
            max_age: Duration::from_nanos(config.max_age),
            now: ts.unwrap_or_else(Utc::now),
        })
    }

    /// A checkpoint at its last message.
    pub fn checkpoint(&self, complete_until: DateTime<Utc>) -> Checkpoint {
        Checkpoint {
            incarnation: self.incarnation.clone(),
            sequence: self.last_sequence,
            stored_at: self.last_stored,
            deleted: self.deleted,
            server: self.server.clone(),
            complete_until,
        }
    }

    /// Its first message, where it is not the last one too, and when that was stored.
    pub fn first(&self) -> Option<(i64, DateTime<Utc>)> {
        (self.messages > 0 && self.first_sequence < self.last_sequence).then(|| (self.first_sequence, micros(self.first_stored)))
    }

    /// When the oldest message it holds was stored; now, where it holds none.
    pub fn oldest(&self) -> DateTime<Utc> {
        if self.messages > 0 { self.first_stored } else { self.now }
    }

    /// Whether the message of a checkpoint is still the one it was. One that is gone says nothing against it.
    pub async fn holds(&self, checkpoint: &Checkpoint) -> anyhow::Result<bool> {
        if checkpoint.sequence == self.last_sequence {
            return Ok(checkpoint.sequence == 0 || checkpoint.stored_at == self.last_stored);
        }
        if checkpoint.sequence < self.first_sequence || checkpoint.sequence > self.last_sequence {
            return Ok(checkpoint.sequence < self.first_sequence);
        }
        let stored_at = self.broker.stored_at(self.name, checkpoint.sequence.unsigned_abs()).await?;
        Ok(stored_at.is_none_or(|stored_at| micros(stored_at) == checkpoint.stored_at))
    }

    /// Whether the stream's limits explain that a message stored at a moment is gone.
    pub fn explains(&self, stored_at: DateTime<Utc>) -> bool {
        let old = !self.max_age.is_zero() && stored_at <= self.now - age(self.max_age) + SLACK;
        old || self.is_full()
    }

    /// Whether the oldest messages give way to new ones.
    fn is_full(&self) -> bool {
        self.max_bytes > 0 && self.bytes + NEAR_LIMIT >= self.max_bytes
    }

    /// Events older than this are not to be in it: its limits would remove them at once.
    pub fn oldest_to_hold(&self) -> DateTime<Utc> {
        let by_age = if self.max_age.is_zero() { DateTime::UNIX_EPOCH } else { self.now - age(self.max_age) };
        if self.is_full() && self.messages > 0 { by_age.max(self.first_stored) } else { by_age }
    }

    /// How long it keeps a message.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// The first message that is missing in its middle.
    pub async fn first_deleted(&self) -> anyhow::Result<Option<i64>> {
        Ok(info(&self.broker, self.name, true).await?.state.deleted.into_iter().min())
    }
}

/// As Postgres keeps it.
fn micros(time: DateTime<Utc>) -> DateTime<Utc> {
    use chrono::SubsecRound as _;
    time.trunc_subsecs(6)
}

fn age(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
