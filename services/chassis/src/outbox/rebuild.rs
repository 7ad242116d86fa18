//! Messages made again, for a service that keeps notes of them in its outbox.

use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use crate::note::Note;
use crate::packet::Packet;

/// Makes messages again from what the database holds. A service whose messages say nothing that is not there keeps them out of the
/// outbox: a note of each is enough.
pub trait RebuildMessages: Send + Sync + 'static {
    /// The messages these notes stand for, exactly as they were made first.
    ///
    /// # Errors
    /// [`CannotRebuild`] where they can never be made; anything else may pass.
    fn rebuild<'a>(&'a self, db: &'a mut PgConnection, notes: &'a [Note]) -> BoxFuture<'a, anyhow::Result<Vec<Packet>>>;
}

/// The database does not hold what a note stands for, and never will again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotRebuild(pub String);
