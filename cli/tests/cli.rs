//! The command as a process: its exit status, what goes to stdout and what to stderr.

#[path = "cli/fake.rs"]
mod fake;
#[path = "cli/identity.rs"]
mod identity;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/retry.rs"]
mod retry;
#[path = "cli/surroundings.rs"]
mod surroundings;
#[allow(dead_code)] // the unit tests use the rest
#[path = "../src/saga/testing.rs"]
mod testing;
#[path = "cli/upgrade.rs"]
mod upgrade;
#[path = "cli/usage.rs"]
mod usage;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use fake::Fake;
use serde_json::Value;

const USER: &str = "01920000-0000-7000-8000-00000000000a";
const ITEM: &str = "01920000-0000-7000-8000-00000000000b=2";

fn waybill(gateway: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waybill"));
    command.args(args).env("WAYBILL_GATEWAY", gateway).stdin(Stdio::null());
    command
}

fn run(gateway: &str, args: &[&str]) -> (Option<i32>, String, String) {
    told(waybill(gateway, args).output().unwrap())
}

fn run_with_input(gateway: &str, args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    run_command(&mut waybill(gateway, args), input)
}

fn run_command(command: &mut Command, input: impl AsRef<[u8]>) -> (Option<i32>, String, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that reads none may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_ref());
    told(child.wait_with_output().unwrap())
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// An address where nobody listens: the port was free a moment ago.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn submit(looks: u32, outcome: &'static str, flags: &[&str]) -> (Option<i32>, Value, Vec<String>) {
    let (fake, gateway) = Fake { looks: AtomicU32::new(looks), outcome: Mutex::new(outcome), ..Fake::default() }.start();
    let args = [&["order", "submit", "--user", USER, "--item", ITEM, "-o", "json"], flags].concat();
    let (code, stdout, stderr) = run(&gateway, &args);
    let order = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    (code, order, fake.seen.lock().unwrap().clone())
}

#[test]
fn wrong_usage_is_2_and_asks_the_gateway_nothing() {
    for args in [
        &["nonsense"][..],
        &["user", "create", "--name", "Ada"],
        &["user", "update", USER],
        &["user", "show", "not-an-id"],
        &["product", "create", "--name", "Tea", "--price", "1.999"],
        &["product", "create", "--name", "Tea", "--price", "1", "--price-minor", "100"],
        &["product", "create", "--name", "Tea"],
        &["order", "submit", "--user", USER, "--item", "tea=1"],
        &["order", "submit", "--user", USER, "--item", ITEM, "--no-wait", "--wait", "3"],
        &["order", "list", "--status", "lost"],
        &["import", "--products", "-", "--baskets", "-"],
        &["order", "submit", "--user", USER, "--item", ITEM, "--wait", "18446744073709551615"],
        &["order", "cancel", USER, "--wait=86401"],
        // It would leave things on a running system, and nobody can be asked.
        &["bench"],
    ] {
        let (code, stdout, stderr) = run(&nowhere(), args);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stdout.is_empty() && !stderr.contains("cannot reach"), "{args:?}: {stdout}{stderr}");
    }
}

