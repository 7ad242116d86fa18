//! What an order's entries send, made again from its history alone.

use chassis::{Outgoing, Packet};
use events::order::{Snapshot, Waybill};
use events::product::{self, Line};
use events::{Currency, Money, OrderId, ProductId, Quantity, Tags, TraceParent, UserId, user};
use order::saga::{Order, Reply};
use saga::{Input, Recording, apply};
use saga_runtime::messages::{HEADERS, enqueue, enqueue_again};
use saga_runtime::{Layout as _, LoadedSaga, NewEntry, Record, Saga};
use uuid::Uuid;

/// Carries an order through inputs, each decided at its own time, and returns it with what each entry said.
fn carried(inputs: Vec<Input<Order>>, payload_max: usize) -> (LoadedSaga<Order>, Vec<Vec<Packet>>) {
    let line = Line { product_id: ProductId(Uuid::from_u128(3)), quantity: Quantity::try_from(2).unwrap() };
    let order = Order {
        id: OrderId(Uuid::from_u128(1)),
        user_id: UserId(Uuid::from_u128(2)),
        items: vec![line],
        reference: None,
        tags: Tags::default(),
    };
    let begun = chrono::DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
    let mut record = Record::new(order, TraceParent::from_random(7), begun, begun);
    let (mut history, mut said) = (Vec::new(), Vec::new());
    for (seconds, input) in inputs.into_iter().enumerate() {
        let now = begun + chrono::TimeDelta::seconds(seconds as i64);
        let applied = apply(&record.request, &mut record.state, record.sequence, input, Recording::at(now));
        let entry = applied.entry.expect("it moves the saga");
        record.sequence = entry.sequence;
        <Order as Saga>::Layout::project(&mut record.projection, &record.state);
        history.push(NewEntry::new(record.id(), &entry).unwrap().whole);
        let mut outgoing = Outgoing::new(Order::SOURCE, now);
        enqueue(&mut outgoing, &record, &history, &applied.effects, payload_max).unwrap();
        said.push(outgoing.into_packets());
    }
    (LoadedSaga { record, history }, said)
}

/// Placed, confirmed, cancelled.
fn inputs() -> Vec<Input<Order>> {
    let order_id = OrderId(Uuid::from_u128(1));
    let validated = user::Validated { order_id, user_id: UserId(Uuid::from_u128(2)) };
    let price = product::PricedLine {
        product_id: ProductId(Uuid::from_u128(3)),
        unit_price: Money::new(250, Currency::from_code("EUR").unwrap()),
    };
    let reserved = product::Reserved { order_id, items: vec![price] };
    vec![
        Input::Start,
        Input::Reply(Reply::User(validated.into())),
        Input::Reply(Reply::Product(reserved.into())),
        Input::Cancel,
        Input::Reply(Reply::Product(product::Released { order_id }.into())),
    ]
}

#[test]
fn what_was_sent_is_sent_again_to_the_letter() {
    // With room for each history, for the first end's alone, and for none.
    for (payload_max, claims) in [(1 << 20, 0), (6_200, 1), (5_000, 2)] {
        let (kept, said) = carried(inputs(), payload_max);
        let subjects: Vec<&str> = said.iter().flatten().map(|packet| packet.subject.as_str()).collect();
        assert!(subjects.contains(&"commands.product.release") && subjects.len() >= 7, "{subjects:?}");
        let text = |packet: &Packet| String::from_utf8(packet.payload.to_vec()).unwrap();
        let claimed = said.iter().flatten().filter(|packet| text(packet).contains("\"waybill_ref\":")).count();
        assert_eq!(claimed, claims, "{:?}", said.iter().flatten().map(|packet| packet.payload.len()).collect::<Vec<_>>());
        for (index, packets) in said.iter().enumerate() {
            let mut outgoing = None;
            enqueue_again(&mut outgoing, &kept, index + 1, payload_max).unwrap();
            assert_eq!(&outgoing.unwrap().into_packets(), packets, "entry {}", index + 1);
            assert!(packets.iter().all(|packet| packet.payload.len() + HEADERS <= payload_max));
        }
        assert!(enqueue_again(&mut None, &kept, 6, payload_max).is_err());
    }
}

#[test]
fn a_claim_check_claims_the_history_as_it_was_told() {
    let (kept, said) = carried(inputs(), 5_000);
    let confirmed = said[2].iter().find(|packet| packet.subject.starts_with("events.order.confirmed.")).unwrap();
    let snapshot: Snapshot = serde_json::from_slice(&confirmed.payload).unwrap();
    let claim = snapshot.waybill_ref.as_ref().unwrap();
    assert_eq!((claim.entries, snapshot.waybill.is_none()), (3, true));
    let json = Waybill::of(&kept.history[..3]).unwrap();
    let waybill = Order::claimed_transcript(&snapshot, claim, json.json()).unwrap();
    assert_eq!((waybill.divergence(), waybill.plan), (None, kept.record.request.clone()));
    let grown = Waybill::of(&kept.history).unwrap();
    assert!(Order::claimed_transcript(&snapshot, claim, grown.json()).is_err(), "it has grown since");
}
