//! The database.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::clock::Clock;
use crate::cluster::{self, Cluster, ROLE};
use crate::environment::clean;
use crate::find;
use crate::folder::Folder;
use crate::keep::keep;
use crate::port::Port;
use crate::process::{POLL, Process, Signal, Slot};
use crate::psql::{Psql, encode, with_database, with_role};
use crate::role::{Roles, owned};
use crate::socket::SocketDir;
use crate::user::User;
use crate::watchdog::Watchdog;

/// The role that may make databases, and its own database.
pub const MAKER: &str = "waybill_maker";

/// Crash recovery of a full WAL takes its time; a server that exits is noticed long before.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the children of a killed server may hold its shared memory.
const LINGERING: Duration = Duration::from_secs(10);
/// Fast shutdown, then the one that needs recovery.
const STOP: [(Signal, Duration); 2] = [(Signal::INT, Duration::from_secs(20)), (Signal::QUIT, Duration::from_secs(5))];

/// How Postgres is had.
#[derive(Debug, Clone)]
pub struct Options {
    /// A running server, as the URL of a role that may create databases; then none is started.
    pub url: Option<String>,
    /// The setting behind `url`, named when no server can be had.
    pub url_setting: &'static str,
    /// The port on 127.0.0.1.
    pub port: Port,
    /// Whether a commit is on disk when it is answered; off only suits tests that ask nothing of a crash.
    pub durable: bool,
    /// Postgres's own cache, in MiB.
    pub shared_buffers_mb: u32,
    /// Whether a test steps its clock, with [`Postgres::step_clock`].
    pub steppable_clock: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: None,
            url_setting: "WAYBILL_POSTGRES_URL",
            port: Port::FREE,
            durable: true,
            shared_buffers_mb: 256,
            steppable_clock: false,
        }
    }
}

/// A Postgres, started here or merely used.
#[derive(Debug)]
pub struct Postgres {
    psql: Psql,
    socket_url: String,
    /// Of a server that was started here; those of another one are its own affair.
    roles: Option<Roles>,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    options: Options,
    program: PathBuf,
    user: Option<User>,
    cluster: Cluster,
    log: PathBuf,
    socket: SocketDir,
    port: u16,
    clock: Option<Clock>,
    process: Slot,
    watchdog: Arc<Watchdog>,
}

impl Postgres {
    pub(crate) async fn start(
        options: &Options,
        tools_dir: &Path,
        folder: &Folder,
        user: Option<User>,
        watchdog: &Arc<Watchdog>,
    ) -> anyhow::Result<Self> {
        if let Some(url) = &options.url {
            let program = find::psql(tools_dir, user, options.url_setting).await?;
            return Ok(Self { psql: Psql { program, url: url.clone() }, socket_url: url.clone(), roles: None, server: None });
        }
        let wanted = cluster::major_version(folder);
        let found = find::postgres(tools_dir, user, wanted, options.url_setting).await?;
        let clock = match options.steppable_clock {
            true => Some(Clock::of(tools_dir, folder.postgres.join("clock"), user).await?),
            false => None,
        };
        let mut server = Server {
            options: options.clone(),
            program: found.dir.join("postgres"),
            user,
            cluster: cluster::prepare(folder, &found, tools_dir, user).await?,
            log: folder.root.join("postgres.log"),
            socket: SocketDir::make(&folder.postgres, user)?,
            port: 0,
            clock,
            process: Slot::default(),
            watchdog: Arc::clone(watchdog),
        };
        server.launch_on_a_port(&found.psql).await?;
        let psql = server.psql(&found.psql);
        let (port, password) = (server.port, &server.cluster.password);
        let socket = encode(&server.socket.path.display().to_string());
        let socket_url = format!("postgres://{ROLE}:{password}@localhost/postgres?host={socket}&port={port}");
        let roles = Some(Roles::in_folder(folder.postgres.clone()));
        Ok(Self { psql, socket_url, roles, server: Some(server) })
    }

    /// The address of a database over TCP, as the role that owns it if it was made with [`Self::create_database`].
    pub fn tcp_url(&self, database: &str) -> String {
        self.as_owner(&self.psql.url, database)
    }

