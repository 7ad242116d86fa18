//! An order, and what can be said about it.

#[path = "../tests/engine/scenario.rs"]
mod scenario;

use events::product::{Line, PricedLine};
use events::{Currency, Money, OrderId, ProductId, Quantity, Reason, ReasonCode, UserId, product, user};
use uuid::Uuid;

pub(crate) use self::scenario::{Saga, ask, undo};
use crate::order::{Answer, Order, Step};
use crate::{Action, Decision, Entry, Input, State, decide};

pub(crate) const ORDER: OrderId = OrderId(Uuid::from_u128(1));
pub(crate) const USER: UserId = UserId(Uuid::from_u128(2));
pub(crate) const TEA: ProductId = ProductId(Uuid::from_u128(3));
pub(crate) const CUP: ProductId = ProductId(Uuid::from_u128(4));

/// Two packets of tea and a cup.
pub(crate) fn order() -> Order {
    let line = |product_id, pieces| Line { product_id, quantity: Quantity::new(pieces).unwrap() };
    Order { id: ORDER, user_id: USER, items: vec![line(TEA, 2), line(CUP, 1)] }
}

pub(crate) fn usd(amount: i64) -> Money {
    Money::new(amount, Currency::USD)
}

fn user(reply: impl Into<user::Reply>) -> Input<Order> {
    Input::Answer(Answer::User(reply.into()))
}

fn product(reply: impl Into<product::Reply>) -> Input<Order> {
    Input::Answer(Answer::Product(reply.into()))
}

pub(crate) fn validated() -> Input<Order> {
    user(user::Validated { order_id: ORDER, user_id: USER })
}

pub(crate) fn invalid(code: ReasonCode) -> Input<Order> {
    user(user::Refused { order_id: ORDER, user_id: USER, reason: Reason::new(code, "refused by the user service") })
}

pub(crate) fn reserved() -> Input<Order> {
    reserved_at([(TEA, usd(450)), (CUP, usd(1_200))])
}

pub(crate) fn reserved_at(prices: impl IntoIterator<Item = (ProductId, Money)>) -> Input<Order> {
    let items = prices.into_iter().map(|(product_id, unit_price)| PricedLine { product_id, unit_price }).collect();
    product(product::Reserved { order_id: ORDER, items })
}

pub(crate) fn short() -> Input<Order> {
    let reason = Reason::new(ReasonCode::InsufficientStock, "refused by the product service");
    product(product::Refused { order_id: ORDER, reason })
}

pub(crate) fn released() -> Input<Order> {
    product(product::Released { order_id: ORDER })
}

/// The hand of the operator Ann.
pub(crate) fn operator(action: Action<Step>) -> Input<Order> {
    Input::Operator { action, by: "ann".to_owned(), reason: "the warehouse burnt down".to_owned() }
}

/// An order saga that each of these inputs has moved.
#[track_caller]
pub(crate) fn given<const N: usize>(inputs: [Input<Order>; N]) -> Saga<Order> {
    scenario::given(order(), inputs)
}

/// The history of these inputs, as the order service would write it.
pub(crate) fn history<const N: usize>(inputs: [Input<Order>; N]) -> Vec<Entry<Order>> {
    let mut state = State::new();
    let entry = |(sequence, message)| {
        let time = format!("2026-01-02T03:04:{sequence:02}.5Z").parse().unwrap();
        let Decision { verdict, state: next, messages } = decide(&order(), &state, &message);
        state = next.clone();
        Entry { sequence, time, message, decision: verdict, sent: messages, attempts: Default::default(), state: next }
    };
    (1..).zip(inputs).map(entry).collect()
}
