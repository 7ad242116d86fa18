//! The message contract: what stands on the streams after orders have passed.

use std::collections::BTreeSet;

use events::{BATCH_CONTENT_TYPE, BATCH_MAX_BYTES, BATCH_MAX_EVENTS, OrderId};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Said, Service, System, answer, id, order_body};

use crate::shape::{fields, recent, v7};

const STATE: &str = "congo=t61rcWkgMzE,rojo=a \"b\"";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const ENVELOPE: [&str; 8] = ["specversion", "id", "source", "type", "time", "subject", "traceparent", "data"];

/// The only event of the only message of a stream: a batch of one.
async fn only(system: &System, stream: &str) -> Value {
    let said = system.said(stream).await;
    assert_eq!(said.len(), 1, "{said:#?}");
    batch(&said[0]).remove(0)
}

/// The events of a batch, whose envelope is as it must be.
fn batch(said: &Said) -> Vec<Value> {
    assert_eq!(said.header("Content-Type"), BATCH_CONTENT_TYPE);
    assert!(!said.header("Nats-Msg-Id").is_empty(), "{said:?}");
    assert!(said.payload.len() <= BATCH_MAX_BYTES, "{} bytes", said.payload.len());
    let events = said.json().as_array().expect("an array").clone();
    assert!((1..=BATCH_MAX_EVENTS).contains(&events.len()), "{} events", events.len());
    for event in &events {
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["subject"], event["data"]["order_id"], "{event:#}");
        v7(&event["subject"]);
        recent(&event["time"]);
        assert!(event["id"].as_str().is_some_and(|id| !id.is_empty()), "{event:#}");
    }
    events
}

