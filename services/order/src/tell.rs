//! Turns what a saga wants said into messages, and makes again what was told before from the history alone.

#[cfg(test)]
mod fuzz;

use std::collections::{BTreeSet, HashMap};

use crate::saga::Order;
use anyhow::Context as _;
use chassis::broker::PayloadMax;
use chassis::{CannotRebuild, NewEvent, Note, Outgoing, Packet, RebuildMessages};
use events::event_subject;
use events::order::{Cancelled, Compensating, Confirmed, Event, Placed, Rejected, Snapshot, Status, Waybill, WaybillRef};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use saga::{Effect, Entry, Milestone, step_name};
use saga_runtime::Saga as _;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::recent::Kept;
use crate::store;
use crate::view::Row;

/// Says what one decision sends. The row is as the decision left it, the history ends with its entry. `payload_max`: what the broker takes
/// in one message.
pub fn say(
    outgoing: &mut Outgoing,
    row: &Row,
    history: &[Box<RawValue>],
    messages: &[Effect<Order>],
    payload_max: usize,
) -> anyhow::Result<()> {
    let id = row.order.id;
    if !messages.is_empty() {
        outgoing.note(Note { subject: id.0, entry: row.sequence });
    }
    for message in messages {
        let (about, trace) = (id.to_string(), Some(row.trace.clone()));
        let (verb, step, attempt) = match message {
            Effect::Execute { step, attempt } => ("", step, *attempt),
            Effect::Compensate { step, attempt } => ("undo_", step, *attempt),
            Effect::Notify(notice) => {
                let event = event(*notice, row, history, payload_max)?;
                let subject = event_subject("order", event.word(), &id);
                // Its place in the history tells one from a namesake.
                let event_id = format!("{id}/{}/{}", event.word(), row.sequence);
                let new = NewEvent { id: event_id, subject: about, trace, attempt: None, message: event };
                outgoing.publish_event(subject, new)?;
                continue;
            }
        };
        let subject = if verb.is_empty() { Some(Order::channel(*step).execute) } else { Order::channel(*step).compensate };
        if let (Some(command), Some(subject)) = (row.state.command(&row.order, message), subject) {
            let id = format!("{id}/{verb}{}/{attempt}", step_name::<Order>(*step));
            outgoing.send(subject, NewEvent { id, subject: about, trace, attempt: Some(attempt), message: command })?;
        }
    }
    Ok(())
}

/// Room for a message's subject and headers.
const HEADERS: usize = 4 * 1024;

/// Room for what an event says of its order beside the history, if that has as many lines as can be.
const SNAPSHOT: usize = 64 * 1024;

/// The event that tells an order's end: with its whole history or, where the broker would not take that, with a claim check.
fn whole(row: &Row, history: &[Box<RawValue>], payload_max: usize) -> serde_json::Result<Snapshot> {
    let (mut snapshot, waybill) = (row.snapshot(), Waybill::of(history)?);
    let fits = |rest: usize| waybill.json().len() + rest + HEADERS <= payload_max;
    if fits(SNAPSHOT) || fits(serde_json::to_vec(&snapshot)?.len()) {
        snapshot.waybill = Some(waybill);
    } else {
        snapshot.waybill_ref = Some(WaybillRef::new(row.order.id, &waybill, row.sequence));
    }
    Ok(snapshot)
}

fn event(notice: Milestone, row: &Row, history: &[Box<RawValue>], payload_max: usize) -> serde_json::Result<Event> {
    let whole = || whole(row, history, payload_max);
    Ok(match (notice, row.status()) {
        (Milestone::Started, _) => Placed(row.snapshot()).into(),
        (Milestone::Compensating, _) => Compensating(row.snapshot()).into(),
        (Milestone::Completed, _) => Confirmed(whole()?).into(),
        (Milestone::Compensated, Status::Cancelled) => Cancelled(whole()?).into(),
        (Milestone::Compensated, _) => Rejected(whole()?).into(),
    })
}

/// Says again what entries said. With what the broker takes in one message.
pub struct SayAgain(pub PayloadMax);

impl RebuildMessages for SayAgain {
    fn rebuild<'a>(&'a self, db: &'a mut PgConnection, notes: &'a [Note]) -> BoxFuture<'a, anyhow::Result<Vec<Packet>>> {
        async move {
            let ids: Vec<Uuid> = notes.iter().map(|note| note.subject).collect::<BTreeSet<_>>().into_iter().collect();
            let orders = store::kept(db, &ids).await?;
            let orders: HashMap<Uuid, &Kept> = orders.iter().map(|kept| (kept.row.order.id.0, kept)).collect();
            let mut outgoing: Option<Outgoing> = None;
            for Note { subject: about, entry } in notes {
                let kept = orders.get(about).ok_or_else(|| CannotRebuild(format!("there is no order {about}")))?;
                say_again(&mut outgoing, kept, *entry as usize, self.0.get())
                    .with_context(|| format!("entry {entry} of order {about}"))?;
            }
            Ok(outgoing.map(Outgoing::into_packets).unwrap_or_default())
        }
        .boxed()
    }
}

