//! The transactional outbox: what a transaction says is written with it, in one row, and published after it.
//!
//! The task that committed publishes at once. What it could not (the broker was away, the process died) is found by the relay.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::broker::Broker;
use crate::database::Database;
use crate::metrics;
use crate::outgoing::{Outgoing, Packet};
use crate::settings::BrokerSettings;

/// How often the relay looks for rows left behind.
const RELAY_EVERY: Duration = Duration::from_secs(1);

/// How long published rows are gathered before one statement deletes them.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Rows the relay publishes in one transaction: few, so that the transaction stays short.
const RELAY_ROWS: i64 = 16;

/// How long a batch waits for room among the rows in flight. A slow broker slows the batches; one that hangs leaves rows to the relay.
const ROOM_WITHIN: Duration = Duration::from_secs(1);

/// Inserts an outbox row, bound as the first five parameters of the statement it is part of; see [`Outgoing::statement`]. None where
/// there is nothing to say.
///
/// [`Outgoing::statement`]: crate::Outgoing::statement
#[macro_export]
macro_rules! outbox {
    () => {
        "insert into outbox (id, subjects, headers, payloads, notes) select $1, $2, $3, $4, $5 where $1 is not null"
    };
}

/// Makes messages again from what the database holds. A service whose messages say nothing that is not there keeps them out of the
/// outbox: a note of each is enough.
pub trait Recall: Send + Sync + 'static {
    /// The messages these notes stand for, exactly as they were made first.
    fn recall<'a>(&'a self, db: &'a mut PgConnection, notes: &'a [u8]) -> BoxFuture<'a, anyhow::Result<Vec<Packet>>>;
}

/// The outbox of one database.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    database: Database,
    broker: Broker,
    relay_after: Duration,
    in_flight: Arc<Semaphore>,
    publishing: TaskTracker,
    published: Mutex<Vec<Uuid>>,
    something_published: Notify,
    recall: Option<Box<dyn Recall>>,
}

