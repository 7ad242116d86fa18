//! Places orders: what has queued up at the edge becomes rows, sagas, first history entries and commands, in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use chassis::{Handled, Handler, Outgoing};
use chrono::{DateTime, Utc};
use events::TraceParent;
use saga::order::Order;
use saga::{Decision, Input, State, decide};
use sqlx::PgConnection;

use crate::recent::{Kept, Recent};
use crate::store::{HistoryRow, NewRow};
use crate::tell::say;
use crate::view::{Row, View};
use crate::{SOURCE, Timing, store, timer};

/// Places orders.
pub struct Place {
    timing: Timing,
    recent: Arc<Recent>,
}

/// An order to be.
#[derive(Clone, Debug)]
pub struct NewOrder {
    pub order: Order,
    pub key: Option<String>,
    pub trace: TraceParent,
}

/// What became of it.
#[derive(Debug)]
pub enum Placing {
    /// It is placed; the order itself is kept once the transaction has committed.
    Placed(View, Option<Box<Kept>>),
    /// The key was used for the same order before.
    Replayed(View),
    /// The key was used for another order.
    KeyReused,
}

impl Place {
    pub fn new(timing: Timing, recent: Arc<Recent>) -> Self {
        Self { timing, recent }
    }
}

impl Handler for Place {
    type Item = NewOrder;
    type Answer = Placing;
    const NAME: &'static str = "place_orders";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&NewOrder]) -> anyhow::Result<Handled<Placing>> {
        let begun: Vec<Decision<Order>> = batch.iter().map(|new| decide(&new.order, &State::new(), &Input::Start)).collect();
        let rows: Vec<NewRow> = batch.iter().zip(&begun).map(|(new, decision)| self.row(new, decision)).collect();
        let inserted = store::insert(tx, &rows).await?;

        let now = inserted.values().next().copied().unwrap_or_else(Utc::now);
        let mut outgoing = Outgoing::new(SOURCE, now);
        let mut entries = Vec::with_capacity(inserted.len());
        let mut answers = Vec::with_capacity(batch.len());
        let mut taken = Vec::new();
        for ((new, begun), row) in batch.iter().zip(&begun).zip(&rows) {
            answers.push(if inserted.contains_key(&new.order.id) {
                let row = placed(new, begun, now, row.due_in);
                let entry = HistoryRow::new(&row, now, &Input::Start, begun.verdict, &begun.messages)?;
                let history = vec![entry.whole.clone()];
                entries.push(entry);
                say(&mut outgoing, &row, &history, &begun.messages)?;
                Placing::Placed(row.view(), Some(Box::new(Kept { row, history })))
            } else {
                taken.extend(new.key.as_deref());
                Placing::KeyReused
            });
        }
        if !entries.is_empty() {
            store::append(tx, now, &entries).await?;
        }
        if inserted.len() < batch.len() {
            replay(tx, batch, &taken, &mut answers).await?;
        }
        Ok(Handled { answers, outgoing })
    }

    fn committed(&self, _: &[&NewOrder], answers: &mut [Placing]) {
        self.recent.keep(answers.iter_mut().filter_map(|answer| match answer {
            Placing::Placed(_, kept) => kept.take().map(|kept| *kept),
            _ => None,
        }));
    }
}

impl Place {
    fn row<'a>(&self, new: &'a NewOrder, begun: &'a Decision<Order>) -> NewRow<'a> {
        let due_in = timer::first_wait(&new.order, &begun.state, &self.timing);
        NewRow { order: &new.order, state: &begun.state, trace: &new.trace, key: new.key.as_deref(), due_in }
    }
}

/// The row as it was inserted.
fn placed(new: &NewOrder, begun: &Decision<Order>, now: DateTime<Utc>, due_in: Option<std::time::Duration>) -> Row {
    Row {
        order: new.order.clone(),
        state: begun.state.clone(),
        sequence: 1,
        prices: None,
        trace: new.trace.clone(),
        created_at: now,
        updated_at: now,
        waiting_since: Some(now),
        due_at: due_in.map(|wait| now + wait),
    }
}

/// Answers those that were not inserted because their key is taken. A new statement sees by which order.
async fn replay(tx: &mut PgConnection, batch: &[&NewOrder], taken: &[&str], answers: &mut [Placing]) -> anyhow::Result<()> {
    let earlier: HashMap<String, Row> = store::by_keys(tx, taken).await?.into_iter().collect();
    for (new, answer) in batch.iter().zip(answers) {
        if matches!(answer, Placing::Placed(..)) {
            continue;
        }
        *answer = match new.key.as_ref().and_then(|key| earlier.get(key)) {
            Some(first) if same(&first.order, &new.order) => Placing::Replayed(first.view()),
            Some(_) => Placing::KeyReused,
            None => anyhow::bail!("the order {} was neither inserted nor is its key taken", new.order.id),
        };
    }
    Ok(())
}

/// The same request: the same user and the same lines. Ids are ours.
fn same(first: &Order, second: &Order) -> bool {
    first.user_id == second.user_id && first.items == second.items
}
