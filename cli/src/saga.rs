//! `waybill saga`: the operators' commands for the saga of orders.

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use events::order::{Event, Snapshot};
use events::streams::TOPOLOGY;
use events::{Reason, Topology, UserId};
use order::saga::{Order, Output, Step};
use saga::{Milestone, Progress, State};
use saga_commands::{Claim, CommandLine, Filter, History, Service, Told};
use serde_json::Value;

use crate::addresses::ORDER;
use crate::order::{find, view};
use crate::{complete, price};

/// The saga of orders, and where the order service is.
#[derive(Clone, Debug)]
pub struct Orders;

/// The order service, which operators ask.
pub type Target = saga_commands::Target<Orders>;

/// An order's saga as the order service shows it.
pub type View = saga_commands::View<Orders>;

const USER: Filter = Filter {
    flag: "user",
    value_name: "USER",
    help: "Only this user's: those in flight, unless a status, a time or another of what finds sagas is said too",
    query: "user_id",
    many: false,
    check: |text| text.parse::<UserId>().map(|_| ()).map_err(|error| error.to_string()),
    candidates: complete::users,
};

const FILTERS: [Filter; 5] = {
    let [reference, tag, reason, product] = find::FILTERS;
    [USER, reference, tag, reason, product]
};

impl CommandLine for Orders {
    type Saga = Order;
    const COMMAND: &'static str = "waybill saga";
    // A gateway need not speak to the broker.
    const SERVICES: &'static [&'static str] = &["order", "product", "user"];
    const ID: &'static str = "ORDER";
    const SERVICE: Service = Service {
        name: "order service",
        id: "order_url",
        flag: "order-url",
        variable: ORDER,
        usual: "http://127.0.0.1:8083",
        path: "/orders",
    };
    const FILTERS: &'static [Filter] = &FILTERS;
    const SKIP_HELP: &'static str = "The audit finds stock that is still held, and `product release` gives it back.";
    const CANCEL_HELP: &'static str = "in the customer's name";
    const NEWEST: Option<&'static str> = Some("/orders");

    fn topology() -> Topology {
        TOPOLOGY
    }

    fn began() -> String {
        "the order was placed".to_owned()
    }

    fn cancels() -> String {
        "the customer cancels".to_owned()
    }

    fn head(order: &Order) -> Vec<String> {
        let Order { id, user_id, items, reference, tags } = order;
        let pieces: u64 = items.iter().map(|line| u64::from(line.quantity.get())).sum();
        let lines = count(items.len() as u64, "line", "lines");
        let mut head = vec![format!("order {id}, {lines}, {}", count(pieces, "piece", "pieces")), format!("user  {user_id}")];
        head.extend(reference.as_ref().map(|reference| format!("reference {}", reference.as_str())));
        head.extend((!tags.is_empty()).then(|| format!("tags  {}", tags.pairs().collect::<Vec<_>>().join(", "))));
        head
    }

    fn outcome(order: &Order, state: &State<Order>) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(reason) = Order::reason(state) {
            lines.push(format!("reason: {}", said(&reason)));
            for line in &reason.items {
                let available =
                    line.available.map_or_else(|| "no such product".to_owned(), |pieces| format!("{pieces} available"));
                lines.push(format!("        {}: {} asked for, {available}", line.product_id, line.requested.get()));
            }
        }
        for (_, progress) in state.steps() {
            if let Progress::Done(Output::Prices(prices)) = progress
                && let Ok(Some(total)) = order.total(prices)
            {
                lines.push(format!("total: {}", price::show(total)));
            }
        }
        lines
    }

    fn refusal(refusal: &Reason) -> String {
        code(refusal)
    }

    fn remedy(order: &Order, step: Step) -> Option<String> {
        (step == Step::ReserveStock).then(|| format!("waybill product release {} --reason TEXT", order.id))
    }

    fn event(milestone: Milestone, state: &State<Order>) -> &'static str {
        match milestone {
            Milestone::Started => "placed",
            Milestone::Compensating => "compensating",
            Milestone::Completed | Milestone::Compensated => Order::status(state).as_str(),
        }
    }

    fn told(event: &Event) -> Option<Told<'_, Order>> {
        let snapshot = snapshot(event);
        let history = match (&snapshot.waybill, &snapshot.waybill_ref) {
            (Some(history), _) => History::Whole(history.json().into()),
            (None, Some(claim)) => {
                let (length, entries, claim) = (claim.length, claim.entries, claim.clone());
                History::Claimed(Claim { length, entries, verify: std::sync::Arc::new(move |json| claim.verify(json)) })
            }
            (None, None) => History::Open,
        };
        Some(Told { saga: Order::asked_for(snapshot), history, reason: snapshot.reason.as_ref().map(said) })
    }

    fn gist(data: &Value) -> String {
        view::gist(data)
    }
}

fn snapshot(event: &Event) -> &Snapshot {
    match event {
        Event::Placed(placed) => &placed.0,
        Event::Compensating(compensating) => &compensating.0,
        Event::Confirmed(confirmed) => &confirmed.0,
        Event::Rejected(rejected) => &rejected.0,
        Event::Cancelled(cancelled) => &cancelled.0,
    }
}

fn said(reason: &Reason) -> String {
    format!("{}: {}", code(reason), reason.detail)
}

/// The code as it stands in JSON.
fn code(reason: &Reason) -> String {
    serde_json::to_value(reason.code).ok().and_then(|code| code.as_str().map(str::to_owned)).unwrap_or_default()
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
