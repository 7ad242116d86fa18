//! What operators did, the newest first: every action of theirs that moved a saga, as its history has it, and those outside of any. On the service's
//! own port only.

pub(crate) mod record;

use std::sync::Arc;

use axum::extract::State;
use chassis::http::{Operation, Page, PageQuery, Problem, Query, Routes, Shape, Who};
use chrono::{DateTime, Utc};
use saga::{Action, Effect, Input, State as SagaState, step_name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::filter::{Given, moment, words};
use crate::operator::unanswered;
use crate::runtime::Runtime;
use crate::saga::{Layout as _, Saga};
use crate::steps::step_names;
use crate::store::actions::{ActionRow, Kept, Outside, Which};

/// The routes.
pub(crate) fn routes<S: Saga>() -> Routes<Arc<Runtime<S>>> {
    let id = S::Layout::TABLE.history_id;
    let item = |required: &[&str], more: Value| {
        let mut item = json!({
            "type": "object",
            "required": required,
            "properties": {
                (id): { "type": "string", "format": "uuid" },
                "sequence": { "type": "integer", "minimum": 1, "description": "Of its entry in the history" },
                "time": { "type": "string", "format": "date-time" },
                "action": { "type": "string", "enum": ["retry", "cancel", "compensate", "skip"] },
                "step": { "type": "string", "enum": step_names::<S>(), "description": "Whose compensation was given up" },
                "by": { "type": "string" },
                "reason": { "type": "string" },
                "status": { "type": "string", "description": "Where the saga stood afterwards" },
                "sent": { "type": "array", "description": "What was sent", "items": {} },
                "unreadable": { "type": "string", "description": "Why the rest is not here" },
            },
        });
        for (name, shape) in more.as_object().into_iter().flatten() {
            item["properties"][name] = shape.clone();
        }
        Shape::Value(json!({
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": { "items": { "type": "array", "items": item }, "next_cursor": { "type": ["string", "null"] } },
        }))
    };
    let of_sagas = Operation::get(
        Who::OPERATORS,
        "/sagas/actions",
        "list_actions",
        "What operators did: every action that moved a saga, newest first: for operators",
    );
    let all = Operation::get(
        Who::OPERATORS,
        "/actions",
        "list_all_actions",
        "What operators did, with sagas and outside of any, newest first: for operators",
    );
    let outside = json!({
        "id": { "type": "string", "format": "uuid", "description": "Its own, outside of any saga" },
        "action": { "type": "string", "description": "`retry`, `cancel`, `compensate` or `skip`; another word outside of any saga" },
        "about": { "type": "string", "description": "With what, outside of any saga" },
        "outcome": { "type": ["string", "null"], "description": "What came of it, outside of any saga; null: under way, or never told" },
    });
    Routes::new()
        .route(filtered(of_sagas).page_of(Shape::id_cursor(), item(&[id, "sequence", "time"], json!({}))), of_sagas_alone::<S>)
        .route(filtered(all).page_of(Shape::id_cursor(), item(&["time"], outside)), list_all::<S>)
}

/// An operator's action, and what came of it.
#[derive(Serialize)]
#[serde(bound = "")]
struct Taken<S: Saga> {
    #[serde(skip)]
    cursor: Uuid,
    /// The saga's id, and the place in its history; or its own.
    #[serde(flatten)]
    ids: Map<String, Value>,
    time: DateTime<Utc>,
    #[serde(flatten)]
    told: Told<S>,
}

/// What the entry says, or why it cannot be read; or what is kept outside of any saga.
#[derive(Serialize)]
#[serde(bound = "", untagged)]
enum Told<S: Saga> {
    Read {
        action: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        by: String,
        reason: String,
        status: &'static str,
        sent: Vec<Effect<S>>,
    },
    Outside {
        action: String,
        about: String,
        by: String,
        reason: String,
        outcome: Option<String>,
    },
    Unreadable {
        unreadable: String,
    },
}

/// An entry as it is stored.
#[derive(Deserialize)]
#[serde(bound = "")]
struct Stored<S: Saga> {
    message: Input<S>,
    sent: Vec<Effect<S>>,
    state: SagaState<S>,
}

impl<S: Saga> Told<S> {
    fn read(entry: &str) -> Self {
        let unreadable = |why: String| Self::Unreadable { unreadable: why };
        let stored = match serde_json::from_str::<Stored<S>>(entry) {
            Ok(stored) => stored,
            Err(error) => return unreadable(error.to_string()),
        };
        let Input::Operator { action, by, reason } = stored.message else {
            return unreadable("it is no operator's action".to_owned());
        };
        let (action, step) = match action {
            Action::Retry => ("retry", None),
            Action::Cancel => ("cancel", None),
            Action::Compensate => ("compensate", None),
            Action::Skip(step) => ("skip", Some(step_name::<S>(step))),
        };
        Self::Read { action, step, by, reason, status: S::status(&stored.state), sent: stored.sent }
    }
}

/// Where a page begins: at a moment, after so many of that moment. A batch has one.
fn cursor(at: DateTime<Utc>, after: u32) -> Uuid {
    Uuid::from_u64_pair(at.timestamp_micros().max(0).unsigned_abs(), after.into())
}

fn read(cursor: Uuid) -> Result<(DateTime<Utc>, i64), Problem> {
    let (at, after) = cursor.as_u64_pair();
    let at = i64::try_from(at).ok().and_then(DateTime::from_timestamp_micros);
    at.zip(u32::try_from(after).ok().map(i64::from)).ok_or_else(|| Problem::malformed("`cursor` is not one this service gave"))
}

/// What a list of them may be asked for.
fn filtered(list: Operation) -> Operation {
    let text = || Shape::Value(json!({ "type": "string" }));
    let time = || Shape::Value(json!({ "type": "string", "format": "date-time" }));
    list.query("by", "What this person did, in any case of letters", text())
        .query("action", "Those of this word: `retry`, `redrive`", text())
        .query("from", "Those taken then or later", time())
        .query("to", "Those taken before then", time())
}

fn which(given: &Given) -> Result<Which, Problem> {
    let words = |name: &str| given.get(name).map(|text| words(name, text)).transpose();
    let moment = |name: &str| given.get(name).map(|text| moment(name, text)).transpose();
    Ok(Which { by: words("by")?, action: words("action")?, from: moment("from")?, to: moment("to")? })
}

async fn of_sagas_alone<S: Saga>(
    State(runtime): State<Arc<Runtime<S>>>,
    page: PageQuery,
    Query(given): Query<Given>,
) -> Result<Page, Problem> {
    list(&runtime, page, false, which(&given)?).await
}

async fn list_all<S: Saga>(
    State(runtime): State<Arc<Runtime<S>>>,
    page: PageQuery,
    Query(given): Query<Given>,
) -> Result<Page, Problem> {
    list(&runtime, page, true, which(&given)?).await
}

async fn list<S: Saga>(runtime: &Runtime<S>, page: PageQuery, outside: bool, which: Which) -> Result<Page, Problem> {
    let from = page.after.map(read).transpose()?;
    let (store, rows) = (runtime.store, page.rows());
    let which = &which;
    let found = runtime.operators.read(|mut db| async move { store.actions(&mut db, from, rows, outside, which).await }).await;
    let mut last = from.map(|(at, after)| (at, after as u32));
    let taken = |ActionRow { id, at, kept }| {
        let after = last.filter(|(last, _)| *last == at).map_or(0, |(_, after)| after) + 1;
        last = Some((at, after));
        let named = |name: &str, id: Uuid| (name.to_owned(), Value::String(id.to_string()));
        let saga = S::Layout::TABLE.history_id;
        let (ids, told) = match kept {
            Kept::Entry { sequence, entry } => {
                (Map::from_iter([named(saga, id), ("sequence".to_owned(), sequence.into())]), Told::read(&entry))
            }
            Kept::Outside(Outside { by, action, about, saga: of, reason, outcome }) => {
                let ids = [named("id", id)].into_iter().chain(of.map(|of| named(saga, of)));
                (ids.collect(), Told::Outside { action, about, by, reason, outcome })
            }
        };
        Taken::<S> { cursor: cursor(at, after), ids, time: at, told }
    };
    let (found, end) = found.map_err(unanswered)?;
    page.part(found.into_iter().map(taken).collect(), |taken| taken.cursor, end.map(|end| cursor(end, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_one_before_it_ended_also_within_a_batch() {
        let at = DateTime::from_timestamp_micros(1_767_323_045_123_456).unwrap();
        assert_eq!(read(cursor(at, 7)).unwrap(), (at, 7));
        assert!(read(Uuid::max()).is_err());
    }
}
