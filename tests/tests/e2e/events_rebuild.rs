//! ORDER_EVENTS made complete again: after the loss of its end, across a restart of the service, and by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use events::OrderId;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Service, System, eventually};
use tokio::process::Command;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(25);

async fn system(rate: u32) -> System {
    let settings = move |order: &mut order::Settings| {
        order.sagas.events.events_check_every = Duration::from_millis(300);
        order.sagas.events.events_rebuild_rate = rate;
    };
    System::builder().impatient().never_giving_up().order(settings).start().await
}

/// So many confirmed orders.
pub async fn confirmed(system: &System, count: usize) -> Vec<OrderId> {
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let orders = system.submit_many(count, user, &[(product, 1)]).await;
    for order in &orders {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    orders
}

async fn count(db: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

/// Waits until the outbox is empty and the last checkpoint is at the end of the stream, and no rebuild under way.
async fn known(system: &System) {
    eventually(SOON, || async {
        let mut stream = system.jetstream().get_stream("ORDER_EVENTS").await.map_err(|error| error.to_string())?;
        let last = stream.info().await.map_err(|error| error.to_string())?.state.last_sequence as i64;
        let left = count(&system.order_db, "select count(*) from outbox").await;
        let open = count(&system.order_db, "select count(*) from event_rebuilds where ended_at is null").await;
        let known = count(&system.order_db, "select coalesce(max(sequence), 0) from event_checkpoints").await;
        if (left, open, known) == (0, 0, last) { Ok(()) } else { Err(format!("{left} rows, {open} open, {known} of {last}")) }
    })
    .await;
}

/// For some seconds nobody watches the stream, as if the instance that did had died.
async fn look_away(system: &System) {
    let foreign = sqlx::query("update event_watch set holder = $1, until = now() + interval '14 seconds'").bind(Uuid::now_v7());
    foreign.execute(&system.order_db).await.unwrap();
    eventually(SOON, || async {
        let note = note(system).await;
        if note == "watched by another instance" { Ok(()) } else { Err(note) }
    })
    .await;
}

async fn note(system: &System) -> String {
    system.client(Service::Order).get("/readyz").await.json()["notes"]["events"].as_str().unwrap_or_default().to_owned()
}

async fn look_again(system: &System) {
    sqlx::query("delete from event_watch").execute(&system.order_db).await.unwrap();
}

/// The events that the stream holds, each with how often it was published again.
async fn told(system: &System) -> BTreeMap<String, (usize, usize)> {
    let mut told: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for said in system.said("ORDER_EVENTS").await {
        let counts = told.entry(said.header("ce-id").to_owned()).or_default();
        counts.0 += 1;
        counts.1 += usize::from(!said.header("ce-republished").is_empty());
    }
    told
}

/// Gives a confirmed order the id of one that was placed three hours ago.
async fn three_hours_old(system: &System, order: OrderId) -> OrderId {
    let milliseconds = (chrono::Utc::now() - chrono::TimeDelta::hours(3)).timestamp_millis().unsigned_abs();
    let old = Uuid::from_u128((u128::from(milliseconds) << 80) | (order.0.as_u128() & ((1 << 80) - 1)));
    for (db, sql) in [
        (&system.order_db, "update orders set id = $2, created_at = now() - interval '3 hours' where id = $1"),
        (&system.order_db, "update order_history set order_id = $2, at = at - interval '3 hours' where order_id = $1"),
        (&system.product_db, "update reservations set id = $2 where id = $1"),
    ] {
        assert!(sqlx::query(sql).bind(order.0).bind(old).execute(db).await.unwrap().rows_affected() > 0, "{sql}");
    }
    OrderId(old)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_stream_lost_with_the_broker_comes_again_also_of_orders_placed_hours_ago() {
    let system = system(1000).await;
    let old = three_hours_old(&system, confirmed(&system, 1).await[0]).await;
    confirmed(&system, 5).await;
    known(&system).await;
    let store = system.stack.nats.store().unwrap().to_owned();
    let copy = store.with_extension("copy");
    let copying = || std::process::Command::new("cp").arg("-a").args([&store, &copy]).status().map(drop);
    system.stack.nats.stop_and(copying).await.unwrap();
    known(&system).await;

    // What follows no checkpoint knows of, and the broker forgets it.
    look_away(&system).await;
    system.cancel(old).await.expect(202);
    system.wait_status(old, "cancelled").await;
    confirmed(&system, 5).await;
    eventually(SOON, || async {
        let left = count(&system.order_db, "select count(*) from outbox").await;
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    let before = told(&system).await;
    assert_eq!(before.len(), 2 + 2 + 10 + 10);
    system.stack.nats.kill().unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&copy, &store).unwrap();
    system.stack.nats.restart().await.unwrap();
    look_again(&system).await;
    let after = eventually(SOON, || async {
        let Ok(mut stream) = system.jetstream().get_stream("ORDER_EVENTS").await else { return Err("no stream".to_owned()) };
        let messages = stream.info().await.map_err(|error| error.to_string())?.state.messages;
        if messages < before.len() as u64 { Err(format!("{messages} messages")) } else { Ok(told(&system).await) }
    })
    .await;
    assert!(after.keys().eq(before.keys()), "{after:?}");
    let again: Vec<&String> = after.iter().filter(|(_, counts)| counts.1 > 0).map(|(id, _)| id).collect();
    assert_eq!(again.len(), 12, "what the copy holds does not come again: {again:?}");
    assert_eq!(again.iter().filter(|id| id.contains(&old.to_string())).count(), 2, "compensating and cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_goes_on_after_a_restart_of_the_service_and_shows_how_far_it_is() {
    let system = system(10).await;
    confirmed(&system, 30).await;
    known(&system).await;
    system.stack.nats.wipe().await.unwrap();
    let some = || async {
        let Ok(mut stream) = system.jetstream().get_stream("ORDER_EVENTS").await else { return Err(0) };
        let messages = stream.info().await.map_err(|_| 0_u64)?.state.messages;
        if messages >= 10 { Ok(messages) } else { Err(messages) }
    };
    eventually(SOON, some).await;
    system.stop(Service::Order).await;
    let id: Uuid =
        sqlx::query_scalar("select id from event_rebuilds where ended_at is null").fetch_one(&system.order_db).await.unwrap();
    assert!(told(&system).await.len() < 60, "it was stopped in the middle");
    system.start(Service::Order).await;
    look_again(&system).await;
    known(&system).await;
    let told = told(&system).await;
    assert_eq!((told.len(), told.values().all(|counts| *counts == (1, 1))), (60, true), "each once: {told:?}");
    let ended: Uuid = sqlx::query_scalar("select id from event_rebuilds order by begun_at desc limit 1")
        .fetch_one(&system.order_db)
        .await
        .unwrap();
    assert_eq!(ended, id, "the same one came to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_again_and_is_lost_again_before_the_end_comes_once_more() {
    let system = system(10).await;
    confirmed(&system, 30).await;
    known(&system).await;
    system.lose("ORDER_EVENTS").await;
    let come = eventually(SOON, || async {
        if system.jetstream().get_stream("ORDER_EVENTS").await.is_err() {
            return Err(0);
        }
        let said = system.said("ORDER_EVENTS").await;
        if said.len() >= 10 { Ok(said) } else { Err(said.len()) }
    })
    .await;
    let stream = system.jetstream().get_stream("ORDER_EVENTS").await.unwrap();
    // Not the first, which tells where the stream begins, and not the last, which a checkpoint knows.
    for gone in &come[1..8] {
        stream.delete_message(gone.sequence).await.unwrap();
    }
    let under_way = count(&system.order_db, "select count(*) from event_rebuilds where ended_at is null").await;
    assert_eq!(under_way, 1, "it was not at its end");
    known(&system).await;
    let told = told(&system).await;
    assert_eq!((told.len(), told.values().all(|counts| *counts == (1, 1))), (60, true), "each once: {told:?}");
}

/// What the command printed, as JSON, and what it said on the way.
async fn rebuild(system: &System, args: &[&str]) -> (Value, String) {
    let own = std::env::current_exe().expect("a test is a file");
    let program = own.ancestors().nth(2).expect("target/<profile>/deps").join("waybill");
    let mut command = Command::new(program);
    command.args(["events", "rebuild", "-o", "json"]).args(args).env("WAYBILL_ORDER_URL", system.client(Service::Order).base);
    let output = command.env("USER", "ann").kill_on_drop(true).output().await.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    (serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")), stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_what_nobody_can_notice_published_again_and_sees_how_far_it_is() {
    let system = system(6).await;
    confirmed(&system, 19).await;
    let sql = "with entries as (update order_history set at = at - interval '3 hours') update orders set updated_at = updated_at - interval '3 hours'";
    sqlx::query(sql).execute(&system.order_db).await.unwrap();
    confirmed(&system, 2).await;
    known(&system).await;
    // The database was restored too, say: there is no checkpoint that tells.
    look_away(&system).await;
    let stream = system.jetstream().get_stream("ORDER_EVENTS").await.unwrap();
    for gone in [10, 11, 40, 41] {
        assert!(stream.delete_message(gone).await.unwrap());
    }
    sqlx::query("delete from event_checkpoints").execute(&system.order_db).await.unwrap();
    look_again(&system).await;
    known(&system).await;
    assert_eq!(told(&system).await.len(), 38, "nobody noticed");

    let (found, _) = rebuild(&system, &["--dry-run", "--since", "1h"]).await;
    let counts = (&found["checked"], &found["missing"], &found["dry_run"]);
    assert_eq!(counts, (&json!(4), &json!(2), &json!(true)), "what is older is left out");
    assert_eq!((&found["asked_by"], &found["unreadable"]), (&json!("ann"), &json!(0)));
    assert_eq!(told(&system).await.len(), 38, "a look changes nothing");
    let watched = async {
        eventually(SOON, || async {
            let metrics = system.client(Service::Order).get("/metrics").await.text;
            let note = note(&system).await;
            let shows =
                metrics.contains("waybill_events_rebuild_under_way 1") && metrics.contains("waybill_events_rebuild_orders_left ");
            if shows && note.starts_with("being completed: ") { Ok(note) } else { Err(note) }
        })
        .await
    };
    let ((done, said), note) = tokio::join!(rebuild(&system, &["--yes"]), watched);
    assert_eq!((&done["checked"], &done["missing"], &done["dry_run"]), (&json!(42), &json!(4), &json!(false)));
    assert!(note.contains("orders are still to be looked at (asked for by an operator)"), "{note}");
    assert!(said.contains("looked for") && !said.contains(" 0 looked for"), "progress shows: {said}");
    let told = told(&system).await;
    assert_eq!(
        (told.len(), told.values().filter(|counts| **counts == (1, 1)).count()),
        (42, 4),
        "only what was missing: {told:?}"
    );
    assert!(told.values().all(|counts| counts.0 == 1), "{told:?}");
    let (nothing, _) = rebuild(&system, &["--yes", "--since", "1s"]).await;
    assert_eq!((&nothing["checked"], &nothing["missing"]), (&json!(0), &json!(0)));
    assert!(system.client(Service::Order).get("/metrics").await.text.contains("waybill_events_rebuild_under_way 0"));

    // Whoever only looks learns which orders cannot be read.
    let broken = confirmed(&system, 1).await[0];
    let garble = sqlx::query("update order_history set entry = '{}' where order_id = $1 and sequence = 2").bind(broken.0);
    garble.execute(&system.order_db).await.unwrap();
    let mut look = crate::cli_saga::command(&system, &["events", "rebuild", "--dry-run", "--since", "1h", "-o", "json"]);
    let output = look.env_remove("USER").output().await.expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&found["unreadable"], &found["unreadable_orders"]), (&json!(1), &json!([broken])), "{found:#}");
    // Without a name in the environment it is that of the process's user.
    assert!(found["asked_by"].is_string() && found["dry_run"] == true, "{found:#}");
    let client = system.client(Service::Order);
    assert_eq!(client.post("/events/rebuild", &json!({ "dry_run": false })).await.invalid(), ["/by"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_after_a_restore_lists_the_orders_that_everybody_was_told_of_and_nobody_knows() {
    let system = System::new().await;
    let orders = confirmed(&system, 3).await;
    let before = chrono::Utc::now();
    let later = confirmed(&system, 1).await[0];
    let told = async |since: &str, status: i32| {
        let arguments = ["audit", "--events-since", since, "-o", "json"];
        let output = crate::cli_saga::command(&system, &arguments).output().await.expect("it runs");
        assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report["checks"].as_array().expect("checks").last().expect("it is the last").clone()
    };
    let all = told("1h", 0).await;
    assert_eq!((&all["rows"], &all["findings"]), (&json!(8), &json!([])), "placed and confirmed, of each");

    // As a copy has them that was made before one was placed, one was confirmed, and one went another way than it does by now.
    let user: Uuid =
        sqlx::query_scalar("select user_id from orders where id = $1").bind(later.0).fetch_one(&system.order_db).await.unwrap();
    for (order, sql) in [
        (later, "with entries as (delete from order_history where order_id = $1) delete from orders where id = $1"),
        (orders[0], "delete from order_history where order_id = $1 and sequence = 3"),
        (orders[1], "update order_history set at = at + interval '1 minute' where order_id = $1 and sequence = 3"),
    ] {
        sqlx::query(sql).bind(order.0).execute(&system.order_db).await.unwrap();
    }
    let found = told("1h", 1).await["findings"].clone();
    let found: BTreeMap<&str, &str> = found
        .as_array()
        .expect("findings")
        .iter()
        .map(|found| (found["id"].as_str().expect("an order"), found["what"].as_str().expect("words")))
        .collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    let gone = found[later.to_string().as_str()];
    assert!(
        gone.contains(&format!("of user {user} is not there")) && gone.contains("placed at") && gone.contains("confirmed at"),
        "{gone}"
    );
    for order in &orders[..2] {
        let behind = found[order.to_string().as_str()];
        assert!(behind.contains("is confirmed; ") && behind.contains(": confirmed at") && !behind.contains("placed"), "{behind}");
    }
    let since = told(&before.to_rfc3339_opts(chrono::SecondsFormat::Micros, true), 1).await;
    assert_eq!((&since["rows"], since["findings"].as_array().map(Vec::len)), (&json!(2), Some(1)), "{since:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_did_is_kept_for_its_time_and_longer_where_its_order_is_there() {
    let system = System::new().await;
    let order = confirmed(&system, 1).await[0];
    // The default is 400 days. More than are deleted in one statement.
    let actions = "insert into operator_actions (id, at, by, action, about, reason, saga) \
                   select gen_random_uuid(), now() - make_interval(days => days, mins => 1), 'ann', 'drop', 'letter ' || n, kept, saga \
                   from generate_series(1, 700) as n, \
                        (values (399, 'young', null::uuid), (400, 'old', null), (400, 'of nobody', gen_random_uuid()), (400, 'of an order', $1)) \
                        as kinds (days, kept, saga)";
    sqlx::query(actions).bind(order.0).execute(&system.order_db).await.unwrap();
    let rebuilds = "insert into event_rebuilds (id, reason, asked_by, since, begun_at, ended_at) \
                    select gen_random_uuid(), 'asked for', 'ann', 'epoch', now() - make_interval(days => days, mins => 2), \
                           now() - make_interval(days => days, mins => 1) from unnest(array[399, 400]) as days";
    sqlx::query(rebuilds).execute(&system.order_db).await.unwrap();
    system.stop(Service::Order).await;
    system.start(Service::Order).await;
    eventually(SOON, || async {
        let kinds = "select reason, count(*) from operator_actions group by reason order by reason";
        let kept: Vec<(String, i64)> = sqlx::query_as(kinds).fetch_all(&system.order_db).await.unwrap();
        let rebuilds = count(&system.order_db, "select count(*) from event_rebuilds where asked_by = 'ann'").await;
        let expected = [("of an order".to_owned(), 700), ("young".to_owned(), 700)];
        if kept == expected && rebuilds == 1 { Ok(()) } else { Err(format!("{kept:?}, {rebuilds} rebuilds")) }
    })
    .await;
    let page = system.client(Service::Order).get("/actions?limit=1").await.expect(200);
    assert_eq!(page["items"][0]["reason"], "young", "{page:#}");
}
