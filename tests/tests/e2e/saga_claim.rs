//! A history too large for the broker: the order's last event carries a claim check, and everyone who reads it knows that.

use std::process::Output;

use events::OrderId;
use order::saga::Order;
use saga::{Action, Entry, Input, Verdict, decide};
use serde_json::{Value, json};
use testkit::{Service, System, eventually};
use tokio::process::Command;

/// What a nats-server takes in one message at its own defaults.
const PAYLOAD_MAX: usize = 1024 * 1024;

/// Appends retries to the history of an order that waits, as an operator's, until it is larger than the broker takes.
async fn blow_up(system: &System, order: OrderId) -> usize {
    let client = system.client(Service::Order);
    let line = client.get(&format!("/sagas/{order}/waybill")).await.text;
    let saga::Transcript { plan, entries } = saga::Transcript::<Order>::read(&line).unwrap();
    let last = entries.last().unwrap();
    let (mut state, mut sequence, mut bytes) = (last.state.clone(), last.sequence, 0);
    let (mut sequences, mut stored) = (Vec::new(), Vec::new());
    while bytes < PAYLOAD_MAX + 100_000 {
        let input: Input<Order> = Input::Operator { action: Action::Retry, by: "ann".to_owned(), reason: "again ".repeat(600) };
        let decision = decide(&plan, &state, &input);
        assert_eq!(decision.verdict, Verdict::Moved);
        state = decision.state.clone();
        sequence += 1;
        let (time, sent) = (last.time, decision.effects);
        let entry =
            Entry { sequence, time, input, verdict: Verdict::Moved, sent, attempts: Default::default(), state: state.clone() };
        let mut entry = serde_json::to_value(entry).unwrap();
        for name in ["sequence", "time"] {
            entry.as_object_mut().unwrap().remove(name);
        }
        // Written as the service writes it: what came is first.
        let entry = format!(
            r#"{{"message":{},"decision":"moved","sent":{},"state":{}}}"#,
            entry["message"], entry["sent"], entry["state"]
        );
        bytes += entry.len();
        sequences.push(sequence as i32);
        stored.push(entry);
    }
    let mut tx = system.order_db.begin().await.unwrap();
    sqlx::query(
        "insert into order_history select $1, sequence, now(), entry from unnest($2::int[], $3::text[]) as new (sequence, entry)",
    )
    .bind(order.0)
    .bind(&sequences)
    .bind(&stored)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query("update orders set state = $2, sequence = $3 where id = $1")
        .bind(order.0)
        .bind(sqlx::types::Json(&state))
        .bind(sequence as i32)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    bytes
}

/// `waybill saga replay --from nats`, with the order service at this address.
async fn replay_from_nats(system: &System, order: OrderId, service: &str) -> Output {
    let own = std::env::current_exe().expect("a test is a file");
    let mut command = Command::new(own.ancestors().nth(2).expect("target/<profile>/deps").join("waybill"));
    command.args(["saga", "replay", &order.to_string(), "--from", "nats", "-o", "json"]).kill_on_drop(true);
    command.env("WAYBILL_ORDER_URL", service).env("NATS_URL", system.stack.nats.url());
    command.output().await.expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_too_large_for_the_broker_is_claimed_and_replayed_from_the_broker_all_the_same() {
    let system = System::builder().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let order = system.submit(user, &[(product, 2)]).await;
    system.wait_entries(order, 2).await;
    let bytes = blow_up(&system, order).await;
    assert!(bytes > PAYLOAD_MAX, "{bytes}");
    system.start(Service::Product).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed");

    let subject = format!("events.order.confirmed.{order}");
    let told = eventually(std::time::Duration::from_secs(20), || async {
        let told = system.said("ORDER_EVENTS").await;
        told.into_iter().find(|said| said.subject == subject).ok_or("not told yet")
    })
    .await;
    let event = told.json();
    assert_eq!((&event["waybill"], &event["status"]), (&Value::Null, &json!("confirmed")), "{event:#}");
    let claim = &event["waybill_ref"];
    assert_eq!(claim["href"], format!("/orders/{order}/history"));
    assert!(claim["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:") && digest.len() == 71), "{claim:#}");
    assert!(claim["length"].as_u64() > Some(bytes as u64), "{claim:#}");
    assert!(told.payload.len() < 4_000, "the event is small");

    let service = system.client(Service::Order).base;
    let output = replay_from_nats(&system, order, &service).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let replay: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&replay["divergence"], &replay["gaps"]), (&Value::Null, &json!([])));
    assert_eq!(replay["entries"].as_array().unwrap().len() as u64, claim["entries"].as_u64().unwrap());

    // Its second end claims what was appended too. Where nobody can be asked, or what is there is something else, that is said.
    system.cancel(order).await.expect(202);
    system.wait_status(order, "cancelled").await;
    let elsewhere = replay_from_nats(&system, order, "http://127.0.0.1:9").await;
    let text = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(elsewhere.status.code() == Some(1) && text.contains("too large for the broker"), "{text}");
    system.audit().await;
    sqlx::query("update order_history set entry = replace(entry, 'again', 'never') where order_id = $1 and sequence = 3")
        .bind(order.0)
        .execute(&system.order_db)
        .await
        .unwrap();
    let tampered = replay_from_nats(&system, order, &service).await;
    let text = String::from_utf8_lossy(&tampered.stderr).into_owned();
    assert!(tampered.status.code() == Some(1) && text.contains("not the history that is meant: its digest is"), "{text}");
}
