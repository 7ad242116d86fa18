//! An order, and what can be said about it.

use events::order::Status;
use events::product::{Line, PricedLine};
use events::{Currency, Money, OrderId, ProductId, Quantity, Reason, ReasonCode, Tags, UserId, product, user};
use uuid::Uuid;

use order::saga::{Order, Reply, Step};
use saga::testkit;
use saga::{Action, Entry, Input, Recording, State, apply};

pub use saga::testkit::{Scenario, compensate, execute};

pub const ORDER: OrderId = OrderId(Uuid::from_u128(1));
pub const USER: UserId = UserId(Uuid::from_u128(2));
pub const TEA: ProductId = ProductId(Uuid::from_u128(3));
pub const CUP: ProductId = ProductId(Uuid::from_u128(4));

/// Two packets of tea and a cup.
pub fn order() -> Order {
    let line = |product_id, pieces| Line { product_id, quantity: Quantity::new(pieces).unwrap() };
    Order { id: ORDER, user_id: USER, items: vec![line(TEA, 2), line(CUP, 1)], reference: None, tags: Tags::default() }
}

pub fn usd(amount: i64) -> Money {
    Money::new(amount, Currency::USD)
}

fn user(reply: impl Into<user::Reply>) -> Input<Order> {
    Input::Reply(Reply::User(reply.into()))
}

fn product(reply: impl Into<product::Reply>) -> Input<Order> {
    Input::Reply(Reply::Product(reply.into()))
}

pub fn validated() -> Input<Order> {
    user(user::Validated { order_id: ORDER, user_id: USER })
}

pub fn invalid(code: ReasonCode) -> Input<Order> {
    user(user::Refused { order_id: ORDER, user_id: USER, reason: Reason::new(code, "refused by the user service") })
}

pub fn reserved() -> Input<Order> {
    reserved_at([(TEA, usd(450)), (CUP, usd(1_200))])
}

pub fn reserved_at(prices: impl IntoIterator<Item = (ProductId, Money)>) -> Input<Order> {
    let items = prices.into_iter().map(|(product_id, unit_price)| PricedLine { product_id, unit_price }).collect();
    product(product::Reserved { order_id: ORDER, items })
}

pub fn short() -> Input<Order> {
    let reason = Reason::new(ReasonCode::InsufficientStock, "refused by the product service");
    product(product::Refused { order_id: ORDER, reason })
}

pub fn released() -> Input<Order> {
    product(product::Released { order_id: ORDER })
}

/// The hand of the operator Ann.
pub fn operator(action: Action<Step>) -> Input<Order> {
    Input::Operator { action, by: "ann".to_owned(), reason: "the warehouse burnt down".to_owned() }
}

/// An order saga that each of these inputs has moved.
#[track_caller]
pub fn given<const N: usize>(inputs: [Input<Order>; N]) -> Scenario<Order> {
    testkit::given(order(), inputs)
}

/// What an order's customer sees of it.
pub trait Seen {
    /// The order has this status.
    fn is(self, status: Status) -> Self;
}

impl Seen for Scenario<Order> {
    #[track_caller]
    fn is(self, status: Status) -> Self {
        assert_eq!(Order::status(&self.state), status, "{:?}", self.state);
        self
    }
}

/// The history of these inputs, as the order service writes it; those that change nothing are in it as histories of earlier builds have them.
pub fn history<const N: usize>(inputs: [Input<Order>; N]) -> Vec<Entry<Order>> {
    let mut state = State::new();
    let entry = |(sequence, input): (u32, Input<Order>)| {
        let time = format!("2026-01-02T03:04:{sequence:02}.5Z").parse().unwrap();
        let applied = apply(&order(), &mut state, sequence - 1, input.clone(), Recording::at(time));
        let ignored = Entry {
            sequence,
            time,
            input,
            verdict: applied.verdict,
            sent: Vec::new(),
            attempts: Default::default(),
            state: state.clone(),
        };
        Entry { attempts: Default::default(), ..applied.entry.unwrap_or(ignored) }
    };
    (1..).zip(inputs).map(entry).collect()
}
