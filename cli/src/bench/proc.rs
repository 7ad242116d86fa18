//! What the kernel says about processes (`/proc`): CPU time, memory, children.

use std::fs;

/// CPU time of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Its parent.
    pub parent: u32,
    /// Its own, in ticks, user and system.
    pub own: u64,
    /// Of children that have exited and were waited for.
    pub exited_children: u64,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The most that was ever resident.
    pub peak: u64,
    /// Resident and its own.
    pub anonymous: u64,
    /// Resident and from files.
    pub file: u64,
    /// Resident and shared with others: Postgres's cache.
    pub shared: u64,
}

/// The CPU time of a process; `None` if it is gone.
pub fn cpu(pid: u32) -> Option<Cpu> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The memory of a process; `None` if it is gone.
pub fn memory(pid: u32) -> Option<Memory> {
    Some(parse_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?))
}

/// All processes.
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    // Quick, where the kernel offers it, thread by thread; else every process is asked for its parent.
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists: Result<Vec<String>, _> = threads.map(|thread| fs::read_to_string(thread.path().join("children"))).collect();
    match lists {
        Ok(lists) => lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect(),
        Err(_) => all().into_iter().filter(|&pid| cpu(pid).is_some_and(|cpu| cpu.parent == parent)).collect(),
    }
}

/// The command line of a process, the program's name without its folder.
pub fn command(pid: u32) -> Option<Vec<String>> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words: Vec<String> = text.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let program = words.first_mut().filter(|word| !word.is_empty())?;
    // Postgres writes its title here: `postgres: checkpointer`.
    *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    Some(words)
}

/// `proc_pid_stat(5)`: the name in parentheses may hold anything, so counting starts behind it.
fn parse_stat(stat: &str) -> Option<Cpu> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // `state` is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Cpu {
        parent: u32::try_from(number(4)?).ok()?,
        own: number(14)? + number(15)?,
        exited_children: number(16)? + number(17)?,
    })
}

fn parse_status(status: &str) -> Memory {
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Memory { peak: kib("VmHWM"), anonymous: kib("RssAnon"), file: kib("RssFile"), shared: kib("RssShmem") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (post) gres: (x) S 42 4711 4711 0 -1 4194560 8391 0 7 0 120 34 56 78 20 0 1 0 100 0 0";
    const STATUS: &str =
        "Name:\tpostgres\nVmPeak:\t  999 kB\nVmHWM:\t  52340 kB\nRssAnon:\t   7000 kB\nRssFile:\t 300 kB\nRssShmem:\t 41 kB\n";

    #[test]
    fn a_name_may_hold_spaces_and_parentheses() {
        assert_eq!(parse_stat(STAT), Some(Cpu { parent: 42, own: 154, exited_children: 134 }));
        assert_eq!(parse_stat("4711 (x) S 42"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn memory_is_read_by_name() {
        assert_eq!(parse_status(STATUS), Memory { peak: 52_340, anonymous: 7_000, file: 300, shared: 41 });
        assert_eq!(parse_status("Name:\tkthreadd\n"), Memory::default());
    }

    #[test]
    fn this_very_process_is_there() {
        let own = std::process::id();
        assert!(memory(own).is_some_and(|memory| memory.peak > 1_000));
        assert!(all().contains(&own) && cpu(own).is_some());
        assert!(command(own).is_some_and(|words| words[0].starts_with("waybill")));
        let mut child = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        assert!(children(own).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
