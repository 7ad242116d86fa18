//! The order service's HTTP edge.

#[cfg(test)]
mod fuzz;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::saga::Order;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json as Body, Router};
use chassis::database::{Database, Reader};
use chassis::http::{
    Checks, Client, Id, IdempotencyKey, Json, Object, Page, PageQuery, Problem, Queries, Query, parse_id, prefer_wait, trace,
};
use chassis::{GroupCommit, UnitOfWork};
use events::order::{MAX_ITEMS, Status};
use events::product::Line;
use events::{OrderId, ProductId, Quantity, UserId};
use saga::{IgnoredBecause, Verdict};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::advance::{Advance, Trigger};
use crate::live;
use crate::open::Outcome;
use crate::place::{NewOrder, Place, Placing};
use crate::store::{self, Filter, cancellations};
use crate::view::View;
use crate::waiting;

/// How long someone who waits rests after a look that failed.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the routes need.
pub struct Edge {
    pub database: Database,
    /// The same database by connections of their own, few, for what operators ask.
    pub operators: Database,
    pub placing: GroupCommit<Place>,
    pub advance: Arc<Advance>,
    pub unit: UnitOfWork,
    /// Streams that read at once. Thousands may wait for one order: when it moves they leave connections to others.
    pub stream_reads: Semaphore,
    pub shutdown: CancellationToken,
    pub stuck_after: Duration,
}

/// What can be asked of the routes.
pub const QUERIES: Queries = &[
    ("/orders", &["user_id", "status", "limit", "cursor"]),
    ("/orders/{id}/history", &["limit", "cursor"]),
    ("/sagas", &["status", "step", "older_than", "user_id", "stuck", "limit", "cursor"]),
    ("/sagas/waybills", &["since", "status", "limit"]),
];

pub fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/orders", get(list).post(submit))
        .route("/orders/{id}", get(show))
        .route("/orders/{id}/history", get(history))
        .route("/orders/{id}/events", get(live::stream))
        .route("/orders/{id}/cancel", post(cancel))
        .with_state(edge)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    user_id: String,
    items: Vec<Object<ItemBody>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemBody {
    product_id: String,
    quantity: i64,
}

/// Parsed once, into an order that cannot be wrong.
fn parse(body: &OrderBody) -> Result<Order, Problem> {
    let mut checks = Checks::default();
    let user_id = checks.take("/user_id", body.user_id.parse::<UserId>().map_err(|_| "is not a UUID"));
    if !(1..=MAX_ITEMS).contains(&body.items.len()) {
        checks.refuse("/items", format!("must hold 1 to {MAX_ITEMS} items"));
        return checks.finish(None);
    }
    let mut items = Vec::with_capacity(body.items.len());
    let mut seen = HashSet::with_capacity(body.items.len());
    for (index, Object(item)) in body.items.iter().enumerate() {
        let product = item.product_id.parse::<ProductId>().map_err(|_| "is not a UUID");
        let product = checks.take(format_args!("/items/{index}/product_id"), product);
        let quantity = checks.take(format_args!("/items/{index}/quantity"), Quantity::try_from(item.quantity));
        if let Some(product_id) = product
            && !seen.insert(product_id)
        {
            checks.refuse(format_args!("/items/{index}/product_id"), "stands twice; put the pieces in one item");
        }
        items.extend(product.zip(quantity).map(|(product_id, quantity)| Line { product_id, quantity }));
    }
    let order = user_id.map(|user_id| Order { id: OrderId(Uuid::now_v7()), user_id, items });
    checks.finish(order)
}