/// An order placed with a trace, through the gateway, carried to its end.
async fn traced(system: &System) -> OrderId {
    let (user, product) = (system.create_user(true).await, system.create_product(10, 1999).await);
    let request = system.client(Service::Gateway).request(Method::POST, "/orders").header("traceparent", TRACE);
    let order = OrderId(id(&answer(request.json(&order_body(user, &[(product, 2)]))).await.expect(202)));
    system.wait_final(order).await;
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_answers_are_cloudevents_in_batches_and_bear_the_trace_of_their_order() {
    let system = System::new().await;
    let order = traced(&system).await;
    system.cancel(order).await.expect(202);
    system.wait_status(order, "cancelled").await;

    let (validate, validated) = (only(&system, "USER_COMMANDS").await, only(&system, "USER_REPLIES").await);
    let commands: Vec<Value> = system.said("PRODUCT_COMMANDS").await.iter().flat_map(batch).collect();
    let replies: Vec<Value> = system.said("PRODUCT_REPLIES").await.iter().flat_map(batch).collect();
    assert_eq!((commands.len(), replies.len()), (2, 2));
    let pairs = [
        (&validate, "waybill.user.validate.v1", &validated, "waybill.user.validated.v1", "/waybill/user"),
        (&commands[0], "waybill.product.reserve.v1", &replies[0], "waybill.product.reserved.v1", "/waybill/product"),
        (&commands[1], "waybill.product.release.v1", &replies[1], "waybill.product.released.v1", "/waybill/product"),
    ];
    let mut ids = BTreeSet::new();
    for (command, asked, reply, answered, who) in pairs {
        fields(command, &[&ENVELOPE[..], &["attempt"]].concat());
        fields(reply, &ENVELOPE);
        assert_eq!((&command["type"], &command["source"]), (&json!(asked), &json!("/waybill/order")));
        assert_eq!((&reply["type"], &reply["source"]), (&json!(answered), &json!(who)));
        assert_eq!(command["attempt"], 1);
        assert_eq!(reply["id"], command["id"], "an answer bears its command's id");
        for event in [command, reply] {
            assert_eq!((&event["subject"], &event["traceparent"]), (&json!(order), &json!(TRACE)));
        }
        assert!(ids.insert(command["id"].to_string()), "two commands, two ids");
    }
    assert_eq!(replies[0]["data"]["items"][0]["unit_price"], json!({ "amount": 1999, "currency": "USD" }));
    assert_eq!(commands[0]["data"]["items"][0]["quantity"], 2);
    let subjects: Vec<String> = system.said("PRODUCT_COMMANDS").await.into_iter().map(|said| said.subject).collect();
    assert_eq!(subjects, ["commands.product.reserve", "commands.product.release"]);
    assert_eq!(system.audit().await.cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_events_are_for_everyone_and_the_final_one_carries_the_waybill() {
    let system = System::new().await;
    let order = traced(&system).await;
    let confirmed_with = system.history(order).await;
    system.cancel(order).await.expect(202);
    system.wait_status(order, "cancelled").await;
    let cancelled_with = system.history(order).await;
    system.audit().await;

    let said = system.said("ORDER_EVENTS").await;
    let words: Vec<&str> = said.iter().map(|said| said.subject.split('.').nth(2).unwrap()).collect();
    assert_eq!(words, ["placed", "confirmed", "compensating", "cancelled"]);
    let mut ids = BTreeSet::new();
    for (said, word) in said.iter().zip(words) {
        assert_eq!(said.subject, format!("events.order.{word}.{order}"));
        for (name, value) in [
            ("Content-Type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-source", "/waybill/order"),
            ("ce-type", &format!("waybill.order.{word}.v1")),
            ("ce-subject", &order.to_string()),
            ("ce-traceparent", TRACE),
            ("traceparent", TRACE),
        ] {
            assert_eq!(said.header(name), value, "{name} of {word}");
        }
        recent(&json!(said.header("ce-time")));
        assert!(!said.header("Nats-Msg-Id").is_empty());
        assert!(ids.insert(said.header("ce-id").to_owned()), "each event has an id of its own");
        let data = said.json();
        assert_eq!(data["order_id"], json!(order));
        let mut names = vec!["order_id", "user_id", "items", "total", "status", "reason", "created_at"];
        match word {
            "confirmed" => assert_eq!(data["waybill"], json!(confirmed_with)),
            "cancelled" => assert_eq!(data["waybill"], json!(cancelled_with)),
            _ => assert!(data["waybill"].is_null(), "{word} is not final"),
        }
        names.extend(["confirmed", "cancelled"].contains(&word).then_some("waybill"));
        fields(&data, &names);
    }
    assert_eq!(said[1].json()["total"], json!({ "amount": 3998, "currency": "USD" }));
    assert_eq!(said[3].json()["reason"]["code"], "cancelled_by_customer");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_keep_in_the_trace_comes_with_every_message_of_its_order_and_of_no_other() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    let place = async |states: &[&str]| {
        let mut request = system.client(Service::Gateway).request(Method::POST, "/orders").header("traceparent", TRACE);
        for state in states {
            request = request.header("tracestate", *state);
        }
        OrderId(id(&answer(request.json(&order_body(user, &[(product, 1)]))).await.expect(202)))
    };
    let with = [place(&["congo=t61rcWkgMzE", " rojo=a \"b\" ,"]).await, place(&[STATE]).await];
    let without = [place(&[]).await, place(&["congo=1", "no list"]).await];
    // From memory and, after a restart, from the table: a compensation is commanded by another instance than the one that took the order.
    for order in with.iter().chain(&without) {
        assert_eq!(system.wait_final(*order).await["status"], "confirmed");
    }
    system.stop(Service::Order).await;
    system.start(Service::Order).await;
    for order in with.iter().chain(&without) {
        system.cancel(*order).await.expect(202);
        system.wait_status(*order, "cancelled").await;
    }
    system.audit().await;
    let mut seen = 0;
    let mut check = |order: &str, parent: &str, state: Option<&str>| {
        assert_eq!(parent, TRACE);
        let expected = with.iter().any(|with| with.to_string() == order).then_some(STATE);
        assert_eq!(state, expected, "of {order}");
        seen += 1;
    };
    for stream in ["USER_COMMANDS", "USER_REPLIES", "PRODUCT_COMMANDS", "PRODUCT_REPLIES"] {
        for event in system.events(stream).await {
            let text = |name: &str| event[name].as_str();
            check(text("subject").unwrap(), text("traceparent").unwrap(), text("tracestate"));
        }
    }
    for said in system.said("ORDER_EVENTS").await {
        let header = |name: &str| Some(said.header(name)).filter(|value| !value.is_empty());
        check(said.header("ce-subject"), said.header("traceparent"), header("tracestate"));
        assert_eq!(
            header("ce-tracestate").map(|state| state.replace("%20", " ").replace("%22", "\"")).as_deref(),
            header("tracestate")
        );
    }
    assert!(seen >= 4 * (6 + 4), "six messages and four events of each order: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_a_trace_gets_one_of_its_own() {
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(10, 100).await);
    for wrong in ["", "nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let request = system.client(Service::Order).request(Method::POST, "/orders").header("traceparent", wrong);
        answer(request.json(&order_body(user, &[(product, 1)]))).await.expect(202);
    }
    assert_eq!(system.audit().await.confirmed, 3);
    let mut by_order: std::collections::BTreeMap<String, BTreeSet<String>> = Default::default();
    for stream in ["USER_COMMANDS", "USER_REPLIES", "PRODUCT_COMMANDS", "PRODUCT_REPLIES"] {
        for event in system.events(stream).await {
            let trace = event["traceparent"].as_str().expect("a trace").to_owned();
            assert!(events::TraceParent::parse(&trace).is_some(), "{trace}");
            by_order.entry(event["subject"].to_string()).or_default().insert(trace);
        }
    }
    let traces: Vec<&BTreeSet<String>> = by_order.values().collect();
    assert_eq!(traces.len(), 3);
    assert!(traces.iter().all(|traces| traces.len() == 1), "one trace an order: {by_order:#?}");
    assert_eq!(traces.into_iter().flatten().collect::<BTreeSet<_>>().len(), 3, "and no two share one");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_products_tell_everyone_what_became_of_them() {
    let system = System::new().await;
    let (user, product) = (system.create_user(false).await, system.create_product(5, 100).await);
    system.client(Service::Product).post(&format!("/products/{product}/stock"), &json!({ "delta": 2 })).await.expect(200);
    system.audit().await;
    let told = |said: Vec<Said>| -> Vec<(String, String, Value)> {
        said.iter().map(|said| (said.subject.clone(), said.header("ce-type").to_owned(), said.json())).collect()
    };
    let users = told(system.said("USER_EVENTS").await);
    assert_eq!(users.len(), 2);
    assert_eq!((users[0].0.clone(), users[0].1.as_str()), (format!("events.user.created.{user}"), "waybill.user.created.v1"));
    assert_eq!((users[1].0.clone(), users[1].1.as_str()), (format!("events.user.updated.{user}"), "waybill.user.updated.v1"));
    assert_eq!((&users[0].2["active"], &users[1].2["active"]), (&json!(true), &json!(false)));
    let products = told(system.said("PRODUCT_EVENTS").await);
    assert_eq!(products.len(), 2);
    assert_eq!(products[0].0, format!("events.product.created.{product}"));
    assert_eq!(products[1].0, format!("events.product.stock_changed.{product}"));
    assert_eq!((&products[1].2["delta"], &products[1].2["product"]["stock"]), (&json!(2), &json!(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_come_together_travel_together() {
    const ORDERS: usize = 300;
    let system = System::new().await;
    let (user, product) = (system.create_user(true).await, system.create_product(1000, 100).await);
    let items = [(product, 1)];
    let posts = (0..ORDERS).map(|_| system.submit(user, &items));
    futures_util::future::join_all(posts).await;
    let audit = system.audit().await;
    assert_eq!((audit.orders, audit.confirmed), (ORDERS, ORDERS));
    for stream in ["USER_COMMANDS", "USER_REPLIES", "PRODUCT_COMMANDS", "PRODUCT_REPLIES"] {
        let said = system.said(stream).await;
        let events: usize = said.iter().map(|said| batch(said).len()).sum();
        assert!(events >= ORDERS, "{stream} brought {events} events");
        assert!(said.len() <= ORDERS / 3, "{stream} needed {} messages", said.len());
    }
}
