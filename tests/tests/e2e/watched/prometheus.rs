//! A real Prometheus that scrapes the services of a system.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use stack::Port;
use testkit::{Service, System, eventually};
use tokio::process::{Child, Command};

/// The programs, from `PATH` or where `.ci/prometheus` puts them, which is run if need be. `None`, and said so, where that cannot be.
async fn programs() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let installed = Command::new(root.join(".ci/prometheus")).stdin(Stdio::null()).output().await.expect("a script");
    if !installed.status.success() {
        eprintln!("SKIPPED: Prometheus cannot be installed: {}", String::from_utf8_lossy(&installed.stderr));
        return None;
    }
    let local = root.join(".local/prometheus/usr/bin");
    Some(if local.join("promtool").is_file() { local } else { PathBuf::new() })
}

/// The program that checks rules.
pub(super) async fn promtool() -> Option<PathBuf> {
    Some(programs().await?.join("promtool"))
}

/// A Prometheus; it ends, and its folder goes, when this is dropped.
pub(super) struct Prometheus {
    api: String,
    http: reqwest::Client,
    folder: PathBuf,
    _process: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    /// Scrapes the services every second under the jobs of `deploy/prometheus.yml`, and has these rules.
    pub async fn start(system: &System, rules: Option<&Path>) -> Self {
        let job = |service: Service| {
            let target = format!("127.0.0.1:{}", system.instance(service).port);
            json!({ "job_name": format!("waybill-{}", service.name()), "static_configs": [{ "targets": [target] }] })
        };
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": rules.into_iter().map(|path| path.canonicalize().expect("the rules")).collect::<Vec<_>>(),
            "scrape_configs": Service::ALL.map(job),
        });
        let port = Port::FREE.pick().expect("a free port");
        let folder = std::env::temp_dir().join(format!("waybill-prometheus-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        // JSON is YAML.
        std::fs::write(folder.join("prometheus.yml"), config.to_string()).expect("a file");
        let program = programs().await.expect("it was asked for before").join("prometheus");
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let log = std::fs::File::create(folder.join("log")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let process = command.spawn().expect("Prometheus starts");
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
        let prometheus = Self { api: format!("http://127.0.0.1:{port}"), http, folder, _process: process };
        eventually(Duration::from_secs(30), || async {
            match prometheus.http.get(format!("{}/-/ready", prometheus.api)).send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                _ => Err(std::fs::read_to_string(prometheus.folder.join("log")).unwrap_or_default()),
            }
        })
        .await;
        prometheus
    }

    /// What an expression is at this moment: its series. Panics where it is none.
    pub async fn asks(&self, expression: &str) -> Value {
        let request = self.http.get(format!("{}/api/v1/query", self.api)).query(&[("query", expression)]);
        let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{expression}: {answer:#}");
        answer["data"]["result"].clone()
    }

    /// Waits until an expression finds something.
    pub async fn finds(&self, expression: &str, patience: Duration) -> Vec<Value> {
        let asked = async || match self.asks(expression).await {
            Value::Array(series) if !series.is_empty() => Ok(series),
            none => Err(format!("{expression}: {none}")),
        };
        eventually(patience, asked).await
    }
}
