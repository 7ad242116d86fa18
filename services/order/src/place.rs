//! Places orders: what has queued up at the edge becomes rows, sagas, first history entries and commands, in one transaction.

use std::collections::{HashMap, HashSet};

use chassis::{Handled, Handler, Outgoing};
use chrono::Utc;
use events::TraceParent;
use saga::order::Order;
use saga::{Decision, Input, State, decide};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::advance::{entry, say, timer};
use crate::store::{HistoryRow, NewRow};
use crate::view::{Row, View};
use crate::{SOURCE, Timing, store};

/// Places orders.
pub struct Place {
    timing: Timing,
}

/// An order to be.
#[derive(Clone, Debug)]
pub struct NewOrder {
    pub order: Order,
    pub key: Option<String>,
    pub trace: TraceParent,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Placing {
    Placed(View),
    /// The key was used for the same order before.
    Replayed(View),
    /// The key was used for another order.
    KeyReused,
}

impl Place {
    pub fn new(timing: Timing) -> Self {
        Self { timing }
    }
}

impl Handler for Place {
    type Item = NewOrder;
    type Answer = Placing;
    const NAME: &'static str = "place_orders";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&NewOrder]) -> anyhow::Result<Handled<Placing>> {
        let now = store::now(tx).await?;
        let begun: Vec<(Row, Decision<Order>)> = batch.iter().map(|new| begin(new, now)).collect();
        let rows: Vec<NewRow> = begun
            .iter()
            .zip(batch)
            .map(|((row, _), new)| NewRow { row, key: new.key.as_deref(), timer: timer(row, None, &self.timing) })
            .collect();
        let inserted: HashSet<Uuid> = store::insert(tx, &rows, self.timing.deadlines()).await?.into_iter().collect();
        let is_new = |row: &Row| inserted.contains(&row.order.id.0);

        let mut outgoing = Outgoing::new(SOURCE, now);
        let mut entries = Vec::with_capacity(inserted.len());
        for (row, decision) in begun.iter().filter(|(row, _)| is_new(row)) {
            let entry = entry(&Input::Start, decision.verdict, &decision.messages, &row.state)?;
            entries.push(HistoryRow { order_id: row.order.id, sequence: row.sequence, entry });
            say(&mut outgoing, row, &decision.messages, None)?;
        }
        if !entries.is_empty() {
            store::append(tx, now, &entries.iter().collect::<Vec<_>>()).await?;
        }

        // Not inserted: the key is taken. A new statement sees by which order.
        let taken: Vec<&str> =
            begun.iter().zip(batch).filter(|((row, _), _)| !is_new(row)).filter_map(|(_, new)| new.key.as_deref()).collect();
        let earlier: HashMap<String, Row> =
            if taken.is_empty() { HashMap::new() } else { store::by_keys(tx, &taken).await?.into_iter().collect() };
        let mut answers = Vec::with_capacity(batch.len());
        for ((row, _), new) in begun.iter().zip(batch) {
            answers.push(if is_new(row) {
                Placing::Placed(row.view())
            } else {
                match new.key.as_ref().and_then(|key| earlier.get(key)) {
                    Some(first) if same(&first.order, &new.order) => Placing::Replayed(first.view()),
                    Some(_) => Placing::KeyReused,
                    None => anyhow::bail!("the order {} was neither inserted nor is its key taken", row.order.id),
                }
            });
        }
        Ok(Handled { answers, outgoing })
    }
}

/// The same request: the same user and the same lines. Ids are ours.
fn same(first: &Order, second: &Order) -> bool {
    first.user_id == second.user_id && first.items == second.items
}

fn begin(new: &NewOrder, now: chrono::DateTime<Utc>) -> (Row, Decision<Order>) {
    let decision = decide(&new.order, &State::new(), &Input::Start);
    let row = Row {
        order: new.order.clone(),
        state: decision.state.clone(),
        sequence: 1,
        prices: None,
        trace: new.trace.clone(),
        created_at: now,
        updated_at: now,
    };
    (row, decision)
}
