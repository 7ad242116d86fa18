//! Places orders: what has queued up at the edge becomes rows, sagas, first history entries and commands, in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use crate::saga::Order;
use anyhow::Context as _;
use chassis::clock::SteadyClock;
use chassis::database::Database;
use chassis::{Handled, Handler, OneStatement, Outgoing, ReadConnection};
use chrono::{DateTime, Utc};
use events::TraceParent;
use saga::{Input, Recording, State, apply};
use saga_runtime::Saga as _;

use crate::recent::{Kept, Recent};
use crate::store::HistoryRow;
use crate::tell::say;
use crate::view::{Row, View};
use crate::{Timing, store, timer};

/// Places orders.
pub struct Place {
    pub database: Database,
    pub clock: SteadyClock,
    pub timing: Timing,
    pub recent: Arc<Recent>,
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

impl Handler for Place {
    type Item = NewOrder;
    type Output = Placing;
    type Shape = OneStatement;
    const NAME: &'static str = "place_orders";

    async fn handle(&self, db: &mut ReadConnection, batch: &[&NewOrder]) -> anyhow::Result<Handled<Placing>> {
        let keys: Vec<&str> = batch.iter().filter_map(|new| new.key.as_deref()).collect();
        // By key: what was placed with it before, and what is being placed with it now.
        let mut first = if keys.is_empty() { HashMap::new() } else { store::by_keys(&mut *db, &keys).await? };
        let (now, steady) = (self.database.now(&mut *db).await?, self.clock.now(db).await?);
        let mut outgoing = Outgoing::new(Order::SOURCE, now);
        let (mut entries, mut outputs) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for new in batch {
            if let Some((order, view)) = new.key.as_ref().and_then(|key| first.get(key)) {
                outputs.push(if same(order, &new.order) { Placing::Replayed(view.clone()) } else { Placing::KeyReused });
                continue;
            }
            let mut state = State::new();
            let begun = apply(&new.order, &mut state, 0, Input::Start, Recording::at(now));
            let row = self.row(new, state, now, steady);
            let entry = HistoryRow::new(row.order.id, &begun.entry.context("a saga that begins has an entry")?)?;
            let history = vec![entry.whole.clone()];
            entries.push(entry);
            // Small, whatever the broker takes: an order that begins has no history yet.
            say(&mut outgoing, &row, &history, &begun.effects, usize::MAX)?;
            if let Some(key) = &new.key {
                first.insert(key.clone(), (row.order.clone(), row.view()));
            }
            outputs.push(Placing::Placed(row.view(), Some(Box::new(Kept { row, history }))));
        }
        let new = batch.iter().zip(&outputs).filter_map(|(new, answer)| match answer {
            Placing::Placed(_, Some(kept)) => Some((&kept.row, new.key.as_deref())),
            _ => None,
        });
        let new: Vec<(&Row, Option<&str>)> = new.collect();
        let statement = if new.is_empty() { outgoing.into() } else { store::insert(outgoing, now, &new, &entries)? };
        Ok(Handled { outputs, statement })
    }

    fn committed(&self, _: &[&NewOrder], outputs: &mut [Placing]) {
        self.recent.keep(outputs.iter_mut().filter_map(|output| match output {
            Placing::Placed(_, kept) => kept.take().map(|kept| *kept),
            _ => None,
        }));
    }
}

impl Place {
    fn row(&self, new: &NewOrder, state: State<Order>, now: DateTime<Utc>, steady: DateTime<Utc>) -> Row {
        let mut row = Row {
            order: new.order.clone(),
            state,
            sequence: 1,
            history_bytes: 0,
            prices: None,
            trace: new.trace.clone(),
            created_at: now,
            updated_at: now,
            began_at: steady,
            waiting_since: None,
            due_at: None,
        };
        timer::wind(&mut row, &State::new(), steady, &self.timing);
        row
    }
}

/// The same request: the same user and the same lines. Ids are ours.
fn same(first: &Order, second: &Order) -> bool {
    first.user_id == second.user_id && first.items == second.items
}
