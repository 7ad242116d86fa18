//! Traces after the fact: a collector that others wrote is told the whole trace of a saga from its history.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::OrderId;
use reqwest::Method;
use serde_json::Value;
use testkit::{Service, System, answer, id, order_body};

use crate::collector::{Collector, Seen};

/// A system whose order service tells traces to this receiver: this percent of those that went well, and all that took longer than this.
pub async fn system(url: &str, share: f64, slow: Duration) -> System {
    let url = url.to_owned();
    let traced = move |order: &mut order::Settings| {
        order.parts.traces.otlp_url = Some(url.into());
        order.parts.traces.traces_share = share;
        order.sagas.timing.traces_slow = slow;
        order.sagas.timing.stuck_after = Duration::from_millis(500);
    };
    System::builder().impatient().never_giving_up().order(traced).start().await
}

/// Places an order as somebody whose trace is this.
async fn placed(system: &System, body: &Value, traceparent: &str) -> String {
    let request = system.client(Service::Gateway).request(Method::POST, "/orders").header("traceparent", traceparent);
    let request = request.header("tracestate", "congo=t61rcWkgMzE, rojo=1");
    id(&answer(request.json(body)).await.expect(202)).to_string()
}

fn nanos(time: &Value) -> u64 {
    let time: DateTime<Utc> = time.as_str().unwrap().parse().unwrap();
    time.timestamp_nanos_opt().unwrap().try_into().unwrap()
}

fn names(spans: &[Seen]) -> Vec<&str> {
    spans.iter().map(|span| span.field("Name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_told_whole_whatever_was_sampled_before() {
    let Some(collector) = Collector::start().await else { return };
    let system = system(&collector.url, 0.001, Duration::from_secs(3_600)).await;
    let (ada, idle) = (system.create_user(true).await, system.create_user(false).await);
    let product = system.create_product(100, 100).await;
    let well =
        placed(&system, &order_body(ada, &[(product, 1)]), "00-4bf92f3577b34da6a3ceff9d0e0e4736-00f067aa0ba902b7-01").await;
    // Its caller did not sample it.
    let refused =
        placed(&system, &order_body(idle, &[(product, 1)]), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").await;
    let spans = collector.trace(&refused, "compensated").await;
    assert_eq!(names(&spans), ["order", "validate_user"]);
    let [root, step] = spans.as_slice() else { unreachable!() };
    assert_eq!((root.field("Trace ID"), root.field("Parent ID")), ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"));
    assert_eq!((step.field("Trace ID"), step.field("Parent ID")), (root.field("Trace ID"), root.field("ID")));
    assert_eq!((root.field("Kind"), step.field("Kind")), ("SPAN_KIND_SERVER", "SPAN_KIND_CLIENT"));
    assert_eq!((root.field("Status code"), root.text("waybill.saga.status")), ("STATUS_CODE_ERROR", "rejected"));
    assert!(step.field("Status message").contains("user_inactive"), "{step:?}");
    assert_eq!((step.text("peer.service"), step.text("messaging.destination.name")), ("user", "commands.user.validate"));
    assert_eq!((step.text("waybill.step"), step.text("messaging.system")), ("validate_user", "nats"));
    for span in &spans {
        assert_eq!(span.field("TraceState"), "congo=t61rcWkgMzE,rojo=1", "what its caller keeps in the trace");
        let told_by = ["service.namespace", "service.name"].map(|name| span.resource[name].as_str());
        assert_eq!(told_by, ["Str(waybill)", "Str(order)"], "{:?}", span.resource);
    }
    // With the times that are recorded.
    let history = system.history(OrderId(refused.parse().unwrap())).await;
    let times: Vec<u64> = history.iter().map(|entry| nanos(&entry["time"])).collect();
    assert_eq!((step.times.as_slice(), root.times.as_slice()), (times.as_slice(), times.as_slice()));

    let undone = system.submit(ada, &[(product, 1)]).await;
    system.wait_final(undone).await;
    system.cancel(undone).await.expect(202);
    let spans = collector.trace(&undone.to_string(), "compensated").await;
    assert_eq!(names(&spans), ["order", "validate_user", "reserve_stock", "undo reserve_stock"]);
    assert_eq!((spans[0].field("Parent ID"), spans[0].field("TraceState")), ("", ""), "its trace began here");
    assert_eq!(spans[0].events, ["cancelled"]);
    assert!(spans[1..].iter().all(|span| span.field("Status code") != "STATUS_CODE_ERROR" && span.times[1] > span.times[0]));

    // It waits for somebody, and is told while it does.
    system.stop(Service::Product).await;
    let stuck = system.submit(ada, &[(product, 1)]).await;
    let spans = collector.trace(&stuck.to_string(), "stuck").await;
    assert_eq!(names(&spans), ["order", "validate_user", "reserve_stock"]);
    assert_eq!(spans[2].field("Status message"), "no reply");
    assert!(spans[2].events.iter().any(|event| event == "sent again"), "{:?}", spans[2]);
    system.start(Service::Product).await;
    system.wait_final(stuck).await;
    system.wait_final(OrderId(well.parse().unwrap())).await;
    assert!(collector.spans().iter().all(|span| span.text("waybill.saga.id") != well), "nothing was wrong with it");
    system.audit().await;
}
