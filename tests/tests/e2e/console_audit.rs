//! What operators do outside of any saga is kept with who, when, why and what came of it, beside what they do to sagas: by every way they have.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Issuer, Service, System, eventually};
use uuid::Uuid;

use crate::cli_saga::{command, waybill};
use crate::console::{Console, hidden};

/// What operators did, newest first, as a command tells it.
async fn actions(system: &System) -> Vec<Value> {
    let lines = waybill(system, &["saga", "actions", "--all", "-o", "jsonl"]).await.expect(0);
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn garbage(system: &System, letters: u64) {
    for _ in 0..letters {
        system.jetstream().publish("replies.user", "garbage".into()).await.expect("sent").await.expect("stored");
    }
    eventually(Duration::from_secs(20), || async {
        let mut stream = system.jetstream().get_stream("DEAD_LETTERS").await.expect("there");
        let last = stream.info().await.expect("there").state.last_sequence;
        if last >= letters { Ok(()) } else { Err(last) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_dead_letters_stock_and_events_is_kept_with_who_why_and_what_came_of_it() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    garbage(&system, 4).await;
    let said = ["dead-letter", "drop", "1", "--yes", "--why", "it is <garbage>", "--by", "ben"];
    waybill(&system, &said).await.expect(0);
    waybill(&system, &["dead-letter", "redrive", "2", "--yes"]).await.expect(0);
    let letter = console.page("/dead-letters/3").await;
    console.send("/dead-letters/3/drop", &letter, &[("why", "nobody reads it")]).await;
    let without = console.send_and_read("/dead-letters/4/drop", &letter, &[]).await;
    assert!(without.contains("Nothing was done"), "{without}");
    let all = console.page("/dead-letters/all/drop").await;
    let job = console
        .send("/dead-letters/all/drop", &all, &[("rate", "100"), ("why", "all of it"), ("last", &hidden(&all, "last"))])
        .await;
    eventually(Duration::from_secs(20), || async {
        let page = console.page(&job).await;
        if page.contains("pill done") && page.contains("all of it") { Ok(()) } else { Err(page) }
    })
    .await;
    let reservation = Uuid::now_v7();
    let release = ["product", "release", &reservation.to_string(), "--reason", "INC-1", "--yes"];
    waybill(&system, &release).await;
    waybill(&system, &["events", "rebuild", "--by", "eve", "--yes"]).await.expect(0);

    // One that moved a saga, among them.
    let (user, product) = (system.create_user(true).await, system.create_product(3, 1999).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(order, 2).await;
    waybill(&system, &["saga", "retry", &order.to_string(), "--reason", "is it there?", "--yes"]).await.expect(0);

    let done = eventually(Duration::from_secs(20), || async {
        let done = actions(&system).await;
        if done.len() == 7 && done.iter().all(|action| action["outcome"] != Value::Null || action["sequence"].is_u64()) {
            Ok(done)
        } else {
            Err(done)
        }
    })
    .await;
    let told = |action: &Value| {
        let text = |name: &str| action[name].as_str().unwrap_or_default().to_owned();
        [text("by"), text("action"), text("about"), text("reason"), text("outcome")]
    };
    let told: Vec<[String; 5]> = done.iter().map(told).collect();
    let own = |parts: [&str; 5]| parts.map(str::to_owned);
    assert_eq!(told[0], own(["ann", "retry", "", "is it there?", ""]));
    assert_eq!(done[0]["order_id"], json!(order));
    assert_eq!((&*told[1][0], &*told[1][1], &*told[1][2]), ("eve", "rebuild", "all events"), "{told:#?}");
    assert!(told[1][4].ends_with("published again"), "{told:#?}");
    assert_eq!(told[2][..4], own(["ann", "release", &format!("what the reservation {reservation} holds"), "INC-1", ""])[..4]);
    assert!(!told[2][4].is_empty());
    assert_eq!((&*told[3][1], &*told[3][3]), ("drop", "all of it"), "{told:#?}");
    assert!(told[3][4].contains(" done, 0 left"), "{told:#?}");
    assert_eq!(told[4], own(["ann", "drop", "dead letter 3 of USER_REPLIES to order", "nobody reads it", "deleted"]));
    assert_eq!(told[5], own(["ann", "redrive", "dead letter 2 of USER_REPLIES to order", "", "1 sent back, 0 left"]));
    assert_eq!(told[6], own(["ben", "drop", "dead letter 1 of USER_REPLIES to order", "it is <garbage>", "1 deleted, 0 left"]));
    let page = console.page("/audit").await;
    for part in ["dead letter 1 of USER_REPLIES to order", "it is &#60;garbage&#62;", "published again", "is it there?"] {
        assert!(page.contains(part), "`{part}` is not in {page}");
    }

    // Page after page, each once, wherever it is kept.
    let client = system.client(Service::Order);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/actions?limit=2&cursor={cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().expect("items").clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = next.to_owned();
    }
    assert_eq!(seen, done);
    let of_sagas = client.get("/sagas/actions").await.expect(200);
    assert_eq!(of_sagas["items"], json!(done[..1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_cannot_be_written_down_who_acts_nothing_is_done() {
    let issuer = Issuer::new();
    let system = System::builder().believing(&issuer).start().await;
    garbage(&system, 1).await;
    let (code, _, why) = {
        let said = waybill(&system, &["dead-letter", "drop", "1", "--yes"]).await;
        (said.0, said.1, said.2)
    };
    assert!(code == 1 && why.contains("nothing was done"), "{why}");
    waybill(&system, &["dead-letter", "show", "1"]).await.expect(0);
    // By a token it is, in the name that the token says and no other.
    let drop = async |more: &[&str]| {
        let mut command = command(&system, &[&["dead-letter", "drop", "1", "--yes"], more].concat());
        command.env("WAYBILL_TOKEN", issuer.token("olga", &["operator"])).output().await.expect("it runs")
    };
    assert_eq!(drop(&["--by", "somebody"]).await.status.code(), Some(1));
    assert_eq!(drop(&[]).await.status.code(), Some(0));
    let operator = system.client(Service::Order).bearing(issuer.token("olga", &["operator"]));
    let actions = operator.get("/actions").await.expect(200);
    let [action] = &actions["items"].as_array().expect("items")[..] else { panic!("{actions:#}") };
    assert_eq!((&action["by"], &action["outcome"]), (&json!("olga"), &json!("1 deleted, 0 left")));

    // Nobody else says what came of it, and nobody says it twice.
    let id = action["id"].as_str().expect("an id").to_owned();
    let other = system.client(Service::Order).bearing(issuer.token("paul", &["operator"]));
    let path = format!("/actions/{id}/outcome");
    other.post(&path, &json!({ "outcome": "nothing" })).await.problem(404, "not-found");
    operator.post(&path, &json!({ "outcome": "nothing" })).await.expect(200);
    assert_eq!(operator.get("/actions").await.expect(200), actions);
}
