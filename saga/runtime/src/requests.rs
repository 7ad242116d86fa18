//! What whoever begins sagas asks by HTTP: to begin one, perhaps waiting for its end, to cancel it, to see its history.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chassis::Client;
use chassis::database::Reader;
use chassis::http::{Caller, IdempotencyKey, Operation, Page, PageQuery, Problem, Shape, prefer_wait, trace};
use saga::{IgnoredBecause, Verdict};
use schemars::JsonSchema;
use serde_json::json;
use uuid::Uuid;

use crate::described::entry;
use crate::filter::{Filter, Given, parameters};
use crate::item::{Begun, NewSaga, Outcome, Trigger};
use crate::runtime::{LOOK_AGAIN, Runtime};
use crate::saga::{Layout as _, Saga, View};
use crate::waiters::Subscription;

/// What [`begin`] takes and answers.
pub fn begin_operation(operation: Operation, view: Shape) -> Operation {
    operation
        .header("Prefer", "`wait=N`: answer when it is final, or after N seconds, at most 30", json!({ "type": "string" }))
        .header("traceparent", "The trace to go on with (W3C)", json!({ "type": "string" }))
        .header("tracestate", "What comes with that trace (W3C), passed on with it", json!({ "type": "string" }))
        .answers(201, "It is final", view.clone())
        .with_header("Location", "Where it is")
        .with_header("Preference-Applied", "How long was waited, at most")
        .with_header("Idempotency-Replayed", "`true` where the key was used for the same before")
        .answers(202, "It has begun", view)
        .with_header("Location", "Where it is")
        .with_header("Preference-Applied", "How long was waited, at most")
        .keyed()
}

/// What [`history`] takes and answers.
pub fn history_operation(operation: Operation) -> Operation {
    let cursor = Shape::Value(json!({ "type": "string", "pattern": "^(0{24}[0-9a-f]{8})?$" }));
    let page = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": { "type": "array", "items": entry() },
            "next_cursor": { "type": "string", "description": "Asks for the next page, where there is one" },
        },
    });
    operation.page_of(cursor, Shape::Value(page)).may_be_missing()
}

/// What [`cancel`] takes and answers.
pub fn cancel_operation(operation: Operation, view: Shape) -> Operation {
    operation
        .answers(202, "It goes back, or has gone", view)
        .keyed()
        .refuses(409, "too-late-to-cancel", "It is rejected, or cannot go back")
        .may_be_missing()
}

/// What [`list`] takes beside the status and the owner, and answers.
pub fn list_operation<S: Saga>(operation: Operation) -> Operation
where
    View<S>: JsonSchema,
{
    parameters::<S>(operation).page::<View<S>>()
}

/// A page of sagas as their customers see them, newest first. The parameters are those of [`list_operation`], `status`, and `user_id` where sagas have
/// an owner.
///
/// # Errors
/// Where a parameter cannot be read, or no index finds what is asked for.
pub async fn list<S: Saga>(runtime: &Runtime<S>, caller: &Caller, page: PageQuery, given: &Given) -> Result<Page, Problem> {
    let filter = &Filter::of::<S>(given, caller.only())?;
    filter.check(&S::Layout::TABLE)?;
    let (after, rows, store) = (page.after, page.rows(), runtime.store);
    let found = runtime.database.read(|mut db| async move { store.views(&mut db, filter, after, rows).await }).await?;
    page.part(found.items, |listed| listed.id(S::Layout::id_of), found.next)
}

/// More than a page holds, so that it ends where it is full and not where reading did.
const HISTORY_BYTES: i64 = 512 * 1024;

