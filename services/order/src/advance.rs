//! Applies what comes to orders under way: answers, timers, cancellations. One shape for all: decide, say, write.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use chassis::clock::SteadyClock;
use chassis::database::Database;
use chassis::{Handled, Handler, Outgoing, metrics};
use chrono::{DateTime, Utc};
use events::order::Status;
use events::{CloudEvent, DecodeError, OrderId};
use saga::order::{Answer, Order, Step};
use saga::{Action, Input, Message, Notice, State, Verdict, decide};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::recent::{Kept, Recent};
use crate::store::HistoryRow;
use crate::tell::say;
use crate::view::{Row, View};
use crate::waiting::Waiting;
use crate::{SOURCE, Timing, store, timer};

/// What comes to an order.
#[derive(Clone, Debug)]
pub enum Trigger {
    /// A participant's answer.
    Answer(Answer),
    /// The sweeper found it due.
    Timer,
    /// The customer cancels.
    Cancel,
    /// An operator takes a hand in it.
    Operator { action: Action<Step>, by: String, reason: String },
}

impl Trigger {
    /// Reads an answer of the user service.
    pub fn from_user(json: &RawValue) -> Result<(OrderId, Self), DecodeError> {
        Ok(Self::answer(Answer::User(CloudEvent::decode(json)?.message)))
    }

    /// Reads an answer of the product service.
    pub fn from_product(json: &RawValue) -> Result<(OrderId, Self), DecodeError> {
        Ok(Self::answer(Answer::Product(CloudEvent::decode(json)?.message)))
    }

    fn answer(answer: Answer) -> (OrderId, Self) {
        (answer.order_id(), Self::Answer(answer))
    }
}

/// What became of it.
#[derive(Debug)]
pub struct Moved {
    /// The order.
    pub id: OrderId,
    /// Where it stands now.
    pub status: Status,
    /// The same as its customer sees it, where a customer asked.
    pub view: Option<View>,
    /// What the saga made of it; `None`: there was nothing to decide.
    pub verdict: Option<Verdict>,
    /// Whether the batch ended it; said once for each order.
    ended: bool,
    /// The order with its history, once for each, to be kept if the transaction commits.
    kept: Option<Kept>,
}

/// Advances orders.
pub struct Advance {
    pub database: Database,
    pub clock: SteadyClock,
    pub timing: Timing,
    pub recent: Arc<Recent>,
    /// Those who wait for an order to become final.
    pub waiting: Waiting,
}

impl Advance {
    async fn decide(
        &self,
        db: &mut PgConnection,
        sitting: &mut Sitting<'_>,
        batch: &[&(OrderId, Trigger)],
    ) -> anyhow::Result<BTreeMap<OrderId, Open>> {
        let mut triggers: BTreeMap<OrderId, Vec<&Trigger>> = BTreeMap::new();
        for (id, trigger) in batch {
            triggers.entry(*id).or_default().push(trigger);
        }
        let (mut orders, mut unsure) = (BTreeMap::new(), Vec::new());
        for (id, triggers) in &triggers {
            // What is kept in memory may be out of date. Only a step forward is believed: it is written only onto what it was decided on.
            let mut open = self.recent.take(*id).map(|Kept { row, history }| Open::new(row, Some(history)));
            let forward = open.as_mut().map(|open| open.decide_all(&triggers[..1], sitting)).transpose()?;
            match open {
                Some(mut open) if forward == Some(true) => {
                    open.decide_all(&triggers[1..], sitting)?;
                    orders.insert(*id, open);
                }
                _ => unsure.push(id.0),
            }
        }
        if !unsure.is_empty() {
            let rows = store::rows(db, &unsure).await?;
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
                orders.insert(id, open);
            }
        }
        Ok(orders)
    }

    async fn write(
        &self,
        db: &mut PgConnection,
        sitting: &mut Sitting<'_>,
        orders: &mut BTreeMap<OrderId, Open>,
    ) -> anyhow::Result<()> {
        let (mut entries, mut rows): (Vec<HistoryRow>, Vec<(&Row, u32)>) = (Vec::new(), Vec::new());
        for open in orders.values_mut().filter(|open| !open.entries.is_empty()) {
            timer::wind(&mut open.row, &open.before, sitting.steady, sitting.timing);
            let was = open.row.sequence - open.entries.len() as u32;
            entries.append(&mut open.entries);
            rows.push((&open.row, was));
        }
        if !rows.is_empty() {
            store::write(db, &mut sitting.outgoing, sitting.now, &rows, &entries).await?;
        }
        Ok(())
    }
}

