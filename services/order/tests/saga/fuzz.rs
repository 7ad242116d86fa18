//! Histories from files, databases and the broker, whatever stands in them: they replay, diverge, or are refused, and nothing else.

use order::saga::Order;
use saga::{Entry, State, Transcript};

#[test]
fn exported_lines_are_read_and_replayed() {
    fuzz::drive("saga_lines", |input| {
        let Ok(line) = std::str::from_utf8(input) else { return };
        let waybill = match Transcript::<Order>::read(line.trim_end()) {
            Ok(waybill) => waybill,
            Err(unreadable) => return drop(unreadable.to_string()),
        };
        let divergence = waybill.divergence();
        for until in [None, Some(0), Some(2), Some(u32::MAX)] {
            let _ = waybill.replay(until);
        }
        let written = waybill.write().expect("what was read can be written");
        let again = Transcript::<Order>::read(&written).expect("what was written can be read");
        assert_eq!(again, waybill);
        assert_eq!(again.divergence(), divergence, "a history says the same each time it is read");
    });
}

#[test]
fn stored_entries_and_states() {
    fuzz::drive("entries", |input| {
        if let Ok(entry) = serde_json::from_slice::<Entry<Order>>(input) {
            let written = serde_json::to_vec(&entry).expect("what was read can be written");
            assert_eq!(serde_json::from_slice::<Entry<Order>>(&written).expect("what was written can be read"), entry);
        }
        if let Ok(state) = serde_json::from_slice::<State<Order>>(input) {
            let written = serde_json::to_vec(&state).expect("what was read can be written");
            assert_eq!(serde_json::from_slice::<State<Order>>(&written).expect("what was written can be read"), state);
        }
    });
}
