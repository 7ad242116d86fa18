//! Stock held without an order: a caller reserves it, and gives it back, or it is given back once it has expired.

use std::sync::Arc;
use std::time::Duration;

use chassis::database::{Database, Reader};
use chassis::settings::seconds;
use chassis::{Failure, Handled, Handler, InTransaction, Outgoing, UnitOfWork, causes};
use chrono::Utc;
use clap::Args;
use events::{Reason, ReservationId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::SOURCE;
use crate::handler::{held, rows, settle};
use crate::inventory::{Command, ReservationState};
use crate::keyed::Once;
use crate::requests::DirectCommand;
use crate::store::{self, Holder};

/// How often is looked for what has expired, and how much is given back at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const BATCH: i64 = 200;

/// How long stock is held without an order.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReservationSettings {
    /// Seconds after which what is held without an order is given back. As long as a person takes over a basket; who reserves and goes away
    /// holds nothing for ever. `expires_at` in the answer says when.
    #[arg(long, env = "WAYBILL_RESERVATIONS_EXPIRE_AFTER", default_value = "900", value_parser = seconds)]
    pub reservations_expire_after: Duration,

    /// Reservations without an order that one subject may hold at once; one more is 429 with Retry-After. Not set: no limit, and no look before
    /// one is made. Nobody is counted where callers do not say who they are. What is reserved at the same moment may all find room.
    #[arg(long, env = "WAYBILL_RESERVATIONS_PER_SUBJECT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub reservations_per_subject: Option<u32>,
}

/// Holds stock for a caller without an order, and gives it back.
pub struct Direct {
    /// How long it is held.
    pub expire_after: Duration,
}

impl Handler for Direct {
    type Item = DirectCommand;
    /// What the caller is answered, or why nothing is held.
    type Output = Once<Result<Value, Reason>>;
    type Shape = InTransaction;
    const NAME: &'static str = "hold_stock_directly";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&DirectCommand]) -> anyhow::Result<Handled<Self::Output>> {
        let mut outputs = Vec::with_capacity(batch.len());
        for item in batch {
            outputs.push(match &item.keyed {
                Some(keyed) => keyed.earlier(tx).await?,
                None => None,
            });
        }
        let new: Vec<&DirectCommand> =
            batch.iter().zip(&outputs).filter(|(_, earlier)| earlier.is_none()).map(|(item, _)| *item).collect();
        let commands: Vec<(ReservationId, Command)> = new.iter().map(|item| (item.id, item.command.clone())).collect();
        let makers = new.iter().map(|item| (item.id, item.subject.as_deref())).collect();
        let until = store::expiry(tx, self.expire_after).await?;
        let (change, states) = settle(tx, &commands).await?;
        let mut answers = Vec::with_capacity(new.len());
        for (item, state) in new.iter().zip(states) {
            let answer = match state {
                ReservationState::Reserved(_) => {
                    Ok(json!({ "status": "reserved", "reservation_id": item.id, "expires_at": until }))
                }
                ReservationState::Released(_) => Ok(json!({ "status": "released" })),
                ReservationState::Refused(reason) => Err(reason),
            };
            // A refusal uses up no key: asked again, there may be stock.
            if let (Some(keyed), Ok(answer)) = (&item.keyed, &answer) {
                keyed.keep(tx, answer).await?;
            }
            answers.push(answer);
        }
        let mut answers = answers.into_iter().map(Once::Now);
        let outputs = outputs.into_iter().filter_map(|earlier| earlier.or_else(|| answers.next())).collect();
        Ok(Handled::new(outputs, store::write(Outgoing::new(SOURCE, Utc::now()), Holder::Callers(until, &makers), &change)?))
    }

    fn rows(&self, item: &Self::Item) -> Vec<Uuid> {
        rows(&(item.id, item.command.clone()))
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        held(db, &batch.iter().map(|item| (item.id, item.command.clone())).collect::<Vec<_>>()).await
    }
}

/// Gives back what has expired, until shutdown, as its holder would. Any number of instances may do this: what one has given back the other
/// finds released.
pub async fn expire(database: Database, unit: UnitOfWork, direct: Arc<Direct>, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let more = match sweep(&database, &unit, &direct).await {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(error = causes(&error), "what is held without an order is not given back; trying again later");
                false
            }
        };
        tokio::select! {
            () = tokio::time::sleep(if more { Duration::ZERO } else { LOOK_EVERY }) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// One look; whether there is more.
async fn sweep(database: &Database, unit: &UnitOfWork, direct: &Direct) -> anyhow::Result<bool> {
    let after = direct.expire_after;
    let expired = database.read(|mut db: Reader| async move { store::expired(&mut db, after, BATCH).await }).await?;
    if expired.is_empty() {
        return Ok(false);
    }
    let releases: Vec<DirectCommand> =
        expired.iter().map(|id| DirectCommand { id: *id, command: Command::Release, keyed: None, subject: None }).collect();
    let results = unit.run(unit.permit().await, direct, &releases.iter().collect::<Vec<_>>()).await;
    let results = results.map_err(|failure| anyhow::anyhow!(causes(failure.error())))?;
    let mut given_back = 0;
    let mut stuck = Vec::new();
    for (id, result) in expired.iter().zip(results) {
        match result {
            Ok(_) => given_back += 1,
            // Somebody holds the row, or was quicker: found again, and nothing is wrong with it.
            Err(Failure::Busy(_) | Failure::Outage(_) | Failure::Conflict(_)) => {}
            Err(Failure::Item(error)) => {
                tracing::error!(reservation = %id, error = causes(&error), "cannot be given back; trying again in a while");
                stuck.push(*id);
            }
        }
    }
    if !stuck.is_empty() {
        // Out of the way of the others.
        database
            .read(|mut db: Reader| {
                let stuck = stuck.clone();
                async move { store::put_off(&mut db, &stuck).await }
            })
            .await?;
    }
    if given_back > 0 {
        tracing::info!(reservations = given_back, "given back what was held without an order until it expired");
    }
    Ok(given_back == expired.len() && expired.len() as i64 == BATCH)
}
