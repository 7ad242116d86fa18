//! Spans of batches and requests, told while the work is done: every service tells the collector, and what it understood is looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use events::{ProductId, UserId};
use reqwest::Method;
use testkit::{Service, System, answer, eventually, id, order_body};

use crate::collector::{Collector, Seen};

const SOON: Duration = Duration::from_secs(40);

/// A system of which every service tells this receiver.
async fn system(url: &str) -> System {
    let url = url.to_owned();
    let told = move |settings: &mut testkit::Settings| {
        for parts in settings.parts() {
            parts.traces.otlp_url = Some(url.clone().into());
            parts.traces.traces_share = 0.001;
        }
    };
    System::builder().impatient().never_giving_up().settings(told).start().await
}

/// A `traceparent`, and the id of its trace.
fn traceparent(number: u128, flags: &str) -> (String, String) {
    let trace = format!("{:032x}", 0x4bf9_2f35_77b3_4da6_80ff_ffff_0000_0000_u128 + number);
    (format!("00-{trace}-00f067aa0ba902b7-{flags}"), trace)
}

/// Places an order as part of this trace.
async fn placed(system: &System, user: UserId, product: ProductId, traceparent: &str) -> events::OrderId {
    let request = system.client(Service::Gateway).request(Method::POST, "/orders").header("traceparent", traceparent);
    let request = request.header("tracestate", "congo=t61rcWkgMzE").json(&order_body(user, &[(product, 1)]));
    events::OrderId(id(&answer(request).await.expect(202)))
}

/// Who told of it, its name, and its kind.
fn heading(span: &Seen) -> (String, String, String) {
    let service = span.resource["service.name"].trim_start_matches("Str(").trim_end_matches(')').to_owned();
    (service, span.field("Name").to_owned(), span.field("Kind").trim_start_matches("SPAN_KIND_").to_lowercase())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_batch_with_a_sampled_member_is_a_span_that_is_linked_to_its_trace() {
    let Some(collector) = Collector::start().await else { return };
    let system = system(&collector.url).await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    let (unsampled, nobodys) = traceparent(1, "00");
    let (sampled, trace) = traceparent(2, "01");
    for traceparent in [unsampled, sampled] {
        let order = placed(&system, user, product, &traceparent).await;
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    let wanted = [
        ("order", "POST /orders", "server"),
        // An event and a command.
        ("order", "publish", "producer"),
        ("user", "process commands.user.validate", "consumer"),
        ("user", "publish replies.user", "producer"),
        ("order", "process replies.user", "consumer"),
        ("order", "publish commands.product.reserve", "producer"),
        ("product", "process commands.product.reserve", "consumer"),
        ("product", "publish replies.product", "producer"),
        ("order", "process replies.product", "consumer"),
        ("order", "publish events.order.confirmed.*", "producer"),
    ]
    .map(|(service, name, kind)| (service.to_owned(), name.to_owned(), kind.to_owned()));
    let spans = eventually(SOON, || async {
        let spans: Vec<Seen> = collector.spans().into_iter().filter(|span| !span.field("Name").contains("/users")).collect();
        let told: Vec<_> = spans.iter().map(heading).collect();
        if wanted.iter().all(|wanted| told.contains(wanted)) { Ok(spans) } else { Err(told) }
    })
    .await;
    let named = |name: &str| spans.iter().find(|span| span.field("Name") == name).expect("it was there");
    let request = named("POST /orders");
    assert_eq!((request.field("Trace ID"), request.field("Parent ID")), (trace.as_str(), "00f067aa0ba902b7"));
    assert_eq!(request.field("TraceState"), "congo=t61rcWkgMzE");
    assert_eq!((request.text("http.route"), request.text("http.request.method")), ("/orders", "POST"));
    assert_eq!(request.text("http.response.status_code"), "Int(202)");
    for batch in spans.iter().filter(|span| span.attributes.contains_key("messaging.operation.name")) {
        assert_eq!(batch.links, [trace.as_str()], "{batch:?}");
        assert_eq!(batch.link_states, ["congo=t61rcWkgMzE"], "{batch:?}");
        assert_ne!(batch.field("Trace ID"), trace, "a batch is nobody's alone");
        assert_eq!((batch.field("Parent ID"), batch.text("messaging.system")), ("", "nats"));
        assert_ne!(batch.field("Status code"), "STATUS_CODE_ERROR");
        assert!(batch.times[1] > batch.times[0], "{batch:?}");
    }
    let process = named("process commands.user.validate");
    let said =
        ["messaging.operation.name", "messaging.operation.type", "messaging.destination.name", "messaging.consumer.group.name"];
    assert_eq!(said.map(|name| process.text(name)), ["process", "process", "commands.user.validate", "user"]);
    let counts = ["messaging.batch.message_count", "waybill.batch.events"];
    assert_eq!(counts.map(|name| process.text(name)), ["Int(1)", "Int(1)"]);
    let publish = named("publish events.order.confirmed.*");
    let said = ["messaging.operation.name", "messaging.operation.type", "messaging.destination.template"];
    assert_eq!(said.map(|name| publish.text(name)), ["publish", "send", "events.order.confirmed.*"]);
    assert!(spans.iter().all(|span| span.field("Trace ID") != nobodys), "its caller did not sample it");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_together_is_one_span_and_what_the_relay_publishes_is_told_too() {
    let Some(collector) = Collector::start().await else { return };
    let system = system(&collector.url).await;
    let (user, product) = (system.create_user(true).await, system.create_product(100, 100).await);
    // Nobody publishes meanwhile, so the relay does, many rows at once.
    system.stack.nats.kill().expect("it runs");
    let mut orders = Vec::new();
    for number in 0..20 {
        orders.push(placed(&system, user, product, &traceparent(number, "01").0).await);
    }
    system.stack.nats.restart().await.expect("it starts again");
    for order in orders {
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    let all: BTreeSet<String> = (0..20).map(|number| traceparent(number, "01").1).collect();
    let told = |service: &str, operation: &str| {
        let of = |span: &Seen| heading(span).0 == service && span.text("messaging.operation.name") == operation;
        collector.spans().into_iter().filter(of).collect::<Vec<Seen>>()
    };
    for (service, operation) in [("order", "publish"), ("user", "process"), ("product", "process"), ("order", "process")] {
        let spans = eventually(SOON, || async {
            let spans = told(service, operation);
            let linked: BTreeSet<String> = spans.iter().flat_map(|span| span.links.clone()).collect();
            if linked == all { Ok(spans) } else { Err(linked) }
        })
        .await;
        assert!(spans.iter().any(|span| span.links.len() > 1), "{service} did nothing together: {spans:?}");
        for span in spans {
            assert_eq!(span.links.len(), span.links.iter().collect::<BTreeSet<_>>().len(), "each once");
        }
    }
    system.audit().await;
}
