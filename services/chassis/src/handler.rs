//! What handles a batch: a function of one of two shapes.

use std::future::{Future, ready};
use std::sync::Mutex;

use sqlx::{Executor as _, PgConnection};
use uuid::Uuid;

use crate::outgoing::Outgoing;
use crate::read_connection::ReadConnection;
use crate::statement::Statement;
use crate::unsure;
use crate::writers::WritePermit;

/// A function from a connection and a batch to outputs, one for each item in order, and the statement that writes the batch and what it sends.
///
/// It may be called again with the same items after a rollback, so it keeps nothing of its own. A refusal is an output; an error means
/// that nothing was done.
pub trait Handler: Send + Sync + 'static {
    /// A request, an event, a timer.
    type Item: Send + Sync + 'static;
    /// What becomes of one item.
    type Output: Send + 'static;
    /// What it works on: [`InTransaction`] or as [`OneStatement`].
    type Shape: Shape;
    /// What it is called in metrics and logs: `place_orders`.
    const NAME: &'static str;

    /// Does the work, and leaves the last statement of it to the unit of work.
    fn handle(
        &self,
        db: &mut <Self::Shape as Shape>::Connection,
        batch: &[&Self::Item],
    ) -> impl Future<Output = anyhow::Result<Handled<Self::Output>>> + Send;

    /// The rows an item needs to itself. While somebody else is known to hold one of them, the item is not tried.
    fn rows(&self, _: &Self::Item) -> Vec<Uuid> {
        Vec::new()
    }

    /// For each item, those of its rows that somebody else holds; an item with none is not held up by a row. Asked after a batch has met a
    /// lock, outside of any transaction; must not wait for one.
    fn held(&self, _: &mut PgConnection, items: &[&Self::Item]) -> impl Future<Output = anyhow::Result<Vec<Vec<Uuid>>>> + Send {
        ready(Ok(vec![Vec::new(); items.len()]))
    }

    /// Called after the commit, with the items and their outputs: to wake who waits in this process, to keep what is needed again. Must
    /// not block.
    fn committed(&self, _: &[&Self::Item], _: &mut [Self::Output]) {}
}

/// What a handler made of a batch.
pub struct Handled<O> {
    /// One for each item, in order.
    pub outputs: Vec<O>,
    /// What is still to be written, and what is to be sent once it is committed.
    pub statement: Statement,
}

impl<O> Handled<O> {
    /// These outputs, and what is to be written: a [`Statement`], or just [`Outgoing`](crate::Outgoing).
    pub fn new(outputs: Vec<O>, statement: impl Into<Statement>) -> Self {
        Self { outputs, statement: statement.into() }
    }
}

/// What a handler is given, and how what it leaves is written.
pub trait Shape: Sized + 'static {
    /// What the handler is given.
    type Connection: Send;

    /// Handles a batch and writes it.
    #[doc(hidden)]
    fn write<H: Handler<Shape = Self>>(
        connection: &mut ReadConnection,
        permit: &Mutex<Option<WritePermit>>,
        handler: &H,
        items: &[&H::Item],
    ) -> impl Future<Output = anyhow::Result<Committed<H::Output>>> + Send;
}

/// The handler works in a transaction, in which it reads, locks and writes as it likes. The statement that it leaves is the last one before
/// the commit.
#[derive(Debug)]
pub enum InTransaction {}

/// The handler only reads, and the statement that it leaves is all that is written. That is a transaction of its own, so none is begun around
/// it, which saves two round trips; what the handler reads, it reads in none.
#[derive(Debug)]
pub enum OneStatement {}

/// A batch that is committed.
pub struct Committed<O> {
    pub(crate) outputs: Vec<O>,
    pub(crate) outgoing: Outgoing,
}

impl Shape for InTransaction {
    type Connection = PgConnection;

    async fn write<H: Handler<Shape = Self>>(
        connection: &mut ReadConnection,
        permit: &Mutex<Option<WritePermit>>,
        handler: &H,
        items: &[&H::Item],
    ) -> anyhow::Result<Committed<H::Output>> {
        let tx = connection.writable();
        tx.execute("begin").await?;
        let written = async {
            let Handled { outputs, statement } = handle(&mut *tx, handler, items).await?;
            Ok(Committed { outputs, outgoing: statement.execute(&mut *tx).await? })
        };
        let written = written.await;
        if written.is_ok() {
            // The next batch begins while this one waits for the disk.
            drop(permit.lock().expect("the permit is never poisoned").take());
            tx.execute("commit").await.map_err(unsure::of_commit)?;
        } else if let Err(error) = tx.execute("rollback").await {
            // The connection is gone, and the transaction with it; what failed first says why.
            tracing::debug!(%error, "no rollback");
        }
        written
    }
}

impl Shape for OneStatement {
    type Connection = ReadConnection;

    async fn write<H: Handler<Shape = Self>>(
        connection: &mut ReadConnection,
        _: &Mutex<Option<WritePermit>>,
        handler: &H,
        items: &[&H::Item],
    ) -> anyhow::Result<Committed<H::Output>> {
        let Handled { outputs, statement } = handle(connection, handler, items).await?;
        let outgoing = statement.execute(connection.writable()).await.map_err(unsure::of_one_statement)?;
        Ok(Committed { outputs, outgoing })
    }
}

/// Handles a batch.
async fn handle<H: Handler>(
    connection: &mut <H::Shape as Shape>::Connection,
    handler: &H,
    items: &[&H::Item],
) -> anyhow::Result<Handled<H::Output>> {
    let handled = handler.handle(connection, items).await?;
    anyhow::ensure!(handled.outputs.len() == items.len(), "{} outputs for {} items", handled.outputs.len(), items.len());
    Ok(handled)
}
