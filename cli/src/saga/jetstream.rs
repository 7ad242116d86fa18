//! A saga from the broker alone. Once an order has ended, its last event carries its whole history. Before that, what the streams hold is
//! folded: they carry what was answered, but neither timers nor cancellations nor operators. What cannot be known is said, not guessed.

use anyhow::Context as _;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use chassis::broker::Broker;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use events::event_subject;
use events::order::{Event, Snapshot, WaybillRef};
use events::product::Line;
use events::streams::{PRODUCT_REPLIES_CONSUMER, USER_REPLIES_CONSUMER};
use events::{CloudEvent, Message, OrderId, split_batch};
use order::saga::{Order, Reply};
use saga::{Entry, IgnoredBecause, Input, Phase, Recording, State, Transcript, Verdict, apply};
use serde_json::value::RawValue;

use super::source::{self, Found};
use super::words;
use crate::broker::{Reader, Stored, stream};
use crate::client::Gateway;

/// A reply may be stored before the event that says the order was placed: they are published side by side.
const BEFORE: TimeDelta = TimeDelta::seconds(60);

/// Reads the saga. `service`: where a history is claimed that was too large for the broker.
pub async fn load(broker: &Broker, order: OrderId, service: &Gateway) -> anyhow::Result<Found> {
    let events = stream(broker, "ORDER_EVENTS").await?;
    let mut last: Option<(Stored, Event)> = None;
    for word in ["confirmed", "rejected", "cancelled"] {
        let found = newest(&events, word, order).await?;
        last = last.into_iter().chain(found).max_by_key(|(stored, _)| stored.sequence);
    }
    let back = newest(&events, "compensating", order).await?;
    if let Some((stored, event)) = last {
        let snapshot = snapshot(&event);
        let waybill = match &snapshot.waybill_ref {
            None => Order::transcript(snapshot)?,
            Some(claim) => claimed(snapshot, claim, service).await?,
        };
        let mut found = Found::whole(waybill);
        if let Some((later, _)) = back.filter(|(later, _)| later.sequence > stored.sequence) {
            found.gaps.push(format!("the order went back at {}, after this history was told", moment(later.time)));
        }
        return Ok(found);
    }
    let state = events.cached_info().state.clone();
    let placed = newest(&events, "placed", order).await?.with_context(|| {
        let since = if state.first_sequence > 1 {
            format!(" (it keeps nothing before {})", moment(state.first_timestamp))
        } else {
            String::new()
        };
        format!("the broker holds no event of the order {order}{since}")
    })?;
    from_streams(broker, placed, back).await
}

/// A saga whose history was too large for its last event: read where that says, and compared with the digest it gives. The path is made
/// here, so that a message cannot send us anywhere else.
async fn claimed(snapshot: &Snapshot, claim: &WaybillRef, service: &Gateway) -> anyhow::Result<Transcript<Order>> {
    let (order, length) = (snapshot.order_id, claim.length);
    let entries = source::entries_from_service(service, order, claim.entries).await.with_context(|| {
        format!("the history of {length} bytes was too large for the broker, and the order service, which keeps it, cannot be asked for it")
    })?;
    Ok(Order::claimed_transcript(snapshot, claim, &entries)?)
}

/// The newest event of one kind about an order.
async fn newest(events: &Stream, word: &str, order: OrderId) -> anyhow::Result<Option<(Stored, Event)>> {
    let message = match events.direct_get_last_for_subject(event_subject("order", word, &order)).await {
        Ok(message) => message,
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("ORDER_EVENTS cannot be read"),
    };
    let kind = message.headers.get("ce-type").map(|kind| kind.as_str().to_owned()).context("an event without its type")?;
    let data: &RawValue = serde_json::from_slice(&message.payload)?;
    let event = Event::decode(&kind, data).with_context(|| format!("the message {} of ORDER_EVENTS", message.sequence))?;
    let async_nats::jetstream::message::StreamMessage { subject, sequence, headers, payload, time } = message;
    Ok(Some((Stored { subject: subject.into_string(), sequence, time, headers, payload }, event)))
}

