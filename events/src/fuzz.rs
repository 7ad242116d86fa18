//! What comes from the broker, whatever it is: it is read, or refused, and what is read is written again as it was understood.

use serde_json::value::RawValue;

use crate::{
    CloudEvent, DecodeError, Message, OrderId, ProductId, TraceParent, TraceState, UserId, order, product, split_batch, user,
};

/// Reads an event; what could be read must survive another way through the wire.
fn round_trip<M: Message + Clone + PartialEq + std::fmt::Debug>(json: &RawValue) {
    let event = match CloudEvent::<M>::decode(json) {
        Ok(event) => event,
        Err(DecodeError::Unknown(kind)) => return assert!(!M::kinds().contains(&kind.as_str()), "{kind} is known"),
        Err(DecodeError::Malformed(error)) => return drop(error.to_string()),
    };
    let mut written = Vec::new();
    event.encode(&mut written).expect("what was read can be written");
    let written = RawValue::from_string(String::from_utf8(written).expect("JSON is text")).expect("JSON");
    let again = CloudEvent::<M>::decode(&written).expect("what was written can be read");
    assert_eq!(again, event);
}

#[test]
fn batches_of_events_of_every_vocabulary() {
    fuzz::drive("events", |input| {
        let Ok(batch) = split_batch(input) else { return };
        for json in batch {
            round_trip::<user::Command>(json);
            round_trip::<user::Reply>(json);
            round_trip::<user::Event>(json);
            round_trip::<product::Command>(json);
            round_trip::<product::Reply>(json);
            round_trip::<product::Event>(json);
            round_trip::<order::Event>(json);
        }
    });
}

#[test]
fn headers_and_words() {
    fuzz::drive("words", |input| {
        let text = String::from_utf8_lossy(input);
        if let Some(trace) = TraceParent::parse(&text) {
            assert_eq!(TraceParent::parse(trace.as_str()).as_ref(), Some(&trace));
        }
        if let Some(state) = TraceState::parse(&text) {
            assert_eq!(TraceState::parse(state.as_str()).as_ref(), Some(&state));
            assert!(state.as_str().len() <= 512, "{state:?}");
        }
        if let Ok(status) = text.parse::<order::Status>() {
            assert_eq!(status.as_str(), text);
        }
        let ids = [
            text.parse::<OrderId>().map(|id| id.0),
            text.parse::<ProductId>().map(|id| id.0),
            text.parse::<UserId>().map(|id| id.0),
        ];
        for id in ids.into_iter().flatten() {
            assert_eq!(id.to_string().parse::<OrderId>().expect("an id").0, id);
        }
        if let Ok(money) = serde_json::from_slice::<crate::Money>(input) {
            let written = serde_json::to_vec(&money).expect("JSON");
            assert_eq!(serde_json::from_slice::<crate::Money>(&written).expect("JSON"), money);
        }
    });
}
