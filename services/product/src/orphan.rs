//! Stock that no saga gives back: held for an order nobody placed, or for one that ended although its compensation was given up. `waybill audit`
//! finds it and an operator gives it back.
//!
//! This route is on the product service's own port only; the gateway does not serve it.

use axum::extract::State;
use axum::routing::post;
use axum::{Json as Body, Router};
use chassis::http::{Checks, Id, Json, Problem};
use chassis::{Conflict, Handled, Handler, Outgoing};
use chrono::Utc;
use events::{Name, ReservationId};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::edge::Edge;
use crate::handler::{held, settle};
use crate::shelf::{Ask, Standing};
use crate::{SOURCE, store};

pub fn router(edge: Edge) -> Router {
    Router::new().route("/reservations/{id}/release", post(release)).with_state(edge)
}

/// Gives back what no saga will. Whether one will this service cannot know; who asks has asked the order service.
pub struct GiveBack;

/// A reservation without a saga, and who gives back what it holds, and why.
#[derive(Clone, Debug)]
pub struct Orphan {
    pub id: ReservationId,
    pub by: String,
    pub reason: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    Released,
    NotFound,
    /// It is not an order's.
    Direct,
    HoldsNothing,
}

impl Handler for GiveBack {
    type Item = Orphan;
    type Answer = GivenBack;
    const NAME: &'static str = "give_back";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Orphan]) -> anyhow::Result<Handled<GivenBack>> {
        let ids: Vec<Uuid> = batch.iter().map(|orphan| orphan.id.0).collect();
        let standing = store::standing(&mut *tx, &ids).await?;
        let (mut answers, mut released) = (Vec::with_capacity(batch.len()), Vec::new());
        for orphan in batch {
            answers.push(match (standing.get(&orphan.id), store::is_direct(&mut *tx, orphan.id).await?) {
                (None, _) => GivenBack::NotFound,
                (_, Some(true)) => GivenBack::Direct,
                (Some(Standing::Reserved(_)), _) => {
                    released.push(*orphan);
                    GivenBack::Released
                }
                _ => GivenBack::HoldsNothing,
            });
        }
        let asks: Vec<(ReservationId, Ask)> = released.iter().map(|orphan| (orphan.id, Ask::Release)).collect();
        let (change, _) = settle(tx, &asks).await?;
        if !store::record_given_back(tx, &released).await? {
            return Err(Conflict.into());
        }
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        store::write(tx, &mut outgoing, false, &change).await?;
        Ok(Handled { answers, outgoing })
    }

    fn rows(&self, orphan: &Orphan) -> Vec<Uuid> {
        vec![orphan.id.0]
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Orphan]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        held(db, &batch.iter().map(|orphan| (orphan.id, Ask::Release)).collect::<Vec<_>>()).await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseBody {
    by: String,
    reason: String,
}

async fn release(
    State(edge): State<Edge>,
    Id(id): Id<ReservationId>,
    Json(body): Json<ReleaseBody>,
) -> Result<Body<Value>, Problem> {
    let mut checks = Checks::default();
    let by = checks.take("/by", Name::new(&body.by));
    let reason = checks.take("/reason", Name::new(&body.reason));
    let (by, reason) = checks.finish(by.zip(reason))?;
    let refused = |why: &str| Err(Problem::conflict("operator-refused", why));
    match edge.unit.run_detached(&edge.giving_back, Orphan { id, by: by.into(), reason: reason.into() }).await? {
        GivenBack::Released => Ok(Body(json!({ "reservation_id": id, "status": "released" }))),
        GivenBack::NotFound => Err(Problem::not_found(format!("there is no reservation {id}"))),
        GivenBack::Direct => refused("it was made without an order: POST /products/reservations/{id}/release gives it back"),
        GivenBack::HoldsNothing => refused("it holds nothing: it was refused, or is released already"),
    }
}