/// Begins the saga that is asked for. `Idempotency-Key`: the same request with the same key begins no second one. `Prefer: wait=N`: the answer waits
/// for its end.
///
/// # Errors
/// Where it has not begun.
pub async fn begin<S: Saga>(
    runtime: &Runtime<S>,
    client: Client,
    caller: &Caller,
    headers: &HeaderMap,
    parse: impl FnOnce() -> Result<S, Problem>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of(caller, headers)?.map(|key| key.0);
    let (wait, request) = (prefer_wait(headers), parse()?);
    // Waiting begins before the saga exists: its end cannot be missed.
    let subscription = wait.map(|_| runtime.subscribe(request.id()));
    let new = NewSaga { request, key, trace: trace(headers) };
    let (mut view, replayed) = match runtime.begin(client, new).await? {
        Begun::Placed(view) => (view, false),
        Begun::Replayed(view) => (view, true),
        Begun::KeyReused => return Err(IdempotencyKey::reused()),
    };
    let id = S::Layout::id_of(&view);
    if let Some(wait) = wait {
        // Begun just now, it moves under the eyes of this place. One that was begun before may have moved unseen.
        let mut place = subscription.filter(|_| !replayed).unwrap_or_else(|| runtime.subscribe(id));
        place.saw(1);
        view = wait_until_final(runtime, id, view, replayed, &mut place, wait).await;
    }
    let status = if wait.is_some() && S::Layout::is_final(&view) { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let location = [(header::LOCATION, format!("/{}s/{id}", S::NAME))];
    let replayed = replayed.then_some(IdempotencyKey::REPLAYED);
    let applied = wait.map(|wait| {
        [(HeaderName::from_static("preference-applied"), format!("wait={}", wait.as_secs())), (header::VARY, "Prefer".to_owned())]
    });
    let mut response = (status, location, Body(view)).into_response();
    for (name, value) in replayed.into_iter().flatten() {
        response.headers_mut().insert(name, value.parse().expect("a constant"));
    }
    for (name, value) in applied.into_iter().flatten() {
        response.headers_mut().insert(name, value.parse().expect("digits"));
    }
    Ok(response)
}

/// Waits until a saga is final, the time is up or the service stops. `unsure`: it may have moved since it was read.
async fn wait_until_final<S: Saga>(
    runtime: &Runtime<S>,
    id: Uuid,
    mut view: View<S>,
    unsure: bool,
    place: &mut Subscription,
    wait: Duration,
) -> View<S> {
    let deadline = tokio::time::Instant::now() + wait;
    let (mut look_first, mut failed) = (unsure, false);
    while !S::Layout::is_final(&view) {
        if !std::mem::take(&mut look_first) {
            tokio::select! {
                () = place.moved() => {}
                () = tokio::time::sleep(LOOK_AGAIN), if failed => {}
                () = tokio::time::sleep_until(deadline) => break,
                () = runtime.shutdown.cancelled() => break,
            }
        }
        // In a task of its own, because it may outlast the waiting.
        let (database, store) = (runtime.database.clone(), runtime.store);
        let look = tokio::spawn(async move { database.read(|mut db| async move { store.view(&mut db, id, None).await }).await });
        match tokio::time::timeout_at(deadline, look).await {
            Ok(Ok(Ok(now))) => {
                view = now.unwrap_or(view);
                failed = false;
            }
            // The saga has begun, whatever becomes of this look at it.
            Ok(Ok(Err(error))) => {
                tracing::debug!(saga = S::NAME, %id, %error, "the saga cannot be read; its client waits on");
                failed = true;
            }
            Ok(Err(_)) | Err(_) => break,
        }
    }
    view
}

/// A page of a saga's history, oldest entry first; for an ordinary history the only one. The cursor is the sequence of the last entry before
/// the page, as an id.
///
/// # Errors
/// Where there is no such saga, or no such cursor.
pub async fn history<S: Saga>(runtime: &Runtime<S>, caller: &Caller, id: Uuid, page: PageQuery) -> Result<Page, Problem> {
    let only = caller.only();
    let page = page.largest();
    let after = page.after.map_or(Ok(0), |cursor| u32::try_from(cursor.as_u128()));
    let after = after.map_err(|_| Problem::malformed("`cursor` is not one this service gave"))?;
    let (rows, store) = (page.rows(), runtime.store);
    let read = |mut db: Reader| async move { store.history_page(&mut db, id, only, after, rows, HISTORY_BYTES).await };
    let found = runtime.database.read(read).await?.entries;
    if found.is_empty() && runtime.view(id, only).await?.is_none() {
        return Err(runtime.not_found(id));
    }
    Ok(page.page(found, |entry| Uuid::from_u128(entry.sequence.into()))?.plain_if_last())
}

/// Cancels a saga. `Idempotency-Key`: asked again with the same key, the saga is shown as it is by then.
///
/// # Errors
/// Where it is too late, or there is no such saga.
pub async fn cancel<S: Saga>(
    runtime: &Arc<Runtime<S>>,
    caller: &Caller,
    id: Uuid,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of(caller, headers)?.map(|key| key.0);
    // Whose a saga is never changes. A look of its own, so that a decision needs to know nothing of callers.
    if caller.only().is_some() && runtime.view(id, caller.only()).await?.is_none() {
        return Err(runtime.not_found(id));
    }
    let moved = runtime.input(id, Trigger::Cancel(key.clone())).await?.ok_or_else(|| runtime.not_found(id))?;
    match moved.outcome {
        Outcome::Decided(Verdict::Ignored(IgnoredBecause::Final | IgnoredBecause::NoWayBack)) => {
            let detail = format!("the {} is {} and cannot be cancelled", S::NAME, moved.status);
            return Err(Problem::conflict("too-late-to-cancel", detail));
        }
        // Nothing was done. After a rollback it takes the other build.
        Outcome::Decided(Verdict::Ignored(IgnoredBecause::UnknownPlan)) => {
            let detail =
                format!("this build cannot continue the {}, which was begun by a newer one; nothing was changed", S::NAME);
            return Err(Problem::unavailable(detail));
        }
        Outcome::Unreadable(why) => {
            return Err(Problem::internal(&anyhow::anyhow!("{} {id} cannot be read: {why}", S::NAME)));
        }
        Outcome::Decided(Verdict::Moved) => {}
        Outcome::KeyUsed(saga) if saga == id => {
            let view = runtime.view(id, caller.only()).await?.ok_or_else(|| runtime.not_found(id))?;
            return Ok((StatusCode::ACCEPTED, IdempotencyKey::REPLAYED, Body(view)).into_response());
        }
        Outcome::KeyUsed(_) => return Err(IdempotencyKey::reused()),
        // It is going back already, and a second cancellation asks for nothing more. Its key is kept for the same answer.
        _ => {
            if let Some(key) = &key {
                let store = runtime.store;
                let kept = runtime.database.read(|mut db| async move { store.keep_cancelled(&mut db, key, id).await });
                if !kept.await? {
                    return Err(IdempotencyKey::reused());
                }
            }
        }
    }
    Ok((StatusCode::ACCEPTED, Body(moved.view)).into_response())
}
