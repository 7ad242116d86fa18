//! The operator's commands, as processes, on the running system: `waybill saga`, `dead-letter` and `events`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use events::OrderId;
use serde_json::{Value, json};
use testkit::{Service, System, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use uuid::Uuid;

/// The `waybill` built beside this test.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("a test is a file");
    let path = own.ancestors().nth(2).expect("target/<profile>/deps").join("waybill");
    assert!(path.exists(), "{} is missing: cargo build -p waybill-cli", path.display());
    path
}

/// What a command said: exit status, stdout, stderr.
pub struct Said(pub i32, pub String, pub String);

impl Said {
    #[track_caller]
    pub fn expect(self, code: i32) -> String {
        assert_eq!(self.0, code, "{}{}", self.1, self.2);
        self.1
    }

    #[track_caller]
    pub fn json(self, code: i32) -> Value {
        let stdout = self.expect(code);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }
}

pub async fn waybill(system: &System, args: &[&str]) -> Said {
    piped(system, args, "").await
}

/// The command with the addresses of the system, as a terminal would start it.
pub fn command(system: &System, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).kill_on_drop(true);
    command
        .env("WAYBILL_ORDER_URL", system.client(Service::Order).base)
        .env("WAYBILL_PRODUCT_URL", system.client(Service::Product).base)
        .env("WAYBILL_GATEWAY", system.client(Service::Gateway).base)
        .env("ORDER_DATABASE_URL", system.settings().order.database_url.expose())
        .env("PRODUCT_DATABASE_URL", system.settings().product.database_url.expose())
        .env("NATS_URL", system.stack.nats.url())
        .env("USER", "ann");
    command
}

