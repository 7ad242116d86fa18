//! One server process: its log, its signals, its end.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
pub(crate) use rustix::process::Signal;

use crate::pid::{alive, children, send};
use crate::watchdog::Watchdog;

/// How often an exit is looked for.
pub(crate) const POLL: Duration = Duration::from_millis(5);
/// What a failing server has to say fits in this many lines.
const TAIL: usize = 15;
/// A log larger than this is set aside at the next start.
const LOG_LIMIT: u64 = 16 << 20;

/// The end of a process that nobody told to end.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) pid: u32,
    pub(crate) status: ExitStatus,
    pub(crate) log: PathBuf,
    /// The last line it wrote.
    pub(crate) last_line: String,
}

/// A running server; dropping it ends the server at once.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Where this process's part of the log begins.
    log_start: u64,
    /// The signal for a quick but orderly end.
    quick: Signal,
    watchdog: Arc<Watchdog>,
}

impl Process {
    /// Starts a command of the watchdog's, with its output in `log`.
    pub(crate) fn spawn(
        name: &'static str,
        mut command: Command,
        log: &Path,
        quick: Signal,
        watchdog: &Arc<Watchdog>,
    ) -> anyhow::Result<Self> {
        if fs::metadata(log).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
            fs::rename(log, log.with_extension("log.old"))?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
        let log_start = file.metadata()?.len();
        let child = command.stderr(file).spawn().with_context(|| format!("could not start {name}"))?;
        let (log, watchdog) = (log.to_owned(), Arc::clone(watchdog));
        Ok(Self { name, child, log, log_start, quick, watchdog })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process and its children: Postgres puts each of its own in another process group.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut pids = vec![self.pid()];
        pids.extend(children(self.pid()));
        pids
    }

    /// The reason, if the process has exited by itself.
    pub(crate) fn failure(&mut self) -> Option<anyhow::Error> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(anyhow!("{} exited ({status}); the end of {}:\n{}", self.name, self.log.display(), self.tail()))
    }

    /// How the process ended, if it has exited by itself.
    pub(crate) fn exit(&mut self) -> Option<Exit> {
        let status = self.child.try_wait().ok().flatten()?;
        let last_line = self.said().lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
        Some(Exit { pid: self.pid(), status, log: self.log.clone(), last_line })
    }

    /// Whether the log says that another process has the port.
    pub(crate) fn lost_its_port(&self) -> bool {
        self.has_said("address already in use")
    }

    /// Whether these words, in lowercase, are in what the process has written.
    pub(crate) fn has_said(&self, words: &str) -> bool {
        self.said().to_lowercase().contains(words)
    }

    /// The last lines this process wrote.
    pub(crate) fn tail(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn said(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.seek(SeekFrom::Start(self.log_start));
            let _ = file.take(LOG_LIMIT).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops the process and its children in their tracks.
    pub(crate) fn pause(&self) {
        send(self.pid(), Signal::STOP); // first, so that it starts no more children
        children(self.pid()).into_iter().for_each(|pid| send(pid, Signal::STOP));
    }

    /// Lets them go on.
    pub(crate) fn resume(&self) {
        self.family().into_iter().for_each(|pid| send(pid, Signal::CONT));
    }

    /// Sends each signal in turn and waits its time for the exit; then SIGKILL.
    pub(crate) async fn stop(mut self, signals: &[(Signal, Duration)]) {
        self.resume();
        for (signal, patience) in signals {
            send(self.pid(), *signal);
            let deadline = Instant::now() + *patience;
            while Instant::now() < deadline {
                if self.has_exited() {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        self.kill();
    }

    /// SIGKILL for the process and its children; returns when all are gone, within milliseconds.
    pub(crate) fn kill(&mut self) {
        if self.has_exited() {
            return;
        }
        self.pause();
        let family = self.family();
        family.iter().for_each(|&pid| send(pid, Signal::KILL));
        let _ = self.child.wait();
        wait_for(Duration::from_secs(2), || family.iter().all(|&pid| !alive(pid)));
    }

    fn has_exited(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    /// Orderly if it takes no time: a Postgres that is killed leaves shared memory behind.
    fn drop(&mut self) {
        if !self.has_exited() {
            self.resume();
            send(self.pid(), self.quick);
            wait_for(Duration::from_secs(3), || self.has_exited());
            self.kill();
        }
        self.watchdog.remove(self.pid());
    }
}

/// Where a server's process is while there is one.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<Option<Process>>);

impl Slot {
    /// Takes in a new process; an old one that is still there is ended.
    pub(crate) fn put(&self, process: Process) {
        *self.lock() = Some(process);
    }

    /// Asks the process something, or tells it.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Process) -> T) -> anyhow::Result<T> {
        self.lock().as_mut().map(f).context("the server is not running")
    }

    /// The reason, if the process has exited by itself.
    pub(crate) fn failure(&self) -> Option<anyhow::Error> {
        self.lock().as_mut()?.failure()
    }

    /// How the process ended, if it has exited by itself.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.lock().as_mut()?.exit()
    }

    /// SIGKILL, and nothing is left.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let mut process = self.lock().take().context("the server is not running")?;
        process.kill();
        Ok(())
    }

    /// As [`Process::stop`]; nothing to do if there is no process.
    pub(crate) async fn stop(&self, signals: &[(Signal, Duration)]) {
        let process = self.lock().take();
        if let Some(process) = process {
            process.stop(signals).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_for(patience: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !done() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}
