//! The order saga: validate the user, then reserve the stock, then it is confirmed.
//!
//! Validation comes first, so that an order of an unknown user never holds stock.

use std::time::Duration;

use events::order::{Cancelled, Compensating, Confirmed, Event, Item, Placed, Rejected, Snapshot, Status, Waybill, WaybillRef};
use events::product::Line;
use events::streams::{ORDERS, PRODUCT, RELEASE, RESERVE, USER, VALIDATE};
use events::{Message, Money, OrderId, Reason, Stream, product, user};
use saga::{Exportable, Milestone, Outcome, Plan, RetryPolicy, Stages, State, Transcript, Unreadable, check, compensatable};
use saga_runtime::{Channel, History, Record, Saga, StatusWord};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::order::Order;
use crate::projection::{Orders, snapshot};

/// The steps, by their persisted names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// May this user order?
    ValidateUser,
    /// Hold every line.
    ReserveStock,
}

events::vocabularies! {
    /// What the participants are asked to do.
    pub enum Command {
        /// Asked of the user service.
        User(user::Command),
        /// Asked of the product service.
        Product(product::Command),
    }
}

events::vocabularies! {
    /// What the participants reply.
    pub enum Reply {
        /// By the user service.
        User(user::Reply),
        /// By the product service.
        Product(product::Reply),
    }
}

/// What the steps bring forth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Nothing that is needed later.
    Nothing,
    /// The unit price of each item, in the order of the items.
    Prices(Vec<Money>),
}

/// Half-minute silences are normal when a service is deployed; minutes are not. A repetition before the fifth second would only add to
/// the load of a service that is busy.
const RETRY: RetryPolicy =
    RetryPolicy { first_retry: Duration::from_secs(5), max_retry: Duration::from_secs(60), deadline: Duration::from_secs(300) };

impl Plan for Order {
    type Step = Step;
    type Command = Command;
    type Reply = Reply;
    type Output = Output;
    type Refusal = Reason;

    const VERSIONS: &'static [(u32, Stages<Self>)] = &[(
        1,
        Stages::new(&[
            &[check(Step::ValidateUser, RETRY, Self::validate)],
            &[compensatable(Step::ReserveStock, RETRY, Self::reserve, Self::release)],
        ]),
    )];

    fn outcome(&self, reply: &Reply) -> Option<(Step, Outcome<Self>)> {
        use Step::*;
        Some(match reply {
            Reply::User(user::Reply::Validated(_)) => (ValidateUser, Outcome::Done(Output::Nothing)),
            Reply::User(user::Reply::Refused(refused)) => (ValidateUser, Outcome::Refused(refused.reason.clone())),
            Reply::Product(product::Reply::Reserved(reserved)) => {
                (ReserveStock, Outcome::Done(Output::Prices(self.prices(reserved)?)))
            }
            Reply::Product(product::Reply::Refused(refused)) => (ReserveStock, Outcome::Refused(refused.reason.clone())),
            Reply::Product(product::Reply::Released(_)) => (ReserveStock, Outcome::Undone),
        })
    }
}

impl Exportable for Order {
    const NAME: &'static str = "order";

    fn id(&self) -> Uuid {
        self.id.0
    }
}

impl Saga for Order {
    type Event = Event;
    type Layout = Orders;

    const SOURCE: &'static str = "/waybill/order";
    const EVENTS: Stream = ORDERS;
    const STATUSES: &'static [StatusWord] = &[
        StatusWord::under_way(Status::Pending.as_str()),
        StatusWord::ended(Status::Confirmed.as_str()),
        StatusWord::ended(Status::Rejected.as_str()),
        StatusWord::under_way(Status::Cancelling.as_str()),
        StatusWord::ended(Status::Cancelled.as_str()),
    ];

    fn channel(step: Step) -> &'static Channel {
        match step {
            Step::ValidateUser => &Channel {
                participant: USER,
                execute: VALIDATE,
                compensate: None,
                replies: <user::Reply as Message>::kinds,
                executing: "validate the user",
                compensating: "",
            },
            Step::ReserveStock => &Channel {
                participant: PRODUCT,
                execute: RESERVE,
                compensate: Some(RELEASE),
                replies: <product::Reply as Message>::kinds,
                executing: "reserve the stock",
                compensating: "give back the stock",
            },
        }
    }

    fn correlate(reply: &Reply) -> Uuid {
        let OrderId(id) = match reply {
            Reply::User(user::Reply::Validated(reply)) => reply.order_id,
            Reply::User(user::Reply::Refused(reply)) => reply.order_id,
            Reply::Product(product::Reply::Reserved(reply)) => reply.order_id,
            Reply::Product(product::Reply::Refused(reply)) => reply.order_id,
            Reply::Product(product::Reply::Released(reply)) => reply.order_id,
        };
        id
    }

    fn event(milestone: Milestone, record: &Record<Self>, history: History<'_>) -> anyhow::Result<(&'static str, Event)> {
        let mut told = snapshot(record);
        match history {
            History::None => {}
            History::Whole(entries) => told.waybill = Some(Waybill::of(entries)?),
            History::Claimed(entries) => {
                told.waybill_ref = Some(WaybillRef::new(record.request.id, &Waybill::of(entries)?, record.sequence));
            }
        }
        let event: Event = match (milestone, told.status) {
            (Milestone::Started, _) => Placed(told).into(),
            (Milestone::Compensating, _) => Compensating(told).into(),
            (Milestone::Completed, _) => Confirmed(told).into(),
            (Milestone::Compensated, Status::Cancelled) => Cancelled(told).into(),
            (Milestone::Compensated, _) => Rejected(told).into(),
        };
        Ok((event.word(), event))
    }

    fn status(state: &State<Self>) -> &'static str {
        Order::status(state).as_str()
    }
}

