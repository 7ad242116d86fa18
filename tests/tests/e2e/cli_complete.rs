//! Completion in a real shell, asked of a real system.

use std::process::Stdio;
use std::time::{Duration, Instant};

use testkit::{Service, System, eventually};
use tokio::process::Command;

use crate::cli_saga::{binary, command, two, waybill};

/// Asks bash what it would offer, as a press of the tab key does: the script is loaded, its function called with the words so far.
const BASH: &str = r#"
source <("$WAYBILL" completions bash) || exit 9
COMP_WORDS=(waybill "$@")
COMP_CWORD=$#
_clap_complete_waybill waybill "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// What is offered for the last of these words; nothing may be said on stderr.
async fn offered(mut bash: Command, words: &[&str]) -> Vec<String> {
    bash.args(["--norc", "-c", BASH, "bash"]).args(words).env("WAYBILL", binary());
    let output = bash.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("bash runs");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{words:?}");
    String::from_utf8(output.stdout).expect("text").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Bash with the addresses of the system.
fn bash(system: &System) -> Command {
    let mut bash = Command::new("bash");
    let waybill = command(system, &[]);
    let variables = waybill.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
    bash.envs(variables);
    bash
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_completes_the_ids_and_numbers_of_the_system_that_runs() {
    let system = System::new().await;
    let [confirmed, rejected] = two(&system).await.map(|order| order.to_string());
    let (user, product) = (system.create_user(true).await.to_string(), system.create_product(1, 100).await.to_string());
    system.jetstream().publish("replies.user", "garbage".into()).await.expect("sent").await.expect("stored");
    eventually(Duration::from_secs(10), || async {
        let letters = waybill(&system, &["dead-letter", "list", "-o", "jsonl"]).await.expect(0);
        if letters.is_empty() { Err(letters) } else { Ok(()) }
    })
    .await;
    let item = format!("{product}=");
    let cases: &[(&[&str], &str)] = &[
        (&["saga", "show", ""], &confirmed),
        (&["saga", "replay", &rejected[..8]], &rejected),
        (&["order", "show", ""], &rejected),
        (&["order", "cancel", ""], &confirmed),
        (&["events", "tail", ""], &confirmed),
        (&["order", "list", "--user", ""], &user),
        (&["user", "update", ""], &user),
        (&["product", "stock", ""], &product),
        (&["order", "submit", "--item", ""], &item),
        (&["dead-letter", "show", ""], "1"),
        (&["dead-letter", "redrive", ""], "1"),
        (&["order", "list", "--status", "rej"], "rejected"),
        (&["saga", "list", "--step", ""], "reserve_stock"),
        (&["dead-letter", "list", "--stream", "PROD"], "PRODUCT_REPLIES"),
        (&["saga", "sh"], "show"),
        (&["saga", "replay", "--fr"], "--from"),
    ];
    for (words, expected) in cases {
        let offered = offered(bash(&system), words).await;
        assert!(offered.iter().any(|word| word == expected), "{words:?}: {offered:?}");
    }
    assert!(offered(bash(&system), &["saga", "retry", "0"]).await.is_empty(), "no saga is in flight");
    system.stop(Service::Product).await;
    let waiting = system.submit(user.parse().expect("an id"), &[(product.parse().expect("an id"), 1)]).await;
    assert_eq!(offered(bash(&system), &["saga", "retry", "0"]).await, [waiting.to_string()]);
    // An address that was typed counts, as it does for the command.
    let mut elsewhere = bash(&system);
    elsewhere.env("WAYBILL_ORDER_URL", "http://127.0.0.1:1");
    let order_url = system.client(Service::Order).base;
    let offered = offered(elsewhere, &["saga", "show", "--order-url", &order_url, "0"]).await;
    assert!(offered.contains(&confirmed), "{offered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_runs_completion_offers_nothing_says_nothing_and_does_not_wait() {
    // Nobody listens on the one; on the other somebody does, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    for (address, patience) in [("127.0.0.1:1", Duration::from_secs(5)), (address.as_str(), Duration::from_secs(5))] {
        for words in [&["saga", "show", "0"][..], &["user", "show", "0"], &["dead-letter", "show", "1"]] {
            let mut bash = Command::new("bash");
            bash.env("WAYBILL_ORDER_URL", address).env("WAYBILL_GATEWAY", address).env("NATS_URL", address);
            let begun = Instant::now();
            assert_eq!(offered(bash, words).await, Vec::<String>::new(), "{words:?}");
            // A second is the promise; a machine that is busy with other tests gets more.
            assert!(begun.elapsed() < patience, "{words:?}: {:?}", begun.elapsed());
        }
    }
    drop(silent);
    // A note that cannot be read is no reason to disturb whoever types.
    let folder = std::env::temp_dir().join(format!("waybill-complete-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(folder.join(".local")).expect("a folder");
    std::fs::write(folder.join(".local/waybill.env"), b"\xff\xfe").expect("a note");
    let mut bash = Command::new("bash");
    bash.current_dir(&folder);
    assert_eq!(offered(bash, &["saga", "show", "0"]).await, Vec::<String>::new());
    let _ = std::fs::remove_dir_all(folder);
}
