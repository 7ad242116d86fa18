//! What becomes of traces that are not taken at once, or never: a receiver of OTLP over HTTP made of the protocol's own generated messages, which turns
//! requests away as no collector can be told to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use testkit::{Service, eventually};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::traces::system;

const SOON: Duration = Duration::from_secs(40);

/// A receiver, and the spans that it took.
#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
    /// How many requests it turns away first.
    busy: Arc<AtomicU32>,
    /// What it says next of requests that it does not take.
    refuses: Arc<Mutex<Vec<Refusal>>>,
}

#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// The whole request, for good.
    Whole,
    /// One of its spans.
    One,
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

    /// The names of the spans of a saga: of the root first, then of its children.
    async fn told(&self, saga: Uuid) -> Vec<String> {
        let told = || async {
            let spans = self.spans.lock().unwrap();
            let root = spans.iter().find(|span| text(&span.attributes, "waybill.saga.id") == saga.to_string());
            let root = root.ok_or_else(|| format!("{saga} is not told"))?;
            let children = spans.iter().filter(|span| span.parent_span_id == root.span_id);
            Ok::<_, String>([root].into_iter().chain(children).map(|span| span.name.clone()).collect())
        };
        eventually(SOON, told).await
    }
}

async fn take(State(receiver): State<Receiver>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    if receiver.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |busy| busy.checked_sub(1)).is_ok() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut response = ExportTraceServiceResponse::default();
    match receiver.refuses.lock().unwrap().pop() {
        Some(Refusal::Whole) => return Err(StatusCode::BAD_REQUEST),
        Some(Refusal::One) => {
            let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "one is too many".to_owned() };
            response.partial_success = Some(partial);
        }
        None => {}
    }
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    let spans = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    receiver.spans.lock().unwrap().extend(spans);
    Ok(response.encode_to_vec())
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| attribute.value.clone()?.value);
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_all_is_told_each_once_by_a_receiver_that_was_busy() {
    let (receiver, url) = Receiver::start().await;
    receiver.busy.store(2, Ordering::SeqCst);
    let system = system(&url, 100.0, Duration::from_secs(3_600)).await;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let orders = system.submit_many(50, user, &[(product, 1)]).await;
    for order in &orders {
        assert_eq!(receiver.told(order.0).await, ["order", "validate_user", "reserve_stock"]);
    }
    let of_batches = |span: &&Span| !text(&span.attributes, "messaging.operation.name").is_empty();
    let of_batches = receiver.spans.lock().unwrap().iter().filter(of_batches).count();
    assert_eq!(receiver.spans.lock().unwrap().len() - of_batches, 3 * orders.len(), "each once");
    let told = system.client(Service::Order).get("/metrics").await.text;
    assert!(told.contains("waybill_spans_told_total"), "{told}");
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_refuses_is_counted_and_not_told_again() {
    let (receiver, url) = Receiver::start().await;
    // The last is said first.
    receiver.refuses.lock().unwrap().extend([Refusal::One, Refusal::Whole]);
    let system = system(&url, 0.001, Duration::ZERO).await;
    let (user, product) = (system.create_user(true).await, system.create_product(1_000, 100).await);
    let refused = async |spans: &str| {
        eventually(SOON, || async {
            let metrics = system.client(Service::Order).get("/metrics").await.text;
            let counted =
                metrics.lines().find(|line| line.starts_with("waybill_spans_dropped_total{") && line.contains("refused"));
            if counted.is_some_and(|line| line.ends_with(spans)) { Ok(()) } else { Err(format!("{counted:?}")) }
        })
        .await;
    };
    for (spans, untaken) in [(" 3", true), (" 4", false)] {
        let order = system.submit(user, &[(product, 1)]).await;
        system.wait_final(order).await;
        refused(spans).await;
        let told = receiver.spans.lock().unwrap().len();
        assert_eq!(told, if untaken { 0 } else { 3 }, "what is refused is not told again");
    }
    system.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_holds_up_nobody_and_what_it_missed_is_counted() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let system = system(&format!("http://{nobody}"), 100.0, Duration::from_secs(3_600)).await;
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
