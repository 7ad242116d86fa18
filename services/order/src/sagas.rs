//! What operators see and do: sagas in flight, their waybills, and a hand in one that does not come through by itself.
//!
//! These routes are on the order service's own port only; the gateway does not serve them.

use std::sync::Arc;
use std::time::Duration;

use crate::saga::{Order, Step};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json as Body, Router};
use chassis::database::Reader;
use chassis::http::{Checks, Id, IdempotencyKey, Json, Page, PageQuery, Problem, Query, number, parse_id};
use chrono::{DateTime, Utc};
use events::order::Status;
use events::{Name, OrderId, UserId};
use saga::{Action, Direction, IgnoredBecause, Plan as _, State as SagaState, Verdict};
use saga_runtime::steps::{step_named, waiting_for};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::advance::Trigger;
use crate::edge::{Edge, not_found};
use crate::export::Export;
use crate::open::Outcome;
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
    /// Nothing where its state cannot be read.
    plan: Option<u32>,
    /// Whether this build can read its state and knows its plan: else no action is taken on it.
    readable: bool,
    /// What the plan version meant to the build that used it first.
    fingerprint: Option<String>,
    /// As it is persisted: another build may have written it.
    state: Box<RawValue>,
    waiting: Vec<Waiting>,
    waiting_since: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    /// It has waited for longer than `--stuck-after`, or this build cannot continue it.
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
        let plan = store::plan_of(&saga.state);
        let state = serde_json::from_str::<SagaState<Order>>(saga.state.get());
        let waiting: Vec<(Step, Direction, u32)> = state.as_ref().map(|state| state.outstanding().collect()).unwrap_or_default();
        let unknown = plan.is_some_and(|plan| Order::stages(plan).is_none());
        let cause = match (plan, &state) {
            _ if saga.settled => None,
            (Some(plan), _) if unknown => {
                Some(format!("this build does not know plan version {plan}; a build that does must go on with it"))
            }
            (_, Err(error)) => Some(format!("this build cannot read its state: {error}")),
            (_, Ok(_)) => waiting.first().map(|waiting| cause(waiting, &saga)),
        };
        let direction = |direction| match direction {
            Direction::Execute => "act",
            Direction::Compensate => "undo",
        };
        let waiting = waiting.into_iter().map(|(step, way, attempts)| Waiting { step, direction: direction(way), attempts });
        Self {
            order_id: saga.id,
            user_id: saga.user_id,
            status: saga.status,
            plan,
            readable: state.is_ok() && !unknown,
            fingerprint: saga.fingerprint,
            waiting: waiting.collect(),
            waiting_since: saga.waiting_since,
            due_at: saga.due_at,
            stuck: saga.stuck || (state.is_err() && !saga.settled),
            cause,
            created_at: saga.created_at,
            updated_at: saga.updated_at,
            state: saga.state,
        }
    }
}

