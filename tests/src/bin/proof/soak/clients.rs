//! Clients of every kind, and what each was told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use events::{OrderId, ProductId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Service, id};
use tokio::sync::RwLock;
use tokio::sync::RwLockWriteGuard;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::soak::fleet::Fleet;
use crate::soak::log::Log;

/// A request to place an order, under one key.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub body: Value,
    /// The order, once somebody said so. Until then it may or may not be there.
    pub order: Option<OrderId>,
}

/// What clients did and were told.
#[derive(Default)]
pub struct Told {
    /// By key.
    pub attempts: BTreeMap<String, Attempt>,
    /// Orders for which a cancellation was accepted, and those for which one was asked for at all.
    pub cancelled: Vec<OrderId>,
    pub to_be_cancelled: Vec<OrderId>,
    /// Final states that somebody saw.
    pub seen: Vec<(OrderId, String)>,
    /// Stock deliveries by their unlike amounts, and whether they were acknowledged.
    pub deliveries: BTreeMap<i64, bool>,
    /// Reservations without an order that were asked for, each under a key of its own.
    pub holds: i64,
    /// Answers by route and status.
    requests: BTreeMap<String, u64>,
}

/// The ledger of all clients.
pub struct Ledger {
    told: Mutex<Told>,
    pub users: Vec<UserId>,
    pub products: Vec<ProductId>,
    next_delivery: AtomicU64,
}

impl Ledger {
    /// Creates whom and what the orders are for.
    pub async fn open(fleet: &Fleet) -> Arc<Self> {
        let system = &fleet.system;
        let (mut users, mut products) = (Vec::new(), Vec::new());
        for n in 0..6 {
            users.push(system.create_user(n != 5).await);
        }
        users.push(UserId(Uuid::now_v7())); // whom nobody knows
        for n in 0..6 {
            // Some are plenty, two run out.
            products.push(system.create_product(if n < 4 { 1_000_000 } else { 40 }, 100 + n).await);
        }
        Arc::new(Self { told: Mutex::default(), users, products, next_delivery: AtomicU64::new(1_000_001) })
    }

    /// What there is so far.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("never poisoned")
    }

    /// Orders somebody was told of.
    pub fn orders(&self) -> usize {
        self.told().attempts.values().filter(|attempt| attempt.order.is_some()).count()
    }

    /// Answers by route and status.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.told().requests.clone()
    }

    fn some_order(&self, rng: &mut fastrand::Rng) -> Option<OrderId> {
        let told = self.told();
        let known: Vec<OrderId> = told.attempts.values().rev().take(200).filter_map(|attempt| attempt.order).collect();
        (!known.is_empty()).then(|| known[rng.usize(..known.len())])
    }
}

/// Clients at work.
pub struct Working {
    clients: JoinSet<()>,
    gate: Arc<RwLock<bool>>,
}

impl Working {
    /// Waits until nobody has a request under way; nobody begins one until the guard is dropped.
    pub async fn pause(&self) -> RwLockWriteGuard<'_, bool> {
        self.gate.write().await
    }

    /// Lets everybody go home.
    pub async fn end(mut self) {
        *self.gate.write().await = true;
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
    }
}

/// Clients begin to work.
pub fn begin(fleet: &Arc<Fleet>, ledger: &Arc<Ledger>, count: usize, seed: u64, log: &Log) -> Working {
    let gate = Arc::new(RwLock::new(false));
    let mut clients = JoinSet::new();
    for number in 0..count {
        let rng = fastrand::Rng::with_seed(seed ^ (number as u64 + 1) << 40);
        let client = Client { fleet: fleet.clone(), ledger: ledger.clone(), rng, log: log.clone() };
        clients.spawn(client.work(gate.clone()));
    }
    Working { clients, gate }
}

struct Client {
    fleet: Arc<Fleet>,
    ledger: Arc<Ledger>,
    rng: fastrand::Rng,
    log: Log,
}

/// What makes no sense, whatever is broken.
const NONSENSE: [&str; 7] = [
    "{",
    "[]",
    "{\"user_id\":\"nobody\",\"items\":[]}",
    "{\"user_id\":\"0190a5c8-7e5c-7cc0-8000-000000000002\",\"items\":[]}",
    "{\"user_id\":\"0190a5c8-7e5c-7cc0-8000-000000000002\",\"items\":[{\"product_id\":\"0190a5c8-7e5c-7cc0-8000-000000000002\",\"quantity\":0}]}",
    "{\"more\":true}",
    "\u{feff}null",
];

impl Client {
    async fn work(mut self, gate: Arc<RwLock<bool>>) {
        loop {
            {
                let over = gate.read().await;
                if *over {
                    return;
                }
                match self.rng.u32(..100) {
                    0..62 => self.place().await,
                    62..74 => self.cancel().await,
                    74..79 => self.deliver().await,
                    79..84 => self.hold().await,
                    84..94 => self.look().await,
                    _ => self.nonsense().await,
                }
            }
            tokio::time::sleep(Duration::from_millis(self.rng.u64(5..120))).await;
        }
    }

