//! An operator's way to have the stream of events completed by hand, and to see how far that has come. On the service's own port only.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Body, Router};
use chassis::database::Database;
use chassis::http::{Caller, Checks, Id, Json, Problem};
use chrono::{DateTime, Utc};
use envelope::line;
use serde::Deserialize;
use uuid::Uuid;

use crate::store::completeness::{self as store, Rebuild};

/// The routes, about the events of this database.
pub(crate) fn router(database: Database) -> Router {
    Router::new()
        .route("/events/rebuild", get(show).post(begin))
        .route("/events/rebuild/{id}", get(one))
        .with_state(Arc::new(database))
}

async fn show(State(database): State<Arc<Database>>) -> Result<Body<Option<Rebuild>>, Problem> {
    Ok(Body(database.read(|mut db| async move { store::last_rebuild(&mut db).await }).await?))
}

async fn one(State(database): State<Arc<Database>>, Id(id): Id<Uuid>) -> Result<Body<Rebuild>, Problem> {
    let found = database.read(move |mut db| async move { store::rebuild(&mut db, id).await }).await?;
    found.map(Body).ok_or_else(|| Problem::not_found(format!("there is no rebuild {id}")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginBody {
    /// Who asks, if the token does not say it; a dry run changes nothing, and nobody has to sign it.
    by: Option<String>,
    since: Option<DateTime<Utc>>,
    #[serde(default)]
    dry_run: bool,
}

async fn begin(
    State(database): State<Arc<Database>>,
    caller: Caller,
    Json(body): Json<BeginBody>,
) -> Result<Body<Rebuild>, Problem> {
    let unsigned = body.dry_run && body.by.is_none() && caller.subject().is_none();
    // Nobody's name is an empty one, which is refused.
    let by = if caller.subject().is_none() { Some(body.by.unwrap_or_default()) } else { body.by };
    let by: Option<String> = if unsigned {
        None
    } else {
        let mut checks = Checks::default();
        let by = checks.take("/by", line(&caller.signs(by)?));
        Some(checks.finish(by)?)
    };
    let (since, dry_run) = (body.since.unwrap_or(DateTime::UNIX_EPOCH), body.dry_run);
    let begun = database.read(move |mut db| {
        let by = by.clone();
        async move { store::ask_rebuild(&mut db, by, since, dry_run).await }
    });
    begun.await?.map(Body).ok_or_else(|| Problem::conflict("rebuild-under-way", "the events are being completed already"))
}
