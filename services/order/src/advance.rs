//! Applies what comes to orders under way: answers, timers, cancellations. One shape for all: lock, decide, write, say.

use std::collections::{BTreeMap, BTreeSet};

use chassis::{Handled, Handler, Outgoing, Saying, metrics};
use chrono::{DateTime, Utc};
use events::order::{Cancelled, Compensating, Confirmed, Event, Placed, Rejected, Status, Waybill};
use events::streams::{RELEASE, RESERVE, VALIDATE, event_subject};
use events::{CloudEvent, OrderId, product, user};
use saga::order::{Answer, Command, Order, Step};
use saga::{Action, Direction, Input, Message, Notice, State, Verdict, Why, decide};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::store::{HistoryRow, Locked, Timer};
use crate::view::Row;
use crate::waiting::Waiting;
use crate::{SOURCE, Timing, store};

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
#[derive(Clone, Debug)]
pub struct Moved {
    /// The order.
    pub id: OrderId,
    /// Where it stands now.
    pub status: Status,
    /// What the saga made of it; `None`: there was nothing to decide.
    pub verdict: Option<Verdict>,
    /// Whether the batch ended it.
    pub ended: bool,
}

/// Advances orders.
pub struct Advance {
    timing: Timing,
    /// Those who wait for an order to become final.
    pub waiting: Waiting,
}

impl Advance {
    pub fn new(timing: Timing) -> Self {
        Self { timing, waiting: Waiting::default() }
    }

    /// Decides a batch, in its order, on locked rows. `None` for an order nobody knows.
    async fn apply(&self, tx: &mut PgConnection, batch: &[(OrderId, Trigger)]) -> anyhow::Result<Handled<Option<Moved>>> {
        let ids: Vec<Uuid> = batch.iter().map(|(id, _)| id.0).collect::<BTreeSet<_>>().into_iter().collect();
        let now = store::now(tx).await?;
        let locked = store::lock(tx, &ids, self.timing.deadlines()).await?;
        let mut orders: BTreeMap<OrderId, Open> =
            locked.into_iter().map(|locked| (locked.row.order.id, Open::new(locked))).collect();
        let mut verdicts = Vec::with_capacity(batch.len());
        for (id, trigger) in batch {
            verdicts.push(match orders.get_mut(id) {
                Some(open) => open.trigger(trigger, now)?,
                None => {
                    tracing::warn!(order = %id, "an answer for an order nobody knows");
                    None
                }
            });
        }
        let outgoing = self.write(tx, now, &orders).await?;
        let answers = batch.iter().zip(verdicts).map(|((id, _), verdict)| orders.get(id).map(|open| open.moved(verdict)));
        Ok(Handled { answers: answers.collect(), outgoing })
    }

    async fn write(
        &self,
        tx: &mut PgConnection,
        now: DateTime<Utc>,
        orders: &BTreeMap<OrderId, Open>,
    ) -> anyhow::Result<Outgoing> {
        let touched: Vec<&Open> = orders.values().filter(|open| !open.entries.is_empty()).collect();
        let mut outgoing = Outgoing::new(SOURCE, now);
        if touched.is_empty() {
            return Ok(outgoing);
        }
        let entries: Vec<&HistoryRow> = touched.iter().flat_map(|open| &open.entries).collect();
        store::append(tx, now, &entries).await?;
        let rows: Vec<(&Row, Timer)> = touched.iter().map(|open| (&open.locked.row, self.timer(open))).collect();
        store::update(tx, &rows, self.timing.deadlines()).await?;

        let ended: Vec<Uuid> = touched.iter().filter(|open| open.ends()).map(|open| open.locked.row.order.id.0).collect();
        let mut waybills: BTreeMap<OrderId, Vec<Box<RawValue>>> = BTreeMap::new();
        if !ended.is_empty() {
            for (id, entry) in store::history(&mut *tx, &ended).await? {
                waybills.entry(id).or_default().push(entry);
            }
        }
        for open in touched {
            let waybill = waybills.get(&open.locked.row.order.id).map(|entries| Waybill::of(entries)).transpose()?;
            say(&mut outgoing, &open.locked.row, &open.messages, waybill)?;
        }
        Ok(outgoing)
    }

    fn timer(&self, open: &Open) -> Timer {
        timer(&open.locked.row, Some(&open.before), &self.timing)
    }

    /// After the commit: wakes who waits, and counts what ended.
    fn tell(&self, answers: &[Option<Moved>]) {
        for moved in answers.iter().flatten() {
            self.waiting.wake(moved.id);
            if moved.ended {
                metrics::ended(moved.status.as_str());
            }
        }
    }
}

/// When an order is due again: when the first of its unanswered commands is.
pub fn timer(row: &Row, before: Option<&State<Order>>, timing: &Timing) -> Timer {
    let seed = row.order.id.0.as_u128() as u64;
    let mut timer = Timer { due_in: None, begins: false, can_expire: false };
    for (step, direction, attempt) in row.state.outstanding() {
        let delay = timing.patience().delay(attempt, seed);
        let goes_on = before.is_some_and(|before| before.outstanding().any(|(was, way, _)| (was, way) == (step, direction)));
        timer.due_in = Some(timer.due_in.map_or(delay, |due| due.min(delay)));
        timer.begins |= !goes_on;
        timer.can_expire |= direction == Direction::Act;
    }
    timer
}

/// An order under decision.
struct Open {
    locked: Locked,
    before: State<Order>,
    entries: Vec<HistoryRow>,
    messages: Vec<Message<Order>>,
}

impl Open {
    fn new(locked: Locked) -> Self {
        Self { before: locked.row.state.clone(), locked, entries: Vec::new(), messages: Vec::new() }
    }

