//! Text that nobody may trust, in every field that takes it: by SQL and by NATS, for the edge refuses it. Whatever a command shows of it, it moves no
//! cursor, hides no letter and forges no line.

use async_nats::HeaderMap;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{Service, System};
use uuid::Uuid;

use crate::cli_saga::{two, waybill};
use crate::cli_terminal::on_terminal;

/// Terminal sequences (ESC, C1), directions, zero widths, separators, line ends and a tab. `evil` shows that the field was shown at all.
const HOSTILE: &str =
    "evil\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{85}\r\nFORGED\tline\nFORGED\u{2028}x";

/// The same without line ends, which a header cannot hold.
const HOSTILE_HEADER: &str = "evil\u{1b}[2J\u{9b}31m\u{202e}\u{200b}\u{feff}\u{2028}x\ty";

/// Looks at what a command says, for people and for programs.
async fn harmless(system: &System, args: &[&str], code: i32) {
    for format in ["table", "json", "jsonl"] {
        let said = waybill(system, &[args, &["-o", format]].concat()).await;
        let text = format!("{}{}", said.1, said.2);
        assert_eq!(said.0, code, "{args:?}: {text}");
        check(&format!("{args:?} {format}"), &text);
    }
}

#[track_caller]
fn check(what: &str, text: &str) {
    assert!(text.contains("evil"), "{what} does not show the text: {text:?}");
    let found: Vec<_> = events::hidden(text).filter(|(_, c)| *c != '\n').collect();
    assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{what} has a forged line: {text}");
}

/// Puts the text in place of the strings of these names, however deep.
fn spoil(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value {
            Value::String(text) if names.contains(&name.as_str()) => *text = HOSTILE.to_owned(),
            value => spoil(value, names),
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, names)),
        _ => {}
    }
}

async fn run(database: &PgPool, statement: &'static str) {
    let done = sqlx::query(statement).bind(HOSTILE).execute(database).await.expect("changed");
    assert!(done.rows_affected() > 0, "{statement}");
}