async fn submit(
    State(edge): State<Arc<Edge>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Json(body): Json<OrderBody>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::from_headers(&headers)?.map(|key| key.0);
    let wait = prefer_wait(&headers);
    let new = NewOrder { order: parse(&body)?, key, trace: trace(&headers) };
    // Waiting begins before the order exists: its end cannot be missed.
    let place = wait.map(|_| edge.advance.waiting.join(new.order.id));
    let (placed, replayed) = match edge.placing.submit(client, new).await?? {
        Placing::Placed(view, _) => (view, false),
        Placing::Replayed(view) => (view, true),
        Placing::KeyReused => return Err(IdempotencyKey::reused()),
    };
    let mut view = placed;
    if let Some(wait) = wait {
        // Placed just now, it moves under the eyes of this place. One that was placed before may have moved unseen.
        let mut place = place.filter(|_| !replayed).unwrap_or_else(|| edge.advance.waiting.join(view.id));
        place.saw(1);
        view = edge.wait_until_final(view, replayed, &mut place, wait).await;
    }
    let status = if wait.is_some() && view.status.is_final() { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    let location = [(header::LOCATION, format!("/orders/{}", view.id))];
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

pub async fn find(database: &Database, id: OrderId) -> sqlx::Result<Option<View>> {
    database.read(|mut db| async move { store::get(&mut db, id).await }).await
}

impl Edge {
    /// Waits until an order is final, the time is up or the service stops. `unsure`: it may have moved since it was read.
    async fn wait_until_final(&self, mut view: View, unsure: bool, place: &mut waiting::Place, wait: Duration) -> View {
        let deadline = tokio::time::Instant::now() + wait;
        let (mut look_first, mut failed) = (unsure, false);
        while !view.status.is_final() {
            if !std::mem::take(&mut look_first) {
                tokio::select! {
                    () = place.moved() => {}
                    () = tokio::time::sleep(LOOK_AGAIN), if failed => {}
                    () = tokio::time::sleep_until(deadline) => break,
                    () = self.shutdown.cancelled() => break,
                }
            }
            // In a task of its own, because it may outlast the waiting.
            let (database, id) = (self.database.clone(), view.id);
            let look = tokio::spawn(async move { find(&database, id).await });
            match tokio::time::timeout_at(deadline, look).await {
                Ok(Ok(Ok(now))) => {
                    view = now.unwrap_or(view);
                    failed = false;
                }
                // The order is placed, whatever becomes of this look at it.
                Ok(Ok(Err(error))) => {
                    tracing::debug!(order = %id, %error, "the order cannot be read; its client waits on");
                    failed = true;
                }
                Ok(Err(_)) | Err(_) => break,
            }
        }
        view
    }
}

#[derive(Deserialize)]
struct ListQuery {
    user_id: Option<String>,
    status: Option<String>,
}

async fn list(State(edge): State<Arc<Edge>>, page: PageQuery, Query(query): Query<ListQuery>) -> Result<Page, Problem> {
    let user = query.user_id.as_deref().map(parse_id).transpose()?;
    let status = query.status.as_deref().map(str::parse::<Status>).transpose().map_err(Problem::malformed)?;
    let (after, count) = (page.after, page.rows());
    let views =
        edge.database.read(|mut db| async move { store::list(&mut db, Filter { user, status }, after, count).await }).await?;
    page.page(views, |listed| listed.id(|view| view.id.0))
}

async fn show(State(edge): State<Arc<Edge>>, Id(id): Id<OrderId>) -> Result<Body<View>, Problem> {
    find(&edge.database, id).await?.map(Body).ok_or_else(|| not_found(id))
}

pub fn not_found(id: OrderId) -> Problem {
    Problem::not_found(format!("there is no order {id}"))
}

/// More than a page holds, so that it ends where it is full and not where reading did.
const HISTORY_BYTES: i64 = 512 * 1024;

/// A page of an order's history, oldest entry first; for an ordinary history the only one. The cursor is the sequence of the last entry before
/// the page, as an id.
async fn history(State(edge): State<Arc<Edge>>, Id(id): Id<OrderId>, page: PageQuery) -> Result<Page, Problem> {
    let page = page.largest();
    let after = page.after.map_or(Ok(0), |cursor| u32::try_from(cursor.as_u128()));
    let after = after.map_err(|_| Problem::malformed("`cursor` is not one this service gave"))?;
    let rows = page.rows();
    let read = |mut db: Reader| async move { store::history_page(&mut db, id, after, rows, HISTORY_BYTES).await };
    let found = edge.database.read(read).await?.entries;
    if found.is_empty() && find(&edge.database, id).await?.is_none() {
        return Err(not_found(id));
    }
    Ok(page.page(found, |entry| Uuid::from_u128(entry.sequence.into()))?.plain_if_last())
}

async fn cancel(State(edge): State<Arc<Edge>>, Id(id): Id<OrderId>, headers: HeaderMap) -> Result<Response, Problem> {
    let key = IdempotencyKey::from_headers(&headers)?.map(|key| key.0);
    let trigger = Trigger::Cancel(key.clone());
    let moved = edge.unit.run_detached(&edge.advance, (id, trigger)).await?.ok_or_else(|| not_found(id))?;
    match moved.outcome {
        Outcome::Decided(Verdict::Ignored(IgnoredBecause::Final | IgnoredBecause::NoWayBack)) => {
            let detail = format!("the order is {} and cannot be cancelled", moved.status.as_str());
            return Err(Problem::conflict("too-late-to-cancel", detail));
        }
        // Nothing was done. After a rollback it takes the other build.
        Outcome::Decided(Verdict::Ignored(IgnoredBecause::UnknownPlan)) => {
            let detail = "this build cannot continue the order, which was begun by a newer one; nothing was changed";
            return Err(Problem::unavailable(detail));
        }
        Outcome::Unreadable(why) => return Err(Problem::internal(&anyhow::anyhow!("order {id} cannot be read: {why}"))),
        Outcome::Decided(Verdict::Moved) => {}
        Outcome::KeyUsed(order) if order == id => {
            let view = find(&edge.database, id).await?.ok_or_else(|| not_found(id))?;
            return Ok((StatusCode::ACCEPTED, IdempotencyKey::REPLAYED, Body(view)).into_response());
        }
        Outcome::KeyUsed(_) => return Err(IdempotencyKey::reused()),
        // It is going back already, and a second cancellation asks for nothing more. Its key is kept for the same answer.
        _ => {
            if let Some(key) = &key {
                let kept = edge.database.read(|mut db| async move { cancellations::keep_cancelled(&mut db, key, id).await });
                if !kept.await? {
                    return Err(IdempotencyKey::reused());
                }
            }
        }
    }
    Ok((StatusCode::ACCEPTED, Body(moved.view)).into_response())
}
