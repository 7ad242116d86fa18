//! A real browser, driven as the WebDriver protocol has it (W3C): Chromium, where the machine has it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use stack::Port;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::eventually;
use crate::system::prepare;

/// How long a script may take.
const SCRIPT_WITHIN: Duration = Duration::from_secs(60);

/// A browser with one window and an empty profile. Ends and leaves nothing when dropped.
pub struct Browser {
    http: reqwest::Client,
    session: String,
    folder: PathBuf,
    driver: Child,
}

impl Browser {
    /// Starts one; `None`, and said so, on a machine that has no `chromedriver` (Debian: `apt-get install chromium chromium-driver`).
    pub async fn start() -> Option<Self> {
        prepare();
        let port = Port::FREE.pick().expect("a free port");
        let folder = std::env::temp_dir().join(format!("waybill-browser-{}", Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).expect("a folder");
        let mut driver = Command::new("chromedriver");
        driver.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: the browser's processes end with it.
        driver.process_group(0).env("TMPDIR", &folder).kill_on_drop(true);
        let driver = match driver.spawn() {
            Ok(driver) => driver,
            Err(error) => {
                eprintln!("SKIPPED: no browser: chromedriver does not start: {error}");
                let _ = std::fs::remove_dir_all(&folder);
                return None;
            }
        };
        let http = reqwest::Client::builder().timeout(SCRIPT_WITHIN * 2).no_proxy().build().expect("a client");
        let base = format!("http://127.0.0.1:{port}");
        eventually(Duration::from_secs(30), || http.get(format!("{base}/status")).send()).await;
        let mut browser = Self { http, session: format!("{base}/session"), folder, driver };
        let profile = format!("--user-data-dir={}", browser.folder.join("profile").display());
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            &profile,
        ];
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": SCRIPT_WITHIN.as_millis() as u64 },
        });
        let begun = browser.ask(Method::POST, "", json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        browser.session = format!("{}/{}", browser.session, begun["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    /// Opens a page, and returns once it is loaded.
    pub async fn open(&self, url: &str) {
        self.ask(Method::POST, "/url", json!({ "url": url })).await;
    }

    /// Runs the body of an async function in the page, which finds what it is given in `arguments`; what it returns.
    pub async fn run(&self, body: &str, arguments: &[Value]) -> Value {
        // A promise is waited for.
        let script = format!("return (async function () {{ {body} }}).apply(null, arguments)");
        self.ask(Method::POST, "/execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// What the page's console said since it was asked last, each with its `level`.
    pub async fn console(&self) -> Vec<Value> {
        let said = self.ask(Method::POST, "/se/log", json!({ "type": "browser" })).await;
        said.as_array().cloned().unwrap_or_default()
    }

    /// Makes the window so large, in pixels of a page.
    pub async fn size(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// As for somebody who wants pages dark, or light.
    pub async fn dark(&self, dark: bool) {
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [scheme] })).await;
    }

    /// Keeps what is seen as a PNG.
    pub async fn screenshot(&self, path: &Path) {
        let seen = self.http.get(format!("{}/screenshot", self.session)).send().await.expect("an answer");
        let seen: Value = seen.json().await.expect("JSON");
        let png = BASE64_STANDARD.decode(seen["value"].as_str().expect("a picture")).expect("base64");
        std::fs::write(path, png).expect("a file");
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.ask(Method::POST, "/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await;
    }

    async fn ask(&self, method: Method, command: &str, body: Value) -> Value {
        let request = self.http.request(method, format!("{}{command}", self.session)).json(&body);
        let answer = request.send().await.unwrap_or_else(|error| panic!("{command}: {error}"));
        let status = answer.status();
        let mut answer: Value = answer.json().await.unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(status.is_success(), "{command} {body}: {answer:#}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = self.driver.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // Its processes write until they are gone.
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.folder).is_ok() || !self.folder.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
