//! Spans, told to an OTLP receiver over HTTP beside the work. Nobody waits for it: what does not fit into the queue, or is not taken, is dropped
//! and counted.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use envelope::TraceParent;
use metrics::counter;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use reqwest::{StatusCode, Url, header};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use opentelemetry_proto::tonic::trace::v1::{Span, Status, span, status};

use crate::causes::causes;
use crate::gather::gather;
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::settings::{Secret, hidden};

/// Traces, and spans of batches and requests, that wait to be told. A hundred a second for ten seconds.
const QUEUE: usize = 1_024;

/// Traces and single spans told in one request, at most: as many as the exporters of OpenTelemetry take.
const AT_ONCE: usize = 512;

/// How long the receiver has to take one request.
const WITHIN: Duration = Duration::from_secs(10);

/// And it and all that wait, at shutdown.
const AT_THE_END: Duration = Duration::from_secs(2);

/// When a request is sent again that the receiver could not take. Then it is dropped.
const AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// Where traces are told, and which.
#[derive(Args, Clone, Debug)]
pub struct TraceSettings {
    /// The OTLP receiver that traces are told to, over HTTP; `/v1/traces` is added to its path. Not set: none is told, and nothing is done for it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL", value_parser = hidden(receiver))]
    pub otlp_url: Option<Secret>,

    /// Percent of the sagas that came through well and soon whose traces are told. Those of all others are. Batches are linked to the same ones, and to
    /// those that their callers sampled.
    #[arg(long, env = "WAYBILL_TRACES_SHARE", default_value = "1", value_name = "PERCENT", value_parser = percent)]
    pub traces_share: f64,
}

/// The address of a receiver.
fn receiver(text: &str) -> Result<Secret, String> {
    let wrong = || "it is not an address such as http://127.0.0.1:4318".to_owned();
    let url: Url = text.parse().map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(text.to_owned().into()) } else { Err(wrong()) }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse::<f64>().ok().filter(|percent| (0.001..=100.0).contains(percent));
    percent.ok_or_else(|| "it is not a number from 0.001 to 100".to_owned())
}

/// Takes traces to be told.
#[derive(Clone)]
pub struct Traces {
    metrics: Metrics,
    share: f64,
    queue: mpsc::Sender<Vec<Span>>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("share", &self.share).finish_non_exhaustive()
    }
}

impl Traces {
    /// One for a service, if there is a receiver, and what tells them.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn new(metrics: Metrics, settings: &TraceSettings) -> anyhow::Result<Option<(Self, Teller)>> {
        let Some(address) = &settings.otlp_url else { return Ok(None) };
        let mut url: Url = address.expose().parse()?;
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
        // What the environment says to other programs is not for us, and a receiver that leads elsewhere is none.
        // Err only says that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        let (queue, traces) = mpsc::channel(QUEUE);
        metrics.describe("waybill_spans_told_total", "Spans of traces that their receiver took.");
        metrics.describe("waybill_spans_dropped_total", "Spans of traces that it did not take, by reason.");
        Ok(Some((
            Self { metrics: metrics.clone(), share: settings.traces_share, queue },
            Teller { metrics, url, http, traces, failed: Seldom::default() },
        )))
    }

    /// Whether a trace is in the share that is told whatever became of it: by its id, so that all who go by it tell the same ones.
    pub fn in_share(&self, trace: &TraceParent) -> bool {
        const BITS: u32 = 56;
        let random = trace.trace_id() & ((1 << BITS) - 1);
        // Compared as whole numbers: as a fraction the last of them would round up, and not be among all.
        random < (self.share / 100.0 * (1u64 << BITS) as f64) as u128
    }

    /// Whether somebody is told of a trace while it is under way: its caller, who sampled it, or whoever looks at the share.
    pub(crate) fn tells(&self, trace: &TraceParent) -> bool {
        trace.is_sampled() || self.in_share(trace)
    }

    /// Tells the spans of a trace, or drops them where too many wait.
    pub fn tell(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.queue.try_send(spans).is_err() {
            dropped(&self.metrics, "queue_full", count);
        }
    }
}

/// Tells traces.
pub struct Teller {
    metrics: Metrics,
    url: Url,
    http: reqwest::Client,
    traces: mpsc::Receiver<Vec<Span>>,
    failed: Seldom,
}

