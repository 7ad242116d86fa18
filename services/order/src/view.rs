//! An order as a row, and as its customer sees it.

use crate::saga::{Order, Output, Step};
use chrono::{DateTime, Utc};
use events::order::{Item, Snapshot, Status};
use events::{Money, OrderId, Reason, TraceParent, UserId};
use saga::State;
use serde::Serialize;

/// An order and where its saga stands: one row.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was asked for.
    pub order: Order,
    /// Where it stands.
    pub state: State<Order>,
    /// The sequence of its last history entry.
    pub sequence: u32,
    /// The bytes of its history, the first entry apart.
    pub history_bytes: u64,
    /// The prices its stock was reserved at; they stay when a confirmed order is cancelled.
    pub prices: Option<Vec<Money>>,
    /// The trace of the request that placed it.
    pub trace: TraceParent,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// When it last moved.
    pub updated_at: DateTime<Utc>,
    /// What its deadline counts from. A reading of the steady clock, as the next two are.
    pub began_at: DateTime<Utc>,
    /// Since when the command under way is unanswered.
    pub waiting_since: Option<DateTime<Utc>>,
    /// When to ask again, or to give up.
    pub due_at: Option<DateTime<Utc>>,
}

/// An order as the HTTP contract shows it.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The id.
    pub id: OrderId,
    user_id: UserId,
    items: Vec<Item>,
    total: Option<Money>,
    /// Where it stands.
    pub status: Status,
    reason: Option<Reason>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl View {
    /// `times`: when it was placed, and when it last moved.
    pub fn new(
        order: &Order,
        prices: Option<&[Money]>,
        status: Status,
        reason: Option<Reason>,
        times: (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        Self {
            id: order.id,
            user_id: order.user_id,
            items: order.priced(prices),
            total: prices.and_then(|prices| order.total(prices).ok().flatten()),
            status,
            reason,
            created_at: times.0,
            updated_at: times.1,
        }
    }
}

impl Row {
    /// Where it stands.
    pub fn status(&self) -> Status {
        Order::status(&self.state)
    }

    /// The sum of price times quantity, once it is reserved.
    pub fn total(&self) -> Option<Money> {
        self.order.total(self.prices.as_deref()?).ok().flatten()
    }

    /// Takes the prices from the state, once the stock is reserved.
    pub fn note_prices(&mut self) {
        if let Some(Output::Prices(prices)) = self.state.output(Step::ReserveStock) {
            self.prices = Some(prices.clone());
        }
    }

    /// As its customer sees it.
    pub fn view(&self) -> View {
        let times = (self.created_at, self.updated_at);
        View::new(&self.order, self.prices.as_deref(), self.status(), Order::reason(&self.state), times)
    }

    /// As everyone is told of it, without its history.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            order_id: self.order.id,
            user_id: self.order.user_id,
            items: self.order.priced(self.prices.as_deref()),
            total: self.total(),
            status: self.status(),
            reason: Order::reason(&self.state),
            created_at: self.created_at,
            waybill: None,
            waybill_ref: None,
        }
    }
}
