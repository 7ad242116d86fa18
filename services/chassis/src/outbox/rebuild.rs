//! Messages made again, for a service that keeps notes of them in its outbox.

use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use crate::note::Note;
use crate::packet::Packet;

/// Makes messages again from what the database holds. A service whose messages say nothing that is not there keeps them out of the
/// outbox: a note of each is enough.
pub trait RebuildMessages: Send + Sync + 'static {
    /// The messages that the notes of each row stand for, exactly as they were made first. The database is asked once for all rows: what
    /// gathers while a broker is away is thousands of rows.
    ///
    /// # Errors
    /// Of a row: [`CannotRebuild`] where its messages can never be made; anything else may pass. Of all: the database cannot be read.
    fn rebuild<'a>(&'a self, db: &'a mut PgConnection, rows: &'a [Vec<Note>]) -> BoxFuture<'a, anyhow::Result<Rebuilt>>;
}

/// The messages of each row, in the order in which they were asked for.
pub type Rebuilt = Vec<anyhow::Result<Vec<Packet>>>;

/// The database does not hold what a note stands for, and never will again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotRebuild(pub String);
