//! Programs that others wrote, in other languages: a client generated from the OpenAPI document, one of the broker, one that asks what nobody thought of,
//! and a parser of the AsyncAPI document.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use testkit::{Service, System};
use tokio::process::Command;

/// Long enough for some twenty wheels on a slow line.
const INSTALLED_WITHIN: Duration = Duration::from_secs(300);

fn python(tools: &Path) -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", tools).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null()).kill_on_drop(true);
    // The wheels' programs: a generator calls its formatter.
    let path = std::env::var("PATH").unwrap_or_default();
    python.env("PATH", format!("{}:{path}", tools.join("bin").display()));
    python
}

async fn run(command: &mut Command, patience: Duration) -> Result<Output, String> {
    let output = tokio::time::timeout(patience, command.output()).await.map_err(|_| "it takes too long".to_owned())?;
    let output = output.map_err(|error| error.to_string())?;
    let said = || format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(output) } else { Err(said()) }
}

/// A folder of .local in which something is installed, as `wanted` says; `None`, and said so, where that cannot be.
async fn installed(name: &str, wanted: &str, install: impl AsyncFnOnce(&Path) -> Result<Output, String>) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join(".local").join(name);
    if std::fs::read_to_string(folder.join("wanted")).is_ok_and(|noted| noted == wanted) {
        return Some(folder);
    }
    // Beside, then moved in whole: other tests may do the same at this moment.
    let staging = folder.with_extension(std::process::id().to_string());
    std::fs::create_dir_all(&staging).expect("a folder");
    if let Err(why) = install(&staging).await {
        eprintln!("SKIPPED: the {name} cannot be installed: {why}");
        let _ = std::fs::remove_dir_all(&staging);
        return None;
    }
    std::fs::write(staging.join("wanted"), wanted).expect("a note");
    let _ = std::fs::remove_dir_all(&folder);
    if std::fs::rename(&staging, &folder).is_err() {
        let _ = std::fs::remove_dir_all(&staging);
    }
    Some(folder)
}

/// Installs the wheels that a file names.
async fn pip(requirements: &str, folder: &Path) -> Result<Output, String> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--requirement", requirements, "--target"]);
    run(pip.arg(folder).stdin(Stdio::null()).kill_on_drop(true), INSTALLED_WITHIN).await
}

/// What `tests/python/requirements.txt` names.
async fn python_clients() -> Option<PathBuf> {
    const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/requirements.txt");
    installed("python-clients", include_str!("../../python/requirements.txt"), async |folder| pip(REQUIREMENTS, folder).await)
        .await
}

/// What `tests/python/collector.txt` names. Apart from the others: its wheel is for fewer systems.
pub async fn collector() -> Option<PathBuf> {
    const COLLECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/collector.txt");
    installed("collector", include_str!("../../python/collector.txt"), async |folder| pip(COLLECTOR, folder).await).await
}

