//! Settings: no value of any of them makes a service panic, and no password shows.

use std::process::Stdio;
use std::time::Duration;

use chassis::environment::may_be_a_file;
use clap::{Command, CommandFactory as _};
use stack::{Port, Stack};
use testkit::eventually;
use tokio::net::TcpStream;
use tokio::process;
use uuid::Uuid;

/// The services, each with its settings.
fn services() -> [(&'static str, Command); 4] {
    [
        ("user", user::Settings::command()),
        ("product", product::Settings::command()),
        ("order", order::Settings::command()),
        ("gateway", gateway::Settings::command()),
    ]
}

/// Below, at and above what a number, a time or a text may be.
const EXTREMES: [&str; 26] = [
    "",
    " ",
    "-1",
    "0",
    "1e-300",
    "0.001",
    "1",
    "5",
    "10",
    "64",
    "1000",
    "4096",
    "65535",
    "65536",
    "1000000",
    "86400",
    "315360000",
    "4294967296",
    "18446744073709551615",
    "1e308",
    "NaN",
    "inf",
    "127.0.0.1",
    "0.0.0.0/0",
    "reserve_stock.deadline=0.001",
    "reserve_stock.deadline=315360000",
];

/// The flags with values, but for what says where something is.
fn numbers(command: &Command) -> Vec<String> {
    let flags = command.get_arguments().filter(|argument| argument.get_action().takes_values());
    let flags = flags.filter_map(|argument| argument.get_long()).map(str::to_owned);
    // Whose tokens are believed, and whether any are wanted, is no number either, and has tests of its own; nor is who we are to the broker.
    let text = ["listen", "auth-jwks", "auth-issuer", "auth-audience", "auth-roles-claim", "insecure-no-auth"];
    let text = [&text[..], &["nats-ca", "nats-creds", "nats-nkey-seed"]].concat();
    flags.filter(|flag| !text.contains(&flag.as_str()) && !flag.ends_with("-url")).collect()
}

/// The extremes that a flag takes, in their order, or the words it takes and no others.
fn taken(command: &Command, flag: &str) -> Vec<String> {
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag)).expect("a flag of it");
    let words = argument.get_possible_values().into_iter().map(|word| word.get_name().to_owned());
    let takes = |value: &String| command.clone().try_get_matches_from(["x", &format!("--{flag}={value}")]).is_ok();
    EXTREMES.iter().map(|&value| value.to_owned()).chain(words).filter(takes).collect()
}

