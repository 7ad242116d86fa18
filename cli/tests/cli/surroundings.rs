//! What surrounds a command: servers that say anything, the environment, the note of `waybill up`.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::Mutex;

use super::fake::Fake;
use super::{ITEM, USER, run, told, waybill};

#[test]
fn what_a_server_says_neither_steers_the_terminal_nor_forges_a_line() {
    const EVIL: &str = "evil\\u001b[2J\\u009b31m\\u202e\\u200b\\r\\nFORGED\\tline\\nFORGED";
    let problem = format!(
        r#"{{"type":"{EVIL}","title":"{EVIL}","detail":"{EVIL}","trace_id":"{EVIL}","errors":[{{"pointer":"{EVIL}","detail":"{EVIL}"}}]}}"#
    );
    let checks = format!(r#"{{"ready":false,"checks":{{"{EVIL}":"{EVIL}"}}}}"#);
    let order = format!(r#"{{"items":[{{"id":"{EVIL}"}}],"next_cursor":"{EVIL}"}}"#);
    for (status, body) in [("422 No", &problem), ("500 No", &checks), ("200 OK", &order), ("200 OK", &checks)] {
        let gateway = answering(status, body);
        for args in [
            &["order", "list"][..],
            &["order", "show", USER],
            &["user", "create", "--email", "a@b", "--name", "a"],
            &["saga", "show", USER],
            &["saga", "list"],
            &["saga", "export", "--all"],
            &["saga", "replay", "--all"],
            &["health"],
            &["import", "--products", "-", "--baskets", "/dev/null", "--patience", "0"],
        ] {
            let mut command = waybill(&gateway, args);
            command.env("WAYBILL_ORDER_URL", &gateway).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let line = format!("{{\"product\":\"{EVIL}\"}}\n{{\"product\":1,\"name\":\"a\",\"package\":\"\",\"cents\":1}}\n");
            let _ = child.stdin.take().unwrap().write_all(line.as_bytes());
            let (_, stdout, stderr) = told(child.wait_with_output().unwrap());
            // An export is what the service says, byte for byte.
            let text = if args.get(1) == Some(&"export") { stderr } else { stdout + &stderr };
            let hidden: Vec<_> = events::hidden(&text).filter(|(_, c)| *c != '\n').collect();
            assert!(hidden.is_empty(), "{args:?} {status}: {hidden:?} {text:?}");
            assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{args:?} {status}: {text}");
        }
    }
}

/// A server that gives everybody this answer.
fn answering(status: &str, body: &str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 65536]);
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

#[test]
fn what_the_environment_says_to_others_or_leaves_unsaid_stops_no_command() {
    let (_, gateway) = Fake { outcome: Mutex::new("confirmed"), ..Fake::default() }.start();
    run(&gateway, &["order", "submit", "--user", USER, "--item", ITEM, "--no-wait"]);
    let expected = run(&gateway, &["order", "list"]);
    assert_eq!(expected.0, Some(0));
    for (name, value) in [
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("http_proxy", "http://127.0.0.1:1"),
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("NO_PROXY", ""),
        ("SSL_CERT_FILE", "/nowhere"),
        ("SSL_CERT_DIR", "/nowhere"),
        ("PGOPTIONS", "-c nonsense"),
        ("PGSSLMODE", "nonsense"),
        ("PGPORT", "nonsense"),
        ("NATS_CREDS", "/nowhere"),
        ("NATS_USER", "x"),
        ("WAYBILL_ORDER_URL", ""),
        ("NO_COLOR", "1"),
        ("CLICOLOR_FORCE", "0"),
        ("LANG", "C"),
        ("LC_ALL", "nonsense"),
        ("TERM", "nonsense"),
        ("COLUMNS", "nonsense"),
        ("USER", " "),
        ("HOME", "/nowhere"),
        ("RUST_LOG", "nonsense=="),
        ("RUST_BACKTRACE", "1"),
        ("COMPLETE", "nonsense"),
    ] {
        let told = told(waybill(&gateway, &["order", "list"]).env(name, value).output().unwrap());
        assert_eq!(told, expected, "{name}={value}");
    }
    let unset = told(waybill("x", &["--gateway", &gateway, "order", "list"]).env_clear().output().unwrap());
    assert_eq!(unset, expected, "nothing at all is set");
    for (name, value) in [("WAYBILL_GATEWAY", " "), ("WAYBILL_GATEWAY", "ftp://x"), ("TOKIO_WORKER_THREADS", "x")] {
        let (code, _, stderr) = told(waybill(&gateway, &["order", "list"]).env(name, value).output().unwrap());
        assert!(matches!(code, Some(1 | 2)) && stderr.contains(name), "{name}={value}: {stderr}");
    }
}

#[test]
fn a_note_that_cannot_be_used_is_named_and_nothing_of_it_shown() {
    let folder = std::env::temp_dir().join(format!("waybill-note-{}", std::process::id()));
    let note = folder.join(".local/waybill.env");
    std::fs::create_dir_all(note.parent().unwrap()).unwrap();
    for text in [&b"WAYBILL_GATEWAY=ftp://u:hunter2@x\n"[..], b"hunter2\n", b"\xff\xfe hunter2"] {
        std::fs::write(&note, text).unwrap();
        let mut command = waybill("", &["order", "list"]);
        let (code, _, stderr) = told(command.env_remove("WAYBILL_GATEWAY").current_dir(&folder).output().unwrap());
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(".local/waybill.env") && !stderr.contains("hunter2"), "{stderr}");
    }
    std::fs::remove_file(&note).unwrap();
    std::fs::create_dir(&note).unwrap();
    let mut command = waybill("", &["order", "list"]);
    let (code, _, stderr) = told(command.env_remove("WAYBILL_GATEWAY").current_dir(&folder).output().unwrap());
    assert!(code == Some(1) && stderr.contains("cannot read .local/waybill.env"), "{stderr}");
    std::fs::remove_dir_all(folder).unwrap();
}
