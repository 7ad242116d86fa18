//! `waybill up --auth`, as a process: nobody does anything without a token, whoever runs it has one without thinking of it, and nothing secret shows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::Value;
use stack::Port;
use testkit::{eventually, program};
use tokio::process::Command;

use crate::up::{Place, said, signal};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

/// What must succeed: stdout as JSON.
#[track_caller]
fn done((code, stdout, stderr): (Option<i32>, String, String)) -> Value {
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap_or(Value::String(stdout))
}

fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id in {thing}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_it_just_works_and_nobody_else_does_anything_without_a_token() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = Place::new().await;
    let mut first = place.start("first", place.up(place.ports, &["--auth"])).await;
    let gateway = format!("http://127.0.0.1:{}", place.ports[0]);

    // The key and the tokens are their owner's alone, and show nowhere.
    let issuer = place.folder.join(".local/data/issuer");
    let key = fs::read(issuer.join("issuer.key")).expect("a key");
    assert_eq!((mode(&issuer), mode(&issuer.join("issuer.key")), mode(&issuer.join("token"))), (0o700, 0o600, 0o600));
    let owners = fs::read_to_string(issuer.join("token")).expect("a token").trim().to_owned();
    let printed = [place.read("first.out"), place.read("first.err"), place.note()].concat();
    assert!(printed.contains("by token: commands in this folder bring one") && !printed.contains("open:"), "{printed}");
    for process in fs::read_dir("/proc").expect("a Linux").flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(&owners), "the token is on a command line");
    }
    assert!(!printed.contains(&owners));

    // Without a token there is nothing, at the gateway and behind it.
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for (port, path) in [(0, "/orders"), (0, "/users"), (3, "/orders"), (3, "/sagas"), (2, "/products"), (1, "/users")] {
        let url = format!("http://127.0.0.1:{}{path}", place.ports[port]);
        let without = http.get(&url).send().await.expect("an answer");
        assert_eq!(without.status(), StatusCode::UNAUTHORIZED, "{url}");
        let with = http.get(&url).bearer_auth("hunter2").send().await.expect("an answer");
        assert_eq!(with.status(), StatusCode::UNAUTHORIZED, "{url}");
        let owner = http.get(&url).bearer_auth(&owners).send().await.expect("an answer");
        assert_eq!(owner.status(), StatusCode::OK, "{url}");
    }
    let mut elsewhere = place.waybill(&["order", "list"]);
    elsewhere.current_dir("/").env("WAYBILL_GATEWAY", &gateway);
    let (code, _, stderr) = said(elsewhere).await;
    assert!(code == Some(1) && stderr.contains("(401)") && stderr.contains("waybill token"), "{stderr}");

    // Whoever runs it needs to know nothing of this.
    let run = async |args: &[&str]| said(place.waybill(&[args, &["-o", "json"]].concat())).await;
    let ada = id(&done(run(&["user", "create", "--email", "ada@example.com", "--name", "Ada"]).await));
    let bob = id(&done(run(&["user", "create", "--email", "bob@example.com", "--name", "Bob"]).await));
    let kettle = id(&done(run(&["product", "create", "--name", "Kettle", "--price", "19.99", "--stock", "9"]).await));
    let item = format!("{kettle}=2");
    let order = done(run(&["order", "submit", "--user", &ada, "--item", &item]).await);
    assert_eq!(order["status"], "confirmed");
    done(run(&["saga", "list"]).await);
    assert_eq!(said(place.waybill(&["audit"])).await.0, Some(0));

    // Others are given what they may.
    let token = async |args: &[&str]| {
        let printed = done(said(place.waybill(&[&["token"], args].concat())).await);
        printed.as_str().expect("one word").trim().to_owned()
    };
    let with = async |token: &str, args: &[&str]| {
        let mut command = place.waybill(&[args, &["-o", "json"]].concat());
        command.env("WAYBILL_TOKEN", token);
        said(command).await
    };
    let customer = token(&["--role", "customer", "--subject", &bob, "--ttl", "5m"]).await;
    assert_eq!(
        done(with(&customer, &["order", "list"]).await)["items"],
        serde_json::json!([]),
        "another's order shows in no list"
    );
    assert_eq!(with(&customer, &["order", "show", &id(&order)]).await.0, Some(1));
    for forbidden in [&["saga", "list"][..], &["product", "stock", &kettle, "--delta", "1"]] {
        let (code, _, stderr) = with(&customer, forbidden).await;
        assert!(code == Some(1) && stderr.contains("(403)"), "{forbidden:?}: {stderr}");
    }
    done(with(&token(&["--role", "catalog", "--subject", "shop"]).await, &["product", "stock", &kettle, "--delta", "1"]).await);

    // An operator's name is the token's, wherever it is kept.
    let night = token(&["--role", "operator", "--subject", "night-shift"]).await;
    let mut kept = Command::from(std::process::Command::new("sh"));
    let waybill = place.waybill(&[]).as_std().get_program().to_owned();
    kept.args(["-c", "printf %s \"$T\" | \"$W\" context add night --gateway \"$G\" --order-url \"$O\" --token-stdin"]);
    kept.env("T", &night).env("W", waybill).env("G", &gateway).env("XDG_CONFIG_HOME", place.folder.join("config"));
    kept.env("O", format!("http://127.0.0.1:{}", place.ports[3]));
    assert_eq!(said(kept).await.0, Some(0));
    done(run(&["--context", "night", "saga", "cancel", &id(&order), "--reason", "they called", "--yes"]).await);
    let history = done(run(&["saga", "export", &id(&order)]).await).to_string();
    assert!(history.contains("night-shift"), "{history}");

    // The key is made once: a token outlives a restart, and the one of whoever ran it does not.
    signal(first.id().expect("it runs"), Signal::TERM);
    assert!(first.wait().await.expect("a child").success());
    assert!(!issuer.join("token").exists());
    let others: [u16; 5] = std::array::from_fn(|_| Port::FREE.pick().expect("a free port"));
    let mut second = place.start("second", place.up(others, &["--auth"])).await;
    assert_eq!(fs::read(issuer.join("issuer.key")).expect("a key"), key);
    done(with(&night, &["saga", "list"]).await);
    signal(second.id().expect("it runs"), Signal::TERM);
    assert!(second.wait().await.expect("a child").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_start_where_others_reach_it_or_where_two_issuers_are_named() {
    let place = Place::new().await;
    for (args, variable, why) in [
        (&["--host", "0.0.0.0"][..], ("WAYBILL_LOG", ""), "`waybill up --auth` asks who it is"),
        (&["--auth"], ("WAYBILL_AUTH_JWKS", "/keys.json"), "WAYBILL_AUTH_JWKS names an issuer already"),
        (&["--auth"], ("WAYBILL_INSECURE_NO_AUTH", "true"), "WAYBILL_INSECURE_NO_AUTH does not: unset one"),
    ] {
        let mut up = place.up(place.ports, args);
        up.env(variable.0, variable.1);
        let (code, stdout, stderr) = said(up).await;
        assert!(code == Some(1) && stdout.is_empty() && stderr.contains(why), "{args:?}: {stdout}{stderr}");
        assert!(!place.folder.join(".local/data").exists(), "{args:?}: nothing was started");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_asks_the_broker_leaves_out_an_instance_that_was_killed_within_five_seconds() {
    let place = Place::new().await;
    let mut up = place.up(place.ports, &["--auth"]);
    up.env("WAYBILL_DISCOVERY", "nats").env("RUST_LOG", "info");
    let mut first = place.start("first", up).await;
    // A second order service, as whoever starts it by hand does: with what the note says, and the key of the service.
    let port = Port::FREE.pick().expect("a free port");
    let mut second = Command::new(program("waybill-tests-service"));
    second.arg("order").arg(format!("--listen=127.0.0.1:{port}")).current_dir(&place.folder);
    for name in ["NATS_URL", "ORDER_DATABASE_URL", "WAYBILL_AUTH_JWKS", "WAYBILL_AUTH_ISSUER", "WAYBILL_AUTH_AUDIENCE"] {
        second.env(name, place.noted(name));
    }
    second.env("NATS_NKEY_SEED_FILE", place.folder.join(".local/data/secrets/order/nkey.seed"));
    second.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut second = second.spawn().expect("it starts");

    let all = ["gateway", "order", "order", "product", "user"];
    let services = async |patience: Duration, wanted: &[&str]| {
        eventually(patience, || async {
            let (_, stdout, stderr) = said(place.waybill(&["services", "-o", "jsonl"])).await;
            let lines: Vec<Value> = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let names: Vec<&str> =
                lines.iter().filter(|line| line["ready"] == true).filter_map(|line| line["service"].as_str()).collect();
            if names == wanted { Ok(()) } else { Err(format!("{stdout}{stderr}")) }
        })
        .await;
    };
    services(Duration::from_secs(60), &all).await;
    let told = |what: &str| {
        let said = [place.read("first.out"), place.read("first.err")].concat();
        said.lines().any(|line| line.contains(what) && line.contains(&format!("127.0.0.1:{port}")))
    };
    let until_told = async |patience: Duration, what: &str| {
        eventually(patience, || {
            let told = told(what);
            async move { if told { Ok(()) } else { Err("the gateway does not say so") } }
        })
        .await;
    };
    until_told(Duration::from_secs(60), "an instance of the service is there").await;

    second.kill().await.expect("it runs");
    let killed = Instant::now();
    let patience = Duration::from_secs(5);
    let asking = async {
        while killed.elapsed() < patience {
            let (code, _, stderr) = said(place.waybill(&["order", "list"])).await;
            assert_eq!(code, Some(0), "whoever asks meanwhile is answered: {stderr}");
        }
    };
    tokio::join!(until_told(patience, "an instance of the service is gone"), asking);
    services(Duration::from_secs(20), &["gateway", "order", "product", "user"]).await;
    signal(first.id().expect("it runs"), Signal::TERM);
    assert!(first.wait().await.expect("a child").success());
}