async fn from_streams(broker: &Broker, placed: (Stored, Event), back: Option<(Stored, Event)>) -> anyhow::Result<Found> {
    let (placed, event) = placed;
    let snapshot = snapshot(&event);
    let items = snapshot.items.iter().map(|item| Line { product_id: item.product_id, quantity: item.quantity }).collect();
    let order = Order { id: snapshot.order_id, user_id: snapshot.user_id, items };
    let mut gaps = vec!["the saga is still open: timers, cancellations and operator actions are not stored in NATS".to_owned()];
    let mut answers: Vec<(DateTime<Utc>, Reply)> = Vec::new();
    let since = placed.time - BEFORE;
    answers.extend(replies(broker, USER_REPLIES_CONSUMER.stream, &order, since, Reply::User, &mut gaps).await?);
    answers.extend(replies(broker, PRODUCT_REPLIES_CONSUMER.stream, &order, since, Reply::Product, &mut gaps).await?);
    answers.sort_by_key(|(time, _)| *time);
    let mut fold = Fold { order, entries: Vec::new(), gaps };
    fold.take(placed.time, Input::Start);
    answers.into_iter().for_each(|(time, answer)| fold.take(time, Input::Reply(answer)));
    fold.turned(back);
    Ok(Found { waybill: Transcript { plan: fold.order, entries: fold.entries }, recorded: false, gaps: fold.gaps })
}

/// What a stream of replies still holds about an order.
async fn replies<R: Message>(
    broker: &Broker,
    name: &str,
    order: &Order,
    since: DateTime<Utc>,
    answer: fn(R) -> Reply,
    gaps: &mut Vec<String>,
) -> anyhow::Result<Vec<(DateTime<Utc>, Reply)>> {
    let stream = stream(broker, name).await?;
    let state = &stream.cached_info().state;
    if state.first_sequence > 1 && (state.messages == 0 || state.first_timestamp > since) {
        let since = if state.messages == 0 {
            "anything".to_owned()
        } else {
            format!("what came before {}", moment(state.first_timestamp))
        };
        gaps.push(format!("{name} no longer holds {since}: an answer may be missing"));
    }
    let id = order.id.to_string();
    let mut found = Vec::new();
    let mut reader = Reader::open(&stream, "", DeliverPolicy::ByStartTime { start_time: since }).await?;
    while let Some(stored) = reader.next().await? {
        let Ok(batch) = split_batch(&stored.payload) else { continue };
        // Looked at before it is read: nearly all of them are about other orders.
        for json in batch.into_iter().filter(|json| json.get().contains(&id)) {
            match CloudEvent::<R>::decode(json) {
                Ok(event) if event.subject == id => found.push((stored.time, answer(event.message))),
                Ok(_) => {}
                Err(error) => gaps.push(format!("an answer in message {} of {name} cannot be read: {error}", stored.sequence)),
            }
        }
    }
    Ok(found)
}

/// A history in the making, from inputs without their decisions.
struct Fold {
    order: Order,
    entries: Vec<Entry<Order>>,
    gaps: Vec<String>,
}

impl Fold {
    fn take(&mut self, time: DateTime<Utc>, input: Input<Order>) {
        let mut state = self.entries.last().map_or_else(State::new, |entry| entry.state.clone());
        let last = self.entries.len() as u32;
        let applied = apply(&self.order, &mut state, last, input.clone(), Recording::at(time));
        self.entries.extend(applied.entry);
        match applied.verdict {
            Verdict::Moved | Verdict::Ignored(IgnoredBecause::Repeated) => {}
            Verdict::Ignored(why) => self.gaps.push(format!(
                "after entry {last}, {} does not fit ({}): what came between is not on the broker",
                words::came(&input),
                words::ignored(why)
            )),
        }
    }

    /// The event that says the order went back, where nothing on the broker made it go back.
    fn turned(&mut self, back: Option<(Stored, Event)>) {
        let Some((stored, event)) = back else { return };
        let phase = self.entries.last().map(|entry| entry.state.phase());
        if matches!(phase, Some(Phase::Compensating(_) | Phase::Compensated(_))) {
            return;
        }
        let reason = snapshot(&event).reason.as_ref().map(|reason| format!(" ({}: {})", words::name(reason.code), reason.detail));
        let (time, reason) = (moment(stored.time), reason.unwrap_or_default());
        self.gaps.push(format!("the order went back at {time}{reason}: what made it is not on the broker"));
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

fn moment(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
