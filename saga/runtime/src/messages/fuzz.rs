//! Notes as they lie in an outbox that somebody damaged.

use chassis::Note;

#[test]
fn notes_are_read_as_they_were_written_or_refused() {
    fuzz::drive("notes", |input| match Note::read_all(input) {
        Some(notes) => assert_eq!(notes.into_iter().map(Note::bytes).collect::<Vec<_>>().concat(), input),
        None => assert!(!input.len().is_multiple_of(Note::LENGTH)),
    });
}
