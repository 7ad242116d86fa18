//! A participant: who executes a step of sagas, and undoes it.
//!
//! Commands arrive more than once, late, and in another order than they were sent in. Three rules make that harmless:
//!
//! - **Repetition**: a command that comes again does nothing, and is answered as it was.
//! - **Empty rollback**: a compensation of what was never executed does nothing, and leaves a tombstone.
//! - **Suspension**: a command that comes after its compensation finds that tombstone, does nothing, and is answered that nothing stands.
//!
//! [`WithReplyLog`] is a [`Handler`] that keeps them for any [`StepHandler`], with one row for each command it has dealt with: its reply. Where the
//! participant's own rows decide all three already, as the product service's reservations do, no log is needed; where it only reads, neither.

mod log;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::{Future, ready};

use anyhow::Context as _;
use chassis::{Handled, Handler, InTransaction, NewEvent, Outgoing};
use chrono::Utc;
use envelope::{CloudEvent, Message};
use saga::Direction;
use sqlx::PgConnection;
use uuid::Uuid;

use self::log::Row;
pub use self::log::{REPLIES_EXPIRE_SQL, REPLIES_SQL, ReplyLog, ReplySettings};

/// What a participant does of itself; the rules are not its business.
pub trait StepHandler: Send + Sync + 'static {
    /// What sagas ask.
    type Command: Message + Send + Sync + 'static;
    /// What they are answered.
    type Reply: Message + Clone + Send + Sync + 'static;
    /// What it is called in metrics and logs: `book_flights`.
    const NAME: &'static str;
    /// Who speaks, as a URI reference: `/trip/flight`.
    const SOURCE: &'static str;
    /// The subject of its replies.
    const REPLIES: &'static str;

    /// What a command is about.
    fn address(command: &Self::Command) -> Address;

    /// Executes commands that never came before. Returns a reply to each, in order; a refusal is one. An error means that nothing was done, and
    /// all is undone: the batch comes again.
    fn execute(
        &self,
        tx: &mut PgConnection,
        commands: &[&Self::Command],
    ) -> impl Future<Output = anyhow::Result<Vec<Self::Reply>>> + Send;

    /// Undoes what was executed, each with the reply that was given to it: what was refused has nothing to be undone.
    fn compensate(
        &self,
        _: &mut PgConnection,
        _: &[(&Self::Command, &Self::Reply)],
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        ready(Ok(()))
    }

    /// The reply to a compensation: nothing stands (any more). `None`: this participant has no compensations.
    fn compensated(_: &Self::Command) -> Option<Self::Reply> {
        None
    }
}

/// What a command is about: one step of one saga, and whether it is to be executed or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The saga.
    pub saga: Uuid,
    /// The step's name. It is kept: it must not change.
    pub step: &'static str,
    /// Whether it is to be executed or undone.
    pub direction: Direction,
}

/// A handler of commands that keeps the rules by a log of replies.
pub struct WithReplyLog<H> {
    steps: H,
    log: ReplyLog,
}

impl<H: StepHandler> WithReplyLog<H> {
    /// Handles steps with the log of replies in this table.
    pub fn new(steps: H, log: &ReplyLog) -> Self {
        Self { steps, log: *log }
    }
}

impl<H: StepHandler> Handler for WithReplyLog<H> {
    type Item = CloudEvent<H::Command>;
    type Output = ();
    type Shape = InTransaction;
    const NAME: &'static str = H::NAME;

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<()>> {
        let addresses: Vec<Address> = batch.iter().map(|event| H::address(&event.message)).collect();
        let mut steps: Steps<'_, H> = BTreeMap::new();
        for row in self.log.rows(tx, addresses.iter().map(|address| address.saga)).await? {
            let step = steps.entry((row.saga, Cow::Owned(row.step))).or_default();
            *step.half(row.direction) = Some(Half { command: None, reply: row.reply, is_new: false });
        }
        // Which of the two commands of its step answers each.
        let mut answered_by = Vec::with_capacity(batch.len());
        for (event, Address { saga, step, direction }) in batch.iter().zip(addresses) {
            let key = (saga, Cow::Borrowed(step));
            let direction = steps.entry(key.clone()).or_default().meet(direction, &event.message);
            answered_by.push((key, direction));
        }
        self.execute(tx, &mut steps).await?;
        self.compensate(tx, &mut steps).await?;
        let mut outgoing = Outgoing::new(H::SOURCE, Utc::now());
        for (event, (key, direction)) in batch.iter().zip(answered_by) {
            let reply = steps.get_mut(&key).and_then(|step| step.half(direction).as_ref()?.reply.clone());
            let reply = reply.with_context(|| format!("no reply to {direction:?} {} of {}", key.1, key.0))?;
            outgoing.send(H::REPLIES, NewEvent::<H::Reply>::reply(event, reply))?;
        }
        Ok(Handled::new(vec![(); batch.len()], self.log.append(outgoing, &new_rows(steps))?))
    }
}

