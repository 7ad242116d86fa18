//! Stock that no saga gives back: held for an order nobody placed, or for one that ended although its compensation was given up. `waybill audit`
//! finds it and an operator gives it back.

use chassis::{Conflict, Handled, Handler, InTransaction, Outgoing};
use chrono::Utc;
use events::ReservationId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::SOURCE;
use crate::handler::{held, settle};
use crate::inventory::{Command, ReservationState};
use crate::requests::Orphan;
use crate::store::{self, Holder};

/// Gives back what no saga will. Whether one will this service cannot know; who asks has asked the order service.
pub struct GiveBack;

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
    type Output = GivenBack;
    type Shape = InTransaction;
    const NAME: &'static str = "give_back";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Orphan]) -> anyhow::Result<Handled<GivenBack>> {
        let ids: Vec<Uuid> = batch.iter().map(|orphan| orphan.id.0).collect();
        let states = store::reservation_states(&mut *tx, &ids).await?;
        let (mut outputs, mut released) = (Vec::with_capacity(batch.len()), Vec::new());
        for orphan in batch {
            outputs.push(match (states.get(&orphan.id), store::is_direct(&mut *tx, orphan.id, None).await?) {
                (None, _) => GivenBack::NotFound,
                (_, Some(true)) => GivenBack::Direct,
                (Some(ReservationState::Reserved(_)), _) => {
                    released.push(*orphan);
                    GivenBack::Released
                }
                _ => GivenBack::HoldsNothing,
            });
        }
        let commands: Vec<(ReservationId, Command)> = released.iter().map(|orphan| (orphan.id, Command::Release)).collect();
        let (change, _) = settle(tx, &commands).await?;
        if !store::record_given_back(tx, &released).await? {
            return Err(Conflict.into());
        }
        Ok(Handled::new(outputs, store::write(Outgoing::new(SOURCE, Utc::now()), Holder::Orders, &change)?))
    }

    fn rows(&self, orphan: &Orphan) -> Vec<Uuid> {
        vec![orphan.id.0]
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Orphan]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        held(db, &batch.iter().map(|orphan| (orphan.id, Command::Release)).collect::<Vec<_>>()).await
    }
}