    /// The address of a database over the Unix socket, which saves CPU; for a server that is merely used, its own address.
    pub fn socket_url(&self, database: &str) -> String {
        self.as_owner(&self.socket_url, database)
    }

    /// The address of a database over TCP as a superuser: for who looks after the server, and for tests that break it.
    pub fn superuser_url(&self, database: &str) -> String {
        with_database(&self.psql.url, database)
    }

    fn as_owner(&self, url: &str, database: &str) -> String {
        let url = with_database(url, database);
        match self.roles.as_ref().and_then(|roles| roles.password(database)) {
            Some(password) => with_role(&url, database, &password),
            None => url,
        }
    }

    /// Makes sure that there is a database of this name, and on a server that was started here a role of the same name, which owns it and
    /// has no other rights. On a server that is merely used no role is made: its owner belongs to whoever looks after it.
    ///
    /// # Errors
    /// When the name is not 1 to 63 of `a-z`, `0-9`, `_` and `-`, or the server refuses.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<()> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        ensure!((1..=63).contains(&name.len()) && name.bytes().all(plain), "{name:?} is no name for a database");
        if let Some(roles) = &self.roles {
            let made = self.psql.run(&owned(name, &roles.prepare(name)?)).await;
            return made.map(drop).with_context(|| format!("could not make the database {name}"));
        }
        match self.psql.run(&format!("create database \"{name}\"")).await {
            // duplicate_database, or unique_violation when another is creating it at this moment
            Err(error) if ["42P04", "23505"].iter().any(|code| error.to_string().contains(code)) => Ok(()),
            other => other.map(drop).with_context(|| format!("could not create the database {name}")),
        }
    }

    /// Makes the database [`MAKER`], whose role may make others of its own: for programs that bring their databases along.
    ///
    /// # Errors
    /// Where the server cannot be asked, or refuses.
    pub async fn create_maker(&self) -> anyhow::Result<()> {
        self.create_database(MAKER).await?;
        if self.roles.is_some() {
            self.psql
                .run(&format!("alter role \"{MAKER}\" createdb"))
                .await
                .context("could not make the role that makes databases")?;
        }
        Ok(())
    }

    /// The folder of the cluster, if the server was started here.
    pub fn data_dir(&self) -> Option<&Path> {
        self.server.as_ref().map(|server| server.cluster.data.as_path())
    }

    /// Where the server logs, if it was started here.
    pub fn log(&self) -> Option<&Path> {
        self.server.as_ref().map(|server| server.log.as_path())
    }

    /// The psql of the same installation, for a person or a test.
    pub fn psql(&self) -> &Path {
        &self.psql.program
    }

    /// The port on 127.0.0.1, if the server was started here.
    pub fn port(&self) -> Option<u16> {
        self.server.as_ref().map(|server| server.port)
    }

    /// The postmaster's process id while it runs, if it was started here.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref()?.process.with(|process| process.pid()).ok()
    }

    /// The postmaster and its children at this moment, for measuring.
    pub fn pids(&self) -> Vec<u32> {
        let family = self.server.as_ref().and_then(|server| server.process.with(|process| process.family()).ok());
        family.unwrap_or_default()
    }

    /// Ends the server and its children with SIGKILL: a crash.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.server()?.process.kill()
    }

    /// Stops the server and its children in their tracks (SIGSTOP): connections stay open and nothing answers.
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
        server.launch(&self.psql).await
    }

    /// Sets the server's clock so many seconds ahead of the machine's, or behind it; see [`Options::steppable_clock`].
    pub fn step_clock(&self, seconds: i64) -> anyhow::Result<()> {
        self.server()?.clock.as_ref().context("this Postgres was not started with a clock to be stepped")?.step(seconds)
    }

    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        if let Some(server) = &self.server {
            server.process.stop(&STOP).await;
        }
        Ok(())
    }

    pub(crate) async fn keep(&self, say: &impl Fn(&str)) {
        let Some(server) = &self.server else { return };
        keep("Postgres", &server.process, || server.launch(&self.psql), say).await;
    }

    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        self.server.as_ref()?.process.failure()
    }

    fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("this Postgres is used, but was not started here")
    }
}

