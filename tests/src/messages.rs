//! What services say to each other, said by hand, and what histories say, in short.

use events::streams::PRODUCT_COMMANDS_CONSUMER;
use events::{OrderId, ProductId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::System;

/// An event as a service would say it, with an id of its own.
fn event(source: &str, kind: &str, order: OrderId, mut data: Value) -> Value {
    data["order_id"] = json!(order);
    json!({
        "specversion": "1.0", "id": Uuid::now_v7(), "source": source, "type": kind,
        "time": chrono::Utc::now(), "subject": order, "data": data,
    })
}

/// The command to hold these lines.
pub fn reserve(order: OrderId, items: &[(ProductId, i64)]) -> Value {
    let item = |(product, quantity): &(ProductId, i64)| json!({ "product_id": product, "quantity": quantity });
    let items: Vec<Value> = items.iter().map(item).collect();
    event("/waybill/order", "waybill.product.reserve.v1", order, json!({ "items": items }))
}

/// The command to hold nothing.
pub fn release(order: OrderId) -> Value {
    event("/waybill/order", "waybill.product.release.v1", order, json!({}))
}

/// The answer that a user may order.
pub fn validated(order: OrderId) -> Value {
    event("/waybill/user", "waybill.user.validated.v1", order, json!({ "user_id": Uuid::now_v7() }))
}

/// The answer that one line is held, at a price in US cents.
pub fn reserved(order: OrderId, product: ProductId, price: i64) -> Value {
    let line = json!({ "product_id": product, "unit_price": { "amount": price, "currency": "USD" } });
    event("/waybill/product", "waybill.product.reserved.v1", order, json!({ "items": [line] }))
}

/// Gives the product service batches of commands, each handled before the next is said. Returns the types of its answers about an order.
pub async fn command(system: &System, order: OrderId, batches: &[(&str, Vec<Value>)]) -> Vec<String> {
    let before = system.events_of("PRODUCT_REPLIES", order).await.len();
    for (subject, events) in batches {
        let sequence = system.say(subject, events).await;
        system.handled(PRODUCT_COMMANDS_CONSUMER, sequence).await;
    }
    let asked = batches.iter().map(|(_, events)| events.len()).sum::<usize>();
    let answers = crate::eventually(std::time::Duration::from_secs(10), || async {
        let answers = system.events_of("PRODUCT_REPLIES", order).await;
        if answers.len() >= before + asked { Ok(answers) } else { Err(answers) }
    })
    .await;
    answers[before..].iter().map(kind).collect()
}

/// `reserved` of `waybill.product.reserved.v1`.
pub fn kind(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap_or_else(|| panic!("no type: {event:#}"));
    kind.split('.').nth(2).unwrap_or_else(|| panic!("an odd type: {event:#}")).to_owned()
}

/// What was decided, entry by entry: `moved`, or why it was ignored.
pub fn decisions(history: &[Value]) -> Vec<String> {
    let decision = |entry: &Value| {
        let decision = &entry["decision"];
        decision.as_str().or(decision["ignored"].as_str()).unwrap_or_else(|| panic!("no decision: {entry:#}")).to_owned()
    };
    history.iter().map(decision).collect()
}
