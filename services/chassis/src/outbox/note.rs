//! What the outbox keeps instead of messages, for a service whose messages can be made again from its histories.

use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::outgoing::Packet;

/// An entry of a thing's history that said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The thing: an order.
    pub about: Uuid,
    /// The entry's sequence.
    pub entry: u32,
}

impl Note {
    /// The bytes of one note.
    pub const LENGTH: usize = 20;

    /// As the outbox keeps it.
    pub fn bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(self.about.as_bytes());
        bytes[16..].copy_from_slice(&self.entry.to_be_bytes());
        bytes
    }

    /// Reads a row's notes; `None`: they are none.
    pub fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (notes, []) = bytes.as_chunks::<{ Self::LENGTH }>() else { return None };
        let read = |note: &[u8; Self::LENGTH]| {
            let (about, entry) = note.split_first_chunk::<16>()?;
            Some(Self { about: Uuid::from_bytes(*about), entry: u32::from_be_bytes(entry.try_into().ok()?) })
        };
        notes.iter().map(read).collect()
    }
}

/// Makes messages again from what the database holds. A service whose messages say nothing that is not there keeps them out of the
/// outbox: a note of each is enough.
pub trait Recall: Send + Sync + 'static {
    /// The messages these notes stand for, exactly as they were made first.
    ///
    /// # Errors
    /// [`Unrecallable`] where they can never be made; anything else may pass.
    fn recall<'a>(&'a self, db: &'a mut PgConnection, notes: &'a [Note]) -> BoxFuture<'a, anyhow::Result<Vec<Packet>>>;
}

/// The database does not hold what a note stands for, and never will again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unrecallable(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_back() {
        let notes = [Note { about: Uuid::from_u128(5), entry: 70_000 }, Note { about: Uuid::from_u128(6), entry: 1 }];
        let bytes = notes.map(Note::bytes).concat();
        assert_eq!(Note::read_all(&bytes).unwrap(), notes);
        assert_eq!(Note::read_all(&bytes[..39]), None);
        assert_eq!(Note::read_all(&[]).unwrap(), []);
    }
}
