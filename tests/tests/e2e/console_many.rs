//! The operators' pages while very many sagas are in flight: they show all of them, and answer at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Service, System, eventually};

use crate::cli_saga::waybill;
use crate::console::{Console, holds};

const MANY: i64 = 100_000;

/// The quickest of some answers to each, in milliseconds. A build without optimization on a machine at work is slow by chance, and not each time.
async fn quickest(console: &Console, paths: &[&str]) -> BTreeMap<String, u128> {
    let mut took = BTreeMap::new();
    for path in paths {
        let mut each = Vec::new();
        for _ in 0..5 {
            let asked = Instant::now();
            console.page(path).await;
            each.push(asked.elapsed().as_millis());
        }
        took.insert((*path).to_owned(), each.into_iter().min().expect("some"));
    }
    took
}

/// Copies an order with its history.
async fn copy(system: &System, order: events::OrderId, first: i64, count: i64) {
    let of = "format('01a21800-0000-7000-8000-%s', lpad(to_hex(n), 12, '0'))::uuid";
    for text in [
        format!(
            "insert into orders (id, user_id, items, status, reason, state, sequence, settled, waiting_since, due_at, traceparent, created_at) \
             select {of}, user_id, items, status, reason, state, sequence, settled, now() - interval '1 hour', now() + interval '1 day', \
                    traceparent, created_at \
             from orders, generate_series($2::bigint, $2 + $3 - 1) as n where id = $1"
        ),
        format!(
            "insert into order_history (order_id, sequence, at, entry) select {of}, sequence, at, entry \
             from order_history, generate_series($2::bigint, $2 + $3 - 1) as n where order_id = $1"
        ),
    ] {
        let statement = sqlx::query(sqlx::AssertSqlSafe(text)).bind(order.0).bind(first).bind(count);
        statement.execute(&system.order_db).await.expect("copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_shows_all_of_a_hundred_thousand_and_answers_at_once() {
    // Those that are copied are stuck, and nothing else is while this runs.
    let system = System::builder().order(|order| order.sagas.timing.stuck_after = Duration::from_secs(1_200)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(30, 1999).await);
    system.stop(Service::Product).await;
    let [forward, back, alone] = system.submit_many(3, user, &[(product, 1)]).await[..] else { panic!("three") };
    for order in [forward, back, alone] {
        system.wait_entries(order, 2).await;
    }
    let body = json!({ "by": "ann", "reason": "it is gone" });
    system.client(Service::Order).post(&format!("/sagas/{back}/compensate"), &body).await.expect(200);
    // Some that are few, and older than all others: one of a plan that nobody knows.
    copy(&system, alone, 1, 2).await;
    sqlx::query(
        "update orders set state = replace(state::text, '\"plan\":', '\"plan\":9')::json where id::text like '%000000000001'",
    )
    .execute(&system.order_db)
    .await
    .expect("changed");
    copy(&system, forward, 3, 60_000).await;
    copy(&system, back, 60_003, MANY - 60_002).await;
    sqlx::query("insert into operator_actions (id, at, by, action, about, reason, outcome) select gen_random_uuid(), now() - make_interval(secs => n), 'ann', 'drop', 'dead letter ' || n, 'garbage', '1 deleted' from generate_series(1, $1) as n")
        .bind(MANY)
        .execute(&system.order_db)
        .await
        .expect("written");
    let oldest = "update operator_actions set by = 'rosa' where at = (select min(at) from operator_actions)";
    assert_eq!(sqlx::query(oldest).execute(&system.order_db).await.expect("changed").rows_affected(), 1);
    sqlx::query("analyze").execute(&system.order_db).await.expect("analyzed");
    for n in 0..MANY {
        let mut headers = async_nats::HeaderMap::new();
        let reason = if n % 3 == 0 { "not a batch".to_owned() } else { format!("kind {}", n % 7) };
        let reason = if n == MANY - 1 { "the rarest".to_owned() } else { reason };
        headers.insert("Waybill-Reason", reason);
        system.nats().publish_with_headers("dead.USER_REPLIES.order", headers, "garbage".into()).await.expect("sent");
    }
    system.nats().flush().await.expect("sent");
    let letters = async || {
        let mut stream = system.jetstream().get_stream("DEAD_LETTERS").await.expect("there");
        stream.info().await.expect("there").state.messages
    };
    // A broker that is hard pressed drops some of what nobody waits to hear it has stored.
    assert!(letters().await > 50_000);

    let console = Console::start(&system, None).await;
    let attention = eventually(Duration::from_secs(60), || async {
        let page = console.page("/attention").await;
        if page.contains(" of 100\u{202f}003 in flight</span>") { Ok(page) } else { Err(page) }
    })
    .await;
    holds(
        &attention,
        &[
            "<b>60\u{202f}001</b> sagas of plan version 1",
            "<b>39\u{202f}998</b> sagas of plan version 1",
            "compensation failing",
            "this build does not know plan version 91",
            "An action takes all 60\u{202f}001",
            "Here are the newest 5",
        ],
    );
    let bulk =
        console.page("/bulk/retry?stuck=1&cause=waiting%20for%20the%20product%20service%20to%20reserve%20the%20stock").await;
    holds(&bulk, &["60\u{202f}001 sagas", "for example: asks again"]);
    let upgrade = console.page("/upgrade").await;
    holds(&upgrade, &["does not continue 1 of 10000", "which this build does not know", "the newest of each plan version"]);
    let all = letters().await;
    let page = eventually(Duration::from_secs(120), || async {
        let page = console.page("/dead-letters").await;
        if page.contains("They are being read") || !page.contains("the rarest") { Err(page.len()) } else { Ok(page) }
    })
    .await;
    holds(&page, &[&format!("<span class=\"quiet\">{all}</span>"), "not a batch", "kind 6"]);
    let rare = console.page("/dead-letters?stream=USER_REPLIES&consumer=order&reason=the%20rarest").await;
    holds(&rare, &[&format!("/dead-letters/{all}\"")]);
    let confirm = console.page("/dead-letters/all/drop?stream=USER_REPLIES&consumer=order&reason=the%20rarest").await;
    holds(&confirm, &["1 dead letters of USER_REPLIES to order: the rarest"]);

    let order = format!("/sagas/{forward}");
    let took = quickest(
        &console,
        &[
            "/",
            "/sagas",
            "/sagas?stuck=1",
            "/sagas?step=reserve_stock",
            "/sagas?step=validate_user",
            "/sagas?status=pending",
            "/sagas?status=cancelling",
            "/sagas?cause=going%20nowhere",
            "/sagas?stuck=1&cause=to%20release%20the%20stock",
            "/sagas?older_than=1s",
            "/sagas?created_from=1h&created_to=1s",
            "/attention",
            "/bulk/retry?stuck=1",
            "/dead-letters",
            "/dead-letters?reason=kind%202",
            "/dead-letters/all/redrive",
            "/streams",
            "/upgrade",
            "/audit",
            "/audit?by=ann&action=drop",
            "/audit?by=nobody",
            &order,
        ],
    )
    .await;
    eprintln!("with {MANY} in flight, in ms: {took:#?}");
    let slow: Vec<_> = took.iter().filter(|(_, took)| **took > 500).collect();
    assert!(slow.is_empty(), "{slow:?}");

    // A search goes past so many, and says where to go on.
    let (mut path, mut pages) = ("/actions?by=Rosa".to_owned(), 0);
    let found = loop {
        let page = system.client(Service::Order).get(&path).await.expect(200);
        let cursor = page["next_cursor"].as_str().map(str::to_owned);
        match page["items"][0]["by"].as_str() {
            Some(by) => break by.to_owned(),
            None => path = format!("/actions?by=Rosa&cursor={}", cursor.expect("where to go on")),
        }
        pages += 1;
    };
    assert_eq!(found, "rosa");
    assert!(pages > 0, "the first page would go past all of them");

    // From a terminal the same, and an action takes all that wait for the same, not only those that are shown.
    let causes: Value = waybill(&system, &["saga", "causes", "-o", "json"]).await.json(0);
    assert_eq!((&causes["stuck"], &causes["groups"][0]["direction"]), (&json!(MANY), &json!("undo")), "{causes:#}");
    let listed = waybill(&system, &["saga", "list", "--stuck", "--limit", "3"]).await;
    assert!(listed.2.contains("100000 of 100003 in flight are stuck"), "{}", listed.2);
    let fields = [
        ("stuck", "1"),
        ("cause", "waiting for the product service to reserve the stock"),
        ("reason", "it is back"),
        ("rate", "10000"),
        ("expected", "60001"),
    ];
    let job = console.send("/bulk/retry", &bulk, &fields).await;
    eventually(Duration::from_secs(60), || async {
        let page = console.page(&job).await;
        let done = page.split_once("<dt>Done</dt><dd>").and_then(|(_, rest)| rest.split('<').next()?.parse::<u64>().ok());
        if done.is_some_and(|done| done > 1_000) && page.contains("of 60001") { Ok(()) } else { Err(page) }
    })
    .await;
    console.send(&format!("{job}/stop"), &bulk, &[]).await;
}