/// What `tests/node/package.json` names; its lock says which files, by their digests, and none of them is run to install it.
pub async fn node_tools() -> Option<PathBuf> {
    let files = [
        ("package.json", include_str!("../../node/package.json")),
        ("package-lock.json", include_str!("../../node/package-lock.json")),
    ];
    installed("node-tools", files[1].1, async |folder| {
        for (name, text) in files {
            std::fs::write(folder.join(name), text).expect("a file");
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
        run(npm.stdin(Stdio::null()).kill_on_drop(true), INSTALLED_WITHIN).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_from_the_document_buys_and_one_of_the_broker_hears_of_it() {
    let Some(tools) = python_clients().await else { return };
    let system = System::new().await;
    let folder = std::env::temp_dir().join(format!("waybill-client-{}", system.instance(Service::Gateway).port));
    std::fs::create_dir_all(&folder).expect("a folder");
    let gateway = system.client(Service::Gateway);
    let document = folder.join("openapi.json");
    std::fs::write(&document, gateway.get("/openapi.json").await.text).expect("the document");
    std::fs::write(folder.join("config.json"), r#"{"package_name_override": "waybill_client"}"#).expect("a file");
    let mut generate = python(&tools);
    generate.args(["-m", "openapi_python_client", "generate", "--meta", "none", "--overwrite", "--path"]).arg(&document);
    generate.arg("--config").arg(folder.join("config.json")).arg("--output-path").arg(folder.join("waybill_client"));
    let generated = run(&mut generate, Duration::from_secs(120)).await.unwrap_or_else(|why| panic!("{why}"));
    let said = String::from_utf8_lossy(&generated.stdout).into_owned();
    assert!(
        !said.contains("WARNING") && !said.contains("ERROR"),
        "the generator does not understand all of the document: {said}"
    );
    let mut shop = python(&tools);
    shop.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/shop.py")).arg(&folder);
    shop.arg(format!("{}/v1", gateway.base)).arg(system.stack.nats.url());
    run(&mut shop, Duration::from_secs(90)).await.unwrap_or_else(|why| panic!("{why}"));
    let audit = system.audit().await;
    assert_eq!((audit.cancelled, audit.rejected), (1, 1));
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parser_of_asyncapi_takes_the_document_of_the_messages() {
    let Some(tools) = node_tools().await else { return };
    let parse = async |document: &Path| {
        let mut node = Command::new("node");
        node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/node/asyncapi.cjs")).arg(&tools).arg(document);
        run(node.stdin(Stdio::null()).kill_on_drop(true), Duration::from_secs(120)).await
    };
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/asyncapi.json");
    parse(&document).await.unwrap_or_else(|why| panic!("{why}"));
    // It is no parser that takes everything.
    let text = std::fs::read_to_string(&document).expect("the document");
    let broken = tools.join(format!("broken-{}.json", std::process::id()));
    std::fs::write(&broken, text.replacen("\"#/channels/", "\"#/canals/", 1)).expect("a file");
    let said = parse(&broken).await.expect_err("a document with a reference to nowhere");
    assert!(said.contains("invalid-ref"), "{said}");
    let _ = std::fs::remove_file(&broken);
}

/// `make schemathesis`. Each service is asked so many seconds (`WAYBILL_SCHEMATHESIS_SECONDS`).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is given: make schemathesis"]
async fn nothing_that_the_documents_allow_or_forbid_is_answered_otherwise() {
    let tools = python_clients().await.expect("schemathesis");
    let system = System::new().await;
    let seconds = std::env::var("WAYBILL_SCHEMATHESIS_SECONDS").unwrap_or_else(|_| "60".to_owned());
    let mut found = Vec::new();
    for service in Service::ALL {
        let base = system.client(service).base;
        let mut ask = python(&tools);
        ask.args([
            "-m",
            "schemathesis.cli",
            "--config-file",
            concat!(env!("CARGO_MANIFEST_DIR"), "/python/schemathesis.toml"),
            "run",
            "--checks=all",
            "--continue-on-failure",
            "--no-color",
            "--seed=1",
        ]);
        ask.arg(format!("--max-time={seconds}")).arg(format!("--url={base}")).arg(format!("{base}/openapi.json"));
        let patience = Duration::from_secs(seconds.parse::<u64>().expect("seconds") * 4 + 300);
        match run(&mut ask, patience).await {
            Ok(output) => println!("{}", String::from_utf8_lossy(&output.stdout)),
            Err(said) => found.push(format!("the {} service: {said}", service.name())),
        }
    }
    // Whoever was there before may be inactive by now, or sold out.
    let (user, product) = (system.create_user(true).await, system.create_product(1, 1999).await);
    let order = system.submit(user, &[(product, 1)]).await;
    assert_eq!(system.wait_final(order).await["status"], "confirmed", "after all that it works as before");
    assert!(found.is_empty(), "{}", found.join("\n"));
}
