//! `GET /orders/{id}/events`: an order's history as server-sent events, live, until the order is final.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use chassis::database::Reader;
use chassis::http::{Id, Problem};
use events::OrderId;
use futures_util::{Stream, StreamExt as _, stream};

use crate::edge::{Edge, LOOK_EVERY, find, not_found};
use crate::store;
use crate::waiting::Place;

/// Often enough for proxies that close a silent connection after half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Entries read at once, and the bytes beyond which they are sent first: a slow client holds no more than these in memory.
const ENTRIES: i64 = 200;
const BYTES: i64 = 256 * 1024;

/// Where a client is in an order's history.
struct Follower {
    edge: Arc<Edge>,
    order: OrderId,
    place: Place,
    /// The sequence of the last entry sent.
    last: u32,
    ended: bool,
}

/// Sends the entries so far, then each as it comes. The id of an event is the entry's sequence, so a client that lost its connection goes
/// on where it was (`Last-Event-ID`).
pub async fn stream(
    State(edge): State<Arc<Edge>>,
    Id(order): Id<OrderId>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    find(&edge.database, order).await?.ok_or_else(|| not_found(order))?;
    let last = match headers.get("last-event-id") {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| Problem::malformed("`Last-Event-ID` is not one this stream gave"))?,
    };
    let reader = Follower { place: edge.advance.waiting.join(order), edge, order, last, ended: false };
    let events = stream::unfold(reader, |mut reader| async move {
        let events = reader.next().await?;
        Some((stream::iter(events.into_iter().map(Ok)), reader))
    });
    Ok(Sse::new(events.flatten()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Follower {
    /// The next entries, as soon as there are any; `None` once the order is final or the service stops.
    async fn next(&mut self) -> Option<Vec<Event>> {
        while !self.ended {
            // Registered before the look, so that a move between the two is not missed.
            let mut moved = std::pin::pin!(self.place.moved.notified());
            moved.as_mut().enable();
            match self.look().await {
                Ok((entries, is_final)) => {
                    self.ended = is_final;
                    if let Some((last, _)) = entries.last() {
                        self.last = *last;
                        let event = |(sequence, json): &(u32, String)| {
                            Event::default().id(sequence.to_string()).event("entry").data(json)
                        };
                        return Some(entries.iter().map(event).collect());
                    }
                }
                // The connection stays: the client would only come back.
                Err(error) => tracing::debug!(%error, "the history cannot be read"),
            }
            if self.ended {
                break;
            }
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.edge.shutdown.cancelled() => return None,
            }
        }
        None
    }

    /// The entries after the last one sent, and whether the order was final when they were read.
    async fn look(&self) -> sqlx::Result<(Vec<(u32, String)>, bool)> {
        // First the order, then its history: what made it final is then among the entries.
        let (order, last) = (self.order, self.last);
        let read = |mut db: Reader| async move {
            let view = store::get(&mut db, order).await?;
            Ok((view, store::history_page(&mut db, order, last, ENTRIES, BYTES).await?))
        };
        let (view, store::HistoryPage { entries, more }) = self.edge.database.read(read).await?;
        let entries = entries.into_iter().map(|entry| (entry.sequence, String::from(Box::<str>::from(entry.json)))).collect();
        Ok((entries, !more && view.is_none_or(|view| view.status.is_final())))
    }
}
