//! Applies what comes to orders under way: answers, timers, cancellations. One shape for all: lock, decide, write, say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chassis::{Handled, Handler, Outgoing, metrics};
use chrono::{DateTime, Utc};
use events::order::Status;
use events::{CloudEvent, OrderId, product, user};
use saga::order::{Answer, Order, Step};
use saga::{Action, Input, Message, Notice, State, Verdict, Why, decide};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::recent::{Kept, Recent};
use crate::store::HistoryRow;
use crate::tell::say;
use crate::view::Row;
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

/// What became of it.
#[derive(Debug)]
pub struct Moved {
    /// The order.
    pub id: OrderId,
    /// Where it stands now.
    pub status: Status,
    /// What the saga made of it; `None`: there was nothing to decide.
    pub verdict: Option<Verdict>,
    /// Whether the batch ended it.
    pub ended: bool,
    /// The order, once for each, to be kept if the transaction commits.
    kept: Option<Kept>,
}

/// Advances orders.
pub struct Advance {
    timing: Timing,
    recent: Arc<Recent>,
    /// Those who wait for an order to become final.
    pub waiting: Waiting,
}

impl Advance {
    pub fn new(timing: Timing, recent: Arc<Recent>) -> Self {
        Self { timing, recent, waiting: Waiting::default() }
    }

    /// Decides a batch, in its order, on locked rows. `None` for an order nobody knows.
    async fn apply(&self, tx: &mut PgConnection, batch: &[(OrderId, Trigger)]) -> anyhow::Result<Handled<Option<Moved>>> {
        let (now, mut orders) = self.lock(tx, batch).await?;
        let mut outgoing = Outgoing::new(SOURCE, now);
        let mut verdicts = Vec::with_capacity(batch.len());
        for (id, trigger) in batch {
            verdicts.push(match orders.get_mut(id) {
                Some(open) => open.trigger(trigger, now, &self.timing, &mut outgoing)?,
                None => {
                    tracing::warn!(order = %id, "an answer for an order nobody knows");
                    None
                }
            });
        }
        self.write(tx, now, &mut orders).await?;
        let mut answers: Vec<Option<Moved>> =
            batch.iter().zip(verdicts).map(|((id, _), verdict)| orders.get(id).map(|open| open.moved(verdict))).collect();
        for moved in answers.iter_mut().flatten() {
            // To what has come to its end mostly nothing comes any more.
            moved.kept = orders.remove(&moved.id).map(|open| open.kept).filter(|kept| !kept.row.state.is_settled());
        }
        Ok(Handled { answers, outgoing })
    }

    /// Locks the orders of a batch and has each as it stands: kept from its last step, or else read.
    async fn lock(
        &self,
        tx: &mut PgConnection,
        batch: &[(OrderId, Trigger)],
    ) -> anyhow::Result<(DateTime<Utc>, BTreeMap<OrderId, Open>)> {
        let ids: Vec<Uuid> = batch.iter().map(|(id, _)| id.0).collect::<BTreeSet<_>>().into_iter().collect();
        let locked = store::lock(tx, &ids).await?;
        let (mut orders, mut unknown) = (BTreeMap::new(), Vec::new());
        for (id, sequence) in locked.orders {
            match self.recent.take(id, sequence) {
                Some(kept) => _ = orders.insert(id, Open::new(kept)),
                None => unknown.push(id.0),
            }
        }
        if !unknown.is_empty() {
            let read = store::kept(tx, &unknown).await?;
            orders.extend(read.into_iter().map(|kept| (kept.row.order.id, Open::new(kept))));
        }
        Ok((locked.now.unwrap_or_else(Utc::now), orders))
    }

    async fn write(&self, tx: &mut PgConnection, now: DateTime<Utc>, orders: &mut BTreeMap<OrderId, Open>) -> anyhow::Result<()> {
        let (mut entries, mut rows): (Vec<HistoryRow>, Vec<&Row>) = (Vec::new(), Vec::new());
        for open in orders.values_mut().filter(|open| !open.entries.is_empty()) {
            timer::wind(&mut open.kept.row, &open.before, now, &self.timing);
            entries.append(&mut open.entries);
            rows.push(&open.kept.row);
        }
        if !rows.is_empty() {
            store::write(tx, now, &rows, &entries).await?;
        }
        Ok(())
    }

    /// After the commit: keeps what will move again, wakes who waits, and counts what ended.
    fn tell(&self, answers: &mut [Option<Moved>]) {
        self.recent.keep(answers.iter_mut().flatten().filter_map(|moved| moved.kept.take()));
        for moved in answers.iter().flatten() {
            self.waiting.wake(moved.id);
            if moved.ended {
                metrics::ended(moved.status.as_str());
            }
        }
    }
}