    fn trigger(&mut self, trigger: &Trigger, now: DateTime<Utc>) -> anyhow::Result<Option<Verdict>> {
        match trigger {
            Trigger::Answer(answer) => self.decide(Input::Answer(answer.clone()), now).map(Some),
            Trigger::Cancel => self.decide(Input::Cancel, now).map(Some),
            Trigger::Operator { action, by, reason } => {
                let input = Input::Operator { action: *action, by: by.clone(), reason: reason.clone() };
                self.decide(input, now).map(Some)
            }
            Trigger::Timer => {
                // Looked at again under the lock: another instance may have been first.
                if !self.locked.due {
                    return Ok(None);
                }
                let mut verdict = None;
                for input in self.due() {
                    verdict = Some(self.decide(input, now)?);
                }
                self.locked.due = false;
                Ok(verdict)
            }
        }
    }

    /// What the clock says of each unanswered command.
    fn due(&self) -> Vec<Input<Order>> {
        let (expired, overdue) = (self.locked.expired, self.locked.overdue);
        let outstanding: Vec<(Step, Direction, u32)> = self.locked.row.state.outstanding().collect();
        if overdue
            && !self.locked.row.state.is_final()
            && outstanding.iter().any(|(_, direction, _)| *direction == Direction::Act)
        {
            return vec![Input::Overdue];
        }
        let input = |(step, direction, _)| match direction {
            Direction::Act if expired => Input::Expired(step),
            _ => Input::Due(step),
        };
        outstanding.into_iter().map(input).collect()
    }

    fn decide(&mut self, input: Input<Order>, now: DateTime<Utc>) -> anyhow::Result<Verdict> {
        let row = &mut self.locked.row;
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
        let entry = entry(&input, decision.verdict, &decision.messages, &row.state)?;
        self.entries.push(HistoryRow { order_id: row.order.id, sequence: row.sequence, entry });
        self.messages.extend(decision.messages);
        Ok(decision.verdict)
    }

    fn moved(&self, verdict: Option<Verdict>) -> Moved {
        let row = &self.locked.row;
        Moved { id: row.order.id, status: row.status(), verdict, ended: self.ends() }
    }

    /// Whether its outcome is told now: the message that carries the whole waybill.
    fn ends(&self) -> bool {
        self.messages.iter().any(|message| matches!(message, Message::Tell(Notice::Completed | Notice::Compensated)))
    }
}

/// A history entry without its sequence and time, which stand in columns of their own.
pub fn entry(
    message: &Input<Order>,
    decision: Verdict,
    sent: &[Message<Order>],
    state: &State<Order>,
) -> serde_json::Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Line<'a> {
        message: &'a Input<Order>,
        decision: Verdict,
        sent: &'a [Message<Order>],
        state: &'a State<Order>,
    }
    serde_json::value::to_raw_value(&Line { message, decision, sent, state })
}

/// Turns what a saga wants said into messages.
pub fn say(outgoing: &mut Outgoing, row: &Row, messages: &[Message<Order>], waybill: Option<Waybill>) -> anyhow::Result<()> {
    let id = row.order.id;
    for message in messages {
        let (verb, attempt) = match message {
            Message::Ask { step, attempt } => (step.name().to_owned(), *attempt),
            Message::Undo { step, attempt } => (format!("undo_{}", step.name()), *attempt),
            Message::Tell(notice) => {
                let event = event(*notice, row, waybill.clone());
                let subject = event_subject("order", event.word(), &id);
                // Its place in the history tells one from a namesake.
                let saying = Saying {
                    id: format!("{id}/{}/{}", event.word(), row.sequence),
                    about: id.to_string(),
                    trace: Some(row.trace.clone()),
                    attempt: None,
                    message: event,
                };
                outgoing.tell(subject, saying)?;
                continue;
            }
        };
        let Some(command) = row.state.command(&row.order, message) else {
            continue;
        };
        let (event_id, about, trace) = (format!("{id}/{verb}/{attempt}"), id.to_string(), Some(row.trace.clone()));
        match command {
            Command::User(command) => {
                outgoing.send(VALIDATE, Saying { id: event_id, about, trace, attempt: Some(attempt), message: command })?;
            }
            Command::Product(command) => {
                let subject = match command {
                    product::Command::Reserve(_) => RESERVE,
                    product::Command::Release(_) => RELEASE,
                };
                outgoing.send(subject, Saying { id: event_id, about, trace, attempt: Some(attempt), message: command })?;
            }
        }
    }
    Ok(())
}

fn event(notice: Notice, row: &Row, waybill: Option<Waybill>) -> Event {
    match (notice, row.status()) {
        (Notice::Started, _) => Placed(row.snapshot(None)).into(),
        (Notice::Compensating, _) => Compensating(row.snapshot(None)).into(),
        (Notice::Completed, _) => Confirmed(row.snapshot(waybill)).into(),
        (Notice::Compensated, Status::Cancelled) => Cancelled(row.snapshot(waybill)).into(),
        (Notice::Compensated, _) => Rejected(row.snapshot(waybill)).into(),
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

    fn committed(&self, _: &[&Self::Item], answers: &[Self::Answer]) {
        self.tell(answers);
    }
}

/// Applies the user service's answers.
pub struct UserReplies(pub std::sync::Arc<Advance>);

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

    fn committed(&self, _: &[&Self::Item], answers: &[Self::Answer]) {
        self.0.tell(answers);
    }
}

/// Applies the product service's answers.
pub struct ProductReplies(pub std::sync::Arc<Advance>);

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

    fn committed(&self, _: &[&Self::Item], answers: &[Self::Answer]) {
        self.0.tell(answers);
    }
}
