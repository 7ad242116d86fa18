//! Metrics in Prometheus' form. Each service has a registry of its own, so that services side by side in one process (`waybill up`) each answer
//! for themselves. Counted by the batch, not by the item, wherever there is one.

#[cfg(target_os = "linux")]
mod process;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Histogram, KeyName, Recorder as _, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::dead_letter::Kind;
use crate::unpublished::Cause;

/// One scale for all spans of time, so that any two can be laid over each other: from half a millisecond, a quick commit, over the waits
/// after which things happen (5 s: the first repetition of a command; 30 s: stuck; 60 s: the longest wait between repetitions) to the
/// deadlines of a step and of a saga, so that a threshold at one of them is exact.
const SECONDS: [f64; 18] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];

/// Powers of two up to the largest batch.
const ITEMS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What is measured here, in the words of `# HELP`.
const HELP: [(&str, &str); 24] = [
    ("waybill_build_info", "1; its labels say which service of which version this is."),
    ("waybill_ready", "1 where /readyz answers that the service can work, else 0."),
    ("waybill_http_requests_total", "Requests answered, by route and status."),
    ("waybill_http_request_seconds", "Time until the answer to a request begins, with what it was asked to wait for."),
    ("waybill_http_connections_refused_total", "Connections closed at once, because their client had too many."),
    ("waybill_batch_items", "Items of the batches that were committed: requests, events, timers."),
    ("waybill_batch_seconds", "Time a batch took from the permit to write until it was committed."),
    ("waybill_batches_failed_total", "Batches that were not committed; their items are tried again, or one by one."),
    ("waybill_overloaded_total", "Requests turned away because a queue, or their client's share of it, was full."),
    ("waybill_pool_wait_seconds", "Time somebody waited for a connection to the database."),
    ("waybill_messages_published_total", "Messages the broker acknowledged right after their commit."),
    ("waybill_outbox_rows", "Rows in the outbox, counted up to a limit. The same at every instance of a service."),
    ("waybill_outbox_rows_refused", "Of these, rows set aside after the broker refused them."),
    ("waybill_outbox_oldest_seconds", "Age of the oldest row in the outbox."),
    ("waybill_outbox_rows_failed_total", "Rows left to the relay, because publishing them failed."),
    ("waybill_outbox_rows_relayed_total", "Rows left behind that the relay published."),
    ("waybill_outbox_dead_letters_total", "Messages that went to the dead letters, because the broker never took them."),
    ("waybill_consumer_pending", "Messages of a stream that the service has still to read."),
    ("waybill_consumer_ack_pending", "Messages brought and not yet acknowledged."),
    ("waybill_consumer_redelivered", "Of these, messages that were brought more than once."),
    ("waybill_events_set_aside", "Events that wait for rows somebody else holds."),
    ("waybill_events_not_set_aside_total", "Events let go because too many were set aside; their sagas ask again."),
    ("waybill_dead_letters_total", "Dead letters stored, by what is wrong with the message."),
    ("waybill_dead_letters_let_go_total", "Dead letters not stored, because there were too many of their kind."),
];

/// What one service measures.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

struct Registry {
    service: &'static str,
    recorder: PrometheusRecorder,
}

impl Metrics {
    /// Those of a service.
    pub fn new(service: &'static str) -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_items".to_owned()), &ITEMS))
            .expect("the buckets are not empty");
        let metrics = Self(Arc::new(Registry { service, recorder: builder.build_recorder() }));
        HELP.iter().for_each(|(name, help)| metrics.describe(*name, help));
        metrics.record(|| {
            gauge!("waybill_build_info", "service" => service, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            let _ = counter!("waybill_http_connections_refused_total", "service" => service);
        });
        metrics
    }

    /// The service's name.
    pub fn service(&self) -> &'static str {
        self.0.service
    }