impl Server {
    /// Starts on the wanted port, or on free ones until no other process takes it first.
    async fn launch_on_a_port(&mut self, psql: &Path) -> anyhow::Result<()> {
        for _ in 0..5 {
            self.port = self.options.port.pick()?;
            let error = match self.launch(&self.psql(psql)).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !self.process.with(|process| process.lost_its_port()).unwrap_or(false) {
                return Err(error);
            }
            if !self.options.port.is_free_choice() {
                return Err(self.options.port.taken());
            }
        }
        bail!("other processes keep taking the port")
    }

    /// Starts and waits until it answers; children of a killed server may take a moment to notice.
    async fn launch(&self, psql: &Psql) -> anyhow::Result<()> {
        let deadline = Instant::now() + LINGERING;
        loop {
            self.spawn()?;
            let ready = self.ready(psql).await;
            let lingering = || self.process.with(|process| process.has_said("is still in use")).unwrap_or(false);
            if ready.is_ok() || Instant::now() > deadline || !lingering() {
                return ready;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn spawn(&self) -> anyhow::Result<()> {
        let mut command = self.watchdog.command(&self.program, "QUIT")?;
        clean(&mut command).arg("-D").arg(&self.cluster.data).current_dir("/").env("LC_ALL", "C");
        for setting in self.settings() {
            command.arg("-c").arg(setting);
        }
        if let Some(clock) = &self.clock {
            clock.apply(&mut command);
        }
        if let Some(user) = self.user {
            use std::os::unix::process::CommandExt as _;
            command.uid(user.uid).gid(user.gid);
        }
        self.process.put(Process::spawn("postgres", command, &self.log, Signal::QUIT, &self.watchdog)?);
        Ok(())
    }

    fn settings(&self) -> Vec<String> {
        let durable = if self.options.durable { "on" } else { "off" };
        vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.socket.path.display()),
            // Four services with a pool each, the command line and the tests beside them.
            "max_connections=200".to_owned(),
            format!("shared_buffers={}MB", self.options.shared_buffers_mb),
            // Checkpoints by time and not by volume: each is followed by a burst of full page images.
            "max_wal_size=4GB".to_owned(),
            // Compiling takes longer than any of our statements runs.
            "jit=off".to_owned(),
            // Times in the log compare with those of the services.
            "log_timezone=UTC".to_owned(),
            "timezone=UTC".to_owned(),
            "log_line_prefix=%m [%p] %d ".to_owned(),
            // Postgres acknowledges a commit when it is on disk; the rest of the system builds on that.
            format!("fsync={durable}"),
            format!("synchronous_commit={durable}"),
            format!("full_page_writes={durable}"),
        ]
    }

    /// Waits until a query is answered. The server says in its pid file that it is ready, as `pg_ctl` reads it:
    /// cheaper to poll than connections.
    async fn ready(&self, psql: &Psql) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let pid_file = self.cluster.data.join("postmaster.pid");
        loop {
            if let Some(error) = self.process.failure() {
                return Err(error);
            }
            let pid = self.process.with(|process| process.pid())?.to_string();
            let status = fs::read_to_string(&pid_file).unwrap_or_default();
            let mut lines = status.lines();
            if lines.next() == Some(&pid) && lines.nth(6).is_some_and(|line| line.trim() == "ready") {
                break;
            }
            if Instant::now() > deadline {
                let tail = self.process.with(|process| process.tail())?;
                bail!("Postgres is not ready after {} s; the end of its log:\n{tail}", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
        psql.run("select 1").await.context("Postgres is ready but answers no query").map(drop)
    }

    fn psql(&self, program: &Path) -> Psql {
        let (port, password) = (self.port, &self.cluster.password);
        let url = format!("postgres://{ROLE}:{password}@127.0.0.1:{port}/postgres");
        Psql { program: program.to_owned(), url }
    }
}
