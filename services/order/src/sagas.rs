//! What operators see and do: sagas in flight, their waybills, and a hand in one that does not come through by itself.
//!
//! These routes are on the order service's own port only; the gateway does not serve them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as RawBody, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use chassis::database::Reader;
use chassis::http::{Checks, Id, IdempotencyKey, Json, Page, PageQuery, Problem, Query, parse_id};
use chrono::{DateTime, Utc};
use events::order::Status;
use events::{Name, OrderId, UserId};
use futures_util::StreamExt as _;
use saga::order::{Order, Step};
use saga::{Action, Direction, State as SagaState, Verdict, Why};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::advance::Trigger;
use crate::edge::{Edge, find, not_found};
use crate::store::{self, InFlight, SagaFilter};

pub fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/sagas", get(list))
        .route("/sagas/waybills", get(export))
        .route("/sagas/{order}", get(show))
        .route("/sagas/{order}/waybill", get(waybill))
        .route("/sagas/{order}/{action}", post(act))
        .with_state(edge)
}

/// A saga as an operator sees it.
#[derive(Serialize)]
struct View {
    order_id: OrderId,
    user_id: UserId,
    status: Status,
    plan: u32,
    /// What the plan version meant to the build that used it first.
    fingerprint: Option<String>,
    state: SagaState<Order>,
    waiting: Vec<Waiting>,
    waiting_since: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    /// It has waited for longer than `--stuck-after`.
    stuck: bool,
    /// What it waits for, in words.
    cause: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// An unanswered command.
#[derive(Serialize)]
struct Waiting {
    step: Step,
    direction: &'static str,
    attempts: u32,
}

impl From<InFlight> for View {
    fn from(saga: InFlight) -> Self {
        let cause = cause(&saga);
        let InFlight { row, fingerprint, stuck, waiting_since, due_at, .. } = saga;
        let direction = |direction| match direction {
            Direction::Act => "act",
            Direction::Undo => "undo",
        };
        let waiting = |(step, way, attempts)| Waiting { step, direction: direction(way), attempts };
        Self {
            order_id: row.order.id,
            user_id: row.order.user_id,
            status: row.status(),
            plan: row.state.plan_version(),
            fingerprint,
            waiting: row.state.outstanding().map(waiting).collect(),
            waiting_since,
            due_at,
            stuck,
            cause,
            created_at: row.created_at,
            updated_at: row.updated_at,
            state: row.state,
        }
    }
}

/// What a saga waits for, in words.
fn cause(saga: &InFlight) -> Option<String> {
    let (step, direction, attempts) = saga.row.state.outstanding().next()?;
    let whom = match step {
        Step::ValidateUser => "user",
        Step::ReserveStock => "product",
    };
    let what = match (step, direction) {
        (Step::ValidateUser, _) => "validate the user",
        (Step::ReserveStock, Direction::Act) => "reserve the stock",
        (Step::ReserveStock, Direction::Undo) => "give back the stock",
    };
    let since = saga.waiting_since.map(|since| format!(" since {}", since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
    let plural = if attempts == 1 { "" } else { "s" };
    Some(format!(
        "waiting for the {whom} service to {what}{}, {attempts} attempt{plural}, last answer: {}",
        since.unwrap_or_default(),
        saga.last_answer.as_deref().unwrap_or("none")
    ))
}

#[derive(Deserialize)]
struct ListQuery {
    status: Option<String>,
    step: Option<String>,
    older_than: Option<f64>,
    user_id: Option<String>,
    #[serde(default)]
    stuck: bool,
}

async fn list(State(edge): State<Arc<Edge>>, page: PageQuery, Query(query): Query<ListQuery>) -> Result<Page, Problem> {
    let filter = &SagaFilter {
        status: status(query.status.as_deref())?,
        step: query.step.as_deref().map(step).transpose()?,
        older_than: query.older_than.map(older_than).transpose()?,
        user: query.user_id.as_deref().map(parse_id).transpose()?,
        stuck_only: query.stuck,
        order: None,
        stuck_after: edge.stuck_after,
    };
    let sagas = sagas(&edge, filter, page.after, page.rows()).await?;
    page.page(sagas.into_iter().map(View::from).collect(), |view| view.order_id.0)
}

fn status(text: Option<&str>) -> Result<Option<Status>, Problem> {
    text.map(str::parse).transpose().map_err(Problem::malformed)
}

fn step(name: &str) -> Result<Step, Problem> {
    serde_json::from_value(name.into())
        .map_err(|_| Problem::malformed(format!("`{name}` is not one of validate_user, reserve_stock")))
}

fn older_than(seconds: f64) -> Result<Duration, Problem> {
    Duration::try_from_secs_f64(seconds).map_err(|_| Problem::malformed("`older_than` is not a number of seconds"))
}

async fn show(State(edge): State<Arc<Edge>>, Id(id): Id<OrderId>) -> Result<Body<View>, Problem> {
    view(&edge, id).await.map(Body)
}

async fn view(edge: &Edge, order: OrderId) -> Result<View, Problem> {
    let filter = SagaFilter { order: Some(order), stuck_after: edge.stuck_after, ..SagaFilter::default() };
    let found = sagas(edge, &filter, None, 1).await?;
    found.into_iter().next().map(View::from).ok_or_else(|| not_found(order))
}

async fn sagas(edge: &Edge, filter: &SagaFilter, after: Option<Uuid>, rows: i64) -> sqlx::Result<Vec<InFlight>> {
    let clock = &edge.advance.clock;
    let read = |mut db: Reader| async move {
        let steady = clock.now(&mut db).await?;
        store::sagas(&mut db, steady, filter, after, rows).await
    };
    edge.database.read(read).await
}

/// A whole saga on one line: what `waybill saga export` writes and `saga::Waybill` reads.
#[derive(Serialize)]
struct Line<'a> {
    saga: &'static str,
    order: &'a Order,
    entries: &'a [Box<RawValue>],
}

fn line(order: &Order, entries: &[Box<RawValue>]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Line { saga: "order", order, entries })
}

async fn waybill(State(edge): State<Arc<Edge>>, Id(id): Id<OrderId>) -> Result<Response, Problem> {
    let row = find(&edge.database, id).await?.ok_or_else(|| not_found(id))?;
    let history = edge.database.read(|mut db| async move { store::history(&mut db, &[id.0]).await }).await?;
    let entries: Vec<_> = history.into_iter().map(|(_, entry)| entry).collect();
    let line = line(&row.order, &entries).map_err(|error| Problem::internal(&error.into()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], line).into_response())
}

