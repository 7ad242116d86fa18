//! `waybill up`, as a process: what it starts stays up, its settings are its own, and the commands beside it find it and no other.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stack::Port;
use testkit::eventually;
use tokio::process::{Child, Command};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder to run `waybill up` in, removed at the end.
pub struct Place {
    pub folder: PathBuf,
    pub ports: [u16; 5],
    nats_server: PathBuf,
}

impl Place {
    pub async fn new() -> Self {
        let nats_server = stack::Options::for_tests().nats_server().await.expect("a nats-server");
        let folder = std::env::temp_dir().join(format!("waybill-up-{}", Uuid::now_v7().simple()));
        fs::create_dir(&folder).expect("a folder");
        Self { folder, ports: std::array::from_fn(|_| Port::FREE.pick().expect("a free port")), nats_server }
    }

    /// `waybill` with these arguments, in this folder.
    pub fn waybill(&self, args: &[&str]) -> Command {
        let own = std::env::current_exe().expect("a test is a file");
        let mut command = Command::new(own.ancestors().nth(2).expect("target/<profile>/deps").join("waybill"));
        command.args(args).current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        // Those that run at the same time would all want the usual one.
        command.env("WAYBILL_CONSOLE_PORT", "0");
        command.env("WAYBILL_NATS_SERVER", &self.nats_server).env("XDG_CONFIG_HOME", self.folder.join("config"));
        command
    }

    /// `waybill up` on these ports: gateway, user, product, order, broker.
    pub fn up(&self, ports: [u16; 5], args: &[&str]) -> Command {
        let mut command = self.waybill(&[&["up"], args].concat());
        let flags = ["--gateway-port", "--user-port", "--product-port", "--order-port", "--nats-port"];
        for (flag, port) in flags.into_iter().zip(ports) {
            command.arg(format!("{flag}={port}"));
        }
        command
    }

    /// Starts it, with what it says in `<name>.out` and `<name>.err`; returns once it is ready.
    pub async fn start(&self, name: &str, mut command: Command) -> Child {
        let file = |end: &str| File::create(self.folder.join(format!("{name}.{end}"))).expect("a file");
        let mut child = command.stdout(file("out")).stderr(file("err")).spawn().expect("it starts");
        eventually(PATIENCE, || {
            assert!(child.try_wait().expect("a child").is_none(), "it ended: {}", self.read(&format!("{name}.err")));
            let said = [self.read(&format!("{name}.out")), self.read(&format!("{name}.err"))].concat();
            async move { if said.contains("waybill is ready") { Ok(()) } else { Err(said) } }
        })
        .await;
        child
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    pub fn note(&self) -> String {
        self.read(".local/waybill.env")
    }

    pub fn noted(&self, name: &str) -> String {
        let note = self.note();
        let line = note.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} is not in {note}")).to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Exit status, stdout and stderr.
pub async fn said(mut command: Command) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The process whose command line holds both.
fn process(program: &str, argument: &Path) -> Option<u32> {
    let processes = fs::read_dir("/proc").expect("a Linux").flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words[0].ends_with(program) && words.iter().any(|word| Path::new(&**word).starts_with(argument))
    })
}

