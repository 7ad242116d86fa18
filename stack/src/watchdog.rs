//! A helper process that ends the servers if we cannot do it ourselves.
//!
//! Linux can signal a child when its parent dies (`PR_SET_PDEATHSIG`), but that needs unsafe code, fires
//! when the *thread* that started the child ends, and does not exist elsewhere. A shell that reads from a
//! pipe needs nothing but POSIX, follows the process and not the thread, and can clean up as well.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::environment::clean;
use crate::folder::Folder;

/// A shell that puts itself on the list, by the pipe that is its output, and becomes its arguments. In a shell of its own, which a pipe without
/// a reader may kill.
const BECOME: &str = r#"(echo "add $$ $0"); exec "$@" >&2"#;

/// Dropping it dismisses the helper: by then the servers are gone.
#[derive(Debug)]
pub(crate) struct Watchdog(Mutex<Child>);

impl Watchdog {
    pub(crate) fn start(folder: &Folder) -> anyhow::Result<Self> {
        // A file, so that the process list shows a name and not the whole text.
        let script = folder.root.join("watchdog.sh");
        fs::write(&script, include_str!("watchdog.sh"))?;
        let mut command = Command::new("/bin/sh");
        clean(&mut command).arg(script).current_dir("/");
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

    /// A command whose process gets `signal` if we die. All it prints goes where its standard error goes.
    ///
    /// Its process is on the list before it is the program: however soon we die, nothing is left behind.
    pub(crate) fn command(&self, program: &Path, signal: &str) -> anyhow::Result<Command> {
        let child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = match &child.stdin {
            Some(pipe) => pipe.as_fd().try_clone_to_owned()?.into(),
            None => Stdio::null(),
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", BECOME, signal]).arg(program).stdin(Stdio::null()).stdout(pipe);
        // The terminal's Ctrl-C is for us, and we end our children in order.
        command.process_group(0);
        Ok(command)
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
