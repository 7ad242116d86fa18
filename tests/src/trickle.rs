//! A steady trickle of orders, beside which faults happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use events::{OrderId, ProductId, UserId};
use reqwest::Method;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Answer, Audit, Client, eventually, id, order_body};

/// Clients that order one thing after another.
const CLIENTS: usize = 4;

/// How long a client rests between two requests: a trickle, not a load.
const REST: Duration = Duration::from_millis(15);

/// How long a client waits for its answer before it asks again with the same key.
const PATIENCE: Duration = Duration::from_secs(3);

/// Clients at work.
pub struct Trickle {
    stop: CancellationToken,
    clients: Vec<JoinHandle<Vec<OrderId>>>,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    taken: AtomicUsize,
    failed: AtomicUsize,
}

/// What they did.
pub struct Tally {
    /// Every order that was taken, each under a key of its own.
    pub orders: Vec<OrderId>,
    /// Requests that were not answered, or with 502 or 503, and made again with the same key.
    pub failed: usize,
}

impl Trickle {
    /// Begins to order one piece after another.
    pub fn begin(api: Client, user: UserId, product: ProductId) -> Self {
        Self::resting(REST, api, user, product)
    }

    /// The same with longer rests between requests.
    pub fn resting(rest: Duration, api: Client, user: UserId, product: ProductId) -> Self {
        let (stop, count) = (CancellationToken::new(), Arc::new(Count::default()));
        let client = || tokio::spawn(client(rest, api.clone(), user, product, stop.clone(), count.clone()));
        Self { clients: (0..CLIENTS).map(|_| client()).collect(), stop, count }
    }

    /// Orders taken so far.
    pub fn taken(&self) -> usize {
        self.count.taken.load(Ordering::SeqCst)
    }

    /// Requests so far that were not answered, or not with an order, and made again with the same key.
    pub fn failed(&self) -> usize {
        self.count.failed.load(Ordering::SeqCst)
    }

    /// Waits until so many further orders are taken.
    pub async fn more(&self, orders: usize) {
        let wanted = self.count.taken.load(Ordering::SeqCst) + orders;
        eventually(Duration::from_secs(30), || async {
            let taken = self.count.taken.load(Ordering::SeqCst);
            if taken >= wanted { Ok(()) } else { Err(format!("{taken} of {wanted} orders taken")) }
        })
        .await;
    }

    /// Waits until a request has failed since.
    pub async fn a_failure(&self) {
        let before = self.count.failed.load(Ordering::SeqCst);
        eventually(Duration::from_secs(30), || async {
            if self.count.failed.load(Ordering::SeqCst) > before { Ok(()) } else { Err("no request failed") }
        })
        .await;
    }

    /// Lets every client bring its last order in.
    pub async fn end(self) -> Tally {
        self.stop.cancel();
        let mut orders = Vec::new();
        for client in self.clients {
            orders.extend(client.await.expect("the client does not panic"));
        }
        Tally { orders, failed: self.count.failed.load(Ordering::SeqCst) }
    }
}

impl Tally {
    /// One order for each key, no more and no fewer, and every one of them confirmed.
    pub fn all_confirmed(&self, audit: Audit) {
        let mut distinct = self.orders.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), self.orders.len(), "two keys, one order");
        assert_eq!(
            (audit.orders, audit.confirmed),
            (self.orders.len(), self.orders.len()),
            "one key, one order, confirmed: {audit:?}"
        );
    }
}

/// Orders until told to stop. What it has begun it brings to an end.
async fn client(
    rest: Duration,
    api: Client,
    user: UserId,
    product: ProductId,
    stop: CancellationToken,
    count: Arc<Count>,
) -> Vec<OrderId> {
    let body = order_body(user, &[(product, 1)]);
    let mut orders = Vec::new();
    while !stop.is_cancelled() {
        let key = Uuid::now_v7().to_string();
        loop {
            let request = api.request(Method::POST, "/orders").header("idempotency-key", &key).json(&body).timeout(PATIENCE);
            match Answer::try_of(request).await {
                Ok(answer) if answer.status == 202 => {
                    orders.push(OrderId(id(&answer.json())));
                    count.taken.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                // 502: the gateway does not know; the key makes asking again safe.
                Ok(answer) if ![502, 503].contains(&answer.status) => panic!("an odd answer: {answer:#?}"),
                Ok(_) | Err(_) => count.failed.fetch_add(1, Ordering::SeqCst),
            };
            tokio::time::sleep(rest).await;
        }
        tokio::time::sleep(rest).await;
    }
    orders
}
