//! How many histories a second can be read and replayed: `cargo run --release -p waybill-saga --example replay_speed [histories] [threads]`.
//!
//! It writes an export of orders of three lines in memory, the way `waybill saga export` does, and gates it the way `waybill saga replay
//! --all` does, without the file: parse a line, decide every entry again, compare.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use events::product::{Line, PricedLine};
use events::{Currency, Money, OrderId, ProductId, Quantity, Reason, ReasonCode, Tags, UserId, product, user};
use order::saga::{Order, Reply, Step};
use saga::{Entry, Input, Recording, State, Transcript, apply};
use uuid::Uuid;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let histories: usize = arguments.next().unwrap_or(200_000);
    let threads: usize = arguments.next().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));

    let lines: Vec<String> = (0..histories).map(|number| export(number as u128)).collect();
    let bytes: usize = lines.iter().map(String::len).sum();
    println!("{histories} histories, {:.0} MB, {} bytes each", bytes as f64 / 1e6, bytes / histories.max(1));

    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            // Small pieces from one counter, so that a slower core does not keep the others waiting.
            scope.spawn(|| {
                while let Some(piece) = lines.chunks(256).nth(next.fetch_add(1, Relaxed)) {
                    piece.iter().for_each(|line| gate(line));
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let rate = histories as f64 / seconds;
    println!("{seconds:.2} s on {threads} threads: {rate:.0} histories/s, {:.0} a thread", rate / threads as f64);
    println!("{:.0} MB/s a thread", bytes as f64 / 1e6 / seconds / threads as f64);
}

fn gate(line: &str) {
    let waybill = Transcript::<Order>::read(line).expect("it was written just now");
    assert_eq!(waybill.divergence(), None);
}

/// Of sixteen orders fourteen are confirmed in three entries, one is refused, and one is cancelled after a lost message.
fn export(number: u128) -> String {
    let id = |kind: u128| Uuid::from_u128((0x0190_0000_0000_7000_8000 + kind) << 48 | number);
    let (order_id, user_id) = (OrderId(id(1)), UserId(id(2)));
    let products = [3, 4, 5].map(|kind| ProductId(id(kind)));
    let items = products.map(|product_id| Line { product_id, quantity: Quantity::new(2).expect("in range") }).to_vec();
    let prices = products.map(|product_id| PricedLine { product_id, unit_price: Money::new(1_999, Currency::USD) }).to_vec();
    let order = Order { id: order_id, user_id, items, reference: None, tags: Tags::default() };

    let validated = Input::Reply(Reply::User(user::Validated { order_id, user_id }.into()));
    let reserved = Input::Reply(Reply::Product(product::Reserved { order_id, items: prices }.into()));
    let short = Reason::new(ReasonCode::InsufficientStock, "there is not enough stock");
    let inputs = match number % 16 {
        0 => vec![Input::Start, validated, Input::Reply(Reply::Product(product::Refused { order_id, reason: short }.into()))],
        1 => {
            let released = Input::Reply(Reply::Product(product::Released { order_id }.into()));
            vec![Input::Start, validated, Input::Due(Step::ReserveStock), reserved, Input::Cancel, released]
        }
        _ => vec![Input::Start, validated, reserved],
    };
    Transcript { entries: entries(&order, inputs), plan: order }.write().expect("plain data")
}

fn entries(order: &Order, inputs: Vec<Input<Order>>) -> Vec<Entry<Order>> {
    let began: DateTime<Utc> = "2026-01-02T03:04:05.123456Z".parse().expect("a time");
    let mut state = State::new();
    let entry = |(sequence, input): (u32, Input<Order>)| {
        let time = began + TimeDelta::milliseconds(i64::from(sequence) * 3);
        apply(order, &mut state, sequence, input, Recording::at(time)).entry.expect("each moves it")
    };
    (0..).zip(inputs).map(entry).collect()
}
