//! What an order is to the people who place and read it: what was asked for, what it costs, where it stands and why it was given up.

use events::order::{Item, Status};
use events::product::Line;
use events::{Money, MoneyError, OrderId, Reason, ReasonCode, Reference, Tags, UserId};
use saga::{Cause, Phase, State};
use saga_runtime::Saga as _;
use serde::{Deserialize, Serialize};

/// What was asked for. It never changes; what the steps bring forth is in the saga's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The order's id.
    pub id: OrderId,
    /// Who ordered.
    pub user_id: UserId,
    /// What, each product at most once.
    pub items: Vec<Line>,
    /// What its customer calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What it is found by.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// The outcome, in the customer's words.
impl Order {
    /// Where the order stands.
    pub fn status(state: &State<Self>) -> Status {
        match state.phase() {
            Phase::New | Phase::Running => Status::Pending,
            Phase::Compensating(Cause::Cancelled) => Status::Cancelling,
            // Rejected only once nothing is held any more.
            Phase::Compensating(_) => Status::Pending,
            Phase::Completed => Status::Confirmed,
            Phase::Compensated(Cause::Cancelled) => Status::Cancelled,
            Phase::Compensated(_) => Status::Rejected,
        }
    }

    /// Why the order was, or is being, given up.
    pub fn reason(state: &State<Self>) -> Option<Reason> {
        let (Phase::Compensating(cause) | Phase::Compensated(cause)) = state.phase() else {
            return None;
        };
        Some(match cause {
            Cause::Refused { refusal, .. } => refusal.clone(),
            Cause::TimedOut { step } => {
                let late = |step| format!("the {} service did not answer in time", Self::channel(step).participant.name);
                let detail = step.map_or_else(|| "the order took too long".to_owned(), late);
                Reason::new(ReasonCode::TimedOut, detail)
            }
            Cause::Cancelled => Reason::new(ReasonCode::CancelledByCustomer, "the customer cancelled the order"),
            Cause::Withdrawn { reason, .. } => Reason::new(ReasonCode::WithdrawnByOperator, reason),
        })
    }

    /// The lines with these unit prices; without prices where there are none.
    pub fn priced(&self, prices: Option<&[Money]>) -> Vec<Item> {
        let mut prices = prices.unwrap_or_default().iter();
        let item =
            |line: &Line| Item { product_id: line.product_id, quantity: line.quantity, unit_price: prices.next().copied() };
        self.items.iter().map(item).collect()
    }

    /// The sum of price times quantity.
    pub fn total(&self, prices: &[Money]) -> Result<Option<Money>, MoneyError> {
        Money::total(prices.iter().copied().zip(self.items.iter().map(|line| line.quantity)))
    }
}
