//! What must be true once everything is quiet, whatever happened before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use events::OrderId;
use serde_json::Value;
use testkit::Service;
use tokio::process::Command;
use uuid::Uuid;

use crate::run::words;
use crate::soak::clients::Ledger;
use crate::soak::faults::ON_PURPOSE;
use crate::soak::fleet::Fleet;
use crate::soak::log::Log;

/// Looks at everything. Every sentence is a violation.
pub async fn everything(fleet: &Arc<Fleet>, ledger: &Arc<Ledger>, folder: &Path, log: &Log) -> Vec<String> {
    let mut found = Vec::new();
    // Stock conserved, one effect a command, nothing held for a dead order, histories replay, outboxes empty, everybody told once, and
    // what the broker lost of the events is there again.
    let system = fleet.clone();
    if let Err(error) = tokio::spawn(async move { system.system.audit().await }).await {
        return vec![words(error)]; // not quiet: nothing else can be said
    }
    for part in [
        orders(fleet, ledger).await,
        deliveries(fleet, ledger).await,
        dead_letters(fleet).await,
        told_in_order(fleet, folder, log).await,
    ] {
        found.extend(part.into_iter().take(10));
    }
    found.extend(commands(fleet, folder).await);
    found
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    items: Value,
    status: String,
    idempotency_key: Option<String>,
}

/// What clients were told is true: one order a key, the very one, with its end.
async fn orders(fleet: &Fleet, ledger: &Ledger) -> Vec<String> {
    let rows: Vec<Row> = sqlx::query_as("select id, user_id, items, status, idempotency_key from orders")
        .fetch_all(&fleet.system.order_db)
        .await
        .expect("the orders");
    let told = ledger.told();
    let mut found = Vec::new();
    let by_id: BTreeMap<Uuid, &Row> = rows.iter().map(|row| (row.id, row)).collect();
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    for row in &rows {
        let key = row.idempotency_key.as_deref().unwrap_or_default();
        if !keys.insert(key) {
            found.push(format!("two orders under the key {key:?}"));
        }
        match told.attempts.get(key) {
            None => found.push(format!("nobody placed the order {} under {key:?}", row.id)),
            Some(attempt) => {
                if attempt.order.is_some_and(|order| order.0 != row.id) {
                    found.push(format!("the order under {key} is {}, its client was told {:?}", row.id, attempt.order));
                }
                if attempt.body["user_id"] != row.user_id.to_string() || attempt.body["items"] != row.items {
                    found.push(format!("the order {} is not what was asked for: {} {}", row.id, row.items, attempt.body));
                }
            }
        }
    }
    let status = |order: &OrderId| by_id.get(&order.0).map_or("not there", |row| row.status.as_str());
    for (key, attempt) in &told.attempts {
        if let Some(order) = attempt.order
            && !by_id.contains_key(&order.0)
        {
            found.push(format!("the order {order}, taken under {key}, is not there"));
        }
    }
    for order in &told.cancelled {
        if !["cancelled", "rejected"].contains(&status(order)) {
            found.push(format!("the cancellation of {order} was accepted, and it is {}", status(order)));
        }
    }
    for (order, seen) in &told.seen {
        let now = status(order);
        if now != seen && !(seen == "confirmed" && now == "cancelled" && told.to_be_cancelled.contains(order)) {
            found.push(format!("the order {order} was {seen}, which is final, and is {now}"));
        }
    }
    found
}

/// A delivery that was acknowledged is counted once, another at most once.
async fn deliveries(fleet: &Fleet, ledger: &Ledger) -> Vec<String> {
    let counted: Vec<(i64, i64)> =
        sqlx::query_as("select delta, count(*) from stock_changes where delta > 1000000 group by delta")
            .fetch_all(&fleet.system.product_db)
            .await
            .expect("the changes of stock");
    let counted: BTreeMap<i64, i64> = counted.into_iter().collect();
    let direct: i64 = sqlx::query_scalar("select count(*) from reservations where direct and status <> 'refused'")
        .fetch_one(&fleet.system.product_db)
        .await
        .expect("the reservations");
    let told = ledger.told();
    let mut found = Vec::new();
    if direct > told.holds {
        found.push(format!("{} reservations without an order were asked for, and there are {direct}", told.holds));
    }
    for (delta, acknowledged) in &told.deliveries {
        let times = counted.get(delta).copied().unwrap_or_default();
        if times > 1 || (*acknowledged && times == 0) {
            found.push(format!("a delivery of {delta}, acknowledged: {acknowledged}, is counted {times} times"));
        }
    }
    found
}