impl<H: StepHandler> WithReplyLog<H> {
    async fn execute(&self, tx: &mut PgConnection, steps: &mut Steps<'_, H>) -> anyhow::Result<()> {
        let mut new: Vec<&mut Half<'_, H>> = steps.values_mut().filter_map(|step| step.execute.as_mut()).collect();
        new.retain(|half| half.command.is_some());
        let commands: Vec<&H::Command> = new.iter().filter_map(|half| half.command).collect();
        if commands.is_empty() {
            return Ok(());
        }
        let replies = self.steps.execute(tx, &commands).await?;
        anyhow::ensure!(replies.len() == commands.len(), "{} replies to {} commands", replies.len(), commands.len());
        for (half, reply) in new.into_iter().zip(replies) {
            half.reply = Some(reply);
        }
        Ok(())
    }

    async fn compensate(&self, tx: &mut PgConnection, steps: &mut Steps<'_, H>) -> anyhow::Result<()> {
        let mut executed = Vec::new();
        for step in steps.values_mut() {
            let Some(Half { command: Some(command), reply, .. }) = &mut step.compensate else { continue };
            *reply = Some(H::compensated(command).context("this participant has no compensations")?);
            executed.extend(step.execute.as_ref().and_then(|half| half.reply.as_ref()).map(|reply| (*command, reply)));
        }
        if executed.is_empty() { Ok(()) } else { self.steps.compensate(tx, &executed).await }
    }
}

type Key = (Uuid, Cow<'static, str>);

/// The steps of a batch, in the order of their rows: two instances must not wait for each other in a circle.
type Steps<'a, H> = BTreeMap<Key, Step<'a, H>>;

/// What is known of a step of a saga.
struct Step<'a, H: StepHandler> {
    execute: Option<Half<'a, H>>,
    compensate: Option<Half<'a, H>>,
}

/// One of the two commands of a step.
struct Half<'a, H: StepHandler> {
    /// What is to be done; `None`: nothing.
    command: Option<&'a H::Command>,
    /// What it is answered; `None` where nothing is done yet, and for a tombstone.
    reply: Option<H::Reply>,
    is_new: bool,
}

impl<H: StepHandler> Default for Step<'_, H> {
    fn default() -> Self {
        Self { execute: None, compensate: None }
    }
}

impl<'a, H: StepHandler> Step<'a, H> {
    fn half(&mut self, direction: Direction) -> &mut Option<Half<'a, H>> {
        match direction {
            Direction::Execute => &mut self.execute,
            Direction::Compensate => &mut self.compensate,
        }
    }

    /// Notes what a command asks, if it is new. Returns the direction of the command whose reply answers it.
    fn meet(&mut self, direction: Direction, command: &'a H::Command) -> Direction {
        let new = |command| Some(Half { command, reply: None, is_new: true });
        match direction {
            Direction::Execute if self.execute.is_none() && self.compensate.is_none() => self.execute = new(Some(command)),
            Direction::Compensate if self.compensate.is_none() => {
                self.compensate = new(Some(command));
                // The tombstone: whoever executes meanwhile makes the same row, and one of the two is undone and decided again.
                self.execute = self.execute.take().or_else(|| new(None));
            }
            _ => {}
        }
        if self.compensate.is_some() { Direction::Compensate } else { Direction::Execute }
    }
}

/// What is to be appended to the log.
fn new_rows<H: StepHandler>(steps: Steps<'_, H>) -> Vec<Row<H::Reply>> {
    let mut rows = Vec::new();
    for ((saga, step), Step { execute, compensate }) in steps {
        for (direction, half) in [(Direction::Execute, execute), (Direction::Compensate, compensate)] {
            let new = half.filter(|half| half.is_new);
            rows.extend(new.map(|half| Row { saga, step: step.to_string(), direction, reply: half.reply }));
        }
    }
    rows
}
