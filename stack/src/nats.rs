//! The broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;

use crate::environment::clean;
use crate::find;
use crate::folder::{Folder, random_u32, remove};
use crate::keep::keep;
use crate::port::Port;
use crate::process::{POLL, Process, Signal, Slot};
use crate::watchdog::Watchdog;

/// A large store is read in full before the port opens.
const PATIENCE: Duration = Duration::from_secs(60);
const STOP: [(Signal, Duration); 1] = [(Signal::TERM, Duration::from_secs(10))];

/// How the broker is had.
#[derive(Debug, Clone)]
pub struct Options {
    /// A running broker with JetStream; then none is started.
    pub url: Option<String>,
    /// The setting behind `url`, named when no broker can be had.
    pub url_setting: &'static str,
    /// The port for clients on 127.0.0.1.
    pub port: Port,
    /// The port for monitoring over HTTP, if there is to be one.
    pub monitor_port: Option<Port>,
    /// When JetStream brings what it stored to disk.
    pub sync: Sync,
    /// The most that JetStream may store, in bytes; the limits of all streams together must fit.
    pub max_file_store: u64,
    /// Who may do what, as a part of the server's configuration; without, everybody may do everything.
    pub accounts: Option<String>,
}

/// When JetStream brings what it stored to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before each message is acknowledged.
    Always,
    /// From time to time: a crash of the machine, though not of the server, loses up to as much.
    Every(Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: None,
            url_setting: "NATS_URL",
            port: Port::FREE,
            monitor_port: None,
            sync: Sync::Every(Duration::from_secs(120)), // the server's own default
            max_file_store: 16 << 30,
            accounts: None,
        }
    }
}

/// A nats-server, started here or merely used.
#[derive(Debug)]
pub struct Nats {
    url: String,
    monitor_url: Option<String>,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    options: Options,
    /// Told in the greeting: it shows that a port is ours, and not that of another stack that was quicker.
    name: String,
    program: PathBuf,
    config: PathBuf,
    store: PathBuf,
    log: PathBuf,
    port: u16,
    monitor_port: Option<u16>,
    process: Slot,
    watchdog: Arc<Watchdog>,
}

impl Nats {
    pub(crate) async fn start(
        options: &Options,
        tools_dir: &Path,
        folder: &Folder,
        watchdog: &Arc<Watchdog>,
    ) -> anyhow::Result<Self> {
        if let Some(url) = &options.url {
            return Ok(Self { url: url.clone(), monitor_url: None, server: None });
        }
        let mut server = Server {
            options: options.clone(),
            name: format!("waybill-{:08x}", random_u32()?),
            program: find::nats_server(tools_dir, options.url_setting).await?,
            config: folder.root.join("nats.conf"),
            store: folder.root.join("nats"),
            log: folder.root.join("nats.log"),
            port: 0,
            monitor_port: None,
            process: Slot::default(),
            watchdog: Arc::clone(watchdog),
        };
        server.launch_on_a_port().await?;
        let url = format!("nats://127.0.0.1:{}", server.port);
        let monitor_url = server.monitor_port.map(|port| format!("http://127.0.0.1:{port}"));
        Ok(Self { url, monitor_url, server: Some(server) })
    }

    /// The address for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of the monitoring pages, if they were asked for.
    pub fn monitor_url(&self) -> Option<&str> {
        self.monitor_url.as_deref()
    }

    /// The port on 127.0.0.1, if the server was started here.
    pub fn port(&self) -> Option<u16> {
        self.server.as_ref().map(|server| server.port)
    }