/// The histories of orders that these triggers end: an order's last event carries its whole history, and nothing else needs it. What is
/// refused, late or repeated must not cost a read of everything that ever happened.
async fn ending_histories(
    db: &mut PgConnection,
    rows: &[Row],
    triggers: &BTreeMap<OrderId, Vec<&Trigger>>,
    sitting: &Sitting<'_>,
) -> sqlx::Result<HashMap<OrderId, Vec<Box<RawValue>>>> {
    let ends = |row: &&Row| {
        let mut row = Row::clone(row);
        triggers[&row.order.id].iter().any(|trigger| {
            inputs(&row, trigger, sitting).iter().any(|input| {
                let decision = decide(&row.order, &row.state, input);
                row.state = decision.state;
                is_end(&decision.messages)
            })
        })
    };
    let ending: Vec<Uuid> = rows.iter().filter(ends).map(|row| row.order.id.0).collect();
    let mut histories: HashMap<OrderId, Vec<Box<RawValue>>> = HashMap::new();
    if !ending.is_empty() {
        for (id, entry) in store::history(db, &ending).await? {
            histories.entry(id).or_default().push(entry);
        }
    }
    Ok(histories)
}

/// What a trigger says to a saga: nothing, where a timer is not up after all.
fn inputs(row: &Row, trigger: &Trigger, sitting: &Sitting<'_>) -> Vec<Input<Order>> {
    match trigger {
        Trigger::Answer(answer) => vec![Input::Answer(answer.clone())],
        Trigger::Cancel => vec![Input::Cancel],
        Trigger::Operator { action, by, reason } => {
            vec![Input::Operator { action: *action, by: by.clone(), reason: reason.clone() }]
        }
        // Looked at again: another instance may have been first.
        Trigger::Timer => timer::inputs(row, sitting.steady, sitting.timing),
    }
}

/// Whether a decision tells the end of an order.
fn is_end(messages: &[Message<Order>]) -> bool {
    messages.iter().any(|message| matches!(message, Message::Tell(Notice::Completed | Notice::Compensated)))
}

/// What became of the next trigger of an order.
fn moved(orders: &mut BTreeMap<OrderId, Open>, (id, trigger): &(OrderId, Trigger)) -> Option<Moved> {
    let id = *id;
    let Some(open) = orders.get_mut(&id) else {
        tracing::warn!(order = %id, "an answer for an order nobody knows");
        return None;
    };
    let verdict = open.verdicts.pop_front().flatten();
    let row = &open.row;
    let view = matches!(trigger, Trigger::Cancel).then(|| row.view());
    let mut moved = Moved { id, status: row.status(), view, verdict, ended: false, kept: None };
    if open.verdicts.is_empty() {
        moved.ended = open.ended;
        // To what has come to its end mostly nothing comes any more.
        let open = orders.remove(&id).filter(|open| !open.row.state.is_settled());
        moved.kept = open.and_then(|open| Some(Kept { row: open.row, history: open.history? }));
    }
    Some(moved)
}

/// What all decisions of a batch share.
struct Sitting<'a> {
    /// The time of day.
    now: DateTime<Utc>,
    /// What timers go by.
    steady: DateTime<Utc>,
    timing: &'a Timing,
    outgoing: Outgoing,
}

