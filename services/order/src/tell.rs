//! Turns what a saga wants said into messages, and makes again what was told before from the history alone.

use std::collections::{BTreeSet, HashMap};

use chassis::{Outgoing, Packet, Recall, Saying};
use events::OrderId;
use events::order::{Cancelled, Compensating, Confirmed, Event, Placed, Rejected, Status, Waybill};
use events::streams::{RELEASE, RESERVE, VALIDATE, event_subject};
use events::product;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use saga::order::{Command, Order};
use saga::{Entry, Message, Notice};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::recent::Kept;
use crate::view::Row;
use crate::{SOURCE, store};

/// Says what one decision sends. The row is as the decision left it, the history ends with its entry.
pub fn say(outgoing: &mut Outgoing, row: &Row, history: &[Box<RawValue>], messages: &[Message<Order>]) -> anyhow::Result<()> {
    let id = row.order.id;
    for message in messages {
        let (id, about, trace) = (id, id.to_string(), Some(row.trace.clone()));
        let (verb, name, attempt) = match message {
            Message::Ask { step, attempt } => ("", step.name(), *attempt),
            Message::Undo { step, attempt } => ("undo_", step.name(), *attempt),
            Message::Tell(notice) => {
                let event = event(*notice, row, history)?;
                let subject = event_subject("order", event.word(), &id);
                // Its place in the history tells one from a namesake.
                let event_id = format!("{id}/{}/{}", event.word(), row.sequence);
                let saying = Saying { id: event_id, about, trace, attempt: None, message: event };
                outgoing.tell(subject, saying, Some(format!("{id}/{}", row.sequence)))?;
                continue;
            }
        };
        let (event_id, attempt) = (format!("{id}/{verb}{name}/{attempt}"), Some(attempt));
        match row.state.command(&row.order, message) {
            Some(Command::User(message)) => {
                outgoing.send(VALIDATE, Saying { id: event_id, about, trace, attempt, message })?;
            }
            Some(Command::Product(message)) => {
                let subject = match message {
                    product::Command::Reserve(_) => RESERVE,
                    product::Command::Release(_) => RELEASE,
                };
                outgoing.send(subject, Saying { id: event_id, about, trace, attempt, message })?;
            }
            None => {}
        }
    }
    Ok(())
}

fn event(notice: Notice, row: &Row, history: &[Box<RawValue>]) -> serde_json::Result<Event> {
    let whole = || Waybill::of(history).map(|waybill| row.snapshot(Some(waybill)));
    Ok(match (notice, row.status()) {
        (Notice::Started, _) => Placed(row.snapshot(None)).into(),
        (Notice::Compensating, _) => Compensating(row.snapshot(None)).into(),
        (Notice::Completed, _) => Confirmed(whole()?).into(),
        (Notice::Compensated, Status::Cancelled) => Cancelled(whole()?).into(),
        (Notice::Compensated, _) => Rejected(whole()?).into(),
    })
}

/// Tells again. A word is an order's id and the sequence of the entry that told.
pub struct Retell;

impl Recall for Retell {
    fn recall<'a>(&'a self, db: &'a mut PgConnection, words: &'a [String]) -> BoxFuture<'a, anyhow::Result<Vec<Packet>>> {
        async move {
            let told: Vec<(OrderId, usize)> = words.iter().map(|word| parse(word)).collect::<anyhow::Result<_>>()?;
            let ids: Vec<Uuid> = told.iter().map(|(id, _)| id.0).collect::<BTreeSet<_>>().into_iter().collect();
            let orders: HashMap<OrderId, Kept> =
                store::kept(db, &ids).await?.into_iter().map(|kept| (kept.row.order.id, kept)).collect();
            let mut packets = Vec::with_capacity(told.len());
            for (id, sequence) in told {
                let kept = orders.get(&id).ok_or_else(|| anyhow::anyhow!("there is no order {id}"))?;
                packets.extend(retell(kept, sequence)?);
            }
            Ok(packets)
        }
        .boxed()
    }
}

fn parse(word: &str) -> anyhow::Result<(OrderId, usize)> {
    let (id, sequence) = word.split_once('/').ok_or_else(|| anyhow::anyhow!("`{word}` recalls nothing"))?;
    Ok((id.parse()?, sequence.parse()?))
}

/// What an entry of an order's history told, as it was told then.
fn retell(kept: &Kept, sequence: usize) -> anyhow::Result<Vec<Packet>> {
    let history = kept.history.get(..sequence).ok_or_else(|| anyhow::anyhow!("there is no entry {sequence}"))?;
    let mut row = Row { prices: None, ..kept.row.clone() };
    let mut last: Option<Entry<Order>> = None;
    for entry in history {
        let entry: Entry<Order> = serde_json::from_str(entry.get())?;
        row.state = entry.state.clone();
        row.sequence = entry.sequence;
        row.note_prices();
        last = Some(entry);
    }
    let entry = last.ok_or_else(|| anyhow::anyhow!("entries count from 1"))?;
    let told: Vec<Message<Order>> = entry.sent.into_iter().filter(|message| matches!(message, Message::Tell(_))).collect();
    let mut outgoing = Outgoing::new(SOURCE, entry.time);
    say(&mut outgoing, &row, history, &told)?;
    Ok(outgoing.into_packets())
}
