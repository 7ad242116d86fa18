//! What the commands print on terminals of several widths, real ones as far as they can tell, and in a pipe.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;
use testkit::{Service, System, eventually};
use unicode_width::UnicodeWidthStr as _;

use crate::cli_saga::{command, waybill};

/// Words of every kind of width: wide letters, emoji of several characters, letters with marks, and a word that fits nowhere.
const LONG: &str = "漢字仮名交じり文の長い名前 \u{1f469}\u{200d}\u{1f680}\u{1f469}\u{200d}\u{1f680} e\u{301}e\u{301}e\u{301}e\u{301} \
                    a name that goes on and on, because nobody stopped whoever typed it, up to two hundred \
                    characters-without-any-place-to-break-them-at-least-for-a-while";

/// What a command says to a terminal so many columns wide, stdout and stderr as they come without what draws progress, and its exit status.
pub async fn on_terminal(system: &System, columns: u16, args: &[&str]) -> (Option<i32>, String) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("a terminal");
    tcsetwinsize(&terminal, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
    let other = || ioctl_tiocgptpeer(&terminal, flags).expect("its other end");
    let mut child = command(system, args).env("TERM", "xterm").stdin(Stdio::null()).stdout(other()).stderr(other()).spawn();
    let reading = tokio::task::spawn_blocking(move || {
        let (mut terminal, mut text, mut piece) = (File::from(terminal), Vec::<u8>::new(), [0_u8; 4096]);
        // An error is the end: nobody has the other end any more.
        while let Ok(length @ 1..) = terminal.read(&mut piece) {
            text.extend_from_slice(&piece[..length]);
        }
        String::from_utf8(text).expect("text")
    });
    let status = child.as_mut().expect("it starts").wait().await.expect("it ends");
    drop(child);
    (status.code(), without_sequences(&reading.await.expect("read").replace("\r\n", "\n")))
}

/// Without the sequences by which a progress bar draws itself anew; any other stays.
fn without_sequences(text: &str) -> String {
    text.replace("\u{1b}[2K", "").replace("\u{1b}[1A", "")
}

/// The command on terminals of three widths: its exit status, a part of what it says, and no line too wide. In a pipe it ends the same.
async fn fits(system: &System, args: &[&str], code: i32, part: &str) {
    for columns in [40, 80, 200] {
        let (status, text) = on_terminal(system, columns, args).await;
        assert_eq!(status, Some(code), "{args:?}: {text}");
        assert!(text.contains(part) || columns == 40 && part.len() == 36, "{args:?} on {columns}: {text}");
        for line in text.split(['\n', '\r']) {
            assert!(line.width() <= columns.into(), "{args:?}: {} of {columns} columns: {line}", line.width());
        }
    }
    let piped = waybill(system, args).await;
    assert_eq!(piped.0, code, "{args:?}: {}{}", piped.1, piped.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_wider_than_the_terminal_and_in_a_pipe_nothing_is_cut() {
    let system = System::new().await;
    let gateway = system.client(Service::Gateway);
    let user = json!({ "email": format!("{}@example.com", "long".repeat(20)), "name": LONG });
    let user = gateway.post("/users", &user).await.expect(201)["id"].as_str().expect("an id").to_owned();
    let product =
        json!({ "name": LONG, "description": LONG.repeat(5), "price": { "amount": 199_900, "currency": "USD" }, "stock": 3 });
    let product = gateway.post("/products", &product).await.expect(201)["id"].as_str().expect("an id").to_owned();
    let submit = async |quantity: u32| {
        let order = json!({ "user_id": user, "items": [{ "product_id": product, "quantity": quantity }] });
        gateway.post("/orders", &order).await.expect(202)["id"].as_str().expect("an id").to_owned()
    };
    let confirmed = submit(1).await;
    system.wait_final(confirmed.parse().expect("an id")).await;
    let rejected = submit(3).await;
    system.wait_final(rejected.parse().expect("an id")).await;
    fits(&system, &["product", "list"], 0, &product).await;
    fits(&system, &["product", "show", &product], 0, "description").await;
    system.stop(Service::Product).await;
    let waiting = submit(1).await;
    system.wait_entries(waiting.parse().expect("an id"), 2).await;
    waybill(&system, &["saga", "retry", &waiting, "--reason", LONG, "--by", LONG, "--yes"]).await.expect(0);
    system.jetstream().publish("replies.user", LONG.repeat(3).into()).await.expect("sent").await.expect("stored");
    eventually(std::time::Duration::from_secs(10), || async {
        let letters = waybill(&system, &["dead-letter", "list", "-o", "jsonl"]).await.expect(0);
        if letters.is_empty() { Err(letters) } else { Ok(()) }
    })
    .await;
    sqlx::query("update products set reserved = reserved + 1").execute(&system.product_db).await.expect("wrong, for the audit");

    let (nobody, file) = (uuid::Uuid::now_v7().to_string(), format!("/nowhere/{}", "x".repeat(90)));
    let commands: &[(&[&str], i32, &str)] = &[
        (&["saga", "show", &waiting], 0, &waiting),
        (&["saga", "show", &rejected], 0, "REJECTED"),
        (&["saga", "replay", &rejected], 0, "no divergence"),
        (&["saga", "replay", "--all"], 0, "no divergence"),
        (&["saga", "replay", &waiting, "--from", "nats"], 0, "gap:"),
        (&["saga", "list"], 0, "STATUS"),
        (&["saga", "upgrade-check"], 0, "continues"),
        (&["saga", "retry", &waiting, "--reason", LONG, "--yes"], 0, "reserve_stock"),
        (&["order", "list"], 0, &confirmed),
        (&["order", "show", &rejected], 0, "insufficient_stock"),
        (&["user", "list"], 0, "EMAIL"),
        (&["user", "show", &user], 0, "email"),
        (&["dead-letter", "list"], 0, "SEQUENCE"),
        (&["dead-letter", "show", "1"], 0, "deliveries"),
        (&["events", "tail", "--since", "1h", "--limit", "5", "--all-contexts"], 0, "placed"),
        (&["audit"], 1, "Something"),
        (&["health"], 0, "ready"),
        (&["order", "show", &nobody], 1, "Not"),
        (&["saga", "replay", "--all", "--from", &file], 1, "cannot"),
        (&["user", "create", "--email", "x", "--name", LONG], 1, "/email"),
    ];
    for (args, code, part) in commands {
        fits(&system, args, *code, part).await;
    }
    // Columns where there is room, records where there is none; words go on under themselves.
    let (_, wide) = on_terminal(&system, 200, &["order", "list"]).await;
    assert_eq!(wide.lines().count(), 4, "{wide}");
    let (_, narrow) = on_terminal(&system, 80, &["order", "list"]).await;
    assert!(narrow.starts_with(&format!("ID       {waiting}\nUSER     {user}\n")), "{narrow}");
    let (_, story) = on_terminal(&system, 80, &["saga", "show", &waiting]).await;
    let at = story.find("operator ").unwrap_or_else(|| panic!("{story}"));
    assert!(
        story[..at].ends_with("\n      ") && story[at..].contains("\n        because nobody stopped whoever typed it"),
        "{story}"
    );
    // In a pipe a row is a line, and a name whole.
    let piped = waybill(&system, &["user", "list"]).await.expect(0);
    assert!(piped.lines().count() == 2 && piped.contains(LONG), "{piped}");
}
