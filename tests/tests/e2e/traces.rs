//! Traces after the fact: a receiver of OTLP over HTTP, made of the protocol's own generated messages, is told the whole trace of a saga from its
//! history.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chrono::{DateTime, Utc};
use events::OrderId;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use reqwest::Method;
use serde_json::Value;
use testkit::{Service, System, answer, eventually, id, order_body};
use tokio::net::TcpListener;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(40);

/// A receiver, and the spans that it took.
#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
    /// How many requests it turns away first.
    busy: Arc<AtomicU32>,
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let router = Router::new().route("/otlp/v1/traces", post(take)).with_state(receiver.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/otlp", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    /// The spans of a saga: the root first, then its children.
    fn of(&self, saga: Uuid, outcome: &str) -> Option<Vec<Span>> {
        let spans = self.spans.lock().unwrap();
        let is = |span: &&Span| {
            text(&span.attributes, "waybill.saga.id") == saga.to_string()
                && text(&span.attributes, "waybill.saga.outcome") == outcome
        };
        let root = spans.iter().find(is)?;
        let children = spans.iter().filter(|span| span.parent_span_id == root.span_id);
        Some([root].into_iter().chain(children).cloned().collect())
    }

    async fn told(&self, saga: Uuid, outcome: &str) -> Vec<Span> {
        eventually(SOON, || async { self.of(saga, outcome).ok_or_else(|| format!("{saga} is not told as {outcome}")) }).await
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    if receiver.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |busy| busy.checked_sub(1)).is_ok() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    for resource in request.resource_spans {
        let attributes = resource.resource.expect("a resource").attributes;
        assert_eq!(
            (text(&attributes, "service.namespace"), text(&attributes, "service.name")),
            ("waybill".into(), "order".into())
        );
        receiver.spans.lock().unwrap().extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| attribute.value.clone()?.value);
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

async fn system(url: &str, share: f64) -> System {
    let url = url.to_owned();
    let traced = move |order: &mut order::Settings| {
        order.sagas.traces.otlp_url = Some(url.into());
        order.sagas.traces.traces_share = share;
        order.sagas.traces.traces_slow = Duration::from_secs(3_600);
        order.sagas.timing.stuck_after = Duration::from_millis(500);
    };
    System::builder().impatient().never_giving_up().order(traced).start().await
}

/// Places an order as somebody whose trace is this.
async fn placed(system: &System, body: &Value, traceparent: &str) -> Uuid {
    let request = system.client(Service::Gateway).request(Method::POST, "/orders").header("traceparent", traceparent).json(body);
    id(&answer(request).await.expect(202))
}

fn nanos(time: &Value) -> u64 {
    let time: DateTime<Utc> = time.as_str().unwrap().parse().unwrap();
    time.timestamp_nanos_opt().unwrap().try_into().unwrap()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_told_whole_whatever_was_sampled_before() {
    let (receiver, url) = Receiver::start().await;
    let system = system(&url, 0.001).await;
    let (ada, idle) = (system.create_user(true).await, system.create_user(false).await);
    let product = system.create_product(100, 100).await;
    let well =
        placed(&system, &order_body(ada, &[(product, 1)]), "00-4bf92f3577b34da6a3ceff9d0e0e4736-00f067aa0ba902b7-01").await;
    // Its caller did not sample it.
    let refused =
        placed(&system, &order_body(idle, &[(product, 1)]), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").await;
    let spans = receiver.told(refused, "compensated").await;
    assert_eq!(names(&spans), ["order", "validate_user"]);
    let [root, step] = spans.as_slice() else { unreachable!() };
    assert_eq!(root.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!((root.parent_span_id.as_slice(), &step.trace_id), (&0xb7ad_6b71_6920_3331_u64.to_be_bytes()[..], &root.trace_id));
    assert_eq!((root.status.as_ref().unwrap().code, text(&root.attributes, "waybill.saga.status")), (2, "rejected".to_owned()));
    assert!(step.status.as_ref().unwrap().message.contains("user_inactive"), "{step:?}");
    assert_eq!(
        (text(&step.attributes, "peer.service"), text(&step.attributes, "messaging.destination.name")),
        ("user".into(), "commands.user.validate".into())
    );
    // With the times that are recorded.
    let history = system.history(OrderId(refused)).await;
    let times: Vec<u64> = history.iter().map(|entry| nanos(&entry["time"])).collect();
    assert_eq!([step.start_time_unix_nano, step.end_time_unix_nano], times.as_slice());
    assert_eq!([root.start_time_unix_nano, root.end_time_unix_nano], times.as_slice());

    let undone = system.submit(ada, &[(product, 1)]).await;
    system.wait_final(undone).await;
    system.cancel(undone).await.expect(202);
    let spans = receiver.told(undone.0, "compensated").await;
    assert_eq!(names(&spans), ["order", "validate_user", "reserve_stock", "undo reserve_stock"]);
    assert!(spans[0].parent_span_id.is_empty(), "its trace began here");
    assert_eq!(spans[0].events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["cancelled"]);
    assert!(spans[1..].iter().all(|span| span.status.is_none() && span.end_time_unix_nano > span.start_time_unix_nano));

    // It waits for somebody, and is told while it does.
    system.stop(Service::Product).await;
    let stuck = system.submit(ada, &[(product, 1)]).await;
    let spans = receiver.told(stuck.0, "stuck").await;
    assert_eq!(names(&spans), ["order", "validate_user", "reserve_stock"]);
    assert_eq!(spans[2].status.as_ref().unwrap().message, "no reply");
    assert!(spans[2].events.iter().any(|event| event.name == "sent again"), "{:?}", spans[2]);
    system.start(Service::Product).await;
    system.wait_final(stuck).await;
    system.wait_final(OrderId(well)).await;
    assert_eq!(receiver.of(well, "completed"), None, "nothing was wrong with it");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_all_is_told_each_once_by_a_receiver_that_was_busy() {
    let (receiver, url) = Receiver::start().await;
    receiver.busy.store(2, Ordering::SeqCst);
    let system = system(&url, 100.0).await;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let orders = system.submit_many(50, user, &[(product, 1)]).await;
    for order in &orders {
        let spans = receiver.told(order.0, "completed").await;
        assert_eq!(names(&spans), ["order", "validate_user", "reserve_stock"]);
    }
    assert_eq!(receiver.spans.lock().unwrap().len(), 3 * orders.len(), "each once");
    let told = system.client(Service::Order).get("/metrics").await.text;
    assert!(told.contains("waybill_spans_told_total"), "{told}");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_holds_up_nobody_and_what_it_missed_is_counted() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let system = system(&format!("http://{nobody}"), 100.0).await;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    for order in system.submit_many(20, user, &[(product, 1)]).await {
        assert_eq!(system.wait_final(order).await["status"], "confirmed");
    }
    eventually(SOON, || async {
        let metrics = system.client(Service::Order).get("/metrics").await.text;
        let missed = metrics.lines().any(|line| line.starts_with("waybill_spans_dropped_total{") && line.contains("unreachable"));
        if missed { Ok(()) } else { Err("nothing is counted") }
    })
    .await;
    assert_eq!(system.audit().await.confirmed, 20);
}
