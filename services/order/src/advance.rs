//! Applies what comes to orders under way: answers, timers, cancellations. One shape for all: decide, say, write.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::saga::{Order, Reply, Step};
use chassis::broker::PayloadMax;
use chassis::clock::SteadyClock;
use chassis::database::Database;
use chassis::seldom::Seldom;
use chassis::{Handled, Handler, OneStatement, Outgoing, ReadConnection, Statement};
use events::OrderId;
use events::order::Status;
use saga::{Action, IgnoredBecause, Plan as _, Verdict};
use saga_runtime::Saga as _;
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::open::{Open, Outcome, Sitting, ends};
use crate::recent::{Kept, Recent};
use crate::store::{HistoryRow, Unreadable, cancellations};
use crate::view::{Row, View};
use crate::waiting::Waiting;
use crate::{HistoryLimit, Timing, metrics, store, timer};

/// What comes to an order.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// A participant's answer.
    Reply(Reply),
    /// The sweeper found it due.
    Timer,
    /// The customer cancels, perhaps with an Idempotency-Key.
    Cancel(Option<String>),
    /// An operator takes a hand in it.
    Operator { action: Action<Step>, by: String, reason: String },
}

impl Trigger {
    /// The Idempotency-Key it came with.
    fn key(&self) -> Option<&str> {
        match self {
            Self::Cancel(key) => key.as_deref(),
            _ => None,
        }
    }
}

/// What became of it.
#[derive(Debug)]
pub struct Moved {
    /// The order.
    pub id: OrderId,
    /// Where it stands now.
    pub status: Status,
    /// The sequence of its last entry now.
    sequence: u32,
    /// The same as its customer sees it, where a customer asked.
    pub view: Option<View>,
    /// What the saga made of it.
    pub outcome: Outcome,
    /// Whether the batch ended it; said once for each order.
    ended: bool,
    /// The order with its history, once for each, to be kept if the transaction commits.
    kept: Option<Kept>,
}

impl Moved {
    /// An order that was left where it stands.
    fn nothing(id: OrderId, status: Status, outcome: Outcome) -> Self {
        Self { id, status, sequence: 0, view: None, outcome, ended: false, kept: None }
    }
}

/// Advances orders.
pub struct Advance {
    pub database: Database,
    pub clock: SteadyClock,
    pub timing: Timing,
    pub limit: HistoryLimit,
    pub payload_max: PayloadMax,
    pub recent: Arc<Recent>,
    /// Those who wait for an order to become final.
    pub waiting: Waiting,
    /// What the log says of what comes.
    pub told: Told,
}

/// What one message can cause hundreds of times.
#[derive(Debug, Default)]
pub struct Told {
    unknown: Seldom,
    unreadable: Seldom,
}

/// The orders of a batch.
#[derive(Default)]
struct Orders {
    open: BTreeMap<OrderId, Open>,
    unreadable: HashMap<OrderId, Unreadable>,
}

impl Advance {
    async fn decide(
        &self,
        db: &mut ReadConnection,
        sitting: &mut Sitting<'_>,
        batch: &[&(OrderId, Trigger)],
    ) -> anyhow::Result<Orders> {
        let mut triggers: BTreeMap<OrderId, Vec<&Trigger>> = BTreeMap::new();
        for (id, trigger) in batch {
            triggers.entry(*id).or_default().push(trigger);
        }
        let (mut orders, mut unsure) = (Orders::default(), Vec::new());
        for (id, triggers) in &triggers {
            // What is kept in memory may be out of date. Only a step forward is believed: it is written only onto what it was decided on.
            let mut open = self.recent.take(*id).map(|Kept { row, history }| Open::new(row, Some(history)));
            let forward = open.as_mut().map(|open| open.decide_all(&triggers[..1], sitting)).transpose()?;
            match open {
                Some(mut open) if forward == Some(true) => {
                    open.decide_all(&triggers[1..], sitting)?;
                    orders.open.insert(*id, open);
                }
                _ => unsure.push(id.0),
            }
        }
        if !unsure.is_empty() {
            let mut rows = Vec::with_capacity(unsure.len());
            for found in store::rows(&mut *db, &unsure).await? {
                match found {
                    Ok(row) => rows.push(row),
                    Err(unreadable) => drop(orders.unreadable.insert(unreadable.id, unreadable)),
                }
            }
            let mut histories = ending_histories(db, &rows, &triggers, sitting).await?;
            for row in rows {
                let id = row.order.id;
                let history = histories.remove(&id).map(|mut entries| {
                    // Read after the row: another instance may have appended meanwhile.
                    entries.truncate(row.sequence as usize);
                    entries
                });
                let mut open = Open::new(row, history);
                open.decide_all(&triggers[&id], sitting)?;
                orders.open.insert(id, open);
            }
        }
        Ok(orders)
    }

