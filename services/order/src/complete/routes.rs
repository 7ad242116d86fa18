//! An operator's way to have ORDER_EVENTS completed by hand, and to see how far that has come. On the order service's own port only.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Body, Router};
use chassis::http::{Checks, Json, Problem};
use chrono::{DateTime, Utc};
use events::Name;
use serde::Deserialize;

use crate::edge::Edge;
use crate::store::complete::{self as store, Rebuild};

pub fn router(edge: Arc<Edge>) -> Router {
    Router::new().route("/events/rebuild", get(show).post(begin)).with_state(edge)
}

async fn show(State(edge): State<Arc<Edge>>) -> Result<Body<Option<Rebuild>>, Problem> {
    Ok(Body(edge.database.read(|mut db| async move { store::last_rebuild(&mut db).await }).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginBody {
    by: String,
    since: Option<DateTime<Utc>>,
    #[serde(default)]
    dry_run: bool,
}

async fn begin(State(edge): State<Arc<Edge>>, Json(body): Json<BeginBody>) -> Result<Body<Rebuild>, Problem> {
    let mut checks = Checks::default();
    let by = checks.take("/by", Name::new(&body.by));
    let by: String = checks.finish(by)?.into();
    let (since, dry_run) = (body.since.unwrap_or(DateTime::UNIX_EPOCH), body.dry_run);
    let begun = edge.database.read(move |mut db| {
        let by = by.clone();
        async move { store::ask_rebuild(&mut db, by, since, dry_run).await }
    });
    begun.await?.map(Body).ok_or_else(|| Problem::conflict("rebuild-under-way", "the events are being completed already"))
}
