//! Sagas that this build cannot decide: of a plan it does not know, or with a state it cannot read. They hold up no other, are not asked
//! again and again, and go on when they can.

use std::time::Duration;

use events::OrderId;
use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Service, System, eventually};
use uuid::Uuid;

use crate::cli_saga::{Said, waybill};
use crate::console::{Console, holds};

const SOON: Duration = Duration::from_secs(25);

async fn attempts(system: &System, order: OrderId, at_least: u64) {
    let client = system.client(Service::Order);
    eventually(SOON, || async {
        let saga = client.get(&format!("/sagas/{order}")).await.expect(200);
        if saga["waiting"][0]["attempts"].as_u64() >= Some(at_least) { Ok(()) } else { Err(saga) }
    })
    .await;
}

/// What the order service's `/readyz` notes of its sagas, once it says this.
async fn noted(system: &System, what: &str) -> String {
    let client = system.client(Service::Order);
    eventually(SOON, || async {
        let ready = client.get("/readyz").await.expect(200);
        let note = ready["notes"]["sagas"].as_str().unwrap_or_default().to_owned();
        if note.contains(what) { Ok(note) } else { Err(note) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_was_rolled_back_says_which_sagas_it_cannot_continue_and_leaves_them_alone() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let (newer, own) = (system.submit(user, &[(product, 1)]).await, system.submit(user, &[(product, 1)]).await);
    system.wait_entries(newer, 2).await;
    system.wait_entries(own, 2).await;
    system.stop(Service::Order).await;
    let began: (Value,) =
        sqlx::query_as("select state from orders where id = $1").bind(newer.0).fetch_one(&system.order_db).await.unwrap();
    // As a newer build left it, with a step that this one has no word for.
    let state = json!({"plan": 99, "phase": "running", "steps": {"pay": {"asked": 1}}});
    let put = async |state: &Value| {
        sqlx::query("update orders set state = $2, due_at = now() where id = $1")
            .bind(newer.0)
            .bind(sqlx::types::Json(state))
            .execute(&system.order_db)
            .await
            .unwrap();
    };
    put(&state).await;
    system.start(Service::Order).await;
    let before: (i32, chrono::DateTime<chrono::Utc>) = row(&system, newer).await;

    // Its own go on meanwhile, repetition after repetition.
    attempts(&system, own, 6).await;
    assert_eq!(row(&system, newer).await, before, "it is left alone");
    assert_eq!(system.history(newer).await.len(), 2);
    assert_eq!(system.ignored("unknown_plan").await, 0, "it is not even asked");
    let note = noted(&system, "plan version 99").await;
    assert!(note.starts_with("2 in flight") && note.contains("1 of plan version 99, which this build does not know"), "{note}");
    let client = system.client(Service::Order);
    let metrics = client.get("/metrics").await.text;
    assert!(metrics.lines().any(|line| line == "waybill_sagas_unknown_plan 1"), "{metrics}");
    let stuck = client.get("/sagas?stuck=true").await.expect(200);
    let found: Vec<&Value> = stuck["items"].as_array().unwrap().iter().filter(|saga| saga["order_id"] == json!(newer)).collect();
    let [saga] = found.as_slice() else { panic!("{stuck:#}") };
    assert_eq!((&saga["stuck"], &saga["plan"], &saga["state"]), (&json!(true), &json!(99), &state));
    assert!(saga["cause"].as_str().unwrap().contains("does not know plan version 99"), "{saga:#}");

    // To its customer it is an order like any other; only to cancel it takes the other build.
    assert_eq!(system.order(newer).await["status"], "pending");
    system.cancel(newer).await.problem(503, "unavailable");
    let act = json!({"by": "ann", "reason": "why not"});
    let refused = client.post(&format!("/sagas/{newer}/retry"), &act).await.problem(409, "operator-refused");
    assert!(refused["detail"].as_str().unwrap().contains("does not know the plan version"), "{refused:#}");
    system.say(events::streams::PRODUCT_REPLIES, &[testkit::messages::reserved(newer, product, 100)]).await;
    let placed = system.submit(user, &[(product, 1)]).await;
    eventually(SOON, || async { if system.ignored("unknown_plan").await == 3 { Ok(()) } else { Err("not yet") } }).await;
    assert_eq!(row(&system, newer).await, before);

    // The right build is back.
    put(&began.0).await;
    attempts(&system, newer, 2).await;
    noted(&system, "3 in flight").await;
    system.start(Service::Product).await;
    for order in [newer, own, placed] {
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    assert_eq!(system.audit().await.confirmed, 3);
}

async fn row(system: &System, order: OrderId) -> (i32, chrono::DateTime<chrono::Utc>) {
    let row = sqlx::query_as("select sequence, updated_at from orders where id = $1").bind(order.0);
    row.fetch_one(&system.order_db).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_sagas_that_cannot_be_read_hold_up_none_behind_them() {
    const POISONED: usize = 400;
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5_000, 100).await);
    system.stop(Service::Product).await;
    let poisoned = system.submit_many(POISONED, user, &[(product, 1)]).await;
    for order in &poisoned {
        system.wait_entries(*order, 2).await;
    }
    let ids: Vec<Uuid> = poisoned.iter().map(|order| order.0).collect();
    // Not while it is at work: what it is about to write would mend one of them.
    system.stop(Service::Order).await;
    // More than a batch of them, all due long before anybody else.
    sqlx::query("create table kept as select id, state from orders").execute(&system.order_db).await.unwrap();
    let poison = "update orders set state = '{\"plan\":1,\"phase\":{\"resting\":{}},\"steps\":{}}', due_at = now() - interval '1 hour' where id = any($1)";
    sqlx::query(poison).bind(&ids).execute(&system.order_db).await.unwrap();
    system.start(Service::Order).await;

    let good = system.submit_many(5, user, &[(product, 1)]).await;
    for order in &good {
        attempts(&system, *order, 4).await;
    }
    let note = noted(&system, "could not be decided").await;
    assert!(note.contains(&format!("{POISONED} that could not be decided are set aside")), "{note}");
    // Set aside, each with a wait that grows: tried a few times, not at every look.
    let tried = system.ignored("unreadable").await;
    assert!((POISONED as u64..POISONED as u64 * 12).contains(&tried), "{tried}");

    // Lists with them in it are answered, for customers and for operators.
    let client = system.client(Service::Order);
    let page = client.get(&format!("/orders?user_id={user}&limit=200&status=pending")).await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 200);
    assert_eq!(system.order(poisoned[0]).await["status"], "pending");
    let saga = client.get(&format!("/sagas/{}", poisoned[0])).await.expect(200);
    assert!(saga["cause"].as_str().unwrap().contains("cannot read its state") && saga["stuck"] == true, "{saga:#}");
    let export = client.get("/sagas/waybills").await;
    assert_eq!(export.text.lines().count(), POISONED + 5);

    // Mended, they go on like the others.
    let mend = "update orders set state = kept.state from kept where kept.id = orders.id and orders.id = any($1)";
    sqlx::query(mend).bind(&ids).execute(&system.order_db).await.unwrap();
    system.start(Service::Product).await;
    let ends = join_all(poisoned.iter().chain(&good).map(|order| system.wait_final(*order))).await;
    assert!(ends.iter().all(|order| order["status"] == "confirmed"));
    assert_eq!(system.audit().await.confirmed, POISONED + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_ask_takes_no_connection_from_customers() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    let order = system.submit(user, &[(product, 1)]).await;
    system.wait_final(order).await;
    // Every question of an operator waits for this lock; nothing that customers ask does.
    let mut lock = system.order_db.begin().await.unwrap();
    sqlx::query("lock table plans in access exclusive mode").execute(&mut *lock).await.unwrap();
    let client = system.client(Service::Order);
    let ask = || async { client.get("/sagas?status=confirmed").await };
    let questions = join_all((0..20).map(|_| ask()));
    let customers = async {
        let mut served = 0;
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let reads = join_all((0..10).map(|_| system.order(order))).await;
            served += reads.len();
        }
        served
    };
    let (answers, served) = tokio::join!(questions, customers);
    assert_eq!(served, 400, "customers are served meanwhile");
    let busy = answers.iter().filter(|answer| answer.text.contains("WAYBILL_OPERATOR_CONNECTIONS")).count();
    assert!(busy >= 15, "{:?}", answers.iter().map(|answer| &answer.text).collect::<Vec<_>>());
    for answer in &answers {
        answer.problem(503, "unavailable");
    }
    lock.rollback().await.unwrap();
    client.get("/sagas?status=confirmed").await.expect(200);
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_whose_state_cannot_be_read_is_called_that_everywhere_and_no_action_is_offered() {
    let system = System::new().await;
    let console = Console::start(&system, None).await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let orders = system.submit_many(2, user, &[(product, 1)]).await;
    for order in &orders {
        system.wait_entries(*order, 2).await;
    }
    system.stop(Service::Order).await;
    // One that names no plan, and one that names a plan and nothing else.
    for (order, state) in orders.iter().zip(["{}", r#"{"plan":1}"#]) {
        let put = sqlx::query("update orders set state = $2::json where id = $1").bind(order.0).bind(state);
        put.execute(&system.order_db).await.unwrap();
    }
    system.start(Service::Order).await;
    let note = noted(&system, "cannot be read").await;
    assert!(note.starts_with("2 in flight, 2 stuck; 2 whose state cannot be read"), "{note}");
    let metrics = system.client(Service::Order).get("/metrics").await.text;
    assert!(metrics.lines().any(|line| line == "waybill_sagas_unreadable 2"), "{metrics}");
    assert!(metrics.lines().any(|line| line == "waybill_sagas_unknown_plan 0"), "{metrics}");

    let listed = waybill(&system, &["saga", "list", "--stuck", "-o", "json"]).await.json(0);
    for (order, plan) in orders.iter().zip([Value::Null, json!(1)]) {
        let saga = listed["items"].as_array().unwrap().iter().find(|saga| saga["order_id"] == json!(order)).expect("listed");
        assert_eq!((&saga["plan"], &saga["readable"]), (&plan, &json!(false)), "{saga:#}");
        assert!(saga["cause"].as_str().unwrap().contains("cannot read its state"), "{saga:#}");
        let act = ["saga", "retry", &order.to_string(), "--reason", "a look", "--yes"];
        let Said(status, stdout, stderr) = waybill(&system, &act).await;
        assert_eq!((status, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains("cannot act on this order: this build cannot read its state"), "{stderr}");
        let page = console.page(&format!("/sagas/{order}/retry")).await;
        holds(&page, &["This build cannot go on with it.", "cannot read its state", "docs/operations.md"]);
        assert!(!page.contains("<form"), "{page}");
        assert!(!stderr.contains("version 0") && !stderr.contains("asks again"), "{stderr}");
    }
    let checked = waybill(&system, &["saga", "upgrade-check"]).await.expect(1);
    assert!(checked.contains("(1 on plan version 1, 1 with an unreadable state)"), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_read_whole_is_left_aside_also_by_the_process_that_has_it_in_memory() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let orders = system.submit_many(3, user, &[(product, 1)]).await;
    let [lines, holed, fine] = orders[..] else { panic!("three orders") };
    for order in &orders {
        system.wait_entries(*order, 2).await;
    }
    for keep in
        ["create table kept as select * from order_history where sequence = 1", "create table whole as select * from orders"]
    {
        sqlx::query(keep).execute(&system.order_db).await.unwrap();
    }
    let damage = async |statement: &'static str, order: OrderId| {
        assert_eq!(sqlx::query(statement).bind(order.0).execute(&system.order_db).await.unwrap().rows_affected(), 1);
    };
    damage("update orders set items = '[{\"product_id\":\"nope\"}]' where id = $1", lines).await;
    damage("delete from order_history where order_id = $1 and sequence = 1", holed).await;

    let client = system.client(Service::Order);
    for (order, why) in [(lines, "items"), (holed, "entry 1 is missing from its history")] {
        let saga = eventually(SOON, || async {
            let saga = client.get(&format!("/sagas/{order}")).await.expect(200);
            if saga["aside"].as_str().is_some_and(|aside| aside.contains(why)) { Ok(saga) } else { Err(saga) }
        })
        .await;
        assert!(saga["cause"].as_str().unwrap().contains("leaves it aside") && saga["stuck"] == true, "{saga:#}");
    }
    // The others go on, and these do not.
    let stands: (i32, chrono::DateTime<chrono::Utc>) = row(&system, holed).await;
    attempts(&system, fine, 6).await;
    assert_eq!(row(&system, holed).await, stands, "it is left alone");
    let act = json!({"by": "ann", "reason": "why not"});
    let refused = client.post(&format!("/sagas/{holed}/retry"), &act).await.problem(409, "operator-refused");
    assert!(refused["detail"].as_str().unwrap().contains("entry 1 is missing"), "{refused:#}");
    let checked = waybill(&system, &["saga", "upgrade-check"]).await.expect(1);
    assert!(
        checked.contains("does not continue 2 of 3") && checked.contains("the build that runs leaves it aside: "),
        "{checked}"
    );
    let listed = waybill(&system, &["saga", "list", "--stuck"]).await.expect(0);
    assert!(listed.lines().any(|line| line.contains(&holed.to_string()) && line.contains(&user.to_string())), "{listed}");

    for client in [&client, &system.client(Service::Gateway)] {
        let unreadable = client.get(&format!("/orders/{lines}")).await.problem(500, "unreadable");
        assert!(unreadable["detail"].as_str().unwrap().contains("items"), "{unreadable:#}");
    }
    let Said(status, _, stderr) = waybill(&system, &["order", "show", &lines.to_string()]).await;
    assert!(status == 1 && stderr.contains("It cannot be read (500)"), "{stderr}");

    // A message that would have to be made from what is missing.
    let note = [holed.0.as_bytes().as_slice(), &2_u32.to_be_bytes()].concat();
    crate::outbox::put(&system.order_db, Uuid::now_v7(), &[], json!([]), &[], &note).await;
    eventually(SOON, || async {
        let letters = waybill(&system, &["dead-letter", "list", "--stream", "OUTBOX", "-o", "json"]).await.json(0);
        let says = |letter: &Value| letter["reason"].as_str().unwrap().contains("entry 1 is missing from its history");
        let all = letters["items"].as_array().unwrap();
        if all.iter().any(|letter| letter["order_id"] == json!(holed) && says(letter)) { Ok(()) } else { Err(letters) }
    })
    .await;

    for mend in [
        "update orders set items = whole.items from whole where whole.id = orders.id",
        "insert into order_history select * from kept on conflict do nothing",
    ] {
        sqlx::query(mend).execute(&system.order_db).await.unwrap();
    }
    system.start(Service::Product).await;
    for order in orders {
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    assert_eq!(system.audit().await.confirmed, 3);
}
