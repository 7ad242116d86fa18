//! A helper process that ends the servers if we cannot do it ourselves.
//!
//! Linux can signal a child when its parent dies (`PR_SET_PDEATHSIG`), but that needs unsafe code, fires
//! when the *thread* that started the child ends, and does not exist elsewhere. A shell that reads from a
//! pipe needs nothing but POSIX, follows the process and not the thread, and can clean up as well.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::folder::Folder;

/// Dropping it dismisses the helper: by then the servers are gone.
#[derive(Debug)]
pub(crate) struct Watchdog(Mutex<Child>);

impl Watchdog {
    pub(crate) fn start(folder: &Folder) -> anyhow::Result<Self> {
        // A file, so that the process list shows a name and not the whole text.
        let script = folder.root.join("watchdog.sh");
        fs::write(&script, include_str!("watchdog.sh"))?;
        let mut command = Command::new("/bin/sh");
        command.arg(script).current_dir("/");
        if folder.is_ephemeral() {
            command.arg(&folder.root);
        }
        let lock = match &folder.lock {
            Some(lock) => lock.try_clone()?.into(),
            None => Stdio::null(),
        };
        // Its own process group: the terminal's Ctrl-C is for us, and we stop the servers last.
        command.process_group(0).stdin(Stdio::piped()).stdout(lock).stderr(Stdio::null());
        let child = command.spawn().context("could not start /bin/sh as a watchdog")?;
        Ok(Self(Mutex::new(child)))
    }

    /// From now on, send `signal` to `pid` if we die.
    pub(crate) fn add(&self, pid: u32, signal: &str) {
        self.say(&format!("add {pid} {signal}\n"));
    }

    /// `pid` is gone.
    pub(crate) fn remove(&self, pid: u32) {
        self.say(&format!("remove {pid}\n"));
    }

    /// A watchdog that was killed cannot listen; that leaves us no worse than without one.
    fn say(&self, line: &str) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = &mut child.stdin {
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.say("end\n");
        let child = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.wait();
    }
}
