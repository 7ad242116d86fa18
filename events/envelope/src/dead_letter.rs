//! The headers of a dead letter: why an event could not be handled, where it came from and how often it was tried.

use crate::Stream;

/// The type of a dead letter as a CloudEvent. Its data is what could not be handled: an event, several of one message as an array, or a whole
/// message.
pub const TYPE: &str = "waybill.dead_letter.v1";

/// Why it could not be handled.
pub const REASON: &str = "Waybill-Reason";
/// The stream it came from.
pub const STREAM: &str = "Waybill-Stream";
/// The consumer that could not handle it.
pub const CONSUMER: &str = "Waybill-Consumer";
/// The subject it came under, and goes back to.
pub const SUBJECT: &str = "Waybill-Subject";
/// Its message's sequence in the stream it came from.
pub const SEQUENCE: &str = "Waybill-Sequence";
/// The event's place in its message, from 0; of several events each place, separated by commas. Absent where the letter is the whole
/// message.
pub const INDEX: &str = "Waybill-Index";
/// How often it was delivered, over all its lives.
pub const DELIVERIES: &str = "Waybill-Deliveries";
/// How often an operator sent it back.
pub const REDRIVES: &str = "Waybill-Redrives";
/// The bytes it had, where only its beginning is kept.
pub const TRUNCATED: &str = "Waybill-Truncated";
/// What begins the headers of a message that the broker did not take, before each one's own name: it goes back with them.
pub const HEADER: &str = "Waybill-Header-";

/// The stream of dead letters.
pub const DEAD_LETTERS: &str = "DEAD_LETTERS";

/// The same as it is made. Every reader may write to it.
pub const DEAD_LETTERS_STREAM: Stream = Stream {
    name: DEAD_LETTERS,
    subjects: &["dead.>"],
    description: "Events that could not be handled, as they were",
    producer: "",
};

/// What dead letters of an outbox name as their stream: they reached none. The consumer they name is the service.
pub const OUTBOX: &str = "OUTBOX";
