//! The invariants no fault may break, proved over the three databases and the broker after every test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use events::order::Status;
use order::saga::Order;
use saga::{Effect, Milestone};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::FINAL;
use crate::{Said, System, eventually};

/// How long what was begun may take to end, and what was said to reach the broker.
const QUIET_WITHIN: Duration = Duration::from_secs(45);

/// How long it may take until the order service has noticed that the broker lost events, and has published them again.
const COMPLETE_WITHIN: Duration = Duration::from_secs(60);

/// How often the stream of order events is read while some are missing.
const READ_EVERY: Duration = Duration::from_millis(250);

/// What there was to audit, so that a test can say that it was not nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    #[allow(missing_docs)]
    pub orders: usize,
    #[allow(missing_docs)]
    pub confirmed: usize,
    #[allow(missing_docs)]
    pub rejected: usize,
    #[allow(missing_docs)]
    pub cancelled: usize,
    /// History entries, all of which replay to what they say.
    pub entries: usize,
}

/// An order as its row says.
#[derive(sqlx::FromRow)]
struct OrderRow {
    id: Uuid,
    user_id: Uuid,
    items: Value,
    unit_prices: Option<Vec<i64>>,
    currency: Option<String>,
    total: Option<i64>,
    status: String,
    sequence: i32,
}

impl System {
    /// Waits until nothing is under way, then proves everything. Panics with what is wrong.
    pub async fn audit(&self) -> Audit {
        let (audit, told) = self.prove_databases().await;
        self.audit_events(&told).await;
        audit
    }

    /// The same without the broker's stream of order events: for an order service that does not watch it.
    pub async fn audit_databases(&self) -> Audit {
        self.prove_databases().await.0
    }

    /// The databases, and the ids of the events that the histories told.
    async fn prove_databases(&self) -> (Audit, BTreeSet<String>) {
        self.quiet().await;
        // One moment for both: a repetition that is still on its way adds an entry to the history of an order long settled.
        let mut moment = self.order_db.begin_with("begin isolation level repeatable read").await.expect("a transaction");
        let orders = orders(&mut moment).await;
        let (entries, told) = audit_histories(&mut moment, &orders).await;
        drop(moment);
        self.audit_stock().await;
        self.audit_reservations(&orders).await;
        let count = |status: &str| orders.iter().filter(|order| order.status == status).count();
        let (confirmed, rejected, cancelled) = (count("confirmed"), count("rejected"), count("cancelled"));
        (Audit { orders: orders.len(), confirmed, rejected, cancelled, entries }, told)
    }

    /// Every order is final and waits for nobody, everything that was to be said has been, and nothing more comes: a request whose
    /// client hung up may be carried out yet.
    async fn quiet(&self) {
        const STILL_FOR: Duration = Duration::from_millis(300);
        loop {
            self.settled().await;
            let before = self.moves().await;
            tokio::time::sleep(STILL_FOR).await;
            if self.moves().await == before {
                return;
            }
        }
    }

    /// How many orders there are, and how many entries in their histories.
    async fn moves(&self) -> (i64, i64) {
        sqlx::query_as("select count(*), coalesce(sum(sequence), 0)::bigint from orders")
            .fetch_one(&self.order_db)
            .await
            .expect("the orders")
    }

    async fn settled(&self) {
        eventually(QUIET_WITHIN, || async {
            let open: Vec<(Uuid, String, bool, Value)> = sqlx::query_as(
                "select id, status, settled, state from orders where not settled or status in ('pending', 'cancelling') limit 5",
            )
            .fetch_all(&self.order_db)
            .await
            .map_err(|error| error.to_string())?;
            if open.is_empty() { Ok(()) } else { Err(format!("orders not final and settled: {open:#?}")) }
        })
        .await;
        for (service, pool) in [("user", &self.user_db), ("product", &self.product_db), ("order", &self.order_db)] {
            eventually(QUIET_WITHIN, || async {
                let left = scalar(pool, "select count(*) from outbox").await?;
                if left == 0 { Ok(()) } else { Err(format!("{left} rows in the outbox of the {service} service")) }
            })
            .await;
        }
    }

