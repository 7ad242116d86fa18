//! A row's messages on the wire: their order, and their ids.

use std::borrow::Borrow;

use uuid::Uuid;

use crate::packet::Packet;

/// The id of a message: the same whoever publishes it, and however often.
pub(super) fn message_id(row: Uuid, index: usize) -> String {
    format!("{row}-{index}")
}

/// A row's messages as they are put on the wire, each with its place in the row: events for everyone before the batches that let others
/// answer. So nobody's answer can lead to an event that overtakes one of these.
pub(super) fn in_wire_order<I: IntoIterator<Item: Borrow<Packet>>>(
    packets: I,
    pending: Option<&[i32]>,
) -> impl Iterator<Item = (usize, I::Item)> + use<I> {
    let is_pending = |index: usize| pending.is_none_or(|pending| pending.contains(&(index as i32)));
    let (batches, events): (Vec<_>, Vec<_>) = packets
        .into_iter()
        .enumerate()
        .filter(|(index, _)| is_pending(*index))
        .partition(|(_, packet)| Borrow::<Packet>::borrow(packet).is_batch());
    events.into_iter().chain(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_out_before_batches_and_keep_their_places() {
        let packet = |subject: &str, kind: &'static str| Packet {
            subject: subject.to_owned(),
            headers: vec![("Content-Type".into(), kind.to_owned())],
            payload: "".into(),
        };
        let batch = envelope::BATCH_CONTENT_TYPE;
        let packets =
            [packet("b0", batch), packet("e1", "application/json"), packet("b2", batch), packet("e3", "application/json")];
        let places = |pending: Option<&[i32]>| in_wire_order(packets.iter(), pending).map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!(places(None), [1, 3, 0, 2]);
        assert_eq!(places(Some(&[0, 3])), [3, 0]);
    }
}