/// What an entry of an order's history said, as it was said then. The entries of one transaction bear one time.
pub fn say_again(outgoing: &mut Option<Outgoing>, kept: &Kept, sequence: usize, payload_max: usize) -> anyhow::Result<()> {
    let history = kept.history.get(..sequence).ok_or_else(|| CannotRebuild("there is no such entry".to_owned()))?;
    let mut row = Row { prices: None, ..kept.row.clone() };
    let mut last = None;
    for entry in history {
        let entry: Entry<Order> = serde_json::from_str(entry.get())?;
        row.sequence = entry.sequence;
        row.state = entry.state;
        row.note_prices();
        last = Some((entry.time, entry.sent));
    }
    let (time, sent) = last.ok_or_else(|| CannotRebuild("entries count from 1".to_owned()))?;
    say(outgoing.get_or_insert_with(|| Outgoing::new(Order::SOURCE, time)), &row, history, &sent, payload_max)
}

#[cfg(test)]
mod tests {
    use crate::saga::Reply;
    use events::product::{self, Line};
    use events::{Currency, Money, OrderId, ProductId, Quantity, TraceParent, UserId, user};
    use saga::{Input, Recording, State, apply};

    use super::*;
    use crate::store::HistoryRow;

    /// Carries an order through inputs, each decided at its own time, and returns it with what each entry said.
    fn carried(inputs: Vec<Input<Order>>, payload_max: usize) -> (Kept, Vec<Vec<Packet>>) {
        let line = Line { product_id: ProductId(Uuid::from_u128(3)), quantity: Quantity::try_from(2).unwrap() };
        let order = Order { id: OrderId(Uuid::from_u128(1)), user_id: UserId(Uuid::from_u128(2)), items: vec![line] };
        let begun = chrono::DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let mut row = Row {
            order,
            state: State::new(),
            sequence: 0,
            history_bytes: 0,
            prices: None,
            trace: TraceParent::from_random(7),
            created_at: begun,
            updated_at: begun,
            began_at: begun,
            waiting_since: None,
            due_at: None,
        };
        let (mut history, mut said) = (Vec::new(), Vec::new());
        for (seconds, input) in inputs.into_iter().enumerate() {
            let now = begun + chrono::TimeDelta::seconds(seconds as i64);
            let applied = apply(&row.order, &mut row.state, row.sequence, input, Recording::at(now));
            let entry = applied.entry.expect("it moves the saga");
            row.sequence = entry.sequence;
            row.note_prices();
            history.push(HistoryRow::new(row.order.id, &entry).unwrap().whole);
            let mut outgoing = Outgoing::new(Order::SOURCE, now);
            say(&mut outgoing, &row, &history, &applied.effects, payload_max).unwrap();
            said.push(outgoing.into_packets());
        }
        (Kept { row, history }, said)
    }

    /// Placed, confirmed, cancelled.
    fn inputs() -> Vec<Input<Order>> {
        let order_id = OrderId(Uuid::from_u128(1));
        let validated = user::Validated { order_id, user_id: UserId(Uuid::from_u128(2)) };
        let price = product::PricedLine {
            product_id: ProductId(Uuid::from_u128(3)),
            unit_price: Money::new(250, Currency::from_code("EUR").unwrap()),
        };
        let reserved = product::Reserved { order_id, items: vec![price] };
        vec![
            Input::Start,
            Input::Reply(Reply::User(validated.into())),
            Input::Reply(Reply::Product(reserved.into())),
            Input::Cancel,
            Input::Reply(Reply::Product(product::Released { order_id }.into())),
        ]
    }

    #[test]
    fn what_was_said_is_said_again_to_the_letter() {
        // With room for each history, for the first end's alone, and for none.
        for (payload_max, claims) in [(1 << 20, 0), (6_200, 1), (5_000, 2)] {
            let (kept, said) = carried(inputs(), payload_max);
            let subjects: Vec<&str> = said.iter().flatten().map(|packet| packet.subject.as_str()).collect();
            assert!(subjects.contains(&"commands.product.release") && subjects.len() >= 7, "{subjects:?}");
            let text = |packet: &Packet| String::from_utf8(packet.payload.to_vec()).unwrap();
            let claimed = said.iter().flatten().filter(|packet| text(packet).contains("\"waybill_ref\":")).count();
            assert_eq!(claimed, claims, "{:?}", said.iter().flatten().map(|packet| packet.payload.len()).collect::<Vec<_>>());
            for (index, packets) in said.iter().enumerate() {
                let mut outgoing = None;
                say_again(&mut outgoing, &kept, index + 1, payload_max).unwrap();
                assert_eq!(&outgoing.unwrap().into_packets(), packets, "entry {}", index + 1);
                assert!(packets.iter().all(|packet| packet.payload.len() + HEADERS <= payload_max));
            }
            assert!(say_again(&mut None, &kept, 6, payload_max).is_err());
        }
    }

    #[test]
    fn a_claim_check_claims_the_history_as_it_was_told() {
        let (kept, said) = carried(inputs(), 5_000);
        let confirmed = said[2].iter().find(|packet| packet.subject.starts_with("events.order.confirmed.")).unwrap();
        let snapshot: Snapshot = serde_json::from_slice(&confirmed.payload).unwrap();
        let claim = snapshot.waybill_ref.as_ref().unwrap();
        assert_eq!((claim.entries, snapshot.waybill.is_none()), (3, true));
        let json = Waybill::of(&kept.history[..3]).unwrap();
        let waybill = Order::claimed_transcript(&snapshot, claim, json.json()).unwrap();
        assert_eq!((waybill.divergence(), waybill.plan), (None, kept.row.order.clone()));
        let grown = Waybill::of(&kept.history).unwrap();
        assert!(Order::claimed_transcript(&snapshot, claim, grown.json()).is_err(), "it has grown since");
    }
}