    /// What was received is available or reserved, and what is reserved is held by somebody.
    async fn audit_stock(&self) {
        let wrong: Vec<(Uuid, i64, i64, i64, i64)> = sqlx::query_as(
            "select id, stock, reserved, received, held from (\
               select p.id, p.stock, p.reserved, \
                      (select coalesce(sum(delta), 0)::bigint from stock_changes c where c.product_id = p.id) as received, \
                      (select coalesce(sum((item->>'quantity')::bigint), 0)::bigint \
                       from reservations r, json_array_elements(r.items) item \
                       where r.status = 'reserved' and (item->>'product_id')::uuid = p.id) as held \
               from products p) each \
             where received <> stock + reserved or reserved <> held or stock < 0",
        )
        .fetch_all(&self.product_db)
        .await
        .expect("the stock");
        assert!(wrong.is_empty(), "stock that does not add up (product, stock, reserved, received, held): {wrong:#?}");
    }

    /// A confirmed order holds exactly its lines at its prices, and no other order holds anything.
    async fn audit_reservations(&self, orders: &[OrderRow]) {
        let held: Vec<(Uuid, Value)> =
            sqlx::query_as("select id, items from reservations where status = 'reserved' and not direct")
                .fetch_all(&self.product_db)
                .await
                .expect("the reservations");
        let held: BTreeMap<Uuid, Value> = held.into_iter().collect();
        let confirmed: BTreeMap<Uuid, Value> =
            orders.iter().filter(|order| order.status == "confirmed").map(|order| (order.id, priced(order))).collect();
        assert_eq!(held, confirmed, "what orders hold (left) is what confirmed orders bought (right)");
    }