    fn write(&self, sitting: Sitting<'_>, orders: &mut Orders) -> anyhow::Result<Statement> {
        let (mut entries, mut rows): (Vec<HistoryRow>, Vec<(&Row, u32)>) = (Vec::new(), Vec::new());
        let mut cancelled = Vec::new();
        for open in orders.open.values_mut().filter(|open| open.moved) {
            timer::wind(&mut open.row, &open.before, sitting.steady, sitting.timing);
            let was = open.row.sequence - open.entries.len() as u32;
            entries.append(&mut open.entries);
            rows.push((&open.row, was));
            cancelled.extend(open.cancelled_with.as_deref().map(|key| (key, open.row.order.id)));
        }
        if rows.is_empty() {
            return Ok(sitting.outgoing.into());
        }
        store::write(sitting.outgoing, sitting.now, &rows, &entries, &cancelled)
    }
}

/// The histories of orders that these triggers end: an order's last event carries its whole history, and nothing else needs it. What is
/// refused, late or repeated must not cost a read of everything that ever happened.
async fn ending_histories(
    db: impl PgExecutor<'_>,
    rows: &[Row],
    triggers: &BTreeMap<OrderId, Vec<&Trigger>>,
    sitting: &Sitting<'_>,
) -> sqlx::Result<HashMap<OrderId, Vec<Box<RawValue>>>> {
    let ending = rows.iter().filter(|row| ends(row, &triggers[&row.order.id], sitting));
    let ending: Vec<Uuid> = ending.map(|row| row.order.id.0).collect();
    let mut histories: HashMap<OrderId, Vec<Box<RawValue>>> = HashMap::new();
    if !ending.is_empty() {
        for (id, entry) in store::history(db, &ending).await? {
            histories.entry(id).or_default().push(entry);
        }
    }
    Ok(histories)
}

impl Orders {
    /// What became of the next trigger of an order.
    fn moved(&mut self, (id, trigger): &(OrderId, Trigger)) -> Option<Moved> {
        let id = *id;
        if let Some(Unreadable { status, plan, why, .. }) = self.unreadable.get(&id) {
            let outcome = match plan {
                Some(plan) if Order::stages(*plan).is_none() => Outcome::Decided(Verdict::Ignored(IgnoredBecause::UnknownPlan)),
                _ => Outcome::Unreadable(why.clone()),
            };
            return Some(Moved::nothing(id, *status, outcome));
        }
        let open = self.open.get_mut(&id)?;
        let outcome = open.outcomes.pop_front().unwrap_or(Outcome::Nothing);
        let view = matches!(trigger, Trigger::Cancel(_)).then(|| open.row.view());
        let mut moved = Moved { id, status: open.status(), sequence: open.row.sequence, view, outcome, ended: false, kept: None };
        if open.outcomes.is_empty() {
            moved.ended = open.ended;
            // To what has come to its end mostly nothing comes any more.
            let open = self.open.remove(&id).filter(|open| !open.row.state.is_settled());
            moved.kept = open.and_then(|open| Some(Kept { row: open.row, history: open.history? }));
        }
        Some(moved)
    }
}

