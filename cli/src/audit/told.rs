//! What everybody was told of orders, and whether their histories know it. A restored database has lost a time of which the broker still tells.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::DeliverPolicy;
use chassis::broker::Broker;
use chrono::{DateTime, Utc};
use events::streams::ORDER_EVENTS;
use saga_commands::broker::{Reader, Stored, stream};
use serde::Deserialize;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use super::books::{Books, Check, Finding};

/// What the check proves.
pub const TOLD: &str = "every event that was told is in its order's history";

/// Events looked for in one statement.
const AT_ONCE: usize = 500;

/// An event of an order, as the stream has it.
struct Event {
    order: Uuid,
    /// Its entry in the history.
    sequence: i32,
    /// When that entry was written. A restored order goes on, and may have another entry at the same place.
    at: DateTime<Utc>,
    /// What was told: `confirmed`.
    word: String,
    user: Option<Uuid>,
}

#[derive(Deserialize)]
struct About {
    user_id: Option<Uuid>,
}

impl Event {
    /// `None`: it is none of the order service's.
    fn read(stored: &Stored) -> Option<Self> {
        let mut words = stored.subject.split('.').skip(2);
        let (word, order) = (words.next()?, words.next()?.parse().ok()?);
        let (_, sequence) = stored.header("ce-id")?.rsplit_once('/')?;
        let about: Option<About> = serde_json::from_slice(&stored.payload).ok();
        Some(Self {
            order,
            sequence: sequence.parse().ok()?,
            at: stored.header("ce-time")?.parse().ok()?,
            word: word.to_owned(),
            user: about.and_then(|about| about.user_id),
        })
    }
}

/// An order of which more was told than is known.
struct Lost {
    user: Option<Uuid>,
    told: Vec<String>,
    /// Where it stands; nothing where it is not there at all.
    status: Option<String>,
}

/// Every event of ORDER_EVENTS since a moment is an entry of its order's history.
pub async fn told(books: &Books, broker: &Broker, since: DateTime<Utc>) -> anyhow::Result<Check> {
    let stream = stream(broker, ORDER_EVENTS).await?;
    let mut events = Reader::open(&stream, "", DeliverPolicy::ByStartTime { start_time: since }).await?;
    let (mut rows, mut findings, mut lost) = (0, Vec::new(), BTreeMap::new());
    let mut batch = Vec::with_capacity(AT_ONCE);
    while let Some(stored) = events.next().await? {
        rows += 1;
        match Event::read(&stored) {
            Some(event) => batch.push(event),
            None => {
                let id = format!("message {} of {}", stored.sequence, ORDER_EVENTS);
                findings.push(Finding { id, what: "it is no event of an order".to_owned() });
            }
        }
        if batch.len() == AT_ONCE {
            look(&books.orders, std::mem::take(&mut batch), &mut lost).await?;
        }
    }
    look(&books.orders, batch, &mut lost).await?;
    findings.extend(lost.into_iter().map(|(order, lost)| lost.finding(order)));
    Ok(Check { check: TOLD, rows, findings })
}

/// Looks for events in the histories. Each was told after its entry was committed, so one that is not there now is missing.
async fn look(orders: &PgPool, events: Vec<Event>, lost: &mut BTreeMap<Uuid, Lost>) -> sqlx::Result<()> {
    let missing = sqlx::query(
        "select told.place, orders.status from unnest($1::uuid[], $2::integer[], $3::timestamptz[]) \
             with ordinality as told (id, sequence, at, place) left join orders on orders.id = told.id \
         where not exists (select from order_history as known \
                           where known.order_id = told.id and known.sequence = told.sequence and known.at = told.at) \
         order by told.place",
    )
    .bind(events.iter().map(|event| event.order).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.sequence).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.at).collect::<Vec<_>>())
    .fetch_all(orders)
    .await?;
    for row in missing {
        let (place, status): (i64, Option<String>) = (row.try_get("place")?, row.try_get("status")?);
        let Some(event) = usize::try_from(place - 1).ok().and_then(|place| events.get(place)) else { continue };
        let of_order = lost.entry(event.order).or_insert(Lost { user: event.user, told: Vec::new(), status: None });
        of_order.told.push(format!("{} at {}", event.word, event.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
        of_order.status = status;
    }
    Ok(())
}

impl Lost {
    fn finding(self, order: Uuid) -> Finding {
        let told = self.told.join(", ");
        let whose = self.user.map(|user| format!(" of user {user}")).unwrap_or_default();
        let what = match self.status {
            None => format!("this order{whose} is not there; what was told of it: {told}"),
            Some(status) => format!("this order{whose} is {status}; what was told of it, and is not in its history: {told}"),
        };
        Finding { id: order.to_string(), what }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    #[test]
    fn an_event_says_which_entry_it_tells() {
        let (order, user) = (Uuid::now_v7(), Uuid::now_v7());
        let mut headers = HeaderMap::new();
        headers.insert("ce-id", format!("{order}/confirmed/3"));
        headers.insert("ce-time", "2026-01-02T03:04:05.678901Z");
        let payload = format!("{{\"user_id\":\"{user}\"}}").into();
        let subject = format!("events.order.confirmed.{order}");
        let mut stored = Stored { subject, sequence: 1, time: Utc::now(), headers, payload };
        let event = Event::read(&stored).expect("an event");
        assert_eq!((event.order, event.sequence, event.word.as_str(), event.user), (order, 3, "confirmed", Some(user)));
        assert_eq!(event.at.timestamp_subsec_micros(), 678_901);
        stored.headers.insert("ce-id", "17");
        assert!(Event::read(&stored).is_none());
    }
}