    /// The stream of order events, once it holds every event that the histories told. What the broker lost comes again.
    async fn complete(&self, wanted: &BTreeSet<String>) -> Vec<Said> {
        let deadline = Instant::now() + COMPLETE_WITHIN;
        loop {
            let said = self.said("ORDER_EVENTS").await;
            let there: BTreeSet<&str> = said.iter().map(|said| said.header("ce-id")).collect();
            let missing: Vec<&String> = wanted.iter().filter(|id| !there.contains(id.as_str())).collect();
            if missing.is_empty() {
                return said;
            }
            let (count, some) = (missing.len(), &missing[..missing.len().min(5)]);
            assert!(Instant::now() < deadline, "{count} events are not in ORDER_EVENTS after {COMPLETE_WITHIN:?}: {some:?}...");
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    /// Everyone was told every event of every history and no other, and once how each order ended, and told the truth.
    async fn audit_events(&self, wanted: &BTreeSet<String>) {
        let orders = orders(&mut self.order_db.acquire().await.expect("a connection")).await;
        // By order and word: the distinct events. A repetition of one (after the window of de-duplication) bears the same id.
        let mut told: BTreeMap<(String, String), BTreeMap<String, Value>> = BTreeMap::new();
        for said in self.complete(wanted).await {
            let mut parts = said.subject.rsplit('.');
            let (id, word) = (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned());
            let event = said.header("ce-id");
            assert!(wanted.contains(event), "an event that no history told: {said:?}");
            assert!(event.starts_with(&format!("{id}/{word}/")), "an event under another's subject: {said:?}");
            let before = told.entry((id, word)).or_default().insert(event.to_owned(), said.json());
            assert!(before.is_none_or(|before| before == said.json()), "one id, two events: {said:?}");
        }
        let ids: BTreeSet<String> = orders.iter().map(|order| order.id.to_string()).collect();
        let strangers: Vec<_> = told.keys().filter(|(id, _)| !ids.contains(id)).collect();
        assert!(strangers.is_empty(), "events of orders nobody placed: {strangers:?}");
        for order in orders {
            let events = |word: &str| told.get(&(order.id.to_string(), word.to_owned())).cloned().unwrap_or_default();
            assert_eq!(events("placed").len(), 1, "order {} is told to be placed once", order.id);
            let last = events(&order.status);
            assert_eq!(last.len(), 1, "order {} is told to be {} once", order.id, order.status);
            let last = last.values().next().expect("one");
            assert_eq!(last["status"], order.status, "{last:#}");
            assert_eq!(last["total"]["amount"].as_i64(), order.total, "{last:#}");
            let entries = last["waybill"].as_array().map(|entries| entries.len() as u64);
            // One too large for the broker is claimed instead.
            let entries = entries.or_else(|| last["waybill_ref"]["entries"].as_u64()).unwrap_or_default();
            assert!(entries >= 2, "a final event carries the whole waybill: {last:#}");
            // Only a confirmed order can come to a second end, by being cancelled.
            for other in FINAL.into_iter().filter(|word| *word != order.status) {
                let allowed = order.status == "cancelled" && other == "confirmed";
                assert!(allowed || events(other).is_empty(), "order {} is {} and was told to be {other}", order.id, order.status);
            }
        }
    }
}

async fn orders(db: &mut PgConnection) -> Vec<OrderRow> {
    sqlx::query_as("select id, user_id, items, unit_prices, currency, total, status, sequence from orders order by id")
        .fetch_all(db)
        .await
        .expect("the orders")
}

/// Histories have no gaps, end where the row says, and replay to what they say. Returns how many entries there are, and the ids of the
/// events they told.
async fn audit_histories(db: &mut PgConnection, orders: &[OrderRow]) -> (usize, BTreeSet<String>) {
    let rows: Vec<(Uuid, i32, DateTime<Utc>, Value)> =
        sqlx::query_as("select order_id, sequence, at, entry::json from order_history order by order_id, sequence")
            .fetch_all(db)
            .await
            .expect("the histories");
    let (count, mut told) = (rows.len(), BTreeSet::new());
    let mut histories: BTreeMap<Uuid, Vec<Value>> = BTreeMap::new();
    for (id, sequence, at, mut entry) in rows {
        entry["sequence"] = json!(sequence);
        entry["time"] = json!(at);
        histories.entry(id).or_default().push(entry);
    }
    for row in orders {
        let history = histories.remove(&row.id).unwrap_or_default();
        let sequences: Vec<i64> = history.iter().filter_map(|entry| entry["sequence"].as_i64()).collect();
        assert!(sequences.iter().copied().eq(1..=row.sequence.into()), "the history of {} is {sequences:?}", row.id);
        let entries: Vec<saga::Entry<Order>> =
            serde_json::from_value(history.into()).unwrap_or_else(|error| panic!("the history of {}: {error}", row.id));
        let order = Order {
            id: events::OrderId(row.id),
            user_id: events::UserId(row.user_id),
            items: serde_json::from_value(row.items.clone()).expect("lines"),
            reference: None,
            tags: events::Tags::default(),
        };
        let divergence = saga::divergence(&order, &entries);
        assert_eq!(divergence, None, "the history of {} does not replay", row.id);
        told.extend(entries.iter().flat_map(events_of).map(|event| format!("{}/{event}", row.id)));
    }
    assert!(histories.is_empty(), "histories without an order: {:?}", histories.keys());
    (count, told)
}

/// The events that an entry told, each as the end of its id: `confirmed/3`.
fn events_of(entry: &saga::Entry<Order>) -> impl Iterator<Item = String> {
    let word = |milestone: &Milestone| match (milestone, Order::status(&entry.state)) {
        (Milestone::Started, _) => "placed",
        (Milestone::Compensating, _) => "compensating",
        (Milestone::Completed, _) => "confirmed",
        (Milestone::Compensated, Status::Cancelled) => "cancelled",
        (Milestone::Compensated, _) => "rejected",
    };
    entry.sent.iter().filter_map(move |message| match message {
        Effect::Notify(notice) => Some(format!("{}/{}", word(notice), entry.sequence)),
        Effect::Execute { .. } | Effect::Compensate { .. } => None,
    })
}

/// The lines of a confirmed order as its reservation should have them.
fn priced(order: &OrderRow) -> Value {
    let prices = order.unit_prices.clone().unwrap_or_default();
    let mut items = order.items.as_array().expect("lines").clone();
    assert_eq!(items.len(), prices.len(), "a price for each line of {}", order.id);
    for (item, price) in items.iter_mut().zip(&prices) {
        item["unit_price"] = json!({ "amount": price, "currency": order.currency });
    }
    let quantity = |item: &Value| item["quantity"].as_i64().expect("a quantity");
    let total: i64 = items.iter().zip(prices).map(|(item, price)| quantity(item) * price).sum();
    assert_eq!(order.total, Some(total), "the total of {}", order.id);
    items.into()
}

async fn scalar(pool: &PgPool, query: &'static str) -> Result<i64, String> {
    sqlx::query_scalar(query).fetch_one(pool).await.map_err(|error| error.to_string())
}
