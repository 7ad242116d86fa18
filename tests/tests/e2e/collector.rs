//! An OpenTelemetry collector that others wrote: it takes what is told over OTLP, and what it understood is read from what it writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use testkit::eventually;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::clients;

/// A collector, running.
pub struct Collector {
    /// Where it takes traces.
    pub url: String,
    output: PathBuf,
    /// How much it had written at the last look.
    looked: AtomicUsize,
    _process: Child,
}

/// A span as the collector understood it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The attributes of what told it.
    pub resource: BTreeMap<String, String>,
    /// Its attributes, each as the collector writes it: `Str(order)`, `Int(2)`.
    pub attributes: BTreeMap<String, String>,
    /// Its times.
    pub times: [u64; 2],
    /// The events in it, and the traces it is linked to with what others keep in them.
    pub events: Vec<String>,
    pub links: Vec<String>,
    pub link_states: Vec<String>,
    fields: BTreeMap<String, String>,
}

impl Seen {
    /// What is said of it: `Name`, `Trace ID`, `ID`, `Parent ID`, `TraceState`, `Kind`, `Status code`, `Status message`.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }

    /// An attribute that is text.
    pub fn text(&self, name: &str) -> &str {
        let written = self.attributes.get(name).map(String::as_str).unwrap_or_default();
        written.strip_prefix("Str(").and_then(|text| text.strip_suffix(')')).unwrap_or(written)
    }
}

impl Collector {
    /// Starts one; `None`, and said so, where none can be installed.
    pub async fn start() -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let program = clients::collector().await?.join("rotel/rotel-agent");
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let output = std::env::temp_dir().join(format!("waybill-collector-{}-{number}", std::process::id()));
        let mut command = Command::new(&program);
        command.args(["start", "--exporter=blackhole", "--debug-log=traces", "--debug-log-verbosity=detailed"]);
        command.arg(format!("--otlp-http-endpoint={free}")).arg("--otlp-grpc-endpoint=127.0.0.1:0");
        command.env_clear().stdin(Stdio::null()).stdout(File::create(&output).expect("a file")).kill_on_drop(true);
        let process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        eventually(Duration::from_secs(20), || async { TcpStream::connect(free).await.map(drop) }).await;
        Some(Self { url: format!("http://{free}"), output, looked: AtomicUsize::new(0), _process: process })
    }

    /// The spans that it has taken so far. It writes while this reads: what has grown since the last look counts from the next one on.
    pub fn spans(&self) -> Vec<Seen> {
        let written = std::fs::read(&self.output).expect("what it wrote");
        let written = String::from_utf8_lossy(&written);
        let grown = self.looked.swap(written.len(), Ordering::Relaxed) != written.len();
        let whole = if grown { written.rfind("ResourceSpans #").unwrap_or_default() } else { written.len() };
        read(&written[..whole])
    }

    /// The spans of a saga's trace, once it has taken those of this outcome: the root, then its children.
    pub async fn trace(&self, saga: &str, outcome: &str) -> Vec<Seen> {
        let told = || async {
            let spans = self.spans();
            let is = |span: &&Seen| span.text("waybill.saga.id") == saga && span.text("waybill.saga.outcome") == outcome;
            let root = spans.iter().find(is).ok_or_else(|| format!("{saga} is not told as {outcome}"))?;
            let children = spans.iter().filter(|span| span.field("Parent ID") == root.field("ID"));
            Ok::<_, String>([root].into_iter().chain(children).cloned().collect())
        };
        eventually(Duration::from_secs(40), told).await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Path::new(&self.output));
    }
}

/// Reads what it writes: a line for each thing, under a heading for each kind of thing.
fn read(written: &str) -> Vec<Seen> {
    let (mut spans, mut resource, mut heading) = (Vec::<Seen>::new(), BTreeMap::new(), "");
    for line in written.lines() {
        let Some((name, value)) = line.split_once(':') else {
            if line.starts_with("ResourceSpans") {
                resource.clear();
            } else if line.starts_with("Span #") {
                spans.push(Seen { resource: resource.clone(), ..Seen::default() });
            }
            continue;
        };
        let (item, value) = (name.trim_start().strip_prefix("-> "), value.trim().to_owned());
        match (item, spans.last_mut()) {
            (None, _) if value.is_empty() && !name.starts_with(' ') => {
                heading = if name.starts_with("Resource") { "Resource" } else { name }
            }
            (None, Some(span)) if name == "Start time" => span.times[0] = value.parse().unwrap_or_default(),
            (None, Some(span)) if name == "End time" => span.times[1] = value.parse().unwrap_or_default(),
            (None, Some(span)) => drop(span.fields.insert(name.trim().to_owned(), value)),
            (Some(item), _) if heading == "Resource" => drop(resource.insert(item.to_owned(), value)),
            (Some(item), Some(span)) if heading == "Attributes" => drop(span.attributes.insert(item.to_owned(), value)),
            (Some("Name"), Some(span)) if heading == "Events" => span.events.push(value),
            (Some("Trace ID"), Some(span)) if heading == "Links" => span.links.push(value),
            (Some("TraceState"), Some(span)) if heading == "Links" => span.link_states.push(value),
            _ => {}
        }
    }
    spans
}