pub fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("a signal");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_killed_runs_again_and_two_in_one_folder_leave_each_other_alone() {
    let place = Place::new().await;
    let mut up = place.up(place.ports, &[]);
    // What other tools read, and what is empty, changes nothing.
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        up.env(name, "http://127.0.0.1:1");
    }
    up.env_remove("NO_PROXY").env("PGOPTIONS", "-c default_transaction_read_only=on").env("PGSSLMODE", "verify-full");
    up.env("PGPASSWORD", "wrong").env("PGHOST", "192.0.2.1").env("PGSSLROOTCERT", "/nowhere").env("PGPORT", "1");
    up.env("WAYBILL_BATCH_MAX", "").env("NATS_URL", "").env("WAYBILL_LOG", "").env("WAYBILL_NATS_MONITOR_PORT", "");
    up.env("RUST_LOG", "debug,async_nats=trace,sqlx=trace");
    let mut first = place.start("first", up).await;
    let pid = first.id().expect("it runs");
    let open = "access    open: anyone who reaches 127.0.0.1 may do everything; `waybill up --auth` asks who it is";
    assert_eq!(place.read("first.out").lines().filter(|line| *line == open).count(), 1);

    // With the same variables the commands find it.
    let mut create = place.waybill(&["product", "create", "--name", "Kettle", "--price", "19.99", "--stock", "3"]);
    create.env("HTTP_PROXY", "http://127.0.0.1:1").env("WAYBILL_GATEWAY", "");
    let (code, _, stderr) = said(create).await;
    assert_eq!(code, Some(0), "{stderr}");
    let mut audit = place.waybill(&["audit"]);
    audit.env("PGOPTIONS", "-c search_path=nowhere").env("PGPASSWORD", "wrong");
    let (code, stdout, stderr) = said(audit).await;
    let orders = place.noted("ORDER_DATABASE_URL");
    let shown = orders.split_once('@').expect("a password").1;
    assert!(code == Some(0) && stdout.contains("CHECK") && stderr.contains(shown), "{stdout}{stderr}");

    // The password of the databases is in the note, and in nothing that was said or typed.
    let password = orders.split_once('@').and_then(|(user, _)| user.rsplit_once(':')).expect("a password").1.to_owned();
    let log = place.read("first.err");
    assert!(log.contains("sqlx::query") && log.contains("async_nats"), "the logs are on");
    assert!(!log.contains(&password) && !stderr.contains(&password), "the password shows");

    // A second one on its ports, on its folder, and one that needs neither: the note stays the first one's.
    let note = place.note();
    let (code, _, stderr) = said(place.up(place.ports, &["--ephemeral"])).await;
    let taken = format!("port {} is taken by process {pid}; --gateway-port or WAYBILL_GATEWAY_PORT moves it", place.ports[0]);
    let already = format!("A `waybill up` (process {pid}) runs in this folder already");
    assert!(code == Some(1) && stderr.contains(&taken) && stderr.contains(&already), "{stderr}");
    let others: [u16; 5] = std::array::from_fn(|_| Port::FREE.pick().expect("a free port"));
    let (code, _, stderr) = said(place.up(others, &[])).await;
    let in_use = format!("is in use by process {pid}");
    assert!(code == Some(1) && stderr.contains(&in_use) && stderr.contains("WAYBILL_DATA"), "{stderr}");
    assert_eq!(place.note(), note);
    let mut second = place.start("second", place.up(others, &["--ephemeral", "--infra-only"])).await;
    let settings = place.read("second.out");
    assert!(settings.lines().count() >= 12 && settings.lines().all(|line| line.split_once('=').is_some()), "{settings}");
    assert!(place.read("second.err").contains(&format!("belongs to another `waybill up` (process {pid})")));
    signal(second.id().expect("it runs"), Signal::TERM);
    assert!(second.wait().await.expect("a child").success());
    assert_eq!(place.note(), note, "the second one leaves the first one's note alone");

    // An address of another system is not mixed with the note's.
    let mut other = place.waybill(&["audit"]);
    other.env("WAYBILL_GATEWAY", format!("localhost:{}", others[0]));
    let (code, stdout, stderr) = said(other).await;
    assert!(code == Some(1) && stdout.is_empty() && stderr.contains("is about another system"), "{stdout}{stderr}");

    // The broker and the database, killed, come again with their data, on their ports.
    let data = place.folder.join(".local/data").canonicalize().expect("it is there");
    let nats = process("nats-server", &data).expect("a nats-server");
    signal(nats, Signal::KILL);
    let postgres = fs::read_to_string(data.join("postgres/postmaster.pid")).expect("a Postgres");
    let postgres: u32 = postgres.lines().next().and_then(|line| line.parse().ok()).expect("a pid");
    signal(postgres, Signal::KILL);
    for said in [format!("nats-server (process {nats}) ended"), format!("Postgres (process {postgres}) ended")] {
        let again = |line: &&str| line.starts_with(&said) && line.contains("runs again") && line.ends_with("with its data");
        eventually(PATIENCE, || {
            let lines = place.read("first.err").lines().filter(again).count();
            async move { if lines == 1 { Ok(()) } else { Err(lines) } }
        })
        .await;
    }
    eventually(PATIENCE, || {
        let health = place.waybill(&["health", &format!("localhost:{}", place.ports[3])]);
        async { Some(said(health).await).filter(|(code, ..)| *code == Some(0)).ok_or("not ready") }
    })
    .await;
    let (code, stdout, _) = said(place.waybill(&["product", "list"])).await;
    assert!(code == Some(0) && stdout.contains("Kettle"), "{stdout}");

    // Killed itself, it leaves a note that nobody takes for a system.
    first.kill().await.expect("it runs");
    for args in [&["audit"][..], &["user", "list"], &["saga", "list"], &["events", "tail"], &["provision"]] {
        let (code, stdout, stderr) = said(place.waybill(args)).await;
        let left = format!("was left behind by a `waybill up` that is gone (process {pid})");
        assert!(code == Some(1) && stdout.is_empty() && stderr.contains(&left), "{args:?}: {stdout}{stderr}");
    }
}

