//! `waybill bench` as a process: what it measures, and that nothing of the system it starts outlives it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::eventually;
use tokio::process::{Child, Command};

/// On a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The services' own programs, which the bench starts from beside itself.
const SERVICES: [&str; 4] = ["waybill-user", "waybill-product", "waybill-order", "waybill-gateway"];

/// `waybill bench` as it was built beside this test.
fn bench(args: &[&str]) -> Command {
    let own = std::env::current_exe().expect("a test is a file");
    let folder = own.ancestors().nth(2).expect("target/<profile>/deps");
    for name in SERVICES.iter().chain(["waybill"].iter()) {
        assert!(folder.join(name).exists(), "{name} is missing: cargo build --workspace --bins");
    }
    let mut command = Command::new(folder.join("waybill"));
    command.arg("bench").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The one object of a run, and the whole of what was said.
async fn run(args: &[&str]) -> (Value, Output) {
    let output = bench(args).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    let mut lines = said.lines();
    let run = serde_json::from_str(lines.next().expect("a run")).expect("JSON");
    assert_eq!(lines.next(), None, "one object a run");
    assert!(complaints.contains("Audit: everything adds up."), "{complaints}");
    (run, output)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_speed_latency_and_cost_by_process_and_is_clean() {
    let page = std::env::temp_dir().join(format!("waybill-bench-test-{}.html", uuid::Uuid::now_v7()));
    let report = page.to_str().expect("a path of plain letters");
    let short = ["--seconds", "1", "--warmup", "0", "--concurrency", "8", "-o", "jsonl"];
    let (run, _) = run(&[&["--up", "--report", report], &short[..]].concat()).await;

    assert_eq!((&run["concurrency"], &run["errors"], &run["audit_clean"]), (&8.into(), &0.into(), &true.into()), "{run}");
    let ended = number(&run["confirmed"]) + number(&run["rejected"]);
    assert!(ended > 0.0 && (number(&run["orders_per_s"]) - ended).abs() < 0.1, "{run}");
    let latencies = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"].map(|name| number(&run[name]));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{latencies:?}");

    let cpu = &run["cpu_us_per_order"];
    let parts = ["order", "user", "product", "gateway", "nats", "postgres"];
    let sum: f64 = parts.map(|part| number(&cpu[part])).iter().sum();
    assert!(number(&cpu["order"]) > 0.0 && (number(&cpu["total"]) - sum).abs() < 1.0, "{cpu}");
    for part in parts {
        assert!(number(&run["peak_rss_mib"][part]) > 1.0, "{part}: {run}");
    }
    assert!(number(&run["floor_ratio"]) > 0.0 && number(&run["driver_cpu_us_per_order"]) > 0.0, "{run}");

    let html = std::fs::read_to_string(&page).expect("a report");
    assert!(html.contains("8 clients") && html.ends_with("</html>\n"));
    std::fs::remove_file(page).expect("it was there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_through_the_gateway_with_two_instances_completes_what_it_offers() {
    let load = ["--rate", "50", "--seconds", "2", "--warmup", "1", "--hot", "--floor=false", "-o", "jsonl"];
    let (run, _) = run(&[&["--up", "--via-gateway", "--instances", "2"], &load[..]].concat()).await;
    assert_eq!((number(&run["rate"]), &run["concurrency"], &run["load"]), (50.0, &Value::Null, &"hot".into()));
    assert_eq!((&run["errors"], &run["floor_ratio"]), (&0.into(), &Value::Null), "{run}");
    assert!(number(&run["cpu_us_per_order"]["gateway"]) > 0.0, "{run}");
}

/// A bench that goes on for long, once its services run; and the processes it has started.
async fn running() -> (Child, Vec<u32>) {
    let child = bench(&["--up", "--seconds", "600", "--concurrency", "1"]).spawn().expect("it starts");
    let own = child.id().expect("it runs");
    let started = eventually(PATIENCE, || async {
        let children = children(own);
        let names: Vec<String> = children.iter().filter_map(|pid| name(*pid)).collect();
        // The kernel keeps 15 letters of a name. A child that is still to become a service bears another.
        let all = SERVICES.iter().all(|service| names.iter().any(|name| *name == service[..service.len().min(15)]));
        if all { Ok(children) } else { Err(names) }
    })
    .await;
    (child, started)
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("a Linux").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| field(*pid, 1).is_some_and(|its_parent| its_parent == parent.to_string())).collect()
}

fn name(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned())
}

/// A field of `/proc/<pid>/stat`, counted from the state.
fn field(pid: u32, index: usize) -> Option<String> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index).map(str::to_owned)
}

async fn nothing_is_left(of: &[u32]) {
    eventually(PATIENCE, || async {
        let left: Vec<_> =
            of.iter().filter(|pid| field(**pid, 0).is_some_and(|state| state != "Z")).map(|pid| name(*pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_started_ends_with_it() {
    for signal in [Signal::INT, Signal::KILL] {
        let (mut child, started) = running().await;
        let own = Pid::from_raw(child.id().expect("it runs").cast_signed()).expect("a process");
        kill_process(own, signal).expect("a signal to our child");
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it was waited for");
        assert_eq!(ended.code(), (signal == Signal::INT).then_some(1));
        nothing_is_left(&started).await;
    }
}

#[tokio::test]
async fn a_missing_service_is_named() {
    let folder = std::env::temp_dir().join(format!("waybill-bench-test-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir(&folder).expect("a folder");
    let alone: PathBuf = folder.join("waybill");
    std::fs::hard_link(bench(&[]).as_std().get_program(), &alone)
        .or_else(|_| std::fs::copy(bench(&[]).as_std().get_program(), &alone).map(drop))
        .expect("a copy");
    let output = Command::new(&alone).args(["bench", "--up"]).stdin(Stdio::null()).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("waybill-user") && said.contains("cargo build"), "{said}");
    std::fs::remove_dir_all(folder).expect("it was there");
}