/// Spoils the histories, as if their reasons, names and notes had come from outside unchecked.
async fn spoil_histories(database: &PgPool) {
    let entries: Vec<(Uuid, i32, String)> =
        sqlx::query_as("select order_id, sequence, entry from order_history").fetch_all(database).await.expect("read");
    for (order, sequence, entry) in entries {
        let mut entry: Value = serde_json::from_str(&entry).expect("JSON");
        spoil(&mut entry, &["detail", "by", "reason"]);
        let update = sqlx::query("update order_history set entry = $3 where order_id = $1 and sequence = $2");
        update.bind(order).bind(sequence).bind(entry.to_string()).execute(database).await.expect("changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_came_from_outside_steers_a_terminal_or_forges_a_line() {
    let system = System::new().await;
    let [_, rejected] = two(&system).await;
    let (user, product) = (system.create_user(true).await, system.create_product(5, 100).await);
    system.stop(Service::Product).await;
    let waiting = system.submit(user, &[(product, 1)]).await;
    system.wait_entries(waiting, 2).await;
    let (rejected, waiting) = (rejected.to_string(), waiting.to_string());
    waybill(&system, &["saga", "retry", &waiting, "--reason", "x", "--yes"]).await.expect(0);
    system.start(Service::Product).await;
    system.wait_final(waiting.parse().expect("an id")).await;

    run(&system.user_db, "update users set name = $1, email = id || $1").await;
    run(&system.product_db, "update products set name = $1, description = $1").await;
    run(&system.order_db, "update orders set reason = jsonb_set(reason, '{detail}', to_jsonb($1)) where reason is not null")
        .await;
    spoil_histories(&system.order_db).await;
    let (user, product) = (user.to_string(), product.to_string());
    harmless(&system, &["user", "list"], 0).await;
    harmless(&system, &["user", "show", &user], 0).await;
    harmless(&system, &["product", "list"], 0).await;
    harmless(&system, &["product", "show", &product], 0).await;
    harmless(&system, &["order", "show", &rejected], 0).await;
    harmless(&system, &["saga", "show", &rejected], 0).await;
    harmless(&system, &["saga", "show", &waiting], 0).await;
    harmless(&system, &["saga", "replay", &rejected], 0).await;
    harmless(&system, &["saga", "replay", &waiting], 0).await;
    check("saga export", &waybill(&system, &["saga", "export", &rejected]).await.expect(0));
    let exported = on_terminal(&system, 80, &["saga", "export", "--all"]).await.1;
    check("saga export on a terminal", &exported.replace('\r', ""));

    // What is on the broker: letters and events that no service of ours wrote.
    let mut headers = HeaderMap::new();
    for name in ["Waybill-Reason", "Waybill-Subject", "Waybill-Stream", "Waybill-Consumer", "ce-type", "ce-id", "ce-source"] {
        headers.insert(name, HOSTILE_HEADER);
    }
    let publish = async |subject: String, headers: &HeaderMap, payload: Value| {
        let payload = payload.as_str().map_or_else(|| payload.to_string(), str::to_owned);
        system
            .jetstream()
            .publish_with_headers(subject, headers.clone(), payload.into())
            .await
            .expect("sent")
            .await
            .expect("stored");
    };
    let letter = json!({ "type": HOSTILE, "subject": waiting, "data": { HOSTILE: HOSTILE } });
    publish("dead.PRODUCT_REPLIES.order".to_owned(), &headers, letter).await;
    publish("dead.PRODUCT_REPLIES.evil\u{1b}[2J".to_owned(), &headers, HOSTILE.into()).await;
    harmless(&system, &["dead-letter", "list"], 0).await;
    harmless(&system, &["dead-letter", "show", "1"], 0).await;
    harmless(&system, &["dead-letter", "show", "2"], 0).await;
    harmless(&system, &["dead-letter", "redrive", "--all", "--yes"], 1).await;

    let data = json!({ "items": [], "reason": { "code": HOSTILE, "detail": HOSTILE }, "total": null });
    publish(format!("events.order.rejected.{}", Uuid::now_v7()), &headers, data).await;
    let data = json!({ "product": { "name": HOSTILE, "stock": HOSTILE }, "delta": 1 });
    publish(format!("events.product.stock_changed.{}", Uuid::now_v7()), &headers, data).await;
    publish("events.user.created.evil\u{1b}[2J".to_owned(), &headers, HOSTILE.into()).await;
    let mut stored = 0;
    for stream in ["ORDER_EVENTS", "USER_EVENTS", "PRODUCT_EVENTS"] {
        let mut stream = system.jetstream().get_stream(stream).await.expect("there");
        stored += stream.info().await.expect("there").state.messages;
    }
    let stored = stored.to_string();
    let since = ["events", "tail", "--since", "1h", "--all-contexts", "--limit", &stored];
    harmless(&system, &since, 0).await;

    // An order of another build, whose state nobody here can read.
    let state = "update orders set state = json_build_object('plan', 1, 'phase', $1::text, 'steps', json_build_object($1::text, 'x')), \
                 settled = false, due_at = now() - interval '1 day', waiting_since = now() - interval '1 day' \
                 where id = (select id from orders order by id desc limit 1)";
    run(&system.order_db, state).await;
    harmless(&system, &["saga", "list", "--status", "confirmed"], 0).await;
    harmless(&system, &["saga", "upgrade-check", "--status", "confirmed"], 1).await;
    harmless(&system, &["audit"], 1).await;

    // What was typed, or pasted, comes back in the error.
    let typed = waybill(&system, &["order", "show", HOSTILE]).await;
    check("a wrong id", &typed.2);
    let typed = waybill(&system, &["saga", "replay", "--all", "--from", HOSTILE_HEADER]).await;
    check("a file that is not there", &typed.2);
}
