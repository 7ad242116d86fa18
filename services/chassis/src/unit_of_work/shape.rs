//! The two shapes of a handler.

use std::future::Future;
use std::sync::Mutex;

use sqlx::{Executor as _, PgConnection};

use super::{Handled, Handler};
use crate::outgoing::Outgoing;
use crate::read_connection::ReadConnection;
use crate::unsure;
use crate::writers::WritePermit;

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
    pub(super) outputs: Vec<O>,
    pub(super) outgoing: Outgoing,
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
