//! Sagas in flight, by what they wait for: how many of each, and some of them. On the service's own port only.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Json as Body;
use axum::extract::State;
use chassis::database::Reader;
use chassis::http::{Operation, Problem, Routes, Shape, Who};
use chrono::{DateTime, Utc};
use saga::Direction;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cause::{NOBODY, UNDECIDED, UNREADABLE, unknown_plan};
use crate::described::view;
use crate::operator::{View, unanswered};
use crate::runtime::Runtime;
use crate::saga::Saga;
use crate::steps::{known_plans, step_names, waiting_for};
use crate::store::Waiting;

/// Groups that are shown with some of their sagas. There are as many as plan versions and steps, unless somebody damaged the states.
const GROUPS: usize = 100;

/// The route.
pub(crate) fn routes<S: Saga>() -> Routes<Arc<Runtime<S>>> {
    let list = Operation::get(
        Who::OPERATORS,
        "/sagas/causes",
        "list_causes",
        "Sagas in flight by what they wait for, those that are stuck first: for operators",
    );
    Routes::new().route(list.answers(200, "How many of each, and some of them", Shape::Value(described::<S>())), causes::<S>)
}

fn described<S: Saga>() -> Value {
    let count = || json!({ "type": "integer", "minimum": 0 });
    let group = json!({
        "type": "object",
        "required": ["cause", "sagas", "stuck", "readable", "plan", "step", "direction", "since", "newest"],
        "properties": {
            "cause": { "type": "string", "description": "What they wait for, in words" },
            "sagas": count(),
            "stuck": { "type": "boolean", "description": "Whether they have waited for too long, or this build cannot continue them" },
            "readable": { "type": "boolean", "description": "Whether this build can go on with them" },
            "plan": { "type": ["integer", "null"], "description": "The version they began with" },
            "step": { "enum": step_names::<S>().into_iter().map(Value::from).chain([Value::Null]).collect::<Vec<_>>() },
            "direction": { "enum": ["act", "undo", null] },
            "since": { "type": ["string", "null"], "format": "date-time", "description": "Since when the first of them waits" },
            "newest": { "type": "array", "items": view::<S>() },
        },
    });
    json!({
        "type": "object",
        "required": ["counted_at", "in_flight", "stuck", "groups"],
        "properties": {
            "counted_at": { "type": "string", "format": "date-time", "description": "A moment ago, where there are very many" },
            "in_flight": count(),
            "stuck": count(),
            "groups": { "type": "array", "items": group },
        },
    })
}

/// What was counted.
#[derive(Serialize)]
#[serde(bound = "")]
struct Causes<S: Saga> {
    counted_at: DateTime<Utc>,
    in_flight: i64,
    stuck: i64,
    groups: Vec<Group<S>>,
}

/// Sagas that wait for the same.
#[derive(Serialize)]
#[serde(bound = "")]
struct Group<S: Saga> {
    cause: String,
    sagas: i64,
    stuck: bool,
    readable: bool,
    plan: Option<u32>,
    step: Option<S::Step>,
    direction: Option<&'static str>,
    since: Option<DateTime<Utc>>,
    newest: Vec<View<S>>,
    #[serde(skip)]
    ids: Vec<Uuid>,
}

impl<S: Saga> Group<S> {
    fn of(known: &[String], waiting: &Waiting<S>) -> Self {
        let Waiting { plan, command, late, aside, sagas, since, newest } = waiting;
        let readable = plan.as_ref().is_some_and(|plan| known.contains(plan)) && !aside;
        let cause = match (plan, command) {
            (None, _) => UNREADABLE.to_owned(),
            _ if *aside => UNDECIDED.to_owned(),
            (Some(plan), _) if !readable => unknown_plan(plan),
            (_, Some((step, direction))) => waiting_for::<S>(*step, *direction),
            (_, None) => NOBODY.to_owned(),
        };
        Self {
            cause,
            sagas: *sagas,
            stuck: *late || !readable,
            readable,
            plan: plan.as_ref().and_then(|plan| plan.parse().ok()),
            step: command.map(|(step, _)| step),
            direction: command.map(|(_, direction)| if direction == Direction::Execute { "act" } else { "undo" }),
            since: *since,
            newest: Vec::new(),
            ids: newest.clone(),
        }
    }
}

async fn causes<S: Saga>(State(runtime): State<Arc<Runtime<S>>>) -> Result<Body<Causes<S>>, Problem> {
    let counted = runtime.count.now().await.map_err(unanswered)?;
    let known = known_plans::<S>();
    let mut groups: Vec<Group<S>> = counted.groups.iter().map(|waiting| Group::of(&known, waiting)).collect();
    groups.sort_by_key(|group| (!group.stuck, group.direction != Some("undo"), Reverse(group.sagas)));
    let in_flight = groups.iter().map(|group| group.sagas).sum();
    let stuck = groups.iter().filter(|group| group.stuck).map(|group| group.sagas).sum();
    groups.truncate(GROUPS);
    let ids: Arc<[Uuid]> = groups.iter().flat_map(|group| group.ids.iter().copied()).collect();
    let (clock, store, stuck_after) = (&runtime.clock, runtime.store, runtime.stuck_after);
    let aside: Arc<[Uuid]> = runtime.aside.ids().into();
    let read = |mut db: Reader| {
        let (ids, aside) = (ids.clone(), aside.clone());
        async move {
            let steady = clock.now(&mut **db).await?;
            store.those(&mut db, steady, stuck_after, &aside, &ids).await
        }
    };
    let found = runtime.operators.read(read).await.map_err(unanswered)?;
    let views = found.into_iter().map(|saga| View::of(saga, &runtime.aside));
    let mut views: HashMap<Uuid, View<S>> = views.map(|view| (view.id, view)).collect();
    for group in &mut groups {
        group.newest = group.ids.iter().filter_map(|id| views.remove(id)).collect();
    }
    Ok(Body(Causes { counted_at: counted.at, in_flight, stuck, groups }))
}