/// Room for one row among those in flight.
pub(crate) struct Room(#[allow(dead_code)] OwnedSemaphorePermit);

impl Outbox {
    pub(crate) fn new(database: Database, broker: Broker, settings: &BrokerSettings, recall: Option<Box<dyn Recall>>) -> Self {
        Self(Arc::new(Inner {
            database,
            broker,
            relay_after: settings.relay_after,
            in_flight: Arc::new(Semaphore::new(settings.publish_in_flight)),
            publishing: TaskTracker::new(),
            published: Mutex::default(),
            something_published: Notify::new(),
            recall,
        }))
    }

    /// Waits for room among the rows in flight. `None`: the broker is away or does not keep up; what is written is left to the relay.
    pub(crate) async fn room(&self) -> Option<Room> {
        if !self.0.broker.is_connected() {
            return None;
        }
        let room = tokio::time::timeout(ROOM_WITHIN, self.0.in_flight.clone().acquire_owned()).await;
        room.ok()?.ok().map(Room)
    }

    /// Publishes what is committed in the background. What cannot be published now is left to the relay.
    pub(crate) fn publish(&self, room: Room, outgoing: Outgoing) {
        let (outbox, row, packets) = (self.clone(), outgoing.id(), outgoing.into_packets());
        if packets.is_empty() {
            return;
        }
        self.0.publishing.spawn(async move {
            let messages = packets.len();
            match outbox.0.broker.publish(&row.to_string(), packets).await {
                Ok(()) => {
                    metrics::published(messages);
                    outbox.0.published.lock().expect("the list is never poisoned").push(row);
                    outbox.0.something_published.notify_one();
                }
                Err(error) => {
                    metrics::publish_failed();
                    tracing::warn!(%row, %error, "not published; the relay will");
                }
            }
            drop(room);
        });
    }

    /// Deletes what is published and publishes what was left behind, until shutdown; then waits for the last acknowledgements.
    pub(crate) async fn relay(&self, shutdown: &CancellationToken) {
        let mut look = tokio::time::interval(RELAY_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !shutdown.is_cancelled() {
            tokio::select! {
                _ = look.tick() => {
                    while self.0.broker.is_connected() && !shutdown.is_cancelled() {
                        match self.publish_left_behind().await {
                            Ok(rows) if rows == RELAY_ROWS as usize => {}
                            Ok(_) => break,
                            Err(error) => {
                                tracing::warn!(%error, "the relay could not publish; trying again");
                                break;
                            }
                        }
                    }
                }
                () = self.0.something_published.notified() => {
                    tokio::time::sleep(SWEEP_EVERY).await;
                    self.sweep().await;
                }
                () = shutdown.cancelled() => {}
            }
        }
        self.0.publishing.close();
        self.0.publishing.wait().await;
        self.sweep().await;
    }

    /// Takes rows nobody published in time, publishes them and deletes them. Rows another instance is at work on are passed over.
    async fn publish_left_behind(&self) -> anyhow::Result<usize> {
        let mut tx = self.0.database.pool().begin().await?;
        let rows = sqlx::query(
            "select id, subjects, headers, payloads, notes from outbox \
             where created_at < now() - make_interval(secs => $1) order by id limit $2 for update skip locked",
        )
        .bind(self.0.relay_after.as_secs_f64())
        .bind(RELAY_ROWS)
        .fetch_all(&mut *tx)
        .await?;
        let mut ids: Vec<Uuid> = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: Uuid = row.try_get("id")?;
            let notes: &[u8] = row.try_get("notes")?;
            let packets = if notes.is_empty() {
                packets(row.try_get("subjects")?, row.try_get("headers")?, row.try_get("payloads")?)
            } else {
                let recall = self.0.recall.as_ref().context("an outbox row is to be recalled, and nobody can")?;
                recall.recall(&mut tx, notes).await?
            };
            self.0.broker.publish(&id.to_string(), packets).await?;
            ids.push(id);
        }
        if !ids.is_empty() {
            metrics::relayed(ids.len());
            tracing::info!(rows = ids.len(), "published what was left behind");
            sqlx::query("delete from outbox where id = any($1)").bind(&ids).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(ids.len())
    }

    /// Deletes published rows. Without waiting for the disk: a deletion lost in a crash means one more harmless repetition.
    async fn sweep(&self) {
        let ids = std::mem::take(&mut *self.0.published.lock().expect("the list is never poisoned"));
        if ids.is_empty() {
            return;
        }
        let deleted: sqlx::Result<()> = async {
            let mut tx = self.0.database.pool().begin().await?;
            sqlx::query("set local synchronous_commit = off").execute(&mut *tx).await?;
            sqlx::query("delete from outbox where id = any($1)").bind(&ids).execute(&mut *tx).await?;
            tx.commit().await
        }
        .await;
        if let Err(error) = deleted {
            tracing::warn!(%error, "published rows not deleted; they will be published again");
        }
    }
}

pub(crate) fn headers_to_json(packets: &[Packet]) -> Value {
    let headers = |packet: &Packet| {
        Value::Object(packet.headers.iter().map(|(name, value)| (name.to_string(), Value::from(value.as_str()))).collect())
    };
    packets.iter().map(headers).collect()
}

fn packets(subjects: Vec<String>, headers: Value, payloads: Vec<Vec<u8>>) -> Vec<Packet> {
    let headers = headers.as_array().cloned().unwrap_or_default();
    let read = |headers: &Map<String, Value>| {
        headers.iter().map(|(name, value)| (name.clone().into(), value.as_str().unwrap_or_default().to_owned())).collect()
    };
    subjects
        .into_iter()
        .zip(payloads)
        .enumerate()
        .map(|(index, (subject, payload))| Packet {
            subject,
            headers: headers.get(index).and_then(Value::as_object).map(read).unwrap_or_default(),
            payload: payload.into(),
        })
        .collect()
}
