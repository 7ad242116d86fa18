//! Notes as they lie in an outbox that somebody damaged.

use super::Said;

#[test]
fn notes_are_read_as_they_were_written_or_refused() {
    fuzz::drive("notes", |input| {
        for note in input.chunks(Said::LENGTH) {
            match Said::read(note) {
                Ok(said) => assert_eq!(said.note(), note),
                Err(error) => assert!(note.len() < Said::LENGTH, "{error}"),
            }
        }
    });
}
