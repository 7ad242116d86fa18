//! The stack on the real servers, as whoever runs the tests.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stack::{Data, Nats, Options, Port, Postgres, Stack};

async fn start() -> Stack {
    Stack::start(Options::for_tests()).await.expect("a stack starts")
}

async fn start_in(folder: &Path) -> anyhow::Result<Stack> {
    Stack::start(Options { data: Data::Persistent(folder.to_owned()), ..Options::for_tests() }).await
}

#[tokio::test]
async fn databases_are_made_once_and_reached_over_tcp_and_socket() {
    let stack = start().await;
    for _ in 0..2 {
        stack.postgres.create_database("orders").await.unwrap();
    }
    for url in [stack.postgres.tcp_url("orders"), stack.postgres.socket_url("orders")] {
        assert_eq!(query(&stack.postgres, &url, "select current_database()").unwrap(), "orders", "{url}");
    }
    let wrong = stack.postgres.tcp_url("orders").replacen("orders:", "orders:x", 1);
    assert!(query(&stack.postgres, &wrong, "select 1").is_err(), "a wrong password must not do");
    assert!(stack.postgres.create_database("Robert'; drop").await.is_err());
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_belongs_to_a_role_that_can_do_nothing_else() {
    let folder = Scratch::new("roles");
    let stack = start_in(&folder.0).await.unwrap();
    // As an earlier version made it: the server's own role has everything.
    let superuser = stack.postgres.superuser_url("postgres");
    query(&stack.postgres, &superuser, "create database orders").unwrap();
    let old = stack.postgres.superuser_url("orders");
    query(&stack.postgres, &old, "create table kept (id bigint generated always as identity, n bigserial)").unwrap();
    query(&stack.postgres, &old, "create view seen as select id from kept").unwrap();
    for name in ["orders", "stock"] {
        stack.postgres.create_database(name).await.unwrap();
    }

    let (orders, stock) = (stack.postgres.tcp_url("orders"), stack.postgres.tcp_url("stock"));
    for owned in ["alter table kept add column more int", "insert into kept (more) values (1)", "select * from seen"] {
        query(&stack.postgres, &orders, owned).unwrap_or_else(|error| panic!("{owned}: {error}"));
    }
    let elsewhere = |url: &str, database: &str| format!("{}/{database}", url.rsplit_once('/').unwrap().0);
    for (url, refused) in [
        (&orders, "copy kept (more) from program 'echo 1'"),
        (&orders, "copy kept to '/tmp/kept'"),
        (&orders, "select pg_read_file('postgresql.conf')"),
        (&orders, "create role another"),
        (&orders, "create database another"),
        (&orders, "alter role orders superuser"),
        (&orders, "set role stock"),
        (&elsewhere(&orders, "stock"), "select 1"),
        (&elsewhere(&orders, "postgres"), "select 1"),
        (&elsewhere(&stock, "orders"), "select 1"),
    ] {
        let error = query(&stack.postgres, url, refused).expect_err(refused);
        assert!(error.contains("permission denied") || error.contains("must be superuser"), "{refused}: {error}");
    }

    // The addresses last as long as the folder.
    stack.stop().await.unwrap();
    let stack = start_in(&folder.0).await.unwrap();
    stack.postgres.create_database("orders").await.unwrap();
    let credentials = |url: &str| url.split_once('@').unwrap().0.to_owned();
    assert_eq!(credentials(&stack.postgres.tcp_url("orders")), credentials(&orders));
    assert_eq!(query(&stack.postgres, &stack.postgres.tcp_url("orders"), "select more from kept").unwrap(), "1");
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn the_same_database_is_made_by_many_at_once() {
    let stack = start().await;
    let results = tokio::join!(
        stack.postgres.create_database("many"),
        stack.postgres.create_database("many"),
        stack.postgres.create_database("many"),
        stack.postgres.create_database("other"),
    );
    for result in [results.0, results.1, results.2, results.3] {
        result.unwrap();
    }
}

#[tokio::test]
async fn the_clock_of_the_database_can_be_stepped_under_its_feet() {
    let mut options = Options::for_tests();
    options.postgres.steppable_clock = true;
    let stack = Stack::start(options).await.expect("a stack starts");
    let url = stack.postgres.tcp_url("postgres");
    let now = || -> f64 { query(&stack.postgres, &url, "select extract(epoch from now())").unwrap().parse().unwrap() };
    let real = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for offset in [0, 3600, -3600, 0] {
        stack.postgres.step_clock(offset).unwrap();
        let ahead = now() - real();
        assert!((ahead - offset as f64).abs() < 30.0, "{ahead} s instead of {offset}");
    }
    assert!(start().await.postgres.step_clock(0).is_err(), "only one that was started for it");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let mut nats = Options::for_tests();
    nats.nats.port = Port::fixed(number, "--nats-port");
    let mut monitor = Options::for_tests();
    monitor.nats.monitor_port = Some(Port::fixed(number, "--nats-monitor-port"));
    let mut postgres = Options::for_tests();
    postgres.postgres.port = Port::fixed(number, "--postgres-port");
    for (options, setting) in [(nats, "--nats-port"), (monitor, "--nats-monitor-port"), (postgres, "--postgres-port")] {
        let error = Stack::start(options).await.unwrap_err().to_string();
        assert!(error.contains(&number.to_string()) && error.contains(setting), "{error}");
    }
}

#[tokio::test]
async fn a_killed_postgres_comes_back_with_its_data() {
    let stack = start().await;
    let url = stack.postgres.tcp_url("postgres");
    query(&stack.postgres, &url, "create table kept as select 42 as answer").unwrap();
    let family = stack.postgres.pids();
    assert!(family.len() > 3, "a postmaster has children: {family:?}");

    stack.postgres.kill().unwrap();
    assert!(family.iter().all(|&pid| gone(pid)), "the children die with it");
    assert!(stack.postgres.pid().is_none());
    assert!(stack.postgres.kill().is_err(), "there is nothing to kill twice");

    stack.postgres.restart().await.unwrap();
    assert_eq!(query(&stack.postgres, &url, "select answer from kept").unwrap(), "42");
    stack.postgres.restart().await.unwrap();
    assert_eq!(query(&stack.postgres, &url, "select answer from kept").unwrap(), "42");
}

#[tokio::test]
async fn a_paused_server_goes_on_where_it_was() {
    let stack = start().await;
    let url = stack.postgres.tcp_url("postgres");
    stack.postgres.pause().unwrap();
    stack.nats.pause().unwrap();
    let client =
        Command::new(stack.postgres.psql()).args(["-X", "-A", "-t", "-c", "select 1", "-d", &url]).stdout(Stdio::piped()).spawn();
    let mut client = client.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(client.try_wait().unwrap().is_none(), "a paused server answers nothing");
    stack.postgres.resume().unwrap();
    stack.nats.resume().unwrap();
    assert!(client.wait().unwrap().success());
    assert!(greeting(&stack.nats).starts_with("INFO {"));
    stack.postgres.pause().unwrap(); // a paused server can be stopped as well
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_broker_keeps_its_store_unless_it_is_wiped() {
    let stack = start().await;
    let url = stack.nats.url().to_owned();
    publish(&stack.nats);
    assert_eq!(messages(&stack.nats), Some(1));
    stack.nats.kill().unwrap();
    stack.nats.restart().await.unwrap();
    assert_eq!(messages(&stack.nats), Some(1));
    stack.nats.wipe().await.unwrap();
    assert_eq!(messages(&stack.nats), None);
    assert_eq!(stack.nats.url(), url);
}

#[tokio::test]
async fn a_dropped_stack_leaves_neither_process_nor_folder() {
    let stack = start().await;
    let mut pids = stack.postgres.pids();
    pids.extend(stack.nats.pid());
    let folder = stack.postgres.data_dir().unwrap().to_owned();
    drop(stack);
    assert!(pids.iter().all(|&pid| gone(pid)));
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_kept_folder_is_used_again_and_by_one_at_a_time() {
    let folder = Scratch::new("kept");
    let stack = start_in(&folder.0).await.unwrap();
    let url = stack.postgres.socket_url("postgres");
    query(&stack.postgres, &url, "create table kept as select 42 as answer").unwrap();
    publish(&stack.nats);

    let error = start_in(&folder.0).await.unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains(&std::process::id().to_string()), "{error}");

    stack.stop().await.unwrap();
    let stack = start_in(&folder.0).await.unwrap();
    let url = stack.postgres.socket_url("postgres");
    assert_eq!(query(&stack.postgres, &url, "select answer from kept").unwrap(), "42");
    assert_eq!(messages(&stack.nats), Some(1));

    let data = stack.postgres.data_dir().unwrap().to_owned();
    stack.stop().await.unwrap();
    fs::write(data.join("postmaster.pid"), format!("{}\n{}\n", std::process::id(), data.display())).unwrap();
    start_in(&folder.0).await.expect("a stale pid file is no obstacle").stop().await.unwrap();

    fs::write(data.join("PG_VERSION"), "14\n").unwrap();
    let error = start_in(&folder.0).await.unwrap_err().to_string();
    assert!(error.contains("Postgres 14"), "{error}");
}

#[tokio::test]
async fn a_long_folder_name_does_not_break_the_socket() {
    let folder = Scratch::new(&format!("long, {}", "x".repeat(120)));
    let stack = start_in(&folder.0).await.unwrap();
    assert_eq!(query(&stack.postgres, &stack.postgres.socket_url("postgres"), "select 1").unwrap(), "1");
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn given_addresses_are_used_and_nothing_is_started() {
    let owner = start().await;
    let mut options = Options::for_tests();
    options.nats.url = Some(owner.nats.url().to_owned());
    options.postgres.url = Some(owner.postgres.tcp_url("postgres"));
    let guest = Stack::start(options).await.unwrap();
    guest.postgres.create_database("guest").await.unwrap();
    assert_eq!(query(&owner.postgres, &owner.postgres.tcp_url("guest"), "select 1").unwrap(), "1");
    assert!(guest.postgres.kill().is_err() && guest.nats.wipe().await.is_err());
    assert_eq!((guest.postgres.pid(), guest.nats.pid()), (None, None));
    guest.stop().await.unwrap();
    assert!(greeting(&owner.nats).starts_with("INFO {"));
}

#[tokio::test]
async fn a_server_that_dies_by_itself_is_reported() {
    let stack = start().await;
    let pid = stack.nats.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let error = tokio::time::timeout(Duration::from_secs(10), stack.failed()).await.unwrap().to_string();
    assert!(error.contains("nats-server exited"), "{error}");
    stack.nats.restart().await.unwrap();

    let pid = stack.postgres.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let error = tokio::time::timeout(Duration::from_secs(10), stack.failed()).await.unwrap().to_string();
    assert!(error.contains("postgres exited"), "{error}");
    stack.postgres.restart().await.unwrap();
}

#[test]
fn nothing_survives_the_sigkill_of_its_owner() {
    let kept = Scratch::new("orphan");
    for folder in [None, Some(&kept.0)] {
        let (mut owner, pids, data) = orphan(folder);
        owner.kill().unwrap(); // std sends SIGKILL
        owner.wait().unwrap();
        eventually("the servers are gone", || pids.iter().all(|&pid| gone(pid)));
        if folder.is_none() {
            eventually("the ephemeral folder is gone", || !data.exists());
        }
    }
    // The next owner may come at once: it waits for the watchdog of the first.
    let (mut owner, ..) = orphan(Some(&kept.0));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let (mut owner, pids, _) = orphan(Some(&kept.0));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the servers are gone", || pids.iter().all(|&pid| gone(pid)));
}

/// Not a test: what [`orphan`] runs in a process of its own, until that is killed.
#[tokio::test]
#[ignore = "never ends by itself"]
async fn wait_to_be_killed() {
    let stack = match std::env::var_os("WAYBILL_TEST_FOLDER") {
        Some(folder) => start_in(Path::new(&folder)).await.unwrap(),
        None => start().await,
    };
    let data = stack.postgres.data_dir().unwrap().display();
    let pids = stack.postgres.pids().into_iter().chain(stack.nats.pid());
    let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    println!("\nready {} {data}", pids.join(","));
    panic!("{}", stack.failed().await);
}

/// This program once more, with a stack of its own; the servers in it, and the folder of its cluster.
fn orphan(folder: Option<&PathBuf>) -> (std::process::Child, Vec<u32>, PathBuf) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "wait_to_be_killed", "--ignored", "--nocapture"]).stdout(Stdio::piped());
    command.envs(folder.map(|folder| ("WAYBILL_TEST_FOLDER", folder)));
    let mut owner = command.spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let ready = lines.filter_map(|line| line.strip_prefix("ready ").map(str::to_owned)).next();
    let ready = ready.expect("the owner starts its stack");
    let (pids, data) = ready.split_once(' ').unwrap();
    (owner, pids.split(',').map(|pid| pid.parse().unwrap()).collect(), PathBuf::from(data))
}

fn query(postgres: &Postgres, url: &str, statement: &str) -> Result<String, String> {
    let mut psql = Command::new(postgres.psql());
    let output = psql.args(["-X", "-q", "-A", "-t", "-w", "-c", statement, "-d", url]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn greeting(nats: &Nats) -> String {
    let mut line = String::new();
    BufReader::new(connect(nats)).read_line(&mut line).unwrap();
    line
}

fn connect(nats: &Nats) -> TcpStream {
    let stream = TcpStream::connect(nats.url().trim_start_matches("nats://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Makes a stream of one message, by hand: the protocol is text.
fn publish(nats: &Nats) {
    let config = r#"{"name":"TEST","subjects":["test"],"storage":"file"}"#;
    assert!(request(nats, "$JS.API.STREAM.CREATE.TEST", config).contains("\"created\""));
    assert!(request(nats, "test", "hello").contains("\"seq\":1"));
}

/// The messages in the stream, if there is the stream.
fn messages(nats: &Nats) -> Option<u32> {
    let info = request(nats, "$JS.API.STREAM.INFO.TEST", "");
    let count = info.split("\"messages\":").nth(1)?;
    count.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn request(nats: &Nats, subject: &str, body: &str) -> String {
    use std::io::Write as _;
    let mut stream = connect(nats);
    let frame = format!("CONNECT {{\"verbose\":false}}\r\nSUB _in 1\r\nPUB {subject} _in {}\r\n{body}\r\n", body.len());
    stream.write_all(frame.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the broker hung up");
        if line.starts_with("MSG") {
            let length = line.split_whitespace().last().unwrap().parse().unwrap();
            let mut answer = vec![0; length];
            reader.read_exact(&mut answer).unwrap();
            return String::from_utf8(answer).unwrap();
        }
    }
}

/// Whether there is no such process, or only its entry for the parent to collect.
fn gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with(['Z', 'X']))
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of this test run, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("waybill-test-{}", std::process::id())).join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = self.0.parent().map(fs::remove_dir); // unless another test still uses it
    }
}