impl Handler for Advance {
    type Item = (OrderId, Trigger);
    type Output = Option<Moved>;
    type Shape = OneStatement;
    const NAME: &'static str = "advance_orders";

    /// Decides a batch, each order's triggers in their order. `None` for an order nobody knows.
    async fn handle(&self, db: &mut ReadConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<Self::Output>> {
        let (now, steady) = (self.database.now(&mut *db).await?, self.clock.now(&mut *db).await?);
        let outgoing = Outgoing::new(Order::SOURCE, now);
        let (timing, limit, payload_max) = (&self.timing, &self.limit, self.payload_max.get());
        let mut sitting = Sitting { now, steady, timing, limit, payload_max, outgoing };
        if batch.iter().any(|(_, trigger)| !matches!(trigger, Trigger::Reply(_))) {
            sitting.outgoing.keep_order();
        }
        // A key that was used before asks for nothing. Looked for here, so that whoever comes second with it finds the first.
        let keys: Vec<&str> = batch.iter().filter_map(|(_, trigger)| trigger.key()).collect();
        let used = if keys.is_empty() { HashMap::new() } else { cancellations::cancelled_with(&mut *db, &keys).await? };
        let used = |(_, trigger): &Self::Item| trigger.key().and_then(|key| used.get(key)).copied();
        let asking: Vec<&Self::Item> = batch.iter().copied().filter(|item| used(item).is_none()).collect();
        let mut orders = self.decide(db, &mut sitting, &asking).await?;
        let statement = self.write(sitting, &mut orders)?;
        let output = |item: &Self::Item| match used(item) {
            Some(order) => Some(Moved::nothing(item.0, Status::Cancelling, Outcome::KeyUsed(order))),
            None => orders.moved(item),
        };
        Ok(Handled { outputs: batch.iter().copied().map(output).collect(), statement })
    }

    fn rows(&self, (id, _): &Self::Item) -> Vec<Uuid> {
        vec![id.0]
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        let ids: Vec<Uuid> = batch.iter().map(|(id, _)| id.0).collect();
        let held = store::held(db, &ids).await?;
        Ok(ids.into_iter().map(|id| if held.contains(&id) { vec![id] } else { Vec::new() }).collect())
    }

    /// Keeps what will move again, wakes who waits, and counts what ended.
    fn committed(&self, batch: &[&Self::Item], outputs: &mut [Self::Output]) {
        self.recent.keep(outputs.iter_mut().flatten().filter_map(|moved| moved.kept.take()));
        let (mut unknown, mut unreadable) = (Vec::new(), Vec::new());
        for ((id, trigger), moved) in batch.iter().zip(outputs.iter()) {
            let Some(moved) = moved else {
                unknown.extend(matches!(trigger, Trigger::Reply(_)).then_some(*id));
                continue;
            };
            let reason = match &moved.outcome {
                Outcome::Decided(Verdict::Moved) => None,
                Outcome::Decided(Verdict::Ignored(why)) => Some(why.name()),
                Outcome::Nothing | Outcome::KeyUsed(_) => None,
                Outcome::HistoryFull => Some("history_full"),
                Outcome::Unreadable(why) => {
                    unreadable.push((moved.id, why));
                    Some("unreadable")
                }
            };
            if let Some(reason) = reason {
                metrics::ignored(reason, 1);
                tracing::debug!(order = %moved.id, ?trigger, reason, "changed nothing");
            }
            self.waiting.moved(moved.id, moved.sequence);
            if moved.ended {
                metrics::ended(moved.status.as_str());
            }
        }
        metrics::ignored("unknown_order", unknown.len() as u64);
        if let (Some(answers), Some(order)) = (self.told.unknown.happened(unknown.len() as u64), unknown.first()) {
            tracing::warn!(answers, %order, "answers for orders nobody knows");
        }
        if let (Some(inputs), Some((order, why))) = (self.told.unreadable.happened(unreadable.len() as u64), unreadable.first()) {
            tracing::error!(inputs, %order, why, "the order's state cannot be read, and is left alone");
        }
    }
}