/// An order under decision.
struct Open {
    row: Row,
    /// Its history, each entry as JSON; `None`: not read, because nothing here tells its end.
    history: Option<Vec<Box<RawValue>>>,
    before: State<Order>,
    /// What is not yet written of its history.
    entries: Vec<HistoryRow>,
    /// Of each trigger; `None`: there was nothing to decide.
    verdicts: VecDeque<Option<Verdict>>,
    /// Whether its outcome is told now.
    ended: bool,
}

impl Open {
    fn new(row: Row, history: Option<Vec<Box<RawValue>>>) -> Self {
        Self { before: row.state.clone(), row, history, entries: Vec::new(), verdicts: VecDeque::new(), ended: false }
    }

    /// Decides triggers one after the other. Returns whether one was a step forward; if none was, nothing is said.
    fn decide_all(&mut self, triggers: &[&Trigger], sitting: &mut Sitting<'_>) -> anyhow::Result<bool> {
        let mut forward = false;
        for trigger in triggers {
            let mut verdict = None;
            for input in inputs(&self.row, trigger, sitting) {
                verdict = Some(self.decide(input, sitting)?);
                forward |= verdict == Some(Verdict::Moved);
            }
            self.verdicts.push_back(verdict);
        }
        Ok(forward)
    }

    fn decide(&mut self, input: Input<Order>, sitting: &mut Sitting<'_>) -> anyhow::Result<Verdict> {
        let Self { row, history, .. } = self;
        let decision = decide(&row.order, &row.state, &input);
        // What changes nothing is not recorded: a history grows with what happens to a saga, not with what is asked of it.
        if decision.verdict != Verdict::Moved {
            return Ok(decision.verdict);
        }
        row.updated_at = sitting.now;
        row.sequence += 1;
        row.state = decision.state;
        row.note_prices();
        let entry = HistoryRow::new(row, sitting.now, &input, decision.verdict, &decision.messages)?;
        if let Some(history) = history {
            history.push(entry.whole.clone());
        }
        self.entries.push(entry);
        let ends = is_end(&decision.messages);
        anyhow::ensure!(!ends || history.is_some(), "the history of order {} was not read", row.order.id);
        self.ended |= ends;
        say(&mut sitting.outgoing, row, history.as_deref().unwrap_or_default(), &decision.messages)?;
        Ok(decision.verdict)
    }
}

impl Handler for Advance {
    type Item = (OrderId, Trigger);
    type Answer = Option<Moved>;
    const NAME: &'static str = "advance_orders";
    const ONE_STATEMENT: bool = true;

    /// Decides a batch, each order's triggers in their order. `None` for an order nobody knows.
    async fn handle(&self, db: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<Self::Answer>> {
        let (now, steady) = (self.database.now(db).await?, self.clock.now(db).await?);
        let mut sitting = Sitting { now, steady, timing: &self.timing, outgoing: Outgoing::new(SOURCE, now) };
        let mut orders = self.decide(db, &mut sitting, batch).await?;
        self.write(db, &mut sitting, &mut orders).await?;
        Ok(Handled { answers: batch.iter().map(|item| moved(&mut orders, item)).collect(), outgoing: sitting.outgoing })
    }

    /// Keeps what will move again, wakes who waits, and counts what ended.
    fn committed(&self, batch: &[&Self::Item], answers: &mut [Self::Answer]) {
        self.recent.keep(answers.iter_mut().flatten().filter_map(|moved| moved.kept.take()));
        for ((_, trigger), moved) in batch.iter().zip(answers.iter()) {
            let Some(moved) = moved else { continue };
            if let Some(Verdict::Ignored(why)) = moved.verdict {
                metrics::ignored(why.name());
                tracing::debug!(order = %moved.id, ?trigger, why = why.name(), "changed nothing");
            } else {
                self.waiting.wake(moved.id);
            }
            if moved.ended {
                metrics::ended(moved.status.as_str());
            }
        }
    }
}