    /// Counts with the macros of the crate `metrics`: what they count within is this service's.
    pub fn record<T>(&self, count: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.0.recorder, count)
    }

    /// Says what a metric is. Its kind shows in its use.
    pub fn describe(&self, name: impl Into<KeyName>, help: &'static str) {
        self.0.recorder.describe_gauge(name.into(), None, help.into());
    }

    /// Begins to count what an outbox does. Here and below: at nothing, because a counter that begins at one shows no increase.
    pub(crate) fn count_outbox(&self) {
        self.record(|| {
            let _ = counter!("waybill_messages_published_total");
            let _ = counter!("waybill_outbox_rows_failed_total");
            let _ = counter!("waybill_outbox_rows_relayed_total");
            for cause in [Cause::Never, Cause::Refused, Cause::Unheard] {
                let labels = [("service", self.0.service), ("reason", cause.name())];
                let _ = counter!("waybill_outbox_dead_letters_total", &labels);
            }
        });
    }

    /// Begins to count what a handler does.
    pub(crate) fn count_handler(&self, handler: &'static str) {
        self.record(|| {
            let _ = counter!("waybill_overloaded_total", "handler" => handler);
            let _ = counter!("waybill_batches_failed_total", "handler" => handler);
            let _ = counter!("waybill_events_not_set_aside_total", "handler" => handler);
        });
    }

    /// Begins to count the dead letters of a stream.
    pub(crate) fn count_dead_letters(&self, stream: &'static str) {
        self.record(|| {
            for kind in Kind::ALL {
                let labels = [("stream", stream), ("reason", kind.name())];
                let _ = counter!("waybill_dead_letters_total", &labels);
                let _ = counter!("waybill_dead_letters_let_go_total", &labels);
            }
        });
    }

    /// Adds up what was measured, for ever: until then each measurement takes its bytes, and nobody may ever ask for `/metrics`.
    pub(crate) async fn add_up(self) {
        const EVERY: Duration = Duration::from_secs(5);
        loop {
            tokio::time::sleep(EVERY).await;
            self.0.recorder.handle().run_upkeep();
        }
    }

    /// What `/metrics` answers. It asks neither the database nor the broker: what they know is looked at beside, at a pace of its own.
    pub(crate) fn render(&self, ready: bool) -> String {
        self.record(|| gauge!("waybill_ready").set(if ready { 1.0 } else { 0.0 }));
        #[cfg_attr(not(target_os = "linux"), expect(unused_mut))]
        let mut text = self.0.recorder.handle().render();
        #[cfg(target_os = "linux")]
        process::render(&mut text);
        text
    }

    /// A request was answered.
    pub(crate) fn request(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let service = self.0.service;
        let labels = [
            ("service", service.to_owned()),
            ("method", known(method).to_owned()),
            ("route", route.to_owned()),
            ("status", status.as_str().to_owned()),
        ];
        self.record(|| {
            counter!("waybill_http_requests_total", &labels).increment(1);
            let seconds = histogram!("waybill_http_request_seconds", "service" => service, "route" => route.to_owned());
            seconds.record(took.as_secs_f64());
        });
    }

    /// A connection was closed at once: its client has too many.
    pub(crate) fn connection_refused(&self) {
        self.record(|| counter!("waybill_http_connections_refused_total", "service" => self.0.service).increment(1));
    }

    /// A batch was committed, or was not.
    pub(crate) fn batch(&self, handler: &'static str, items: usize, took: Duration, committed: bool) {
        self.record(|| {
            if !committed {
                counter!("waybill_batches_failed_total", "handler" => handler).increment(1);
                return;
            }
            histogram!("waybill_batch_items", "handler" => handler).record(items as f64);
            histogram!("waybill_batch_seconds", "handler" => handler).record(took.as_secs_f64());
        });
    }

    /// Requests were turned away because a queue was full.
    pub(crate) fn overloaded(&self, handler: &'static str) {
        self.record(|| counter!("waybill_overloaded_total", "handler" => handler).increment(1));
    }

    /// The waits for a connection of a pool.
    pub(crate) fn pool_waits(&self, pool: &'static str) -> Histogram {
        self.record(|| histogram!("waybill_pool_wait_seconds", "pool" => pool))
    }

    /// Messages were acknowledged by the broker.
    pub(crate) fn published(&self, messages: usize) {
        self.record(|| counter!("waybill_messages_published_total").increment(messages as u64));
    }

    /// An outbox row was left to the relay.
    pub(crate) fn publish_failed(&self) {
        self.record(|| counter!("waybill_outbox_rows_failed_total").increment(1));
    }

    /// The relay published rows left behind.
    pub(crate) fn relayed(&self, rows: usize) {
        self.record(|| counter!("waybill_outbox_rows_relayed_total").increment(rows as u64));
    }

    /// A message the broker never took went to the dead letters.
    pub(crate) fn unpublishable(&self, cause: Cause) {
        let labels = [("service", self.0.service), ("reason", cause.name())];
        self.record(|| counter!("waybill_outbox_dead_letters_total", &labels).increment(1));
    }

    /// How many rows are in an outbox, how many of them were refused and wait, and how old the oldest is.
    pub(crate) fn outbox(&self, rows: i64, refused: i64, oldest_seconds: f64) {
        let service = self.0.service;
        self.record(|| {
            gauge!("waybill_outbox_rows", "service" => service).set(rows as f64);
            gauge!("waybill_outbox_rows_refused", "service" => service).set(refused as f64);
            gauge!("waybill_outbox_oldest_seconds", "service" => service).set(oldest_seconds);
        });
    }

    /// How many messages a consumer has still to bring, how many it brought that are not acknowledged, and how many of those more than once.
    pub(crate) fn consumer(&self, stream: &'static str, pending: u64, unacknowledged: u64, redelivered: u64) {
        let labels = [("stream", stream), ("consumer", self.0.service)];
        self.record(|| {
            gauge!("waybill_consumer_pending", &labels).set(pending as f64);
            gauge!("waybill_consumer_ack_pending", &labels).set(unacknowledged as f64);
            gauge!("waybill_consumer_redelivered", &labels).set(redelivered as f64);
        });
    }

    /// Events that wait for rows somebody else holds.
    pub(crate) fn events_set_aside(&self, handler: &'static str, events: usize) {
        self.record(|| gauge!("waybill_events_set_aside", "handler" => handler).set(events as f64));
    }

    /// An event could not be set aside: there were too many.
    pub(crate) fn not_set_aside(&self, handler: &'static str) {
        self.record(|| counter!("waybill_events_not_set_aside_total", "handler" => handler).increment(1));
    }

    /// A dead letter was stored.
    pub(crate) fn buried(&self, stream: &'static str, kind: Kind) {
        let labels = [("stream", stream), ("reason", kind.name())];
        self.record(|| counter!("waybill_dead_letters_total", &labels).increment(1));
    }

    /// A dead letter was let go, because there were too many of its kind.
    pub(crate) fn not_buried(&self, stream: &'static str, kind: Kind) {
        let labels = [("stream", stream), ("reason", kind.name())];
        self.record(|| counter!("waybill_dead_letters_let_go_total", &labels).increment(1));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_services_in_one_process_each_answer_for_themselves() {
        let (one, other) = (Metrics::new("one"), Metrics::new("other"));
        one.published(3);
        other.published(4);
        one.request(&Method::from_bytes(b"INVENTED").unwrap(), "/orders", StatusCode::OK, Duration::ZERO);
        let (one, other) = (one.render(true), other.render(false));
        assert!(one.lines().any(|line| line == "waybill_messages_published_total 3"), "{one}");
        assert!(other.lines().any(|line| line == "waybill_messages_published_total 4"), "{other}");
        assert!(one.contains("\nwaybill_ready 1\n") && other.contains("\nwaybill_ready 0\n"), "{one}{other}");
        assert!(one.contains("waybill_build_info{service=\"one\",version=\""), "{one}");
        assert!(one.contains("method=\"other\"") && !other.contains("waybill_http_requests_total"), "{one}{other}");
    }

    #[test]
    fn whatever_is_measured_says_what_it_is() {
        let metrics = Metrics::new("one");
        metrics.request(&Method::GET, "/orders", StatusCode::OK, Duration::ZERO);
        metrics.connection_refused();
        metrics.batch("one", 1, Duration::ZERO, true);
        metrics.batch("one", 1, Duration::ZERO, false);
        metrics.overloaded("one");
        metrics.pool_waits("reading").record(0.0);
        metrics.published(1);
        metrics.publish_failed();
        metrics.relayed(1);
        metrics.unpublishable(Cause::Refused);
        metrics.outbox(1, 1, 1.0);
        metrics.consumer("ONE", 1, 1, 1);
        metrics.events_set_aside("one", 1);
        metrics.not_set_aside("one");
        metrics.buried("ONE", Kind::Failed);
        metrics.not_buried("ONE", Kind::Failed);
        let text = metrics.render(true);
        let named = |sign: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(sign)?.split(' ').next());
            let mut names: Vec<String> = lines.map(str::to_owned).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(named("# HELP "), named("# TYPE "), "{text}");
        assert!(HELP.iter().all(|(name, _)| named("# TYPE ").iter().any(|found| found == name)), "{text}");
        for name in named("# TYPE ").iter().filter(|name| name.ends_with("_total")) {
            assert!(text.contains(&format!("# TYPE {name} counter\n")), "{name}");
        }
    }
}