    /// The server's process id while it runs, if it was started here.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref()?.process.with(|process| process.pid()).ok()
    }

    /// Ends the server with SIGKILL: a crash.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.server()?.process.kill()
    }

    /// Stops the server in its tracks (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.server()?.process.with(|process| process.pause())
    }

    /// Lets a paused server go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.server()?.process.with(|process| process.resume())
    }

    /// Shuts the server down if it runs, and starts it again on the same port.
    pub async fn restart(&self) -> anyhow::Result<()> {
        let server = self.server()?;
        server.process.stop(&STOP).await;
        server.launch()?;
        server.ready().await
    }

    /// Ends the server with SIGKILL, deletes all it stored, and starts it again on the same port.
    pub async fn wipe(&self) -> anyhow::Result<()> {
        let server = self.server()?;
        server.process.stop(&[]).await;
        remove(&server.store)?;
        server.launch()?;
        server.ready().await
    }

    /// The folder of what the server stores.
    pub fn store(&self) -> anyhow::Result<&Path> {
        Ok(&self.server()?.store)
    }

    /// Shuts the server down, does something, and starts it again on the same port.
    pub async fn stop_and(&self, meanwhile: impl FnOnce() -> std::io::Result<()>) -> anyhow::Result<()> {
        let server = self.server()?;
        server.process.stop(&STOP).await;
        meanwhile()?;
        server.launch()?;
        server.ready().await
    }

    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        if let Some(server) = &self.server {
            server.process.stop(&STOP).await;
        }
        Ok(())
    }

    pub(crate) async fn keep(&self, say: &impl Fn(&str)) {
        let Some(server) = &self.server else { return };
        let start = || async {
            server.launch()?;
            server.ready().await
        };
        keep("nats-server", &server.process, start, say).await;
    }

    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        self.server.as_ref()?.process.failure()
    }

    fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("this nats-server is used, but was not started here")
    }
}

impl Server {
    /// Starts on the wanted ports, or on free ones until no other process takes them first.
    async fn launch_on_a_port(&mut self) -> anyhow::Result<()> {
        let wanted = [Some(self.options.port), self.options.monitor_port];
        for _ in 0..5 {
            self.port = self.options.port.pick()?;
            self.monitor_port = self.options.monitor_port.map(Port::pick).transpose()?;
            self.launch()?;
            let error = match self.ready().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !self.process.with(|process| process.lost_its_port()).unwrap_or(false) {
                return Err(error);
            }
            // A fixed port that was lost is named by the next `pick`.
            if !wanted.into_iter().flatten().any(Port::is_free_choice) {
                self.process.stop(&[]).await;
                self.options.port.pick()?;
                self.options.monitor_port.map(Port::pick).transpose()?;
            }
        }
        bail!("other processes keep taking the port")
    }

    fn launch(&self) -> anyhow::Result<()> {
        fs::write(&self.config, self.settings())?;
        let mut command = self.watchdog.command(&self.program, "TERM")?;
        clean(&mut command).arg("-c").arg(&self.config).current_dir("/");
        self.process.put(Process::spawn("nats-server", command, &self.log, Signal::TERM, &self.watchdog)?);
        Ok(())
    }

    fn settings(&self) -> String {
        let sync = match self.options.sync {
            Sync::Always => "always".to_owned(),
            Sync::Every(interval) => format!("\"{}ms\"", interval.as_millis()),
        };
        let monitor = self.monitor_port.map(|port| format!("http: \"127.0.0.1:{port}\"\n")).unwrap_or_default();
        let (name, port, store) = (&self.name, self.port, self.store.display());
        let max_file_store = self.options.max_file_store;
        let accounts = self.options.accounts.as_deref().unwrap_or_default();
        format!(
            "# Written anew at each start.\n\
             server_name: {name}\n\
             listen: \"127.0.0.1:{port}\"\n\
             {monitor}\
             # The default, said aloud: a batch of commands stays below half of it.\n\
             max_payload: 1MB\n\
             jetstream {{\n\
             \x20 store_dir: \"{store}\"\n\
             \x20 max_file_store: {max_file_store}\n\
             \x20 # Our streams are on disk; the rest is for key-value toys of a person at a desk.\n\
             \x20 max_memory_store: 256MB\n\
             \x20 sync_interval: {sync}\n\
             }}\n\
             {accounts}"
        )
    }

    /// Waits until the server greets a client and says that JetStream is on.
    async fn ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(error) = self.process.failure() {
                return Err(error);
            }
            let greeting = tokio::time::timeout(Duration::from_secs(2), greeting(self.port)).await;
            if let Ok(Ok(greeting)) = greeting {
                let jetstream = greeting.starts_with("INFO {") && greeting.contains("\"jetstream\":true");
                if jetstream && greeting.contains(&format!("\"{}\"", self.name)) {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                let tail = self.process.with(|process| process.tail())?;
                bail!("nats-server is not ready after {} s; the end of its log:\n{tail}", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn greeting(port: u16) -> anyhow::Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}
