//! Broker, databases, the trip service and the four participants, each a process.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use serde_json::{Value, json};
use sqlx::PgPool;
use stack::postgres::MAKER;
use stack::{Port, Stack};
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(40);

/// Everything that trips need. Ends when it is dropped.
pub struct Parts {
    processes: Mutex<BTreeMap<&'static str, Child>>,
    http: reqwest::Client,
    url: String,
    jetstream: jetstream::Context,
    nats_py: PathBuf,
    step_deadline: u32,
    stack: Stack,
}

/// Looks until `look` says `Ok`; past the deadline panics with what was seen last.
pub async fn eventually<T, E: Debug>(within: Duration, look: impl AsyncFn() -> Result<T, E>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => panic!("not within {within:?}; last seen: {seen:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

impl Parts {
    /// Starts all of them, with so many seconds until a step is given up. `None`, and a line that says so: Python has no pip here, and so no
    /// nats-py.
    pub async fn start(step_deadline: u32) -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = stack::Options::for_tests();
        let Some(nats_py) = options.nats_py().await.expect("nats-py can be installed") else {
            eprintln!("SKIPPED: python3 has no pip here, and the hotel needs nats-py");
            return None;
        };
        let stack = Stack::start(options).await.expect("broker and database");
        stack.postgres.create_maker().await.expect("a role that makes databases");
        let port = Port::FREE.pick().expect("a free port");
        let client = async_nats::connect(stack.nats.url()).await.expect("the broker");
        let parts = Self {
            processes: Mutex::default(),
            http: reqwest::Client::builder().no_proxy().timeout(SOON).build().expect("a client"),
            url: format!("http://127.0.0.1:{port}"),
            jetstream: jetstream::new(client),
            nats_py,
            step_deadline,
            stack,
        };
        for name in ["trip", "flight", "payment", "ticket"] {
            parts.run(name);
        }
        eventually(SOON, async || parts.is_ready().await).await;
        parts.open_hotel().await;
        Some(parts)
    }

    async fn is_ready(&self) -> Result<(), String> {
        let answer = self.http.get(format!("{}/readyz", self.url)).send().await.map_err(|error| format!("{error:?}"))?;
        if answer.status() == 200 { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    }

    /// Starts a service by its name.
    pub fn run(&self, name: &'static str) {
        let mut command = match name {
            "trip" => Command::new(env!("CARGO_BIN_EXE_trip-service")),
            _ => Command::new(env!("CARGO_BIN_EXE_trip-participant")),
        };
        match name {
            "trip" => {
                let waits = [("FIRST", "0.3"), ("MAX", "1")].map(|(which, wait)| (format!("WAYBILL_RETRY_{which}"), wait));
                command
                    .envs(waits)
                    .env("WAYBILL_STEP_DEADLINE", self.step_deadline.to_string())
                    .env("WAYBILL_SWEEP_EVERY", "0.1");
                command.env("WAYBILL_STUCK_AFTER", "1").env("TRIP_LISTEN", self.url.trim_start_matches("http://"))
            }
            _ => command.arg(name),
        };
        // As `waybill up --infra-only` says it.
        command.env("POSTGRES_URL", self.stack.postgres.tcp_url(MAKER));
        self.spawn(name, command);
    }

    /// Starts the hotel, and waits until it listens.
    pub async fn open_hotel(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hotel.py");
        // It binds to a consumer that must be there: the trip service is ready by now.
        let mut command = Command::new("python3");
        command.arg(script).env("PYTHONPATH", &self.nats_py).env("HOTEL_DATABASE", self.hotel_database());
        self.spawn("hotel", command);
    }

    fn spawn(&self, name: &'static str, mut command: Command) {
        command.env("NATS_URL", self.stack.nats.url()).env("RUST_LOG", "warn").stdin(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        self.processes.lock().expect("never poisoned").insert(name, child);
    }

    /// Ends a process with SIGKILL.
    pub fn kill(&self, name: &'static str) {
        let child = self.processes.lock().expect("never poisoned").remove(name);
        child.expect("it runs").start_kill().expect("it is killed");
    }

    fn hotel_database(&self) -> PathBuf {
        self.stack.folder().join("hotel.sqlite")
    }

    /// What the hotel replied last about a trip, in a word.
    pub async fn hotel_says(&self, trip: &str) -> Option<String> {
        let replies = self.replies_of_the_hotel().await;
        let of_it = replies.iter().rev().find(|event| event["data"]["trip_id"] == trip)?;
        of_it["type"].as_str()?.split('.').nth(2).map(str::to_owned)
    }

    /// Every reply of the hotel, in their order.
    pub async fn replies_of_the_hotel(&self) -> Vec<Value> {
        let stream = self.jetstream.get_stream("HOTEL_REPLIES").await.expect("the stream");
        let mut replies = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.expect("a message");
            replies.extend(serde_json::from_slice::<Vec<Value>>(&message.payload).expect("a batch"));
        }
        replies
    }

    /// Says again what a stream holds at this place.
    pub async fn say_again(&self, stream: &str, sequence: u64) {
        let stream = self.jetstream.get_stream(stream).await.expect("the stream");
        let message = stream.get_raw_message(sequence).await.expect("a message");
        self.jetstream.publish(message.subject, message.payload).await.expect("published").await.expect("stored");
    }

    /// Sends what no saga would.
    pub async fn send(&self, subject: &'static str, payload: &'static str) {
        self.jetstream.publish(subject, payload.into()).await.expect("published").await.expect("stored");
    }

    /// The dead letters: which consumer each is of, and what it holds.
    pub async fn dead_letters(&self) -> Vec<(String, String)> {
        let stream = self.jetstream.get_stream("DEAD_LETTERS").await.expect("the stream");
        let mut letters = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let letter = stream.get_raw_message(sequence).await.expect("a message");
            let consumer = letter.headers.get("Waybill-Consumer").map(ToString::to_string).unwrap_or_default();
            letters.push((consumer, String::from_utf8_lossy(&letter.payload).into_owned()));
        }
        letters
    }

    /// How many trips a participant holds something for.
    pub async fn held(&self, database: &str) -> i64 {
        let pool = PgPool::connect(&self.stack.postgres.tcp_url(database)).await.expect("a connection");
        sqlx::query_scalar("select count(*) from holds").fetch_one(&pool).await.expect("a count")
    }

    /// Begins a trip, and returns its id.
    pub async fn begin(&self, to: &str, nights: u32) -> String {
        let body = json!({ "traveller": "Ann", "to": to, "nights": nights });
        let answer = self.http.post(format!("{}/trips", self.url)).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
        let view: Value = answer.json().await.expect("JSON");
        view["id"].as_str().expect("an id").to_owned()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}/trips/{path}", self.url)).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("JSON")
    }

    /// Where a trip stands.
    pub async fn status(&self, trip: &str) -> String {
        self.get(trip).await["status"].as_str().expect("a status").to_owned()
    }

    /// Waits for the end of a trip, and returns its last status.
    pub async fn ends(&self, trip: &str) -> String {
        eventually(SOON, async || {
            let status = self.status(trip).await;
            if matches!(&*status, "completed" | "compensated") {
                Ok(status)
            } else {
                Err(self.get(&format!("{trip}/history")).await)
            }
        })
        .await
    }

    /// The history of a trip.
    pub async fn history(&self, trip: &str) -> Vec<Value> {
        self.get(&format!("{trip}/history")).await["items"].as_array().expect("items").clone()
    }

    /// Where operators find the service and the broker.
    pub fn addresses(&self) -> [(&'static str, String); 2] {
        [("TRIP_URL", self.url.clone()), ("NATS_URL", self.stack.nats.url().to_owned())]
    }

    /// An operator's command. What it printed; an error where it failed.
    pub async fn trip(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trip"));
        command.args(args).envs(self.addresses()).env("USER", "ann");
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The sagas that are listed as stuck.
    pub async fn stuck(&self) -> Vec<Value> {
        let listed = self.trip(&["saga", "list", "--stuck", "-o", "jsonl"]).await.expect("listed");
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Every history is decided by this build as it was decided: read from the service, and from a file that was exported.
    pub async fn replays_alike(&self) {
        let exported = self.trip(&["saga", "export", "--all"]).await.expect("exported");
        assert!(exported.lines().count() > 0);
        let file = self.stack.folder().join("export.jsonl");
        std::fs::write(&file, exported).expect("written");
        self.trip(&["saga", "replay", "--all"]).await.expect("no divergence");
        self.trip(&["saga", "replay", "--all", "--from", file.to_str().expect("text")]).await.expect("no divergence");
    }
}
