//! Where dead letters are stored: beside the loop that found them, and only so many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::{AckKind, Message as Delivery};
use tokio::sync::mpsc;

use super::{DeadLetter, Kind, Origin};
use crate::broker::Broker;
use crate::causes::causes;
use crate::delivery::{again, settle};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::packet::Packet;

/// Letters awaiting the broker at once. Each holds its message, so this bounds memory; further ones come again.
const AT_ONCE: usize = 64;

/// For how many seconds' worth of letters a kind may save up while none come.
const SAVED_UP: f64 = 5.0;

/// How often the log says what was let go.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A letter on its way, and the message that is acknowledged once it is stored.
struct Burial {
    delivery: Delivery,
    deliveries: i64,
    kind: (&'static str, Kind),
    id: String,
    packet: Packet,
}

/// Letters let go since the log last said so, by stream and kind.
type LetGo = Arc<Mutex<HashMap<(&'static str, Kind), u64>>>;

/// Takes dead letters and never waits for the broker.
pub(crate) struct Graveyard {
    queue: mpsc::Sender<Burial>,
    limits: HashMap<(&'static str, Kind), Limit>,
    per_second: f64,
    let_go: LetGo,
    metrics: Metrics,
}

impl Graveyard {
    /// The graveyard, and the task that stores what comes to it, until it is dropped and everything is stored.
    pub(crate) fn open(broker: Broker, per_second: u32, metrics: Metrics, health: Health) -> (Self, impl Future<Output = ()>) {
        let (queue, mut burials) = mpsc::channel(AT_ONCE);
        let let_go = LetGo::default();
        let (counted, measured) = (let_go.clone(), metrics.clone());
        let work = async move {
            let mut say = tokio::time::interval(SAY_EVERY);
            let mut some = Vec::new();
            loop {
                tokio::select! {
                    count = burials.recv_many(&mut some, AT_ONCE) => match count {
                        0 => break,
                        _ => store(&broker, std::mem::take(&mut some), &measured).await,
                    },
                    _ = say.tick() => tell(&counted, &health),
                }
            }
            tell(&counted, &health);
        };
        (Self { queue, limits: HashMap::new(), per_second: per_second.into(), let_go, metrics }, work)
    }

    /// Has a letter stored, and its message acknowledged after that; or counts it and acknowledges the message at once, where there were too
    /// many of its kind. Where letters wait for the broker already, the message comes again.
    pub(crate) async fn bury(&mut self, delivery: Delivery, origin: &Origin, letter: &DeadLetter) {
        let Ok(place) = self.queue.try_reserve() else {
            return settle(&delivery, again(origin.deliveries())).await;
        };
        let kind = (origin.stream(), letter.kind);
        if !self.limits.entry(kind).or_insert_with(|| Limit::new(self.per_second)).take(Instant::now()) {
            self.metrics.not_buried(kind.0, kind.1);
            *self.let_go.lock().expect("the counts are never poisoned").entry(kind).or_default() += 1;
            return settle(&delivery, AckKind::Ack).await;
        }
        tracing::error!(from = %origin, events = letter.events.len(), reason = letter.reason, "to the dead letters");
        let (id, packet) = letter.packed(origin);
        place.send(Burial { delivery, deliveries: origin.deliveries(), kind, id, packet });
    }
}

/// Stores letters side by side. The same letter stored again within the window is absorbed by its message id.
async fn store(broker: &Broker, burials: Vec<Burial>, metrics: &Metrics) {
    let mut packets = Vec::with_capacity(burials.len());
    let mut messages = Vec::with_capacity(burials.len());
    for Burial { delivery, deliveries, kind, id, packet } in burials {
        packets.push((id, packet));
        messages.push((delivery, deliveries, kind));
    }
    let stored = broker.publish_as(packets).await;
    if let Err(error) = &stored {
        tracing::warn!(error = causes(error), "the dead letters cannot be stored; trying again");
    }
    for (delivery, deliveries, kind) in messages {
        match &stored {
            Ok(()) => {
                metrics.buried(kind.0, kind.1);
                settle(&delivery, AckKind::Ack).await;
            }
            Err(_) => settle(&delivery, again(deliveries)).await,
        }
    }
}

fn tell(let_go: &LetGo, health: &Health) {
    let counts = std::mem::take(&mut *let_go.lock().expect("the counts are never poisoned"));
    for ((stream, kind), letters) in counts {
        tracing::error!(stream, reason = kind.name(), letters, "too many dead letters of one kind: these were not stored");
        health.let_go(stream, letters);
    }
}

/// How many letters of a kind are stored: a token bucket.
struct Limit {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Limit {
    fn new(per_second: f64) -> Self {
        Self { per_second, tokens: per_second * SAVED_UP, at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.per_second * SAVED_UP);
        self.at = now;
        let some = self.tokens >= 1.0;
        if some {
            self.tokens -= 1.0;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_letters_of_a_kind_are_stored_a_second() {
        let mut limit = Limit::new(2.0);
        let begun = limit.at;
        let mut taken = |after: f64| (0..100).filter(|_| limit.take(begun + Duration::from_secs_f64(after))).count();
        assert_eq!(taken(0.0), 10, "what was saved up");
        assert_eq!((taken(0.25), taken(1.0), taken(1.5)), (0, 2, 1));
        assert_eq!(taken(1000.0), 10, "no more is saved up");
    }
}