impl Teller {
    /// Tells what comes, until shutdown; then what waits, if the receiver takes it at once.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut traces = Vec::new();
        let mut ends_at = None;
        loop {
            tokio::select! {
                () = gather(&mut self.traces, &mut traces, AT_ONCE) => {}
                () = shutdown.cancelled(), if ends_at.is_none() => {
                    self.traces.close();
                    ends_at = Some(Instant::now() + AT_THE_END);
                    continue;
                }
            }
            // Nothing is left, and nothing will come.
            if traces.is_empty() {
                return;
            }
            let spans: Vec<Span> = traces.drain(..).flatten().collect();
            let count = spans.len() as u64;
            let told = self.tell(spans, &shutdown);
            if let Some(at) = ends_at {
                if tokio::time::timeout_at(at, told).await.is_err() {
                    dropped(&self.metrics, "unreachable", count);
                }
            } else {
                told.await;
            }
        }
    }

    async fn tell(&self, spans: Vec<Span>, shutdown: &CancellationToken) {
        let count = spans.len() as u64;
        let body = bytes::Bytes::from(request(self.metrics.service(), spans).encode_to_vec());
        let mut waits = AGAIN.iter();
        let (reason, why) = loop {
            let why = match self.send(body.clone()).await {
                Ok(refused) => {
                    self.metrics.record(|| counter!("waybill_spans_told_total").increment(count.saturating_sub(refused)));
                    if refused > 0 {
                        dropped(&self.metrics, "refused", refused);
                    }
                    return;
                }
                Err(Failed::Refused(why)) => break ("refused", why),
                Err(Failed::Unreachable(why)) => why,
            };
            let Some(wait) = waits.next() else { break ("unreachable", why) };
            tokio::select! {
                () = tokio::time::sleep(*wait) => {}
                () = shutdown.cancelled() => break ("unreachable", why),
            }
        };
        dropped(&self.metrics, reason, count);
        if let Some(times) = self.failed.happened(1) {
            tracing::warn!(service = self.metrics.service(), times, why, "traces are not taken by their receiver, and dropped");
        }
    }

    /// How many spans the receiver refused.
    async fn send(&self, body: bytes::Bytes) -> Result<u64, Failed> {
        let request = self.http.post(self.url.clone()).header(header::CONTENT_TYPE, "application/x-protobuf").body(body);
        let response = request.send().await.map_err(|error| Failed::Unreachable(causes(&error.without_url().into())))?;
        let status = response.status();
        if status.is_success() {
            let body = response.bytes().await.unwrap_or_default();
            let taken = ExportTraceServiceResponse::decode(body).unwrap_or_default();
            return Ok(taken.partial_success.map_or(0, |partial| partial.rejected_spans.max(0).unsigned_abs()));
        }
        let again = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        let why = format!("it answers {status}");
        Err(if again.contains(&status) { Failed::Unreachable(why) } else { Failed::Refused(why) })
    }
}

/// Why a request was not taken.
enum Failed {
    /// It never will be.
    Refused(String),
    /// It may be later.
    Unreachable(String),
}

fn dropped(metrics: &Metrics, reason: &'static str, spans: u64) {
    metrics.record(|| counter!("waybill_spans_dropped_total", "reason" => reason).increment(spans));
}

fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            attribute("service.namespace", "waybill"),
            attribute("service.name", service),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "waybill".to_owned(), ..InstrumentationScope::default() };
    let spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans: vec![spans], ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

/// A span that begins now, of a trace and a name that are still to be said.
pub(crate) fn new_span(now: DateTime<Utc>) -> Span {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    Span { span_id: (high ^ low | 1).to_be_bytes().to_vec(), flags: 1, start_time_unix_nano: nanos(now), ..Span::default() }
}

/// The span, which is over. `failed`: what there is to say of its failure.
pub fn ended(span: Span, time: DateTime<Utc>, failed: Option<String>) -> Span {
    let status = failed.map(|message| Status { message, code: status::StatusCode::Error.into() });
    Span { end_time_unix_nano: nanos(time), status, ..span }
}

/// A time as spans bear it.
pub fn nanos(time: DateTime<Utc>) -> u64 {
    time.timestamp_nanos_opt().unwrap_or_default().max(0).unsigned_abs()
}

/// An attribute of a span.
pub fn attribute(key: &str, value: impl Into<Attribute>) -> KeyValue {
    let value = match value.into() {
        Attribute::Text(text) => any_value::Value::StringValue(text),
        Attribute::Number(number) => any_value::Value::IntValue(number),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub enum Attribute {
    #[allow(missing_docs)]
    Text(String),
    #[allow(missing_docs)]
    Number(i64),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Attribute {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Attribute {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
