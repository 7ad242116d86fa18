//! What operators see and do: sagas in flight, their waybills, and a hand in one that does not come through by itself.
//!
//! These routes are on the service's own port only; the gateway does not serve them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use chassis::database::Reader;
use chassis::http::{
    Caller, Checks, FieldError, Id, IdempotencyKey, Json, Page, PageQuery, Problem, Query, Routes, number, parse_id,
};
use chrono::{DateTime, Utc};
use envelope::line;
use saga::{Action, Direction, IgnoredBecause, State as SagaState, Verdict};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::aside::Aside;
use crate::cause::{UNDECIDED, UNREADABLE, unknown_plan};
use crate::described::{ActBody, operations};
use crate::export::Export;
use crate::filter::{Filter, Given, moment, status, words};
use crate::item::{Outcome, Trigger};
use crate::runtime::Runtime;
use crate::saga::{Layout as _, Saga};
use crate::steps::{step_named, waiting_for};
use crate::store::{InFlight, Part, SagaFilter, delta, plan_of};

/// The longest time that is asked for: more than a century.
const OLDEST: Duration = Duration::from_secs(u32::MAX as u64);

/// The routes.
pub(crate) fn routes<S: Saga>() -> Routes<Arc<Runtime<S>>> {
    let operations = operations::<S>();
    Routes::new()
        .route(operations.list, list::<S>)
        .route(operations.export, export::<S>)
        .route(operations.show, show::<S>)
        .route(operations.waybill, waybill::<S>)
        .route(operations.act, act::<S>)
}

