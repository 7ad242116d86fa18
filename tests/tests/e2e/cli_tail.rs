//! `waybill events tail`, whatever happens to the broker meanwhile.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::{System, eventually};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};

use crate::cli_saga::command;

const SOON: Duration = Duration::from_secs(60);

struct Tail {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
    words: Lines<BufReader<ChildStderr>>,
}

impl Tail {
    fn begin(system: &System, args: &[&str]) -> Self {
        let args = [&["events", "tail", "-o", "jsonl"], args].concat();
        let mut command = command(system, &args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let events = BufReader::new(child.stdout.take().expect("piped")).lines();
        let words = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, events, words }
    }

    /// Type and subject of the next event.
    async fn next(&mut self) -> (String, String) {
        let line = tokio::time::timeout(SOON, self.events.next_line()).await.expect("in time").expect("text").expect("a line");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        (event["type"].as_str().unwrap().to_owned(), event["subject"].as_str().unwrap().to_owned())
    }

    /// The next two, of one order.
    async fn placed_and_confirmed(&mut self, order: impl ToString) {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (kind, subject) = self.next().await;
            assert_eq!(subject, order.to_string(), "{kind}");
            kinds.push(kind);
        }
        kinds.sort();
        assert_eq!(kinds, ["waybill.order.confirmed.v1", "waybill.order.placed.v1"]);
    }

    async fn says(&mut self, words: &str) {
        let said = tokio::time::timeout(SOON, self.words.next_line()).await.expect("in time").expect("text").expect("a line");
        assert!(said.contains(words), "{said}");
    }
}

async fn consumers(system: &System) -> usize {
    system.jetstream().get_stream("ORDER_EVENTS").await.expect("a stream").cached_info().state.consumer_count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_of_events_misses_none_while_the_broker_restarts_or_its_stream_is_made_anew_and_shows_none_twice() {
    let system = System::builder().impatient().never_giving_up().start().await;
    let (user, product) = (system.create_user(true).await, system.create_product(9, 100).await);
    let before = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(before).await["status"], "confirmed");
    let others = consumers(&system).await;
    let mut past = Tail::begin(&system, &["--since", "1h", "--limit", "6"]);
    past.placed_and_confirmed(before).await;
    // This one has shown nothing when the broker goes.
    let mut live = Tail::begin(&system, &["--limit", "4"]);
    eventually(SOON, || async { Some(consumers(&system).await).filter(|now| *now == others + 2).ok_or("it reads not yet") })
        .await;

    system.stack.nats.kill().expect("it runs");
    for tail in [&mut past, &mut live] {
        tail.says("The broker is away; waiting for it.").await;
    }
    let while_away = system.submit(user, &[(product, 1)]).await;
    system.stack.nats.restart().await.expect("it starts again");
    for tail in [&mut past, &mut live] {
        tail.says("going on where it broke off").await;
        tail.placed_and_confirmed(while_away).await;
    }

    system.jetstream().delete_stream("ORDER_EVENTS").await.expect("deleted");
    let after = system.submit(user, &[(product, 1)]).await;
    for tail in [&mut past, &mut live] {
        tail.placed_and_confirmed(after).await;
        assert_eq!(tail.events.next_line().await.unwrap(), None, "it ends after its limit");
        assert!(tail.child.wait().await.expect("it ends").success());
        let mut said = Vec::new();
        while let Some(line) = tail.words.next_line().await.expect("text") {
            said.push(line);
        }
        assert!(said.iter().any(|line| line.contains("ORDER_EVENTS was made anew")), "{said:?}");
    }
}