async fn piped(system: &System, args: &[&str], input: &str) -> Said {
    let mut command = command(system, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let fed = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.expect("it ends").expect("it runs");
    let _ = fed.await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Said(output.status.code().expect("an exit status"), text(output.stdout), text(output.stderr))
}

/// A confirmed and a rejected order.
pub async fn two(system: &System) -> [OrderId; 2] {
    let (user, product) = (system.create_user(true).await, system.create_product(3, 1999).await);
    let confirmed = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(confirmed).await["status"], "confirmed");
    let rejected = system.submit(user, &[(product, 2)]).await;
    assert_eq!(system.wait_final(rejected).await["status"], "rejected");
    [confirmed, rejected]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orders_story_is_shown_and_replayed_from_every_source() {
    let system = System::new().await;
    let [confirmed, rejected] = two(&system).await.map(|order| order.to_string());

    let story = waybill(&system, &["saga", "show", &rejected]).await.expect(0);
    for part in ["the order was placed", "product service: refused, insufficient_stock", "REJECTED", "2 asked for, 1 available"] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let followed = waybill(&system, &["saga", "show", &rejected, "--follow", "-o", "jsonl"]).await.expect(0);
    assert_eq!(followed.lines().count(), 3, "{followed}");

    let export = waybill(&system, &["saga", "export", "--all"]).await.expect(0);
    assert_eq!(export.lines().count(), 2);
    assert_eq!(
        waybill(&system, &["saga", "export", &confirmed]).await.expect(0),
        format!("{}\n", export.lines().next().unwrap())
    );

    let replay = ["saga", "replay", &rejected, "-o", "json"];
    let served = waybill(&system, &replay).await.json(0);
    assert_eq!((served["entries"].as_array().unwrap().len(), &served["divergence"]), (3, &Value::Null));
    let told = waybill(&system, &[&replay[..], &["--from", "nats"]].concat()).await.json(0);
    assert_eq!(told, served, "the broker alone tells the same");
    let kept = piped(&system, &[&replay[..], &["--from", "-"]].concat(), &export).await.json(0);
    assert_eq!(kept, served, "and so does an exported file");

    let all = waybill(&system, &["saga", "replay", "--all", "-o", "json"]).await.json(0);
    assert_eq!((&all["histories"], &all["outcomes"]), (&json!(2), &json!({"confirmed": 1, "rejected": 1})));
    let some =
        waybill(&system, &["saga", "replay", "--all", "--status", "rejected", "--since", "1h", "-o", "json"]).await.json(0);
    assert_eq!(some["histories"], 1);
    waybill(&system, &["saga", "show", &Uuid::now_v7().to_string()]).await.expect(1);

    // Nothing that was read or replayed has moved anything.
    assert_eq!(system.said("ORDER_EVENTS").await.len(), 4);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_saga_is_found_followed_and_put_right_by_hand() {
    let system = System::builder().order(|order| order.sagas.timing.stuck_after = Duration::from_millis(300)).start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(3, 1999).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 1)]).await;
    let id = order.to_string();
    system.wait_entries(order, 2).await;
    let stuck = eventually(Duration::from_secs(10), || async {
        let list = waybill(&system, &["saga", "list", "--stuck", "--step", "reserve_stock", "-o", "json"]).await.json(0);
        if list["items"][0]["order_id"] == id { Ok(list["items"][0].clone()) } else { Err(list) }
    })
    .await;
    assert!(stuck["cause"].as_str().unwrap().contains("waiting for the product service"), "{stuck}");
    assert!(waybill(&system, &["saga", "list", "--user", &Uuid::now_v7().to_string(), "-o", "jsonl"]).await.expect(0).is_empty());

    let folded = waybill(&system, &["saga", "replay", &id, "--from", "nats", "-o", "json"]).await.json(0);
    assert_eq!(folded["entries"].as_array().unwrap().len(), 2);
    assert!(folded["gaps"][0].as_str().unwrap().contains("still open"), "{folded}");

    let hand =
        |word: &'static str| ["saga", word, &id, "--reason", "the shelf is gone", "--yes", "-o", "json"].map(str::to_owned);
    let act = async |word| waybill(&system, &hand(word).each_ref().map(String::as_str)).await;
    assert_eq!(act("retry").await.json(0)["waiting"][0]["attempts"], 2);
    act("skip").await.expect(1);
    let back = act("compensate").await.json(0);
    assert_eq!((&back["waiting"][0]["direction"], &back["status"]), (&json!("undo"), &json!("pending")));
    let follow = ["saga", "show", &id, "--follow"];
    let (followed, skipped) = tokio::join!(waybill(&system, &follow), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        act("skip").await
    });
    assert_eq!(skipped.json(0)["status"], "rejected");
    let story = followed.expect(0);
    for part in
        ["operator ann: retry (\"the shelf is gone\")", "operator ann: skip reserve_stock", "given up, to be put right by hand"]
    {
        assert!(story.contains(part), "{part}: {story}");
    }
    let refused = act("retry").await;
    assert!(refused.0 == 1 && refused.2.contains("nothing to ask again"), "{}", refused.2);
    assert!(waybill(&system, &["saga", "replay", "--all"]).await.expect(0).contains("no divergence"));
    // The reservation, if it ever comes, is given back: nothing is left behind.
    system.start(Service::Product).await;
    eventually(Duration::from_secs(20), || async {
        let stock = system.stock(product).await;
        if stock == (3, 0) { Ok(()) } else { Err(stock) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upgrade_check_is_a_gate() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(3, 1999).await);
    assert!(waybill(&system, &["saga", "upgrade-check"]).await.expect(0).contains("there is no saga to continue"));
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(order, 2).await;
    let report = waybill(&system, &["saga", "upgrade-check", "-o", "json"]).await.json(0);
    assert_eq!((&report["sagas"], &report["safe"]), (&json!(1), &json!(1)));
    // As if the build that began the saga had meant something else by its plan.
    sqlx::query("update plans set fingerprint = '00000000000000ff'").execute(&system.order_db).await.expect("changed");
    let report = waybill(&system, &["saga", "upgrade-check", "-o", "json"]).await.json(1);
    let first = &report["unsafe"]["first"][0];
    assert_eq!(first["order_id"], order.to_string());
    assert!(first["obstacle"].as_str().unwrap().contains("was changed after it began"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_redriven_with_its_counts_and_dropped() {
    let system = System::new().await;
    let [confirmed, _] = two(&system).await.map(|order| order.to_string());
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/waybill/product", "type": "waybill.product.reserved.v9",
        "time": "2026-01-02T03:04:05Z", "subject": confirmed, "data": {"order_id": confirmed},
    });
    system.say("replies.product", &[event.clone(), event.clone()]).await;
    system.say("replies.product", &[json!(7), event]).await;
    system.jetstream().publish("replies.user", "garbage".into()).await.expect("sent").await.expect("stored");
    let list = async |args: &[&str]| {
        let mut items = waybill(&system, &[&["dead-letter", "list", "-o", "json"], args].concat()).await.json(0);
        serde_json::from_value::<Vec<Value>>(items["items"].take()).unwrap()
    };
    let letters = eventually(Duration::from_secs(10), || async {
        let letters = list(&[]).await;
        if letters.len() == 3 { Ok(letters) } else { Err(letters) } // one a message
    })
    .await;
    assert_eq!(list(&["--stream", "USER_REPLIES"]).await.len(), 1);
    assert_eq!(list(&["--reason", "NOT KNOWN"]).await.len(), 1);
    assert_eq!(list(&["--older-than", "1h"]).await.len(), 0);
    assert_eq!(list(&["--limit", "1"]).await.len(), 1);

    // Two bad events of one message share a letter, and go back together.
    let both = letters.iter().find(|letter| letter["order_id"] == json!(confirmed)).expect("the first message");
    assert_eq!((&both["indices"], &both["index"]), (&json!([0, 1]), &Value::Null));
    let sequence = both["sequence"].to_string();
    let shown = waybill(&system, &["dead-letter", "show", &sequence]).await.expect(0);
    assert!(
        shown.contains("events 1 and 2 of its message") && shown.contains("\"type\": \"waybill.product.reserved.v9\""),
        "{shown}"
    );

    waybill(&system, &["dead-letter", "redrive", &sequence]).await.expect(2);
    let report = waybill(&system, &["dead-letter", "redrive", &sequence, "--yes", "-o", "json"]).await.json(0);
    assert_eq!(report, json!({"done": 1, "gone": 0, "refused": []}));
    let back = eventually(Duration::from_secs(10), || async {
        let letters = list(&[]).await;
        letters.iter().find(|letter| letter["redrives"] == 1).cloned().ok_or(letters)
    })
    .await;
    assert_eq!((&back["deliveries"], &back["indices"], &back["order_id"]), (&json!(2), &json!([0, 1]), &json!(confirmed)));
    assert_eq!(list(&[]).await.len(), 3, "it came back, and its first life is gone");
    waybill(&system, &["dead-letter", "show", &sequence]).await.expect(1);

    waybill(&system, &["dead-letter", "redrive", "--all", "--stream", "USER_REPLIES", "--yes"]).await.expect(0);
    let whole = eventually(Duration::from_secs(10), || async {
        let letters = list(&["--stream", "USER_REPLIES"]).await;
        letters.iter().find(|letter| letter["redrives"] == 1).cloned().ok_or(letters)
    })
    .await;
    assert_eq!(whole["index"], Value::Null, "as it was, not wrapped");
    waybill(&system, &["dead-letter", "drop", "--all", "--yes"]).await.expect(0);
    assert_eq!(list(&[]).await.len(), 0);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_poison_stops_no_order_and_fills_no_memory() {
    const FLOOD: usize = 10_000;
    // A process of its own, whose memory is its own: the flood is four times what it may ever take.
    let system = System::builder().without(Service::Order).start().await;
    system.spawn_binary(Service::Order).await;
    let poison = bytes::Bytes::from(vec![b'x'; 40 * 1024]);
    let (user, product) = (system.create_user(true).await, system.create_product(100, 1999).await);
    let publishes = (0..FLOOD).map(|_| system.nats().publish("replies.product", poison.clone()));
    for publish in publishes {
        publish.await.expect("sent");
    }
    system.nats().flush().await.expect("sent");
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");
    // The order's own reply came behind it. A broker that is hard pressed drops some of what nobody waits to hear it has stored.
    let mut replies = system.jetstream().get_stream("PRODUCT_REPLIES").await.expect("there");
    let stored = replies.info().await.expect("there").state.last_sequence;
    assert!(stored > FLOOD as u64 / 2, "only {stored} stored");
    system.handled(events::streams::PRODUCT_REPLIES_CONSUMER, stored).await;
    let mut stream = system.jetstream().get_stream("DEAD_LETTERS").await.expect("there");
    let letters = stream.info().await.expect("there").state.messages;
    assert!((50..FLOOD as u64 / 4).contains(&letters), "{letters} letters: some, and far from all");
    let pid = system.instance(Service::Order).pid().expect("a process");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    eprintln!("peak of the order service: {peak:?} KiB");
    assert!(peak.expect("a peak") < 100 * 1024, "{peak:?} KiB");
    let report =
        waybill(&system, &["dead-letter", "drop", "--all", "--reason", "not a batch", "--yes", "-o", "json"]).await.json(0);
    assert_eq!(report["done"], letters);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_from_the_past_and_live() {
    let system = System::new().await;
    let [confirmed, rejected] = two(&system).await.map(|order| order.to_string());
    let told = waybill(&system, &["events", "tail", "--since", "1h", "--limit", "4"]).await.expect(0);
    assert_eq!((told.matches(&confirmed).count(), told.matches(&rejected).count()), (2, 2), "{told}");
    let one = waybill(&system, &["events", "tail", &rejected, "--since", "1h", "--limit", "2", "-o", "jsonl"]).await.expect(0);
    let kinds: Vec<Value> = one.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone()).collect();
    assert_eq!(kinds, ["waybill.order.placed.v1", "waybill.order.rejected.v1"]);
    let saga = waybill(&system, &["saga", "tail", &rejected, "--since", "1h", "--limit", "2"]).await.expect(0);
    let words: Vec<&str> = saga.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(words, ["placed", "rejected"], "{saga}");
    assert!(saga.contains("1 line, insufficient_stock: "), "{saga}");
    let (live, _) = tokio::join!(waybill(&system, &["events", "tail", "--all-contexts", "--limit", "1"]), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        system.create_user(true).await
    });
    assert!(live.expect(0).contains("user     created"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_held_for_an_order_nobody_placed_is_found_and_given_back_with_a_name_and_a_reason() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_status(order, "confirmed").await;
    let nobodys = uuid::Uuid::now_v7().to_string();
    let reserve = json!({
        "specversion": "1.0", "id": "1", "source": "/waybill/order", "type": "waybill.product.reserve.v1", "attempt": 1,
        "time": "2026-01-02T03:04:05Z", "subject": nobodys,
        "data": { "order_id": nobodys, "items": [{ "product_id": product, "quantity": 3 }] },
    });
    let sequence = system.say("commands.product.reserve", &[reserve]).await;
    system.handled(events::streams::PRODUCT_COMMANDS_CONSUMER, sequence).await;
    assert_eq!(system.stock(product).await, (6, 4));

    let found = waybill(&system, &["audit"]).await.expect(1);
    let command = format!("waybill product release {nobodys} --reason TEXT");
    assert!(found.contains(&format!("{nobodys}: stock is held for an order that does not exist")), "{found}");
    assert!(found.contains(&command), "{found}");

    // An order's own stock its saga gives back, and what a customer reserved the customer does.
    let release = async |id: &str, status| {
        waybill(&system, &["product", "release", id, "--reason", "a restored backup", "--yes", "-o", "json"]).await.expect(status)
    };
    release(&order.to_string(), 1).await;
    let client = system.client(Service::Product);
    let direct = json!({ "product_id": product, "quantity": 1 });
    let direct =
        client.post("/products/reserve", &direct).await.expect(200)["reservation_id"].as_str().expect("an id").to_owned();
    let body = json!({ "by": "ann", "reason": "a restored backup" });
    client.post(&format!("/reservations/{direct}/release"), &body).await.problem(409, "operator-refused");
    let unknown = uuid::Uuid::now_v7();
    client.post(&format!("/reservations/{unknown}/release"), &body).await.problem(404, "not-found");
    let unsigned = json!({ "by": "", "reason": "" });
    assert_eq!(client.post(&format!("/reservations/{nobodys}/release"), &unsigned).await.invalid(), ["/by", "/reason"]);
    let gateway = system.client(Service::Gateway);
    gateway.post(&format!("/reservations/{nobodys}/release"), &body).await.problem(404, "not-found");
    assert_eq!(system.stock(product).await, (5, 5), "nothing was given back");

    let released: Value = serde_json::from_str(&release(&nobodys, 0).await).expect("JSON");
    assert_eq!(released, json!({ "reservation_id": nobodys, "status": "released" }));
    assert_eq!(system.stock(product).await, (8, 2));
    let kept: Vec<(String, String, String)> = sqlx::query_as(
        "select reservation_id::text, released_by, reason from given_back where at between now() - interval '1 minute' and now()",
    )
    .fetch_all(&system.product_db)
    .await
    .expect("the record");
    assert_eq!(kept, [(nobodys.clone(), "ann".to_owned(), "a restored backup".to_owned())]);
    release(&nobodys, 1).await;
    waybill(&system, &["audit"]).await.expect(0);

    // The same where a saga ended although its compensation was given up.
    let given_up = order.to_string();
    system.stop(Service::Product).await;
    system.cancel(order).await.expect(202);
    release_refused(&system, &given_up, "its saga gives back what it holds").await;
    let skip = ["saga", "skip", &given_up, "--reason", "the shelf is gone", "--yes", "-o", "json"];
    assert_eq!(waybill(&system, &skip).await.json(0)["status"], "cancelled");
    system.jetstream().get_stream("PRODUCT_COMMANDS").await.expect("a stream").purge().await.expect("purged");
    system.start(Service::Product).await;
    let command = format!("waybill product release {given_up} --reason TEXT");
    for look in [&["audit"][..], &["saga", "show", &given_up]] {
        let Said(_, stdout, stderr) = waybill(&system, look).await;
        assert!(stdout.contains(&command), "{look:?}: {stdout}{stderr}");
    }
    assert_eq!(system.stock(product).await, (8, 2), "nothing was given back by itself");
    release(&given_up, 0).await;
    assert_eq!(system.stock(product).await, (9, 1));
    let signed: i64 = sqlx::query_scalar("select count(*) from given_back where reservation_id = $1 and released_by = 'ann'")
        .bind(order.0)
        .fetch_one(&system.product_db)
        .await
        .expect("the record");
    assert_eq!(signed, 1);
    system.audit().await;
}

async fn release_refused(system: &System, id: &str, why: &str) {
    let Said(status, _, stderr) = waybill(system, &["product", "release", id, "--reason", "a look", "--yes"]).await;
    assert!(status == 1 && stderr.contains(why), "{status}: {stderr}");
}