#[test]
fn a_gateway_that_is_not_there_is_named() {
    let gateway = nowhere();
    let (code, stdout, stderr) = run(&gateway, &["order", "list"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains(&gateway) && stderr.contains("refused"), "{stderr}");
}

#[test]
fn what_was_never_sent_was_not_done_and_nobody_says_it_may_have_been() {
    for args in [
        &["order", "submit", "--user", USER, "--item", ITEM, "--idempotency-key", "cart-17"][..],
        &["product", "stock", USER, "--delta", "5"],
        &["order", "cancel", USER],
    ] {
        let (code, _, stderr) = run(&nowhere(), args);
        assert_eq!(code, Some(1));
        assert!(stderr.contains("cannot reach") && !stderr.contains("may have been"), "{stderr}");
    }
    let (fake, gateway) = Fake { busy: AtomicU32::new(u32::MAX), ..Fake::default() }.start();
    let (code, _, stderr) = run(&gateway, &["order", "submit", "--user", USER, "--item", ITEM]);
    assert_eq!((code, stderr.contains("may have been")), (Some(1), false), "{stderr}");
    assert_eq!(fake.seen.lock().unwrap().len(), 1, "a 503 is told at once");
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let (fake, gateway) = Fake { losing: AtomicU32::new(2), outcome: Mutex::new("confirmed"), ..Fake::default() }.start();
    let (code, _, stderr) = run(&gateway, &["order", "submit", "--user", USER, "--item", ITEM]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!((fake.made.lock().unwrap().len(), fake.losing.load(Ordering::SeqCst)), (1, 0), "one order, asked for three times");
}

#[test]
fn answers_that_stay_lost_name_the_key_to_ask_again_with() {
    let (fake, gateway) = Fake { losing: AtomicU32::new(u32::MAX), ..Fake::default() }.start();
    let args = ["order", "submit", "--user", USER, "--item", ITEM, "--idempotency-key", "cart-17"];
    let (code, _, stderr) = run(&gateway, &args);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("may have been placed") && stderr.contains("--idempotency-key cart-17"), "{stderr}");
    assert_eq!(fake.made.lock().unwrap().len(), 1);
}

#[test]
fn against_a_fake_the_exit_status_of_submit_tells_the_outcome() {
    let (code, order, _) = submit(1, "confirmed", &[]);
    assert_eq!((code, order["status"].as_str()), (Some(0), Some("confirmed")));
    let (code, order, _) = submit(1, "rejected", &[]);
    assert_eq!((code, order["reason"]["code"].as_str()), (Some(3), Some("insufficient_stock")));
    let (code, order, seen) = submit(1_000, "confirmed", &["--wait", "1"]);
    assert_eq!((code, order["status"].as_str()), (Some(4), Some("pending")));
    assert!((3..30).contains(&seen.len()), "looked {} times in a second", seen.len());
    let (code, order, seen) = submit(1_000, "confirmed", &["--no-wait"]);
    assert_eq!((code, order["status"].as_str(), seen.len()), (Some(0), Some("pending"), 1));
}

#[test]
fn against_a_fake_a_key_makes_a_repeated_order_one_order() {
    let (fake, gateway) = Fake::default().start();
    let args = ["order", "submit", "--user", USER, "--item", ITEM, "--no-wait", "--idempotency-key", "cart-17", "-o", "json"];
    assert_eq!(run(&gateway, &args), run(&gateway, &args));
    assert_eq!(fake.made.lock().unwrap().len(), 1);
    run(&gateway, &args[..7]);
    assert_eq!(fake.made.lock().unwrap().len(), 2);
}

#[test]
fn against_a_fake_a_list_turns_its_pages_only_when_asked_to() {
    let (fake, gateway) = Fake { outcome: Mutex::new("confirmed"), ..Fake::default() }.start();
    for _ in 0..5 {
        run(&gateway, &["order", "submit", "--user", USER, "--item", ITEM, "--no-wait"]);
    }
    let (_, stdout, _) = run(&gateway, &["order", "list", "-o", "json"]);
    let page: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert!(page["next_cursor"].is_string());

    let (_, stdout, _) = run(&gateway, &["order", "list", "--all", "-o", "json"]);
    let page: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_cursor"]), (5, &Value::Null));

    let (_, stdout, _) = run(&gateway, &["order", "list", "--all", "-o", "jsonl"]);
    let ids: Vec<_> = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids.len(), 5);
    assert_eq!(ids, page["items"].as_array().unwrap().iter().map(|order| order["id"].clone()).collect::<Vec<_>>());

    let (_, stdout, stderr) = run(&gateway, &["order", "list"]);
    assert!(stdout.starts_with("ID ") && stdout.contains("19.99 USD"), "{stdout}");
    assert_eq!(stdout.lines().count(), 3);
    assert!(stderr.contains("--cursor"), "{stderr}");
    assert!(fake.seen.lock().unwrap().len() >= 13);
}

#[test]
fn a_closed_stdout_is_a_quiet_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = waybill(&nowhere(), &["completions", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let output = waybill(&nowhere(), &["--help"]).stdout(closed_pipe()).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panic"), "{output:?}");
    let (_, gateway) = Fake { outcome: Mutex::new("confirmed"), ..Fake::default() }.start();
    run(&gateway, &["order", "submit", "--user", USER, "--item", ITEM, "--no-wait"]);
    for format in ["table", "json", "jsonl"] {
        let output = waybill(&gateway, &["order", "list", "-o", format]).stdout(closed_pipe()).output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{format}");
    }
}

fn closed_pipe() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, _) = run(&nowhere(), &["completions", shell]);
        assert_eq!(code, Some(0));
        assert!(script.contains(env!("CARGO_BIN_EXE_waybill")) && script.contains("WAYBILL_COMPLETE"), "{shell}: {script}");
        // What the script asks, without a system: the commands, and nothing on stderr.
        let mut asked = waybill(&nowhere(), &["--", "waybill", "saga", "re"]);
        let (code, words, stderr) = told(asked.env("WAYBILL_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", "2").output().unwrap());
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(words.contains("replay") && words.contains("retry"), "{shell}: {words}");
    }
}

#[test]
fn against_a_fake_a_problem_is_shown_field_by_field_with_the_request_to_look_up() {
    let (_, gateway) = Fake::default().start();
    let (code, stdout, stderr) = run(&gateway, &["user", "create", "--email", "ada", "--name", "Ada"]);
    let expected =
        "error: The request is invalid (422)\n  look closer\n  /email: is not an e-mail address\n  request id: request-7\n";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(1), "", expected));
    let (code, stdout, stderr) = run(&gateway, &["order", "show", USER]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(1), "", "error: Not Found (404)\n"));
}