/// The service as a process of its own, by the binary that is built along with this test.
fn start(service: &str) -> process::Command {
    let own = std::env::current_exe().expect("a test is a file");
    let mut command = process::Command::new(own.ancestors().nth(2).expect("target/<profile>/deps").join("waybill-tests-service"));
    command.arg(service);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_starts_with_the_least_and_with_the_most_of_every_setting() {
    let stack = Stack::start(stack::Options::for_tests()).await.expect("a stack");
    let mut urls = vec![("NATS_URL", stack.nats.url().to_owned())];
    for (variable, name) in [
        ("USER_DATABASE_URL", "waybill_user"),
        ("PRODUCT_DATABASE_URL", "waybill_product"),
        ("ORDER_DATABASE_URL", "waybill_order"),
    ] {
        stack.postgres.create_database(name).await.expect("a database");
        urls.push((variable, stack.postgres.tcp_url(name)));
    }
    let secrets = std::env::temp_dir().join(format!("waybill-secrets-{}", Uuid::now_v7().simple()));
    std::fs::create_dir(&secrets).expect("a folder");
    for (name, url) in &urls {
        std::fs::write(secrets.join(name), format!("{url}\n")).expect("a file");
    }
    for extreme in ["least", "most"] {
        let mut running = Vec::new();
        for (service, command) in services() {
            let port = Port::FREE.pick().expect("a free port");
            let mut process = start(service);
            process.arg(format!("--listen=127.0.0.1:{port}")).env("RUST_LOG", "info");
            for (name, url) in &urls {
                if extreme == "least" {
                    process.env(name, url);
                } else {
                    process.env(format!("{name}_FILE"), secrets.join(name));
                }
            }
            let flags = numbers(&command);
            assert!(flags.len() >= 5, "{service}: {flags:?}");
            for flag in flags {
                let values = taken(&command, &flag);
                let wrong = ["", " ", "-1", "0", "1e-300", "18446744073709551615", "1e308", "NaN", "inf"];
                assert!(
                    !values.is_empty() && !values.iter().any(|value| wrong.contains(&value.as_str())),
                    "{service} --{flag}: {values:?}"
                );
                let value = if extreme == "least" { values.first() } else { values.last() };
                process.arg(format!("--{flag}={}", value.expect("not empty")));
            }
            process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
            running.push((service, port, process.spawn().expect("it starts")));
        }
        for (service, port, mut process) in running {
            eventually(Duration::from_secs(20), || {
                let ended = process.try_wait().expect("a child").is_some();
                async move { if ended { Ok(()) } else { TcpStream::connect(("127.0.0.1", port)).await.map(drop) } }
            })
            .await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let ended = process.try_wait().expect("a child");
            let _ = process.start_kill();
            let said = String::from_utf8(process.wait_with_output().await.expect("a child").stderr).expect("text");
            assert!(ended.is_none() && said.contains("started") && !said.contains("panicked"), "{service}, {extreme}: {said}");
        }
    }
    let _ = std::fs::remove_dir_all(secrets);
}

#[test]
fn what_may_be_secret_shows_in_no_services_help_and_may_come_in_a_file() {
    for (service, command) in services() {
        for argument in command.get_arguments() {
            let name = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let may_be_secret = may_be_a_file(&name);
            assert_eq!(
                may_be_secret,
                argument.is_hide_env_values_set(),
                "waybill-{service} --help shows {name}, or no file may hold it"
            );
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_before_anything_starts_and_without_its_password() {
    for (service, name, value, said) in [
        ("user", "NATS_URL", "http://u:hunter2@h", "NATS_URL"),
        ("user", "NATS_URL_FILE", "/nowhere", "NATS_URL_FILE: /nowhere cannot be read"),
        ("user", "NATS_NKEY_SEED", "hunter2", "NATS_NKEY_SEED"),
        ("user", "NATS_CA", "/nowhere/ca.pem", "--nats-ca"),
        ("user", "USER_DATABASE_URL", "mysql://u:hunter2@h/d", "USER_DATABASE_URL"),
        ("user", "USER_DATABASE_URL", "postgres://u:p@h/d?passwrod=hunter2", "`passwrod`"),
        ("gateway", "WAYBILL_ORDER_URL", "http://u:hunter2@h", "WAYBILL_ORDER_URL"),
        ("order", "WAYBILL_RETRY_FIRST", "90", "WAYBILL_RETRY_MAX (60 s)"),
        ("order", "WAYBILL_QUEUE_MAX", "0", "--queue-max"),
        ("order", "WAYBILL_LOG", "xml", "WAYBILL_LOG"),
        ("order", "RUST_LOG", "a=b=c", "RUST_LOG"),
        ("order", "TOKIO_WORKER_THREADS", "0", "TOKIO_WORKER_THREADS"),
        ("order", "TOKIO_WORKER_THREADS", "99999999999", "TOKIO_WORKER_THREADS"),
    ] {
        // The default's port may be somebody's.
        let output = start(service).arg("--listen=127.0.0.1:0").env(name, value).output().await.expect("it runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(matches!(output.status.code(), Some(1 | 2)), "{name}={value}: {:?} {text}", output.status);
        assert!(text.contains(said) && !text.contains("hunter2") && !text.contains("started"), "{name}={value}: {text}");
    }
}
