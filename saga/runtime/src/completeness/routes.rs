//! An operator's way to have the stream of events completed by hand, and to see how far that has come. On the service's own port only.

use axum::Json as Body;
use axum::extract::{FromRef, State};
use chassis::database::Database;
use chassis::http::{Caller, Checks, Id, Json, Operation, Problem, Routes, Shape, Who};
use chrono::{DateTime, Utc};
use envelope::{Line, line};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::filter::time;
use crate::store::completeness::{self as store, Rebuild};

/// The database whose events these are.
#[derive(Clone)]
pub(crate) struct Facts(pub(crate) Database);

/// The routes.
pub(crate) fn routes<R: Clone + Send + Sync + 'static>() -> Routes<R>
where
    Facts: FromRef<R>,
{
    let rebuild = || Shape::of::<Rebuild>();
    Routes::new()
        .route(
            Operation::get(
                Who::OPERATORS,
                "/events/rebuild",
                "last_rebuild",
                "How far the stream of events was completed: for operators",
            )
            .answers(200, "The last time, if there was one", Shape::of::<Option<Rebuild>>()),
            show,
        )
        .route(
            Operation::post(
                Who::OPERATORS,
                "/events/rebuild",
                "rebuild_events",
                "Have the stream of events completed: for operators",
            )
            .body::<BeginBody>(json!({ "dry_run": true }))
            .answers(200, "It begins", rebuild())
            .link("show_rebuild", "id", "/id")
            .refuses(409, "rebuild-under-way", "It is being completed already"),
            begin,
        )
        .route(
            Operation::get(Who::OPERATORS, "/events/rebuild/{id}", "show_rebuild", "How far a completion is: for operators")
                .answers(200, "It", rebuild())
                .may_be_missing(),
            one,
        )
}

async fn show(State(Facts(database)): State<Facts>) -> Result<Body<Option<Rebuild>>, Problem> {
    Ok(Body(database.read(|mut db| async move { store::last_rebuild(&mut db).await }).await?))
}

async fn one(State(Facts(database)): State<Facts>, Id(id): Id<Uuid>) -> Result<Body<Rebuild>, Problem> {
    let found = database.read(move |mut db| async move { store::rebuild(&mut db, id).await }).await?;
    found.map(Body).ok_or_else(|| Problem::not_found(format!("there is no rebuild {id}")))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewRebuild")]
struct BeginBody {
    /// Who asks, if the token does not say it; a dry run changes nothing, and nobody has to sign it.
    #[schemars(with = "Option<Line>")]
    by: Option<String>,
    #[schemars(with = "Option<DateTime<Utc>>")]
    since: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn begin(
    State(Facts(database)): State<Facts>,
    caller: Caller,
    Json(body): Json<BeginBody>,
) -> Result<Body<Rebuild>, Problem> {
    let unsigned = body.dry_run && body.by.is_none() && caller.subject().is_none();
    let mut checks = Checks::default();
    let since = match &body.since {
        Some(since) => checks.take("/since", time(since)),
        None => Some(DateTime::UNIX_EPOCH),
    };
    let by = match unsigned {
        true => Some(None),
        false => checks.take("/by", line(&caller.signs(body.by)?)).map(Some),
    };
    let ((by, since), dry_run) = (checks.finish(by.zip(since))?, body.dry_run);
    let begun = database.read(move |mut db| {
        let by = by.clone();
        async move { store::ask_rebuild(&mut db, by, since, dry_run).await }
    });
    begun.await?.map(Body).ok_or_else(|| Problem::conflict("rebuild-under-way", "the events are being completed already"))
}