    /// Sends a request; `None`: no answer, or that the service is not there. An answer that no fault excuses is a violation.
    async fn ask(&mut self, what: &str, request: reqwest::RequestBuilder) -> Option<Answer> {
        let patience = Duration::from_millis(self.rng.u64(300..4_000));
        let answer = Answer::try_of(request.timeout(patience)).await.ok();
        let status = answer.as_ref().map_or_else(|| "none".to_owned(), |answer| answer.status.to_string());
        *self.ledger.told().requests.entry(format!("{what} {status}")).or_default() += 1;
        let answer = answer?;
        match answer.status {
            502..=504 => None,
            500.. => {
                self.log.violated(format!("{what}: {} {}", answer.status, answer.text));
                None
            }
            _ => Some(answer),
        }
    }

    async fn place(&mut self) {
        let key = Uuid::now_v7().to_string();
        let body = self.order();
        let attempt = Attempt { body: body.clone(), order: None };
        self.ledger.told().attempts.insert(key.clone(), attempt);
        let tries = if self.rng.u32(..8) == 0 { 1 } else { self.rng.usize(2..12) };
        for _ in 0..tries {
            if let Some(answer) = self.post(&key, &body).await {
                self.taken(&key, &answer);
                break;
            }
            tokio::time::sleep(Duration::from_millis(self.rng.u64(20..400))).await;
        }
        match self.rng.u32(..10) {
            0 => {
                if let Some(answer) = self.post(&key, &body).await {
                    self.taken(&key, &answer);
                }
            }
            1 if self.ledger.told().attempts[&key].order.is_some() => {
                let mut other = body.clone();
                other["items"][0]["quantity"] = json!(99_999);
                match self.post(&key, &other).await {
                    Some(answer) if answer.status != 422 => {
                        self.log.violated(format!("another order under the same key: {answer:?}"));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    async fn post(&mut self, key: &str, body: &Value) -> Option<Answer> {
        let client = self.fleet.client(Service::Order, &mut self.rng);
        let mut request = client.request(Method::POST, "/orders").header("idempotency-key", key).json(body);
        if self.rng.u32(..4) == 0 {
            request = request.header("prefer", format!("wait={}", self.rng.u32(1..4)));
        }
        self.ask("place", request).await
    }

    fn order(&mut self) -> Value {
        let user = self.ledger.users[self.rng.usize(..self.ledger.users.len())];
        let mut products = self.ledger.products.clone();
        self.rng.shuffle(&mut products);
        products.truncate(self.rng.usize(1..4));
        let items: Vec<Value> =
            products.iter().map(|product| json!({ "product_id": product, "quantity": self.rng.i64(1..4) })).collect();
        json!({ "user_id": user, "items": items })
    }

    /// An order was answered: it is there from now on.
    fn taken(&mut self, key: &str, answer: &Answer) {
        if ![201, 202].contains(&answer.status) {
            return self.log.violated(format!("a good order was refused: {answer:?}"));
        }
        let view = answer.json();
        let order = OrderId(id(&view));
        let mut told = self.ledger.told();
        let attempt = told.attempts.get_mut(key).expect("made before");
        if attempt.order.is_some_and(|before| before != order) {
            self.log.violated(format!("two orders under the key {key}: {:?} and {order}", attempt.order));
        }
        attempt.order = Some(order);
        let status = view["status"].as_str().unwrap_or_default().to_owned();
        if ["confirmed", "rejected", "cancelled"].contains(&status.as_str()) {
            told.seen.push((order, status));
        }
    }

    /// Cancels under a key, until there is an answer; sometimes once more: the answer is the same. Sometimes another order under that key,
    /// which is refused.
    async fn cancel(&mut self) {
        let Some(order) = self.ledger.some_order(&mut self.rng) else { return };
        self.ledger.told().to_be_cancelled.push(order);
        let key = Uuid::now_v7().to_string();
        let mut first: Option<u16> = None;
        for _ in 0..self.rng.usize(1..8) {
            match self.cancel_under(&key, order).await {
                Some(answer) if [202, 409].contains(&answer.status) => {
                    if first.is_some_and(|first| first != answer.status) {
                        self.log.violated(format!("cancel {order} under {key}: first {first:?}, then {answer:?}"));
                    }
                    if answer.status == 202 {
                        if answer.json()["id"] != json!(order) {
                            self.log.violated(format!("cancel {order} under {key} is answered with another order: {answer:?}"));
                        }
                        self.ledger.told().cancelled.push(order);
                    }
                    first = Some(answer.status);
                    if self.rng.bool() {
                        break;
                    }
                }
                Some(answer) => return self.log.violated(format!("cancel {order}: {answer:?}")),
                None => tokio::time::sleep(Duration::from_millis(self.rng.u64(20..300))).await,
            }
        }
        if first == Some(202)
            && self.rng.u32(..4) == 0
            && let Some(other) = self.ledger.some_order(&mut self.rng).filter(|other| *other != order)
            && let Some(answer) = self.cancel_under(&key, other).await
            && answer.status != 422
        {
            self.log.violated(format!("{other} is cancelled under the key of {order}: {answer:?}"));
        }
    }

    async fn cancel_under(&mut self, key: &str, order: OrderId) -> Option<Answer> {
        let client = self.fleet.client(Service::Order, &mut self.rng);
        let request = client.request(Method::POST, &format!("/orders/{order}/cancel")).header("idempotency-key", key);
        self.ask("cancel", request.json(&json!({}))).await
    }

    async fn deliver(&mut self) {
        let delta = self.ledger.next_delivery.fetch_add(1, Ordering::SeqCst) as i64;
        self.ledger.told().deliveries.insert(delta, false);
        let product = self.ledger.products[self.rng.usize(..4)];
        let key = Uuid::now_v7().to_string();
        for _ in 0..self.rng.usize(1..8) {
            let answer = self.change("deliver", &format!("/products/{product}/stock"), &key, &json!({ "delta": delta })).await;
            match answer {
                Some(answer) if answer.status == 200 => {
                    self.ledger.told().deliveries.insert(delta, true);
                    // Sometimes once more all the same.
                    if self.rng.bool() {
                        return;
                    }
                }
                // There is room for a thousand deliveries.
                Some(answer) if answer.status == 409 && answer.text.contains("stock-out-of-range") => return,
                Some(answer) => return self.log.violated(format!("deliver: {answer:?}")),
                None => tokio::time::sleep(Duration::from_millis(self.rng.u64(20..300))).await,
            }
        }
    }

    /// Asks the product service for a change, under a key.
    async fn change(&mut self, what: &str, path: &str, key: &str, body: &Value) -> Option<Answer> {
        let client = self.fleet.client(Service::Product, &mut self.rng);
        self.ask(what, client.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    /// Holds stock without an order, and gives it back.
    async fn hold(&mut self) {
        let product = self.ledger.products[self.rng.usize(..self.ledger.products.len())];
        let (key, body) = (Uuid::now_v7().to_string(), json!({ "product_id": product, "quantity": 1 }));
        self.ledger.told().holds += 1;
        let mut held: Option<Value> = None;
        for _ in 0..self.rng.usize(1..6) {
            match self.change("hold", "/products/reserve", &key, &body).await {
                Some(answer) if answer.status == 200 => {
                    let reservation = answer.json()["reservation_id"].clone();
                    if held.as_ref().is_some_and(|held| *held != reservation) {
                        self.log.violated(format!("two reservations under one key: {held:?} and {reservation}"));
                    }
                    held = Some(reservation);
                }
                Some(answer) if answer.status == 409 => return,
                Some(answer) => return self.log.violated(format!("hold: {answer:?}")),
                None => {}
            }
        }
        let Some(reservation) = held.as_ref().and_then(Value::as_str) else { return };
        let key = Uuid::now_v7().to_string();
        for _ in 0..6 {
            match self.change("release", &format!("/products/reservations/{reservation}/release"), &key, &json!({})).await {
                Some(answer) if answer.status == 200 => return,
                Some(answer) => return self.log.violated(format!("release: {answer:?}")),
                None => {}
            }
        }
    }

    async fn look(&mut self) {
        let Some(order) = self.ledger.some_order(&mut self.rng) else { return };
        let path = if self.rng.bool() { format!("/orders/{order}") } else { format!("/orders/{order}/history") };
        let client = self.fleet.client(Service::Order, &mut self.rng);
        match self.ask("look", client.request(Method::GET, &path)).await {
            Some(answer) if answer.status == 200 => {
                let status = answer.json()["status"].as_str().unwrap_or_default().to_owned();
                if ["confirmed", "rejected", "cancelled"].contains(&status.as_str()) {
                    self.ledger.told().seen.push((order, status));
                }
            }
            Some(answer) => self.log.violated(format!("an order that was taken: {answer:?}")),
            None => {}
        }
    }

    async fn nonsense(&mut self) {
        let body = NONSENSE[self.rng.usize(..NONSENSE.len())];
        let client = self.fleet.client(Service::Order, &mut self.rng);
        let request = client.request(Method::POST, "/orders").header("content-type", "application/json").body(body);
        if let Some(answer) = self.ask("nonsense", request).await
            && ![400, 422].contains(&answer.status)
        {
            self.log.violated(format!("nonsense was answered {answer:?}"));
        }
    }
}