/// Services are ready only with their consumers bound, so each was let in as who it is.
#[tokio::test(flavor = "multi_thread")]
async fn with_auth_the_broker_knows_each_service_by_its_key_and_lets_nobody_else_in() {
    let place = Place::new().await;
    // The gateway finds the services only if the broker lets it ask.
    let mut up = place.up(place.ports, &["--auth"]);
    up.env("WAYBILL_DISCOVERY", "nats");
    let mut first = place.start("first", up).await;
    let url = place.noted("NATS_URL");
    let stranger = async_nats::connect(&url).await.expect_err("somebody without a key gets in");
    assert_eq!(stranger.kind(), async_nats::ConnectErrorKind::AuthorizationViolation);

    eventually(PATIENCE, || {
        let list = place.waybill(&["product", "list"]);
        async { Some(said(list).await).filter(|(code, ..)| *code == Some(0)).ok_or("the gateway finds no product service") }
    })
    .await;

    // The line for the nats command line names a key that opens everything; what it says is heard.
    let said_up = place.read("first.out");
    let line = said_up.lines().find(|line| line.contains("nats --server")).expect("a line for the nats command line");
    let mut words = line.split_whitespace().skip_while(|word| *word != "--nkey").skip(1);
    let operators = fs::read_to_string(words.next().expect("a file")).expect("a seed");
    let operator = async_nats::ConnectOptions::with_nkey(operators.trim().to_owned()).connect(&url).await.expect("known");
    let info = async_nats::jetstream::new(operator).get_stream("ORDER_EVENTS").await;
    assert!(info.is_ok(), "{info:?}");

    // A service's key opens what is its own and nothing else.
    let seed =
        |member: &str| fs::read_to_string(place.folder.join(format!(".local/data/secrets/{member}/nkey.seed"))).expect(member);
    let user = async_nats::ConnectOptions::with_nkey(seed("user").trim().to_owned()).connect(&url).await.expect("known");
    let refused = user.request("$JS.API.STREAM.INFO.ORDER_EVENTS", "".into()).await.expect_err("another's stream");
    assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders);

    // The commands in this folder are the operator's; no seed is in what was said or typed.
    let (code, _, stderr) = said(place.waybill(&["dead-letter", "list"])).await;
    assert_eq!(code, Some(0), "{stderr}");
    let (code, _, stderr) = said(place.waybill(&["provision"])).await;
    assert!(code == Some(0) && stderr.contains("Everything is as it should be."), "{stderr}");
    let log = [said_up.clone(), place.read("first.err")].concat();
    for member in ["operator", "provision", "user", "product", "order"] {
        assert!(!log.contains(seed(member).trim()), "the seed of {member} shows");
    }

    // The keys are kept. Services that are started by themselves are told where theirs are, and of no secret.
    let kept = seed("order");
    signal(first.id().expect("it runs"), Signal::TERM);
    assert!(first.wait().await.expect("a child").success());
    let mut second = place.start("second", place.up(place.ports, &["--auth", "--infra-only"])).await;
    assert_eq!(seed("order"), kept);
    assert!(place.read("second.err").contains("NATS_NKEY_SEED_FILE=") && !place.read("second.out").contains("SEED"));
    signal(second.id().expect("it runs"), Signal::TERM);
    assert!(second.wait().await.expect("a child").success());
}
