//! Sagas for tests, decided by the real engine. Also part of the process tests.

use chrono::{DateTime, TimeDelta, Utc};
use events::product::{Line, PricedLine};
use events::{Currency, Money, OrderId, ProductId, Quantity, Reason, ReasonCode, ShortLine, Tags, UserId, product, user};
use order::saga::{Order, Reply};
use saga::{Entry, Input, Recording, State, Transcript, apply};
use uuid::Uuid;

/// The n-th order: two kettles.
pub fn order(number: u128) -> Order {
    let id = |kind: u128| Uuid::from_u128((0x0192_0000_0000_7000_8000 + kind) << 48 | number);
    let line = Line { product_id: ProductId(id(3)), quantity: Quantity::new(2).unwrap() };
    Order { id: OrderId(id(1)), user_id: UserId(id(2)), items: vec![line], reference: None, tags: Tags::default() }
}

pub fn validated(order: &Order) -> Input<Order> {
    Input::Reply(Reply::User(user::Validated { order_id: order.id, user_id: order.user_id }.into()))
}

pub fn reserved(order: &Order) -> Input<Order> {
    let price = |line: &Line| PricedLine { product_id: line.product_id, unit_price: Money::new(1_999, Currency::USD) };
    let items = order.items.iter().map(price).collect();
    Input::Reply(Reply::Product(product::Reserved { order_id: order.id, items }.into()))
}

pub fn short(order: &Order) -> Input<Order> {
    let short = |line: &Line| ShortLine { product_id: line.product_id, requested: line.quantity, available: Some(1) };
    let mut reason = Reason::new(ReasonCode::InsufficientStock, "there is not enough stock");
    reason.items = order.items.iter().map(short).collect();
    Input::Reply(Reply::Product(product::Refused { order_id: order.id, reason }.into()))
}

pub fn released(order: &Order) -> Input<Order> {
    Input::Reply(Reply::Product(product::Released { order_id: order.id }.into()))
}

/// When the n-th order was placed: a second after the one before.
pub fn placed_at(number: u128) -> DateTime<Utc> {
    "2026-01-02T03:04:05Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(number as i64)
}

/// The saga that these inputs make of an order, each so many milliseconds after it was placed.
pub fn waybill(number: u128, inputs: impl IntoIterator<Item = (i64, Input<Order>)>) -> Transcript<Order> {
    let order = order(number);
    let mut state = State::new();
    let entries = (1..).zip(inputs).map(|(sequence, (after, input))| {
        let time = placed_at(number) + TimeDelta::milliseconds(after);
        let applied = apply(&order, &mut state, sequence - 1, input.clone(), Recording::at(time));
        // Earlier builds recorded also what changed nothing.
        let ignored = Entry {
            sequence,
            time,
            input,
            verdict: applied.verdict,
            sent: applied.effects,
            attempts: Default::default(),
            state: state.clone(),
        };
        applied.entry.unwrap_or(ignored)
    });
    let entries = entries.collect();
    Transcript { plan: order, entries }
}

pub fn confirmed(number: u128) -> Transcript<Order> {
    let order = order(number);
    waybill(number, [(0, Input::Start), (2, validated(&order)), (12, reserved(&order))])
}

pub fn rejected(number: u128) -> Transcript<Order> {
    let order = order(number);
    waybill(number, [(0, Input::Start), (2, validated(&order)), (9, short(&order))])
}
