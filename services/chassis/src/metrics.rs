//! Metrics in Prometheus' form. Counted by the batch, not by the item, wherever there is one.
//!
//! Services side by side in one process (`waybill up`) share one registry; the label `service` or `handler` tells them apart.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From half a millisecond, a quick commit, to half a minute, the longest wait.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0];

/// Powers of two up to the largest batch.
const ITEMS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Where everything is counted; made at the first start of a service in this process.
fn registry() -> &'static PrometheusHandle {
    static REGISTRY: OnceLock<PrometheusHandle> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &ITEMS))
            .expect("the buckets are not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Another recorder may be there already, in a program that embeds a service: then that one counts.
        let _ = metrics::set_global_recorder(recorder);
        handle
    })
}

/// Begins to count.
pub(crate) fn init() {
    registry();
}

/// Adds up what was measured, for ever: until then each measurement takes its bytes, and nobody may ever ask for `/metrics`.
pub(crate) async fn add_up() {
    const EVERY: Duration = Duration::from_secs(5);
    loop {
        tokio::time::sleep(EVERY).await;
        registry().run_upkeep();
    }
}

/// What `/metrics` answers.
pub(crate) fn render() -> String {
    registry().run_upkeep();
    registry().render()
}

/// A request was answered.
pub(crate) fn request(service: &'static str, method: Method, route: &str, status: StatusCode, took: Duration) {
    let labels = [
        ("service", service.to_owned()),
        ("method", known(&method).to_owned()),
        ("route", route.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    counter!("waybill_http_requests_total", &labels).increment(1);
    histogram!("waybill_http_request_seconds", "service" => service, "route" => route.to_owned()).record(took.as_secs_f64());
}

/// A connection was closed at once: its client has too many.
pub(crate) fn connection_refused(service: &'static str) {
    counter!("waybill_http_connections_refused_total", "service" => service).increment(1);
}

/// A client may invent methods; each would be a series of its own.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A batch was committed, or was not.
pub(crate) fn batch(handler: &'static str, items: usize, took: Duration, committed: bool) {
    if !committed {
        counter!("waybill_batches_failed_total", "handler" => handler).increment(1);
        return;
    }
    histogram!("waybill_batch_items", "handler" => handler).record(items as f64);
    histogram!("waybill_batch_seconds", "handler" => handler).record(took.as_secs_f64());
}

/// Messages were acknowledged by the broker.
pub(crate) fn published(messages: usize) {
    counter!("waybill_messages_published_total").increment(messages as u64);
}

/// An outbox row was left to the relay.
pub(crate) fn publish_failed() {
    counter!("waybill_outbox_rows_failed_total").increment(1);
}

/// The relay published rows left behind.
pub(crate) fn relayed(rows: usize) {
    counter!("waybill_outbox_rows_relayed_total").increment(rows as u64);
}

/// A message the broker never takes went to the dead letters.
pub(crate) fn unpublishable(service: &'static str) {
    counter!("waybill_outbox_dead_letters_total", "service" => service).increment(1);
}

/// How many rows are in an outbox, how many of them were refused and wait, and how old the oldest is.
pub(crate) fn outbox(service: &'static str, rows: i64, refused: i64, oldest_seconds: f64) {
    gauge!("waybill_outbox_rows", "service" => service).set(rows as f64);
    gauge!("waybill_outbox_rows_refused", "service" => service).set(refused as f64);
    gauge!("waybill_outbox_oldest_seconds", "service" => service).set(oldest_seconds);
}

/// Requests were turned away because a queue was full.
pub(crate) fn overloaded(handler: &'static str) {
    counter!("waybill_overloaded_total", "handler" => handler).increment(1);
}

/// Events that wait for rows somebody else holds.
pub(crate) fn events_set_aside(handler: &'static str, events: usize) {
    gauge!("waybill_events_set_aside", "handler" => handler).set(events as f64);
}

/// How many messages a consumer has still to bring.
pub(crate) fn consumer_pending(stream: &'static str, consumer: &'static str, messages: u64) {
    gauge!("waybill_consumer_pending", "stream" => stream, "consumer" => consumer).set(messages as f64);
}

/// An event could not be set aside: there were too many.
pub(crate) fn not_set_aside(handler: &'static str) {
    counter!("waybill_events_not_set_aside_total", "handler" => handler).increment(1);
}

/// Dead letters were stored.
pub(crate) fn buried(stream: &'static str, letters: usize) {
    counter!("waybill_dead_letters_total", "stream" => stream).increment(letters as u64);
}

/// A dead letter was let go, because there were too many of its kind.
pub(crate) fn not_buried(stream: &'static str, kind: &'static str) {
    counter!("waybill_dead_letters_let_go_total", "stream" => stream, "reason" => kind).increment(1);
}