/// The saga from the events that tell its end.
impl Order {
    /// With its history from the event alone: the broker is enough to replay it.
    ///
    /// # Errors
    /// Where the event carries no history, or one that this build cannot read.
    pub fn transcript(snapshot: &Snapshot) -> Result<Transcript<Self>, Unreadable> {
        match (&snapshot.waybill, &snapshot.waybill_ref) {
            (Some(history), _) => Transcript::of_entries(Self::asked_for(snapshot), history.json()),
            (None, Some(claim)) => {
                let why = format!("its history of {} bytes was too large for the event and is at {}", claim.length, claim.href);
                Err(Unreadable::Malformed(why))
            }
            (None, None) => {
                let why = "only the event that tells how an order ended carries its history";
                Err(Unreadable::Malformed(why.to_owned()))
            }
        }
    }

    /// With the history that the event's claim check claims.
    ///
    /// # Errors
    /// Where that is not the history that is meant, or this build cannot read it.
    pub fn claimed_transcript(snapshot: &Snapshot, claim: &WaybillRef, entries: &str) -> Result<Transcript<Self>, Unreadable> {
        claim.verify(entries).map_err(|why| Unreadable::Malformed(format!("not the history that is meant: {why}")))?;
        Transcript::of_entries(Self::asked_for(snapshot), entries)
    }

    /// What was asked for, as an event says it.
    pub fn asked_for(snapshot: &Snapshot) -> Self {
        let line = |item: &Item| Line { product_id: item.product_id, quantity: item.quantity };
        Self {
            id: snapshot.order_id,
            user_id: snapshot.user_id,
            items: snapshot.items.iter().map(line).collect(),
            reference: snapshot.reference.clone(),
            tags: snapshot.tags.clone(),
        }
    }
}

/// The commands.
impl Order {
    fn validate(&self, _: &State<Self>) -> Command {
        Command::User(user::Validate { order_id: self.id, user_id: self.user_id }.into())
    }

    fn reserve(&self, _: &State<Self>) -> Command {
        Command::Product(product::Reserve { order_id: self.id, items: self.items.clone() }.into())
    }

    fn release(&self, _: &State<Self>) -> Command {
        Command::Product(product::Release { order_id: self.id }.into())
    }
}

/// The prices.
impl Order {
    /// What the stock was reserved at, once it is.
    pub fn reserved(state: &State<Self>) -> Option<&[Money]> {
        match state.output(Step::ReserveStock)? {
            Output::Prices(prices) => Some(prices),
            Output::Nothing => None,
        }
    }

    /// The prices in the order of the items. A reply that leaves a line without a price, or whose prices cannot be summed, is none:
    /// it is refused here, and the deadline gives back what it may hold.
    fn prices(&self, reserved: &product::Reserved) -> Option<Vec<Money>> {
        let price = |(position, line): (usize, &Line)| {
            let at_position = reserved.items.get(position).filter(|priced| priced.product_id == line.product_id);
            let priced = at_position.or_else(|| reserved.items.iter().find(|priced| priced.product_id == line.product_id))?;
            Some(priced.unit_price)
        };
        let prices: Vec<Money> = self.items.iter().enumerate().map(price).collect::<Option<_>>()?;
        self.total(&prices).is_ok().then_some(prices)
    }
}
