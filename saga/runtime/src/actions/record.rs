//! What operators do outside of a saga, written down by whoever does it: before it is done, and what came of it after. So what was done by somebody
//! who fell over meanwhile is there too. On the service's own port only.

use std::sync::Arc;

use axum::Json as Body;
use axum::extract::State;
use axum::http::HeaderMap;
use chassis::http::{Caller, Checks, Id, IdempotencyKey, Json, Operation, Problem, Routes, Shape, Who};
use envelope::{Line, line};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::operator::unanswered;
use crate::runtime::Runtime;
use crate::saga::Saga;
use crate::store::actions::{self as store, Outside};

/// The routes.
pub(crate) fn routes<S: Saga>() -> Routes<Arc<Runtime<S>>> {
    let begin_action = Operation::post(
        Who::OPERATORS,
        "/actions",
        "begin_action",
        "Write down what is about to be done outside of a saga: for operators",
    )
    .body::<ActionBody>(
        json!({ "by": "ada", "action": "redrive", "about": "dead letter 17 of USER_REPLIES", "reason": "the bug is mended" }),
    )
    .answers(200, "It is written down", Shape::of::<Begun>())
    .link("end_action", "id", "/id");
    let end_action =
        Operation::post(Who::OPERATORS, "/actions/{id}/outcome", "end_action", "Write down what came of it: for operators")
            .body::<OutcomeBody>(json!({ "by": "ada", "outcome": "sent back" }))
            .answers(200, "It is written down", Shape::of::<Begun>())
            .may_be_missing();
    Routes::new().route(begin_action, begin::<S>).route(end_action, end::<S>)
}

/// What is about to be done.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewAction")]
struct ActionBody {
    /// Who signs; left out where the token says it.
    #[schemars(with = "Option<Line>")]
    by: Option<String>,
    /// What, in a word: `redrive`.
    #[schemars(with = "Line")]
    action: String,
    /// With what.
    #[schemars(with = "Line")]
    about: String,
    /// The saga it is about, where it is about one.
    #[schemars(with = "Option<Uuid>")]
    saga: Option<String>,
    /// Why, where it was said.
    #[schemars(with = "Option<Line>")]
    reason: Option<String>,
}

/// What came of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ActionOutcome")]
struct OutcomeBody {
    /// Who signed.
    #[schemars(with = "Option<Line>")]
    by: Option<String>,
    /// What came of it. What was said first stands.
    #[schemars(with = "Line")]
    outcome: String,
}

/// An action that is written down.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RecordedAction")]
struct Begun {
    id: Uuid,
}

async fn begin<S: Saga>(
    State(runtime): State<Arc<Runtime<S>>>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<ActionBody>,
) -> Result<Body<Begun>, Problem> {
    IdempotencyKey::refuse(&headers, "what is written down twice is two actions")?;
    let mut checks = Checks::default();
    let by = checks.take("/by", line(&caller.signs(body.by)?));
    let action = checks.take("/action", line(&body.action));
    let about = checks.take("/about", line(&body.about));
    let saga = body.saga.and_then(|saga| checks.take("/saga", saga.parse().map_err(|_| "must be a UUID")));
    let reason = match &body.reason {
        Some(reason) => checks.take("/reason", line(reason)),
        None => Some(String::new()),
    };
    let ((by, action), (about, reason)) = checks.finish(by.zip(action).zip(about.zip(reason)))?;
    let (id, action) = (Uuid::now_v7(), Arc::new(Outside { by, action, about, saga, reason, outcome: None }));
    let write = |mut db: chassis::database::Reader| {
        let action = action.clone();
        async move { store::begin(&mut db, id, &action).await }
    };
    runtime.operators.read(write).await.map_err(unanswered)?;
    Ok(Body(Begun { id }))
}

async fn end<S: Saga>(
    State(runtime): State<Arc<Runtime<S>>>,
    Id(id): Id<Uuid>,
    caller: Caller,
    headers: HeaderMap,
    Json(body): Json<OutcomeBody>,
) -> Result<Body<Begun>, Problem> {
    IdempotencyKey::refuse(&headers, "what came of it is said once: what was said first stands")?;
    let mut checks = Checks::default();
    let by = checks.take("/by", line(&caller.signs(body.by)?));
    let outcome = checks.take("/outcome", line(&body.outcome));
    let said = Arc::new(checks.finish(by.zip(outcome))?);
    let write = |mut db: chassis::database::Reader| {
        let said = said.clone();
        async move { store::end(&mut db, id, &said.0, &said.1).await }
    };
    match runtime.operators.read(write).await.map_err(unanswered)? {
        true => Ok(Body(Begun { id })),
        false => Err(Problem::not_found(format!("there is no action {id} of theirs"))),
    }
}
