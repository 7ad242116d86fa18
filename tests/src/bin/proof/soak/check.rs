//! What must be true once everything is quiet, whatever happened before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use events::OrderId;
use serde_json::Value;
use tests::Service;
use tokio::process::Command;
use uuid::Uuid;

use crate::run::words;
use crate::soak::clients::Ledger;
use crate::soak::faults::ON_PURPOSE;
use crate::soak::fleet::Fleet;

/// Looks at everything. Every sentence is a violation.
pub async fn everything(fleet: &Arc<Fleet>, ledger: &Arc<Ledger>, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    // Stock conserved, one effect a command, nothing held for a dead order, histories replay, outboxes empty, everybody told once.
    let system = fleet.clone();
    if let Err(error) = tokio::spawn(async move { system.system.audit().await }).await {
        return vec![words(error)]; // not quiet: nothing else can be said
    }
    for part in
        [orders(fleet, ledger).await, deliveries(fleet, ledger).await, dead_letters(fleet).await, told_in_order(fleet).await]
    {
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

/// No good message is a dead letter.
async fn dead_letters(fleet: &Fleet) -> Vec<String> {
    let letters = fleet.system.said("DEAD_LETTERS").await;
    let good = letters.iter().filter(|letter| !String::from_utf8_lossy(&letter.payload).contains(ON_PURPOSE));
    good.map(|letter| {
        format!("a good message is a dead letter: {:?} {}", letter.headers, String::from_utf8_lossy(&letter.payload))
    })
    .collect()
}

/// Published again after a loss, so not in its place.
const REPUBLISHED: &str = "Waybill-Republished";

/// The events of one order in the broker's stream are in the order in which they happened.
async fn told_in_order(fleet: &Fleet) -> Vec<String> {
    if !EVENTS_ARE_IN_ORDER {
        return Vec::new();
    }
    let rank =
        |word: &str| ["placed", "confirmed", "compensating", "rejected", "cancelled"].iter().position(|known| *known == word);
    let mut last: BTreeMap<String, (Option<usize>, String)> = BTreeMap::new();
    let mut found = Vec::new();
    for said in fleet.system.said("ORDER_EVENTS").await {
        if !said.header(REPUBLISHED).is_empty() {
            continue;
        }
        let mut parts = said.subject.rsplit('.');
        let (order, word) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let rank = rank(word);
        if let Some((before, its_word)) = last.get(order)
            && *before > rank
        {
            found.push(format!("of the order {order} `{its_word}` was told before `{word}`"));
        }
        last.insert(order.to_owned(), (rank, word.to_owned()));
    }
    found
}

/// Whether the events of an order are promised to come in their order.
const EVENTS_ARE_IN_ORDER: bool = false;

/// What an operator would ask says the same.
async fn commands(fleet: &Fleet, folder: &Path) -> Vec<String> {
    let system = &fleet.system;
    let mut found = Vec::new();
    for arguments in [&["audit", "--grace", "1"][..], &["saga", "replay", "--all"]] {
        let mut command = Command::new(tests::program("waybill"));
        command.args(arguments).kill_on_drop(true);
        command
            .env("WAYBILL_ORDER_URL", system.door(Service::Order).base)
            .env("WAYBILL_GATEWAY", system.door(Service::Gateway).base)
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