#[derive(Deserialize)]
struct ExportQuery {
    since: Option<DateTime<Utc>>,
    status: Option<String>,
    limit: Option<usize>,
}

/// Every waybill, oldest first, a line each. Streams: neither side holds more than a page.
async fn export(State(edge): State<Arc<Edge>>, Query(query): Query<ExportQuery>) -> Result<Response, Problem> {
    const PAGE: usize = 200;
    let status = status(query.status.as_deref())?;
    let begin = (edge.database.clone(), None, query.limit.unwrap_or(usize::MAX));
    let pages = futures_util::stream::try_unfold(begin, move |(database, after, left)| async move {
        if left == 0 {
            return anyhow::Ok(None);
        }
        let rows = database
            .read(|mut db| async move { store::oldest_first(&mut db, query.since, status, after, PAGE.min(left) as i64).await })
            .await?;
        let Some(last) = rows.last().map(|row| row.order.id) else {
            return Ok(None);
        };
        let ids: &Vec<_> = &rows.iter().map(|row| row.order.id.0).collect();
        let mut histories =
            database.read(|mut db| async move { store::history(&mut db, ids).await }).await?.into_iter().peekable();
        let mut lines = Vec::new();
        for row in &rows {
            let mut entries = Vec::new();
            while let Some((_, entry)) = histories.next_if(|(id, _)| *id == row.order.id) {
                entries.push(entry);
            }
            lines.extend_from_slice(&line(&row.order, &entries)?);
            lines.push(b'\n');
        }
        Ok(Some((Bytes::from(lines), (database, Some(last.0), left - rows.len()))))
    });
    let pages = pages.inspect(|page| {
        if let Err(error) = page {
            tracing::warn!(error = format!("{error:#}"), "the export broke off");
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], RawBody::from_stream(pages)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActBody {
    by: String,
    reason: String,
    step: Option<String>,
}

async fn act(
    State(edge): State<Arc<Edge>>,
    Path((id, action)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<ActBody>,
) -> Result<Body<View>, Problem> {
    IdempotencyKey::refuse(&headers, "an action that was taken already changes nothing when it is repeated")?;
    let id: OrderId = parse_id(&id)?;
    let mut checks = Checks::default();
    let by = checks.take("/by", Name::new(&body.by));
    let reason = checks.take("/reason", Name::new(&body.reason));
    let (by, reason) = checks.finish(by.zip(reason))?;
    let action = match action.as_str() {
        "retry" => Action::Retry,
        "cancel" => Action::Cancel,
        "compensate" => Action::Compensate,
        "skip" => Action::Skip(skipped(&edge, id, body.step.as_deref()).await?),
        other => return Err(Problem::not_found(format!("there is no action `{other}`"))),
    };
    let trigger = Trigger::Operator { action, by: by.into(), reason: reason.into() };
    let moved = edge.unit.run_detached(&edge.advance, (id, trigger)).await?.ok_or_else(|| not_found(id))?;
    match moved.verdict {
        Some(Verdict::Ignored(why)) => Err(Problem::conflict("operator-refused", refusal(why, moved.status))),
        _ => view(&edge, id).await.map(Body),
    }
}

/// The step whose compensation is to be given up: the one named, or the only one under way.
async fn skipped(edge: &Edge, id: OrderId, named: Option<&str>) -> Result<Step, Problem> {
    if let Some(name) = named {
        return step(name);
    }
    let row = find(&edge.database, id).await?.ok_or_else(|| not_found(id))?;
    let mut undoing = row.state.outstanding().filter(|(_, direction, _)| *direction == Direction::Undo);
    match (undoing.next(), undoing.next()) {
        (Some((step, _, _)), None) => Ok(step),
        (None, _) => Err(Problem::conflict("operator-refused", refusal(Why::NotUndoing, row.status()))),
        _ => Err(Problem::conflict("operator-refused", "several compensations are under way: name one as `step`")),
    }
}

fn refusal(why: Why, status: Status) -> String {
    match why {
        Why::Final => format!("the order is {}: its outcome stands", status.as_str()),
        Why::AlreadyCompensating => "it is being undone already".to_owned(),
        Why::NoWayBack => "the step after which there is no way back may be done".to_owned(),
        Why::NothingOutstanding => "every command is answered: there is nothing to ask again".to_owned(),
        Why::NotUndoing => "no compensation of this step is under way: there is nothing to give up".to_owned(),
        Why::UnknownPlan => "this build does not know the plan version the saga began with".to_owned(),
        other => format!("refused: {other:?}"),
    }
}
