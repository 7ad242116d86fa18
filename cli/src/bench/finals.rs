//! Which orders are awaited, and the one subscription that tells when each is final. Nothing is polled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::Client;
use chassis::broker::connecting;
use futures_util::StreamExt as _;
use saga_commands::broker::broker_settings;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::tally::{Outcome, Tally};

/// Final events that may wait for us: the client drops what does not fit without a word, so it is far more than ever waits.
const BACKLOG: usize = 1 << 21;

/// The words of the subjects of final events.
const FINAL: [(&str, Outcome); 3] =
    [("confirmed", Outcome::Confirmed), ("rejected", Outcome::Rejected), ("cancelled", Outcome::Cancelled)];

/// Orders by id: those awaited, and those that were final before we knew their id.
#[derive(Debug)]
pub struct Awaited {
    orders: Mutex<HashMap<Uuid, Entry>>,
    waiting: AtomicI64,
    tally: Arc<Tally>,
}

#[derive(Debug)]
enum Entry {
    Waiting {
        since: Instant,
        _wake: Option<oneshot::Sender<()>>,
    },
    /// The event was quicker than the answer to the POST.
    Early {
        at: Instant,
        outcome: Outcome,
    },
}

impl Awaited {
    /// Nothing awaited yet.
    pub fn new(tally: Arc<Tally>) -> Self {
        Self { orders: Mutex::default(), waiting: AtomicI64::new(0), tally }
    }

    /// Awaits the end of an order submitted at `since`. `wake` is dropped when it has come.
    pub fn expect(&self, order: Uuid, since: Instant, wake: Option<oneshot::Sender<()>>) {
        let mut orders = self.lock();
        match orders.remove(&order) {
            Some(Entry::Early { at, outcome }) => {
                drop(orders);
                self.tally.ended(since, at, outcome);
            }
            // An order is expected once; the server gave the same id to two posts.
            Some(Entry::Waiting { .. }) => self.tally.failed(since, "an id given twice"),
            None => {
                orders.insert(order, Entry::Waiting { since, _wake: wake });
                self.waiting.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// An order is final.
    fn ended(&self, order: Uuid, at: Instant, outcome: Outcome) {
        let mut orders = self.lock();
        match orders.remove(&order) {
            Some(Entry::Waiting { since, .. }) => {
                drop(orders);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                self.tally.ended(since, at, outcome);
            }
            Some(early @ Entry::Early { .. }) => drop(orders.insert(order, early)),
            None => drop(orders.insert(order, Entry::Early { at, outcome })),
        }
    }

    /// How many are awaited.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed).try_into().unwrap_or(0)
    }

    /// Those still awaited; they are awaited no longer.
    pub fn give_up(&self) -> Vec<Uuid> {
        let orders = std::mem::take(&mut *self.lock());
        orders.into_iter().filter(|(_, entry)| matches!(entry, Entry::Waiting { .. })).map(|(order, _)| order).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to the broker for the subscription.
pub async fn connect(nats_url: &str) -> anyhow::Result<Client> {
    let (options, servers) = connecting(&broker_settings(nats_url)?)?;
    let options = options.name("waybill-bench").subscription_capacity(BACKLOG);
    options.connection_timeout(Duration::from_secs(5)).connect(servers).await.context("the broker does not answer")
}

/// Hears final events until it is dropped.
#[derive(Debug)]
pub struct FinalEvents(#[allow(dead_code, reason = "held for its end")] Vec<AbortOnDropHandle<()>>);

impl FinalEvents {
    /// Listens from now on: an order placed after this returns cannot end unheard.
    pub async fn listen(client: &Client, awaited: &Arc<Awaited>) -> anyhow::Result<Self> {
        let mut tasks = Vec::new();
        for (word, outcome) in FINAL {
            let mut events = client.subscribe(format!("events.order.{word}.*")).await?;
            let awaited = awaited.clone();
            tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
                while let Some(event) = events.next().await {
                    let at = Instant::now();
                    if let Some(order) = order_of(&event.subject) {
                        awaited.ended(order, at, outcome);
                    }
                }
            })));
        }
        client.flush().await.context("the broker does not answer")?;
        Ok(Self(tasks))
    }
}

/// The order a subject ends in.
fn order_of(subject: &str) -> Option<Uuid> {
    subject.rsplit('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tally::Window;
    use super::*;

    fn awaited() -> (Awaited, Instant) {
        let start = Instant::now();
        (Awaited::new(Arc::new(Tally::new(Window { start, end: start + Duration::from_secs(60) }))), start)
    }

    #[test]
    fn an_end_counts_once_whichever_comes_first() {
        let (awaited, start) = awaited();
        let [early, late] = [1, 2].map(Uuid::from_u128);
        let at = start + Duration::from_millis(10);
        awaited.ended(early, at, Outcome::Rejected);
        awaited.ended(early, at, Outcome::Rejected);
        awaited.expect(early, start, None);
        awaited.expect(late, start, None);
        assert_eq!(awaited.waiting(), 1);
        awaited.ended(late, at, Outcome::Confirmed);
        let counts = awaited.tally.counts();
        assert_eq!((awaited.waiting(), counts.rejected, counts.confirmed, counts.latency.len()), (0, 1, 1, 2));
        assert!(awaited.give_up().is_empty());
    }

    #[test]
    fn who_waits_is_woken() {
        let (awaited, start) = awaited();
        let order = Uuid::from_u128(1);
        let (wake, mut woken) = oneshot::channel();
        awaited.expect(order, start, Some(wake));
        assert_eq!(woken.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        awaited.ended(order, start, Outcome::Confirmed);
        assert_eq!(woken.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn a_subject_ends_in_the_order() {
        assert_eq!(
            order_of("events.order.confirmed.01920000-0000-7000-8000-00000000000a").map(|id| id.get_version_num()),
            Some(7)
        );
        assert_eq!(order_of("events.order.confirmed.x"), None);
    }
}
