//! What the outbox keeps instead of messages, for a service whose messages can be made again from its histories.

use uuid::Uuid;

/// An entry of a thing's history that sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The thing: an order.
    pub subject: Uuid,
    /// The entry's sequence.
    pub entry: u32,
}

impl Note {
    /// The bytes of one note.
    pub const LENGTH: usize = 20;

    /// As the outbox keeps it.
    pub fn bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(self.subject.as_bytes());
        bytes[16..].copy_from_slice(&self.entry.to_be_bytes());
        bytes
    }

    /// Reads a row's notes; `None`: they are none.
    pub fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (notes, []) = bytes.as_chunks::<{ Self::LENGTH }>() else { return None };
        let read = |note: &[u8; Self::LENGTH]| {
            let (subject, entry) = note.split_first_chunk::<16>()?;
            Some(Self { subject: Uuid::from_bytes(*subject), entry: u32::from_be_bytes(entry.try_into().ok()?) })
        };
        notes.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_back() {
        let notes = [Note { subject: Uuid::from_u128(5), entry: 70_000 }, Note { subject: Uuid::from_u128(6), entry: 1 }];
        let bytes = notes.map(Note::bytes).concat();
        assert_eq!(Note::read_all(&bytes).unwrap(), notes);
        assert_eq!(Note::read_all(&bytes[..39]), None);
        assert_eq!(Note::read_all(&[]).unwrap(), []);
    }
}
