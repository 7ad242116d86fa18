//! What the operators' routes take and answer, for the OpenAPI document.

use chassis::http::{Operation, Shape, Who};
use envelope::Line;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::filter::parameters;
use crate::saga::{Layout as _, Saga};
use crate::steps::step_names;

/// What operators see and do.
pub(crate) struct Operations {
    pub list: Operation,
    pub export: Operation,
    pub show: Operation,
    pub waybill: Operation,
    pub act: Operation,
}

/// An operator's action on a saga.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OperatorAction")]
pub(crate) struct ActBody {
    /// Who signs; left out where the token says it.
    #[schemars(with = "Option<Line>")]
    pub by: Option<String>,
    /// Why.
    #[schemars(with = "Line")]
    pub reason: String,
    /// Whose compensation is given up, where several are under way.
    pub step: Option<String>,
}

pub(crate) fn operations<S: Saga>() -> Operations {
    let statuses: Vec<&str> = S::STATUSES.iter().map(|status| status.name).collect();
    let status = || Shape::Value(json!({ "type": "string", "enum": statuses }));
    let step = Shape::Value(json!({ "type": "string", "enum": step_names::<S>() }));
    let page = json!({
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": { "items": { "type": "array", "items": view::<S>() }, "next_cursor": { "type": ["string", "null"] } },
    });
    let actions = json!({ "type": "string", "enum": ["retry", "cancel", "compensate", "skip"] });
    Operations {
        list: parameters::<S>(
            Operation::get(
                Who::OPERATORS,
                "/sagas",
                "list_sagas",
                "Sagas in flight, newest first; others by status, time, or what they have: for operators",
            )
            .query("status", "Those with this status", status())
            .query("step", "Those that wait for this step", step)
            .query(
                "older_than",
                "Those begun so many seconds ago, or earlier",
                Shape::Value(json!({ "type": "number", "minimum": 0, "maximum": u32::MAX })),
            )
            .query("user_id", "Those of this user", Shape::Value(json!({ "type": "string", "format": "uuid" })))
            .query("stuck", "Those that have waited for too long", Shape::Value(json!({ "type": "boolean" })))
            .query(
                "cause",
                "Those in flight that wait for this, as /sagas/causes names it, or a part of it in any case of letters",
                Shape::Value(json!({ "type": "string" })),
            ),
        )
        .page_of(Shape::id_cursor(), Shape::Value(page)),
        export: Operation::get(
            Who::OPERATORS,
            "/sagas/waybills",
            "export_sagas",
            "Every saga with its whole history, oldest first, a line each: for operators",
        )
        .query("since", "Those begun since", Shape::Value(json!({ "type": "string", "format": "date-time" })))
        .query("status", "Those with this status", status())
        .query("limit", "How many, at most", Shape::Value(json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })))
        .answers_as(200, "A JSON object on each line", "application/x-ndjson", Shape::Value(json!({ "type": "string" }))),
        show: Operation::get(Who::OPERATORS, "/sagas/{order}", "show_saga", "A saga: for operators")
            .answers(200, "The saga", Shape::Value(view::<S>()))
            .may_be_missing(),
        waybill: Operation::get(
            Who::OPERATORS,
            "/sagas/{order}/waybill",
            "export_saga",
            "A saga with its whole history: for operators",
        )
        .answers(200, "The saga", Shape::Value(transcript()))
        .may_be_missing(),
        act: Operation::post(Who::OPERATORS, "/sagas/{order}/{action}", "act_on_saga", "Take a hand in a saga: for operators")
            .path("action", "`retry`: ask again now. `cancel`, `compensate`: undo it. `skip`: give a compensation up", actions)
            .body::<ActBody>(json!({ "by": "ada", "reason": "the warehouse has confirmed it by phone" }))
            .answers(200, "The saga", Shape::Value(view::<S>()))
            .refuses(409, "operator-refused", "It would change nothing, or nothing that may be changed")
            .refuses(409, "history-full", "Its history has reached its limit")
            .may_be_missing(),
    }
}

pub(crate) fn view<S: Saga>() -> Value {
    let time = json!({ "type": ["string", "null"], "format": "date-time" });
    json!({
        "type": "object",
        "required": [S::Layout::TABLE.history_id, "status", "plan", "readable", "state", "waiting", "stuck", "created_at", "updated_at"],
        "properties": {
            (S::Layout::TABLE.history_id): { "type": "string", "format": "uuid" },
            "status": { "type": "string" },
            "plan": { "type": ["integer", "null"], "description": "Its version" },
            "readable": { "type": "boolean", "description": "Whether this build can go on with it" },
            "fingerprint": { "type": ["string", "null"] },
            "state": { "description": "As it is persisted" },
            "waiting": { "type": "array", "items": {
                "type": "object",
                "required": ["step", "direction", "attempts"],
                "properties": {
                    "step": { "type": "string" }, "direction": { "enum": ["act", "undo"] }, "attempts": { "type": "integer", "minimum": 0 },
                },
            } },
            "waiting_since": time,
            "due_at": time,
            "stuck": { "type": "boolean" },
            "aside": { "type": ["string", "null"], "description": "Why this build could not decide it when it was due; it is tried again" },
            "cause": { "type": ["string", "null"] },
            "created_at": { "type": "string", "format": "date-time" },
            "updated_at": { "type": "string", "format": "date-time" },
        },
    })
}

/// An entry of a history, or one that cannot be read.
pub(crate) fn entry() -> Value {
    json!({
        "type": "object",
        "required": ["sequence", "time"],
        "properties": {
            "sequence": { "type": "integer", "minimum": 1 },
            "time": { "type": "string", "format": "date-time" },
            "message": { "description": "What came" },
            "decision": { "description": "What was decided" },
            "sent": { "type": "array", "description": "What was sent", "items": {} },
            "attempts": { "type": "object", "description": "How often a command was repeated without an entry", "additionalProperties": { "type": "integer" } },
            "state": { "type": "object", "description": "Where the saga stood afterwards" },
            "unreadable": { "type": "string", "description": "Why the rest is not here" },
        },
    })
}

fn transcript() -> Value {
    json!({
        "type": "object",
        "required": ["saga", "order"],
        "properties": {
            "saga": { "type": "string" },
            "order": { "type": "object" },
            "entries": { "type": "array", "items": entry() },
            "unreadable": { "type": "string", "description": "Why the rest is not here" },
        },
    })
}
