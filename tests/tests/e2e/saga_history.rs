//! How histories stay short: what waits for long, what is asked often, and what is read by pages.

use std::time::Duration;

use events::OrderId;
use serde_json::{Value, json};
use testkit::{Answer, Service, System, eventually};

use testkit::messages::decisions;

const SOON: Duration = Duration::from_secs(20);

/// A saga as operators see it.
async fn saga(system: &System, order: OrderId) -> Value {
    system.client(Service::Order).get(&format!("/sagas/{order}")).await.expect(200)
}

/// Waits until the unanswered command of an order was sent so often.
async fn attempts(system: &System, order: OrderId, at_least: u64) -> u64 {
    eventually(SOON, || async {
        let saga = saga(system, order).await;
        let attempts = saga["waiting"][0]["attempts"].as_u64().unwrap_or_default();
        if attempts >= at_least { Ok(attempts) } else { Err(saga) }
    })
    .await
}

async fn retry(system: &System, order: OrderId, reason: &str) -> Answer {
    let body = json!({ "by": "ann", "reason": reason });
    system.client(Service::Order).post(&format!("/sagas/{order}/retry"), &body).await
}

/// A page of a history: its entries' sequences, and where the next one begins.
async fn page(system: &System, order: OrderId, query: &str) -> (Vec<u64>, Option<String>, usize) {
    let answer = system.client(Service::Order).get(&format!("/orders/{order}/history{query}")).await;
    let page = answer.expect(200);
    let sequences = page["items"].as_array().unwrap().iter().map(|entry| entry["sequence"].as_u64().unwrap()).collect();
    let next = page["next_cursor"].as_str().map(str::to_owned);
    let link = next.as_ref().map_or(String::new(), |next| format!("cursor={next}>; rel=\"next\""));
    assert!(answer.header("link").ends_with(&link), "{answer:?}");
    (sequences, next, answer.text.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_kept_waiting_for_long_has_a_short_history() {
    let system = System::builder()
        .impatient()
        .order(|order| {
            order.sagas.timing.retry_first = Some(Duration::from_millis(5));
            order.sagas.timing.retry_max = Some(Duration::from_millis(10));
            order.sagas.timing.sweep_every = Duration::from_millis(5);
            order.sagas.timing.step_deadline = Some(Duration::from_millis(500));
        })
        .start()
        .await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    // Given up, and its release asked for, more often than a day of one repetition a minute in proportion.
    eventually(SOON, || async {
        let saga = saga(&system, order).await;
        if saga["waiting"][0]["direction"] == "undo" { Ok(()) } else { Err(saga) }
    })
    .await;
    let often = attempts(&system, order, 150).await;
    let history = system.history(order).await;
    // Placed, validated, expired; of each command the first eight attempts and every doubling.
    let most = 3 + 2 * (7 + u64::from(often.ilog2()) - 3);
    assert!((10..=most as usize).contains(&history.len()), "{} entries after {often} attempts", history.len());
    assert!(serde_json::to_string(&history).unwrap().len() < 12_000);
    assert_eq!(system.history(order).await.len() as i64, sequence(&system, order).await);

    // The product service comes back to all of them, and the order ends; its history replays with every repetition in it.
    system.start(Service::Product).await;
    let last = system.wait_final(order).await;
    assert_eq!((&last["status"], &last["reason"]["code"]), (&json!("rejected"), &json!("timed_out")), "{last:#}");
    let history = system.history(order).await;
    assert_eq!(decisions(&history), vec!["moved"; history.len()]);
    let released = history.last().unwrap();
    assert!(released["attempts"]["reserve_stock"].as_u64().unwrap() >= often, "{released:#}");
    assert_eq!(system.stock(product).await, (5, 0));
    system.audit().await;
}

async fn sequence(system: &System, order: OrderId) -> i64 {
    let sequence: i32 =
        sqlx::query_scalar("select sequence from orders where id = $1").bind(order.0).fetch_one(&system.order_db).await.unwrap();
    sequence.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_has_a_limit_beyond_which_nothing_strands() {
    let system =
        System::builder().impatient().never_giving_up().order(|order| order.sagas.limit.history_max_entries = 16).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    system.wait_entries(order, 2).await;
    let refused = eventually(SOON, || async {
        let answer = retry(&system, order, "again").await;
        if answer.status == 200 { Err(answer) } else { Ok(answer) }
    })
    .await;
    let detail = refused.problem(409, "history-full")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("WAYBILL_HISTORY_MAX_ENTRIES"), "{detail}");
    assert_eq!(system.history(order).await.len(), 16);
    // Its timers go on, unrecorded.
    let often = attempts(&system, order, 1).await;
    attempts(&system, order, often + 3).await;
    assert_eq!(system.history(order).await.len(), 16);
    retry(&system, order, "again").await.problem(409, "history-full");

    // What leads it to its end is taken and recorded.
    assert_eq!(system.cancel(order).await.expect(202)["status"], "cancelling");
    attempts(&system, order, 3).await;
    assert_eq!(system.history(order).await.len(), 17);
    system.start(Service::Product).await;
    system.wait_status(order, "cancelled").await;
    assert_eq!(system.history(order).await.len(), 18);
    assert_eq!(system.audit().await.cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_read_by_pages_bounded_in_entries_and_bytes() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    system.wait_entries(order, 2).await;
    for _ in 0..68 {
        retry(&system, order, &"x".repeat(200)).await.expect(200);
    }
    let all: Vec<u64> = (1..=70).collect();
    let (sequences, next, _) = page(&system, order, "").await;
    assert_eq!((sequences, next), (all.clone(), None), "an ordinary history is one page");

    let (mut read, mut query, mut pages) = (Vec::new(), "?limit=32".to_owned(), 0);
    loop {
        let (sequences, next, _) = page(&system, order, &query).await;
        assert!(sequences.len() <= 32);
        read.extend(sequences);
        pages += 1;
        let Some(next) = next else { break };
        query = format!("?limit=32&cursor={next}");
    }
    assert_eq!((read, pages), (all, 3));
    let client = system.client(Service::Order);
    for wrong in ["?limit=0", "?limit=201", "?cursor=x", "?cursor=01920000-0000-7000-8000-000000000003"] {
        client.get(&format!("/orders/{order}/history{wrong}")).await.problem(400, "malformed");
    }
    let nobody = uuid::Uuid::now_v7();
    client.get(&format!("/orders/{nobody}/history?limit=5")).await.problem(404, "not-found");

    // Entries of 100 kB each: a page ends where it has reached its bytes, and always makes progress.
    sqlx::query("update order_history set entry = (jsonb_set(entry::jsonb, '{note}', to_jsonb(repeat(md5(sequence::text), 3200))))::text where order_id = $1")
        .bind(order.0)
        .execute(&system.order_db)
        .await
        .unwrap();
    let (first, next, bytes) = page(&system, order, "").await;
    assert!((2..=3).contains(&first.len()) && bytes <= 256 * 1024, "{} entries, {bytes} bytes", first.len());
    let (second, _, _) = page(&system, order, &format!("?cursor={}", next.unwrap())).await;
    assert_eq!(second[0], first.len() as u64 + 1);
    // Live, and exported, it is whole all the same.
    let export = client.get("/sagas/waybills").await;
    assert_eq!(serde_json::from_str::<Value>(&export.text).unwrap()["entries"].as_array().unwrap().len(), 70);
    let waybill = client.get(&format!("/sagas/{order}/waybill")).await.expect(200);
    assert_eq!(waybill["entries"].as_array().unwrap().len(), 70);
}
