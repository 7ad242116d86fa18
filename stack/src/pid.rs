//! Processes by their ids: who lives, who started whom.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Whether there is such a process; one that is dead but not yet collected by its parent is gone.
pub(crate) fn alive(pid: u32) -> bool {
    let Some(id) = raw(pid) else { return false };
    match test_kill_process(id) {
        Err(error) if error == rustix::io::Errno::SRCH => false,
        _ => !matches!(stat(pid), Some((b'Z' | b'X', _))),
    }
}

/// The processes that another has started.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| stat(pid).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
}

/// State and parent of a process, where there is a `/proc`.
fn stat(pid: u32) -> Option<(u8, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace(); // the name before it may hold anything
    Some((*fields.next()?.as_bytes().first()?, fields.next()?.parse().ok()?))
}

/// Sends a signal to whoever has this id.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = raw(pid) {
        let _ = kill_process(pid, signal); // it may be gone already
    }
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}