/// What a saga waits for, in words.
fn cause((step, direction, attempts): &(Step, Direction, u32), saga: &InFlight) -> String {
    let since = saga.waiting_since.map(|since| format!(" since {}", since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
    let plural = if *attempts == 1 { "" } else { "s" };
    format!(
        "{}{}, {attempts} attempt{plural}, last answer: {}",
        waiting_for::<Order>(*step, *direction),
        since.unwrap_or_default(),
        saga.last_answer.as_deref().unwrap_or("none")
    )
}

/// A question of an operator that was not answered. There are few connections for them, so that customers keep theirs.
fn unanswered(error: sqlx::Error) -> Problem {
    let cancelled = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "57014");
    match error {
        sqlx::Error::PoolTimedOut => Problem::unavailable(
            "other operators' questions take every connection there is for them (WAYBILL_OPERATOR_CONNECTIONS); try again shortly",
        ),
        _ if cancelled => Problem::unavailable(
            "the question takes longer than WAYBILL_OPERATOR_TIMEOUT allows: narrow it with `user_id`, or ask for sagas in flight only",
        ),
        error => error.into(),
    }
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
    let filter = SagaFilter {
        status: status(query.status.as_deref())?,
        step: query.step.as_deref().map(step).transpose()?,
        older_than: query.older_than.map(older_than).transpose()?,
        user: query.user_id.as_deref().map(parse_id).transpose()?,
        stuck_only: query.stuck,
        order: None,
        stuck_after: edge.stuck_after,
    };
    let sagas = sagas(&edge, &filter, page.after, page.rows()).await?;
    page.page(sagas.into_iter().map(View::from).collect(), |view| view.order_id.0)
}

fn status(text: Option<&str>) -> Result<Option<Status>, Problem> {
    text.map(str::parse).transpose().map_err(Problem::malformed)
}

fn step(name: &str) -> Result<Step, Problem> {
    step_named::<Order>(name).map_err(Problem::malformed)
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

async fn sagas(edge: &Edge, filter: &SagaFilter, after: Option<Uuid>, rows: i64) -> Result<Vec<InFlight>, Problem> {
    let clock = &edge.advance.clock;
    let read = |mut db: Reader| async move {
        let steady = clock.now(&mut **db).await?;
        store::sagas(&mut db, steady, filter, after, rows).await
    };
    edge.operators.read(read).await.map_err(unanswered)
}

/// A whole saga on one line: what `waybill saga export` writes and `saga::Transcript` reads.
async fn waybill(State(edge): State<Arc<Edge>>, Id(id): Id<OrderId>) -> Result<Response, Problem> {
    let order = edge.operators.read(|mut db| async move { store::exported(&mut db, id).await }).await;
    let order = order.map_err(unanswered)?.ok_or_else(|| not_found(id))?;
    Export::one(edge.operators.clone(), order).respond("application/json").await.map_err(unanswered)
}

#[derive(Deserialize)]
struct ExportQuery {
    since: Option<DateTime<Utc>>,
    status: Option<String>,
    limit: Option<String>,
}

/// Every waybill, oldest first, a line each.
async fn export(State(edge): State<Arc<Edge>>, Query(query): Query<ExportQuery>) -> Result<Response, Problem> {
    let status = status(query.status.as_deref())?;
    let limit = query.limit.as_deref().map(|text| number(text).and_then(|limit| limit.try_into().ok()));
    let limit = limit.map_or(Ok(usize::MAX), |limit| limit.ok_or_else(|| Problem::malformed("`limit` must be a number")))?;
    let export = Export::all(edge.operators.clone(), query.since, status, limit);
    export.respond("application/x-ndjson").await.map_err(unanswered)
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
    match moved.outcome {
        Outcome::Decided(Verdict::Ignored(why)) => Err(Problem::conflict("operator-refused", refusal(why, moved.status))),
        Outcome::HistoryFull => Err(Problem::conflict(
            "history-full",
            "the history of this order has reached its limit (WAYBILL_HISTORY_MAX_ENTRIES, WAYBILL_HISTORY_MAX_BYTES): its commands are \
             sent again by their timers all the same; cancel, compensate and skip are still taken",
        )),
        Outcome::Unreadable(why) => {
            Err(Problem::conflict("operator-refused", format!("this build cannot read the order's state: {why}")))
        }
        Outcome::Decided(Verdict::Moved) | Outcome::Nothing | Outcome::KeyUsed(_) => {
            view(&edge, id).await.map(Body).map_err(Problem::after_the_fact)
        }
    }
}

/// The step whose compensation is to be given up: the one named, or the only one under way.
async fn skipped(edge: &Edge, id: OrderId, named: Option<&str>) -> Result<Step, Problem> {
    if let Some(name) = named {
        return step(name);
    }
    let found = view(edge, id).await?;
    let mut undoing = found.waiting.iter().filter(|waiting| waiting.direction == "undo");
    match (undoing.next(), undoing.next()) {
        (Some(waiting), None) => Ok(waiting.step),
        (None, _) => Err(Problem::conflict("operator-refused", refusal(IgnoredBecause::NotUndoing, found.status))),
        _ => Err(Problem::conflict("operator-refused", "several compensations are under way: name one as `step`")),
    }
}

fn refusal(why: IgnoredBecause, status: Status) -> String {
    match why {
        IgnoredBecause::Final => format!("the order is {}: its outcome stands", status.as_str()),
        IgnoredBecause::AlreadyCompensating => "it is being undone already".to_owned(),
        IgnoredBecause::NoWayBack => "the step after which there is no way back may be done".to_owned(),
        IgnoredBecause::NothingOutstanding => "every command is answered: there is nothing to ask again".to_owned(),
        IgnoredBecause::NotUndoing => "no compensation of this step is under way: there is nothing to give up".to_owned(),
        IgnoredBecause::UnknownPlan => "this build does not know the plan version the saga began with".to_owned(),
        other => format!("refused: {other:?}"),
    }
}