/// No good message is a dead letter, and every letter is a CloudEvent.
async fn dead_letters(fleet: &Fleet) -> Vec<String> {
    let mut found = Vec::new();
    for letter in fleet.system.said("DEAD_LETTERS").await {
        let words = || format!("{:?} {}", letter.headers, String::from_utf8_lossy(&letter.payload));
        if !String::from_utf8_lossy(&letter.payload).contains(ON_PURPOSE) {
            found.push(format!("a good message is a dead letter: {}", words()));
        }
        let says = |name: &str| letter.header(name);
        let named = ["ce-id", "ce-source", "ce-time", "ce-subject"].iter().all(|name| !says(name).is_empty());
        if !named || says("ce-specversion") != "1.0" || says("ce-type") != events::dead_letter::TYPE {
            found.push(format!("a dead letter is no CloudEvent: {}", words()));
        }
    }
    found
}

/// What marks an event that was published again after a loss, so not in its place.
const REPUBLISHED: &str = "ce-republished";

/// An event in the broker's stream.
struct Told {
    /// Its place in the history of its order.
    entry: u32,
    word: String,
    stored_at: DateTime<Utc>,
}

/// The events of one order were published in the order in which they happened. What came again after a loss is left out, and so is what
/// was on its way while events were lost: its first copy may be among them.
async fn told_in_order(fleet: &Fleet, folder: &Path, log: &Log) -> Vec<String> {
    let placed: Vec<(Uuid, Option<String>)> =
        sqlx::query_as("select id, idempotency_key from orders").fetch_all(&fleet.system.order_db).await.expect("the orders");
    // The clients' keys tell when an order was asked for, by a clock that nobody sets here.
    let asked = |key: Option<String>| Uuid::try_parse(&key?).ok()?.get_timestamp().map(|time| time.to_unix());
    let asked_at: BTreeMap<String, DateTime<Utc>> = placed
        .into_iter()
        .filter_map(|(id, key)| Some((id.to_string(), asked(key)?)))
        .filter_map(|(id, (seconds, nanos))| Some((id, DateTime::from_timestamp(seconds as i64, nanos)?)))
        .collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut last: BTreeMap<String, Told> = BTreeMap::new();
    let (mut found, mut excused) = (Vec::new(), 0);
    for said in fleet.system.said("ORDER_EVENTS").await {
        // A repetition of what is there already changes nothing.
        if !said.header(REPUBLISHED).is_empty() || !seen.insert(said.header("ce-id").to_owned()) {
            continue;
        }
        let id = said.header("ce-id").to_owned();
        let parts: Vec<&str> = id.split('/').collect();
        let [order, word, entry] = parts[..] else {
            found.push(format!("an event without a place in a history: {id}"));
            continue;
        };
        let told = Told { entry: entry.parse().unwrap_or_default(), word: word.to_owned(), stored_at: said.stored_at };
        match last.get(order) {
            Some(before) if before.entry > told.entry => {
                let asked_at = asked_at.get(order).copied().unwrap_or(DateTime::UNIX_EPOCH);
                if log.lost_between(asked_at, told.stored_at) {
                    excused += 1;
                } else {
                    found.push(format!(
                        "of the order {order} (asked for at {asked_at}) `{}` (entry {}, {}) was told before `{word}` (entry {entry}, {})",
                        before.word, before.entry, before.stored_at, told.stored_at
                    ));
                }
            }
            _ => drop(last.insert(order.to_owned(), told)),
        }
    }
    log.say(format!("{} events in their order, {excused} not because of a loss", seen.len()));
    if !found.is_empty() {
        let _ = std::fs::write(folder.join("order.txt"), found.join("\n"));
    }
    found
}

/// What an operator would ask says the same.
async fn commands(fleet: &Fleet, folder: &Path) -> Vec<String> {
    let system = &fleet.system;
    let mut found = Vec::new();
    for arguments in [&["audit", "--grace", "1"][..], &["saga", "replay", "--all"]] {
        let mut command = Command::new(testkit::program("waybill"));
        command.args(arguments).kill_on_drop(true);
        command
            .env("WAYBILL_ORDER_URL", system.client(Service::Order).base)
            .env("WAYBILL_GATEWAY", system.client(Service::Gateway).base)
            .env("NATS_URL", system.stack.nats.url())
            .env("USER_DATABASE_URL", system.stack.postgres.tcp_url("waybill_user"))
            .env("PRODUCT_DATABASE_URL", system.stack.postgres.tcp_url("waybill_product"))
            .env("ORDER_DATABASE_URL", system.stack.postgres.tcp_url("waybill_order"));
        match tokio::time::timeout(Duration::from_secs(120), command.output()).await {
            Ok(Ok(output)) if output.status.success() => {}
            Ok(Ok(output)) => {
                let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                let _ = std::fs::write(folder.join(format!("{}.txt", arguments[0])), &said);
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                found.push(format!("waybill {}: {}: {tail:?}", arguments.join(" "), output.status));
            }
            Ok(Err(error)) => found.push(format!("waybill {}: {error}", arguments.join(" "))),
            Err(_) => found.push(format!("waybill {} does not end", arguments.join(" "))),
        }
    }
    found
}
