//! The operators' pages of trips: nothing of them was written for this saga, but for what `commands.rs` says of it.

use std::process::Stdio;

use stack::Port;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::SOON;
use crate::parts::{Parts, eventually};

struct Console {
    base: String,
    http: reqwest::Client,
    _child: Child,
}

impl Console {
    async fn start(parts: &Parts) -> Self {
        let port = Port::FREE.pick().expect("a free port");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trip-console"));
        command.args(["--port", &port.to_string()]).envs(parts.addresses()).env("USER", "ann");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("in time").expect("text");
        assert!(line.is_some_and(|line| line.starts_with("console   http://127.0.0.1:")), "it says where it is");
        Self { base: format!("http://127.0.0.1:{port}"), http: reqwest::Client::new(), _child: child }
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("text"));
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    /// Sends the form that is on a page, as a browser does.
    async fn press(&self, path: &str, page: &str, reason: &str) -> String {
        let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a form");
        let token = rest.split('"').next().expect("a value");
        let body = format!("token={token}&reason={0}&why={0}", reason.replace(' ', "+"));
        let post = self.http.post(format!("{}{path}", self.base)).header("content-type", "application/x-www-form-urlencoded");
        post.body(body).send().await.expect("an answer").text().await.expect("text")
    }
}

#[track_caller]
fn holds(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "`{part}` is not in {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_show_trips_and_a_button_moves_one() {
    let Some(parts) = Parts::start(600).await else { return };
    let console = Console::start(&parts).await;
    let booked = parts.begin("Lisbon", 4).await;
    assert_eq!(parts.ends(&booked).await, "completed");
    parts.send("commands.flight.book", "no JSON").await;
    parts.kill("hotel");
    let waiting = parts.begin("Porto", 2).await;

    let attention = eventually(SOON, async || {
        let page = console.page("/attention").await;
        if page.contains(&waiting) { Ok(page) } else { Err(page) }
    })
    .await;
    holds(&attention, &["waiting for the hotel", "retry all", "1 of 1 in flight"]);
    let one = console.page(&format!("/sagas/{booked}?at=2")).await;
    holds(&one, &["book_flight", "book_hotel", "take_payment", "issue_ticket", "<svg", "Entry 2 of", "completed"]);
    holds(&console.page("/sagas?status=completed").await, &[&booked]);
    holds(&console.page("/sagas?step=book_hotel").await, &[&waiting]);
    holds(&console.page("/streams").await, &["HOTEL_COMMANDS", "DEAD_LETTERS"]);
    holds(&console.page("/upgrade").await, &["continues the one saga in flight", "book_hotel", "pivot"]);
    holds(&console.page("/jobs").await, &["Nothing was done to many"]);
    holds(&console.page("/bulk/cancel?stuck=1").await, &["1 sagas", "goes back"]);
    eventually(SOON, async || {
        let page = console.page("/").await;
        if page.contains("pill good\">ready") { Ok(()) } else { Err(page) }
    })
    .await;
    eventually(SOON, async || {
        let page = console.page("/dead-letters").await;
        if page.contains("FLIGHT_COMMANDS") { Ok(()) } else { Err(page) }
    })
    .await;

    let path = format!("/sagas/{waiting}/cancel");
    let confirm = console.page(&path).await;
    holds(&confirm, &["What it would do", "goes back", "undo book_hotel"]);
    holds(&console.press(&path, &confirm, "they stay at home").await, &["Done: cancel.", "operator ann: cancel"]);
    let letter = console.page("/dead-letters/1").await;
    holds(&console.press("/dead-letters/1/drop", &letter, "garbage").await, &["dead letter 1 was deleted"]);
    holds(&console.page("/audit").await, &["they stay at home", "dead letter 1 of FLIGHT_COMMANDS", "garbage"]);
    parts.open_hotel().await;
    assert_eq!(parts.ends(&waiting).await, "compensated");
    eventually(SOON, async || {
        let page = console.page("/attention").await;
        if page.contains("Nothing is stuck.") { Ok(()) } else { Err(page) }
    })
    .await;
}