/// A saga as an operator sees it.
#[derive(Serialize)]
#[serde(bound = "")]
pub(crate) struct View<S: Saga> {
    #[serde(skip)]
    pub id: Uuid,
    /// Its id, and what else tells it from others.
    #[serde(flatten)]
    summary: Map<String, Value>,
    status: String,
    /// Nothing where its state cannot be read.
    plan: Option<u32>,
    /// Whether this build can read its state and knows its plan: else no action is taken on it.
    readable: bool,
    /// What the plan version meant to the build that used it first.
    fingerprint: Option<String>,
    /// As it is persisted: another build may have written it.
    state: Box<RawValue>,
    waiting: Vec<Waiting<S>>,
    waiting_since: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    /// It has waited for longer than `--stuck-after`, or this build cannot continue it.
    stuck: bool,
    /// Why it could not be decided when it was due. It is tried again.
    aside: Option<String>,
    /// What it waits for, in words.
    cause: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// An unanswered command.
#[derive(Serialize)]
#[serde(bound = "")]
struct Waiting<S: Saga> {
    step: S::Step,
    direction: &'static str,
    attempts: u32,
}

impl<S: Saga> View<S> {
    /// Of a saga that was read. `aside`: those that could not be decided.
    pub(crate) fn of(saga: InFlight, aside: &Aside) -> Self {
        let aside = if saga.settled { None } else { aside.why(saga.id) };
        let plan = plan_of(&saga.state);
        let mut summary = saga.summary.clone();
        summary.insert(S::Layout::TABLE.history_id.to_owned(), saga.id.to_string().into());
        let state = serde_json::from_str::<SagaState<S>>(saga.state.get());
        let waiting: Vec<(S::Step, Direction, u32)> =
            state.as_ref().map(|state| state.outstanding().collect()).unwrap_or_default();
        let unknown = plan.is_some_and(|plan| S::stages(plan).is_none());
        let cause = match (plan, &state) {
            _ if saga.settled => None,
            (Some(plan), _) if unknown => Some(unknown_plan(plan)),
            (_, Err(error)) => Some(format!("{UNREADABLE}: {error}")),
            (_, Ok(_)) if aside.is_some() => aside.as_ref().map(|why| format!("{UNDECIDED}: {why}")),
            (_, Ok(_)) => waiting.first().map(|waiting| cause::<S>(waiting, &saga)),
        };
        let direction = |direction| match direction {
            Direction::Execute => "act",
            Direction::Compensate => "undo",
        };
        let waiting = waiting.into_iter().map(|(step, way, attempts)| Waiting { step, direction: direction(way), attempts });
        Self {
            id: saga.id,
            summary,
            status: saga.status,
            plan,
            readable: state.is_ok() && !unknown,
            fingerprint: saga.fingerprint,
            waiting: waiting.collect(),
            waiting_since: saga.waiting_since,
            due_at: saga.due_at,
            stuck: saga.stuck || aside.is_some() || (state.is_err() && !saga.settled),
            aside,
            cause,
            created_at: saga.created_at,
            updated_at: saga.updated_at,
            state: saga.state,
        }
    }
}

/// What a saga waits for, in words.
fn cause<S: Saga>((step, direction, attempts): &(S::Step, Direction, u32), saga: &InFlight) -> String {
    let since = saga.waiting_since.map(|since| format!(" since {}", since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
    let plural = if *attempts == 1 { "" } else { "s" };
    format!(
        "{}{}, {attempts} attempt{plural}, last answer: {}",
        waiting_for::<S>(*step, *direction),
        since.unwrap_or_default(),
        saga.last_answer.as_deref().unwrap_or("none")
    )
}

/// A question of an operator that was not answered. There are few connections for them, so that customers keep theirs.
pub(crate) fn unanswered(error: sqlx::Error) -> Problem {
    let cancelled = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "57014");
    match error {
        sqlx::Error::PoolTimedOut => Problem::unavailable(
            "no connection for operators became free: others' questions take them all (WAYBILL_OPERATOR_CONNECTIONS), or the database does not \
             answer (/readyz says so); try again shortly",
        ),
        _ if cancelled => Problem::unavailable(
            "the question takes longer than WAYBILL_OPERATOR_TIMEOUT allows: narrow it with `user_id`, or ask for sagas in flight only",
        ),
        error => error.into(),
    }
}

async fn list<S: Saga>(
    State(runtime): State<Arc<Runtime<S>>>,
    page: PageQuery,
    Query(given): Query<Given>,
) -> Result<Page, Problem> {
    let mut filter = Filter::of::<S>(&given, None)?;
    let text = |name: &str| given.get(name).map(String::as_str);
    let step = text("step").map(step_named::<S>).transpose().map_err(|why| Problem::malformed(format!("`step`: {why}")))?;
    let older_than = text("older_than").map(older_than).transpose()?;
    let stuck = text("stuck").map(stuck).transpose()?.unwrap_or(false);
    let cause = text("cause").map(|text| words("cause", text)).transpose()?;
    // Where nothing particular is asked for, it is about what does not come through. What waits for a step, for too long, or for a cause, is in
    // flight, whatever its status.
    filter.in_flight |= (filter.status.is_none() && !filter.searches()) || step.is_some() || stuck || cause.is_some();
    if let Some(age) = older_than {
        let (database, operators) = (runtime.database.clone(), &runtime.operators);
        let now = operators
            .read(|mut db| {
                let database = database.clone();
                async move { database.now(&mut **db).await }
            })
            .await;
        filter.to = filter.to.into_iter().chain([now.map_err(unanswered)? - delta(age)]).min();
    }
    filter.check(&S::Layout::TABLE)?;
    let wanted = SagaFilter::<S> { step, stuck_only: stuck, cause, ..wanted(&runtime, filter) };
    let found = sagas(&runtime, wanted, page.after, page.rows()).await?;
    let views = found.items.into_iter().map(|saga| View::<S>::of(saga, &runtime.aside));
    page.part(views.collect(), |view| view.id, found.next)
}

fn older_than(text: &str) -> Result<Duration, Problem> {
    let span = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let span = span.filter(|span| *span <= OLDEST);
    span.ok_or_else(|| Problem::malformed(format!("`older_than` must be a number of seconds, 0 to {}", OLDEST.as_secs())))
}

fn stuck(text: &str) -> Result<bool, Problem> {
    text.parse().map_err(|_| Problem::malformed("`stuck` must be true or false"))
}

async fn show<S: Saga>(State(runtime): State<Arc<Runtime<S>>>, Id(id): Id<Uuid>) -> Result<Body<View<S>>, Problem> {
    view(&runtime, id).await.map(Body)
}

async fn view<S: Saga>(runtime: &Runtime<S>, id: Uuid) -> Result<View<S>, Problem> {
    let wanted = SagaFilter { id: Some(id), ..wanted(runtime, Filter::all::<S>()) };
    let found = sagas(runtime, wanted, None, 1).await?;
    found.items.into_iter().next().map(|saga| View::of(saga, &runtime.aside)).ok_or_else(|| runtime.not_found(id))
}

/// All that a filter finds.
fn wanted<S: Saga>(runtime: &Runtime<S>, filter: Filter) -> SagaFilter<S> {
    let (stuck_after, aside) = (runtime.stuck_after, runtime.aside.ids());
    SagaFilter { filter, id: None, step: None, stuck_only: false, cause: None, aside, stuck_after }
}

async fn sagas<S: Saga>(
    runtime: &Runtime<S>,
    wanted: SagaFilter<S>,
    after: Option<Uuid>,
    rows: i64,
) -> Result<Part<InFlight>, Problem> {
    let (clock, wanted) = (&runtime.clock, &wanted);
    let read = |mut db: Reader| async move {
        let steady = clock.now(&mut **db).await?;
        runtime.store.sagas(&mut db, steady, wanted, after, rows).await
    };
    runtime.operators.read(read).await.map_err(unanswered)
}

/// A whole saga on one line: what `waybill saga export` writes and `saga::Transcript` reads.
async fn waybill<S: Saga>(State(runtime): State<Arc<Runtime<S>>>, Id(id): Id<Uuid>) -> Result<Response, Problem> {
    let store = runtime.store;
    let saga = runtime.operators.read(|mut db| async move { store.exported(&mut db, id).await }).await;
    let saga = saga.map_err(unanswered)?.ok_or_else(|| runtime.not_found(id))?;
    Export::one(runtime.operators.clone(), store, saga).respond("application/json").await.map_err(unanswered)
}

/// Every waybill, oldest first, a line each.
async fn export<S: Saga>(State(runtime): State<Arc<Runtime<S>>>, Query(given): Query<Given>) -> Result<Response, Problem> {
    let status = status::<S>(&given)?;
    let since = given.get("since").map(|text| moment("since", text)).transpose()?;
    let limit = given.get("limit").map(|text| number(text).and_then(|limit| limit.try_into().ok()));
    let limit = limit.map_or(Ok(usize::MAX), |limit| limit.ok_or_else(|| Problem::malformed("`limit` must be a number")))?;
    let export = Export::all(runtime.operators.clone(), runtime.store, since, status, limit);
    export.respond("application/x-ndjson").await.map_err(unanswered)
}

async fn act<S: Saga>(
    State(runtime): State<Arc<Runtime<S>>>,
    Path((id, action)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<ActBody>,
) -> Result<Body<View<S>>, Problem> {
    IdempotencyKey::refuse(&headers, "an action that was taken already changes nothing when it is repeated")?;
    let id: Uuid = parse_id(&id)?;
    let mut checks = Checks::default();
    let by = checks.take("/by", line(&caller.signs(body.by)?));
    let reason = checks.take("/reason", line(&body.reason));
    let (by, reason) = checks.finish(by.zip(reason))?;
    let action = match action.as_str() {
        "retry" => Action::Retry,
        "cancel" => Action::Cancel,
        "compensate" => Action::Compensate,
        "skip" => Action::Skip(skipped(&runtime, id, body.step.as_deref()).await?),
        _ => return Err(Problem::not_found("there is no such action: there are retry, cancel, compensate and skip")),
    };
    let trigger = Trigger::Operator { action, by, reason };
    let moved = runtime.input(id, trigger).await?.ok_or_else(|| runtime.not_found(id))?;
    match moved.outcome {
        Outcome::Decided(Verdict::Ignored(why)) => Err(Problem::conflict("operator-refused", refusal::<S>(why, &moved.status))),
        Outcome::HistoryFull => Err(Problem::conflict(
            "history-full",
            format!(
                "the history of this {} has reached its limit (WAYBILL_HISTORY_MAX_ENTRIES, WAYBILL_HISTORY_MAX_BYTES): its commands are \
                 sent again by their timers all the same; cancel, compensate and skip are still taken",
                S::NAME
            ),
        )),
        Outcome::Unreadable(why) => {
            Err(Problem::conflict("operator-refused", format!("this build cannot read the {} whole: {why}", S::NAME)))
        }
        Outcome::Decided(Verdict::Moved) | Outcome::Nothing | Outcome::KeyUsed(_) => {
            runtime.aside.clear(id);
            view(&runtime, id).await.map(Body).map_err(Problem::after_the_fact)
        }
    }
}

/// The step whose compensation is to be given up: the one named, or the only one under way.
async fn skipped<S: Saga>(runtime: &Runtime<S>, id: Uuid, named: Option<&str>) -> Result<S::Step, Problem> {
    if let Some(name) = named {
        return step_named::<S>(name)
            .map_err(|why| Problem::invalid(vec![FieldError { pointer: "/step".to_owned(), detail: why }]));
    }
    let found = view(runtime, id).await?;
    let mut undoing = found.waiting.iter().filter(|waiting| waiting.direction == "undo");
    match (undoing.next(), undoing.next()) {
        (Some(waiting), None) => Ok(waiting.step),
        (None, _) => Err(Problem::conflict("operator-refused", refusal::<S>(IgnoredBecause::NotUndoing, &found.status))),
        _ => Err(Problem::conflict("operator-refused", "several compensations are under way: name one as `step`")),
    }
}

fn refusal<S: Saga>(why: IgnoredBecause, status: &str) -> String {
    match why {
        IgnoredBecause::Final => format!("the {} is {status}: its outcome stands", S::NAME),
        IgnoredBecause::AlreadyCompensating => "it is being undone already".to_owned(),
        IgnoredBecause::NoWayBack => "the step after which there is no way back may be done".to_owned(),
        IgnoredBecause::NothingOutstanding => "every command is answered: there is nothing to ask again".to_owned(),
        IgnoredBecause::NotUndoing => "no compensation of this step is under way: there is nothing to give up".to_owned(),
        IgnoredBecause::UnknownPlan => "this build does not know the plan version the saga began with".to_owned(),
        other => format!("refused: {other:?}"),
    }
}
