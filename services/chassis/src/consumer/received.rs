//! A message as a consumer receives it: its events read, and what of it cannot be read.

use async_nats::jetstream::Message as Delivery;
use bytes::Bytes;
use envelope::{BATCH_MAX_EVENTS, split_batch};

use super::failures::Failures;
use super::source::Source;
use crate::causes::causes;
use crate::dead_letter::{BadEvent, DeadLetter, Kind, Origin};
use crate::failure::Failure;

/// Events of a message that are read before it is taken as bad as a whole, where not one of them is good. Nobody of ours sends such a message,
/// and everybody waits while it is read.
const READ_AT_LEAST: usize = 16;

/// A delivered message.
pub(crate) struct Received<T> {
    pub delivery: Delivery,
    pub origin: Origin,
    /// Its good events, each with its place in the message.
    pub events: Vec<(usize, T)>,
    /// What is bad about it.
    pub letter: Option<DeadLetter>,
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its events are handled, set aside, or part of its dead letter.
    Done,
    /// It is to come again.
    Again,
}

impl<T> Received<T> {
    /// Reads a message's events. Those that cannot be read spoil none of the others.
    pub(super) fn read(source: &Source<T>, delivery: Delivery) -> anyhow::Result<Self> {
        let info = delivery.info().map_err(anyhow::Error::from_boxed)?;
        let origin = Origin::of(source.consumer, &delivery.subject, &info, delivery.headers.as_ref());
        let mut received = Self { delivery, origin, events: Vec::new(), letter: None };
        let payload = received.delivery.payload.clone();
        match split_batch(&payload) {
            // Nobody of ours sends so many: it is not worth reading each to say what is wrong with it.
            Ok(batch) if batch.len() > BATCH_MAX_EVENTS => {
                let reason = format!("not a batch: it has {} events, and may have {BATCH_MAX_EVENTS}", batch.len());
                received.letter = Some(DeadLetter::whole(payload, reason));
            }
            Ok(batch) => {
                let count = batch.len();
                for (index, json) in batch.into_iter().enumerate() {
                    if index == READ_AT_LEAST && received.events.is_empty() {
                        received.letter = received.letter.map(|letter| letter.of_all(payload, count));
                        break;
                    }
                    match (source.read)(json) {
                        Ok(event) => received.events.push((index, event)),
                        Err(error) => {
                            let payload = payload.slice_ref(json.get().as_bytes());
                            received.bad(Kind::Unreadable, BadEvent { index, payload }, || error.to_string());
                        }
                    }
                }
            }
            Err(error) => received.letter = Some(DeadLetter::whole(payload, format!("not a batch: {error}"))),
        }
        Ok(received)
    }

    fn bad(&mut self, kind: Kind, event: BadEvent, reason: impl FnOnce() -> String) {
        match &mut self.letter {
            Some(letter) => letter.add(event),
            None => self.letter = Some(DeadLetter::event(kind, event, reason())),
        }
    }

    /// Judges a message by what became of its events, in their order. An event that fails for good joins the message's dead letter; the
    /// indices of those that are held up are returned.
    pub(super) fn judge<A>(&mut self, results: Vec<Result<A, Failure>>, failures: &mut Failures) -> (Verdict, Vec<usize>) {
        let (mut failed, mut busy) = (Vec::new(), Vec::new());
        let message = self.origin.message();
        let is_last = failures.is_last(message);
        for (place, result) in results.into_iter().enumerate() {
            let index = self.events[place].0;
            match result {
                Ok(_) => {}
                Err(Failure::Busy(_)) => busy.push(place),
                Err(Failure::Item(error) | Failure::Conflict(error)) if is_last => failed.push((index, error)),
                Err(failure) => {
                    if !matches!(failure, Failure::Outage(_)) {
                        failures.add(message);
                    }
                    tracing::warn!(message = %self.origin, index, error = causes(failure.error()), "failed; trying again");
                    return (Verdict::Again, Vec::new());
                }
            }
        }
        failures.forget(message);
        for (index, error) in failed {
            let payload = part(&self.delivery.payload, index);
            self.bad(Kind::Failed, BadEvent { index, payload }, || format!("the handler failed: {}", causes(&error)));
        }
        (Verdict::Done, busy)
    }
}

/// One event of a batch, as it came.
fn part(payload: &Bytes, index: usize) -> Bytes {
    let parts = split_batch(payload).unwrap_or_default();
    parts.get(index).map_or_else(|| payload.clone(), |part| payload.slice_ref(part.get().as_bytes()))
}
