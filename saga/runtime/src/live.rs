//! A saga's history as server-sent events, live, until the saga is final.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use chassis::database::Reader;
use chassis::http::{Caller, Operation, Problem, Shape};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use uuid::Uuid;

use crate::runtime::{LOOK_AGAIN, Runtime};
use crate::saga::{Saga, status_named};
use crate::store::{HistoryPage, Served};
use crate::waiters::Subscription;

/// Often enough for proxies that close a silent connection after half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// When a client whose connection broke comes again.
const RETRY: Duration = Duration::from_secs(3);

/// Entries read at once, and the bytes beyond which they are sent first: a slow client holds no more than these in memory.
const ENTRIES: i64 = 200;
const BYTES: i64 = 256 * 1024;

/// What [`stream()`] takes and answers.
pub fn operation(operation: Operation) -> Operation {
    let id = json!({ "type": "string", "pattern": "^[0-9]{0,9}$" });
    operation
        .header("Last-Event-ID", "The id of the last event that was seen: the stream goes on after it", id)
        .answers_as(
            200,
            "An event `entry` for each entry of the history, with its sequence as id",
            "text/event-stream",
            Shape::Value(json!({})),
        )
        .answers_nothing(204, "Nothing more will come")
        .may_be_missing()
}

/// Where a client is in a saga's history.
struct Follower<S: Saga> {
    runtime: Arc<Runtime<S>>,
    id: Uuid,
    /// The user whose it must be, if the client is one.
    only: Option<Uuid>,
    subscription: Subscription,
    /// The sequence of the last entry sent.
    last: u32,
    /// What was found when it came, until that is sent.
    first: Option<Found>,
    /// Whether there is more than was read.
    more: bool,
    ended: bool,
}

/// What there is of a history after an entry.
struct Found {
    entries: Vec<Served>,
    /// Whether there are more that were not read.
    more: bool,
    /// The sequence of the saga's last entry.
    sequence: u32,
    is_final: bool,
}

/// Sends the entries so far, then each as it comes. The id of an event is the entry's sequence, so a client that lost its connection goes
/// on where it was (`Last-Event-ID`). It ends with the client's token, who then comes again with another. Where nothing more will come it is told so
/// with 204: an `EventSource` would ask for ever.
///
/// # Errors
/// Where there is no such saga, or the id of the last event is none of it.
pub async fn stream<S: Saga>(
    runtime: Arc<Runtime<S>>,
    caller: &Caller,
    id: Uuid,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let last = last_event_id(headers)?;
    let subscription = runtime.subscribe(id);
    let found = look(&runtime, id, caller.only(), last).await?.ok_or_else(|| runtime.not_found(id))?;
    if last > found.sequence {
        return Err(unknown_id());
    }
    if found.is_final && last == found.sequence {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let only = caller.only();
    let follower = Follower { runtime, id, only, subscription, last, first: Some(found), more: false, ended: false };
    let events = stream::unfold((follower, true), |(mut follower, begins)| async move {
        let events = follower.next(begins).await?;
        Some((stream::iter(events.into_iter().map(Ok::<_, Infallible>)), (follower, false)))
    });
    let mut response = Sse::new(events.flatten()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather events until it has a block of them.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// The sequence of the last entry that a client has; 0 if it has none. Some clients send the header empty then.
fn last_event_id(headers: &HeaderMap) -> Result<u32, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    let text = value.to_str().map_err(|_| unknown_id())?.trim();
    if text.is_empty() {
        return Ok(0);
    }
    // `parse` would take a sign, and no id of ours has one.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(unknown_id)
}

fn unknown_id() -> Problem {
    Problem::malformed("`Last-Event-ID` is not one this stream gave")
}

/// What there is of a saga's history after an entry; `None` where there is no such saga.
async fn look<S: Saga>(runtime: &Arc<Runtime<S>>, id: Uuid, only: Option<Uuid>, last: u32) -> sqlx::Result<Option<Found>> {
    // Here, not in the task: thousands may be woken at once, and what a look needs is some fifteen kilobytes.
    let turn = runtime.stream_reads.clone().acquire_owned().await;
    let runtime = runtime.clone();
    // In a task of its own, because its client may leave meanwhile.
    let look = tokio::spawn(async move {
        let _turn = turn;
        let store = runtime.store;
        let read = |mut db: Reader| async move {
            // First the saga, then its history: what made it final is then among the entries.
            let Some((sequence, status)) = store.position(&mut db, id, only).await? else { return Ok(None) };
            let HistoryPage { entries, more } = store.history_page(&mut db, id, only, last, ENTRIES, BYTES).await?;
            let status = status_named::<S>(&status).map_err(|why| sqlx::Error::Decode(why.into()))?;
            Ok(Some(Found { entries, more, sequence, is_final: status.is_final }))
        };
        runtime.database.read(read).await
    });
    look.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

fn event(entry: Served) -> Event {
    Event::default().id(entry.sequence.to_string()).event("entry").data(entry.json.get())
}

impl<S: Saga> Follower<S> {
    /// The next events, as soon as there are any; `None` once the saga is final or the service stops. A stream begins with the
    /// time after which a client whose connection broke may come again.
    async fn next(&mut self, begins: bool) -> Option<Vec<Event>> {
        while let Some(found) = self.find().await {
            self.subscription.saw(found.sequence);
            self.last = found.entries.last().map_or(self.last, |entry| entry.sequence);
            self.more = found.more;
            self.ended = found.is_final && !found.more;
            let mut events: Vec<Event> = found.entries.into_iter().map(event).collect();
            if begins {
                let first = if events.is_empty() { Event::default() } else { events.remove(0) };
                events.insert(0, first.retry(RETRY));
            }
            if !events.is_empty() {
                return Some(events);
            }
        }
        None
    }

    /// What there is, once there may be something new.
    async fn find(&mut self) -> Option<Found> {
        if let Some(found) = self.first.take() {
            return Some(found);
        }
        let mut failed = false;
        while !self.ended {
            if !self.more {
                tokio::select! {
                    () = self.subscription.moved() => {}
                    () = tokio::time::sleep(LOOK_AGAIN), if failed => {}
                    () = self.runtime.shutdown.cancelled() => return None,
                }
            }
            match look(&self.runtime, self.id, self.only, self.last).await {
                Ok(found) => return found,
                // The connection stays: the client would only come back.
                Err(error) => tracing::debug!(%error, "the history cannot be read"),
            }
            (self.more, failed) = (false, true);
        }
        None
    }
}