/// An order under decision.
struct Open {
    kept: Kept,
    before: State<Order>,
    /// What is not yet written of its history.
    entries: Vec<HistoryRow>,
    /// Whether its outcome is told now.
    ended: bool,
}

impl Open {
    fn new(kept: Kept) -> Self {
        Self { before: kept.row.state.clone(), kept, entries: Vec::new(), ended: false }
    }

    fn trigger(
        &mut self,
        trigger: &Trigger,
        now: DateTime<Utc>,
        timing: &Timing,
        outgoing: &mut Outgoing,
    ) -> anyhow::Result<Option<Verdict>> {
        let inputs = match trigger {
            Trigger::Answer(answer) => vec![Input::Answer(answer.clone())],
            Trigger::Cancel => vec![Input::Cancel],
            Trigger::Operator { action, by, reason } => {
                vec![Input::Operator { action: *action, by: by.clone(), reason: reason.clone() }]
            }
            // Looked at again under the lock: another instance may have been first.
            Trigger::Timer => timer::inputs(&self.kept.row, now, timing),
        };
        let mut verdict = None;
        for input in inputs {
            verdict = Some(self.decide(input, now, outgoing)?);
        }
        Ok(verdict)
    }

    fn decide(&mut self, input: Input<Order>, now: DateTime<Utc>, outgoing: &mut Outgoing) -> anyhow::Result<Verdict> {
        let Kept { row, history } = &mut self.kept;
        let decision = decide(&row.order, &row.state, &input);
        // A consumer made anew reads its stream again from the beginning: what was said to a saga that has ended is no news.
        if row.state.is_settled() && decision.verdict == Verdict::Ignored(Why::Repeated) {
            return Ok(decision.verdict);
        }
        if decision.verdict == Verdict::Moved {
            row.updated_at = now;
        }
        row.sequence += 1;
        row.state = decision.state;
        row.note_prices();
        let entry = HistoryRow::new(row, now, &input, decision.verdict, &decision.messages)?;
        history.push(entry.whole.clone());
        self.entries.push(entry);
        self.ended |=
            decision.messages.iter().any(|message| matches!(message, Message::Tell(Notice::Completed | Notice::Compensated)));
        say(outgoing, row, history, &decision.messages)?;
        Ok(decision.verdict)
    }

    fn moved(&self, verdict: Option<Verdict>) -> Moved {
        let row = &self.kept.row;
        Moved { id: row.order.id, status: row.status(), verdict, ended: self.ended, kept: None }
    }
}

impl Handler for Advance {
    type Item = (OrderId, Trigger);
    type Answer = Option<Moved>;
    const NAME: &'static str = "advance_orders";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<Self::Answer>> {
        let batch: Vec<(OrderId, Trigger)> = batch.iter().map(|&item| item.clone()).collect();
        self.apply(tx, &batch).await
    }

    fn committed(&self, _: &[&Self::Item], answers: &mut [Self::Answer]) {
        self.tell(answers);
    }
}

/// Applies the user service's answers.
pub struct UserReplies(pub Arc<Advance>);

impl Handler for UserReplies {
    type Item = CloudEvent<user::Reply>;
    type Answer = Option<Moved>;
    const NAME: &'static str = "apply_user_replies";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<Self::Answer>> {
        let answer = |event: &&Self::Item| {
            let id = match &event.message {
                user::Reply::Validated(reply) => reply.order_id,
                user::Reply::Refused(reply) => reply.order_id,
            };
            (id, Trigger::Answer(Answer::User(event.message.clone())))
        };
        self.0.apply(tx, &batch.iter().map(answer).collect::<Vec<_>>()).await
    }

    fn committed(&self, _: &[&Self::Item], answers: &mut [Self::Answer]) {
        self.0.tell(answers);
    }
}

/// Applies the product service's answers.
pub struct ProductReplies(pub Arc<Advance>);

impl Handler for ProductReplies {
    type Item = CloudEvent<product::Reply>;
    type Answer = Option<Moved>;
    const NAME: &'static str = "apply_product_replies";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<Self::Answer>> {
        let answer = |event: &&Self::Item| {
            let id = match &event.message {
                product::Reply::Reserved(reply) => reply.order_id,
                product::Reply::Refused(reply) => reply.order_id,
                product::Reply::Released(reply) => reply.order_id,
            };
            (id, Trigger::Answer(Answer::Product(event.message.clone())))
        };
        self.0.apply(tx, &batch.iter().map(answer).collect::<Vec<_>>()).await
    }

    fn committed(&self, _: &[&Self::Item], answers: &mut [Self::Answer]) {
        self.0.tell(answers);
    }
}
