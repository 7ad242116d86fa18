//! Which process is behind an address of this machine: the one that listens on its port.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use reqwest::Url;

use super::meter::{ByPart, Part};
use super::proc;

/// The parts of a system and their addresses.
pub type Addresses = Vec<(Part, Url)>;

/// Finds the processes of a system that runs on this machine. Services that share a process are one part; what is elsewhere, or
/// belongs to somebody else, is left out.
pub fn find(addresses: &Addresses) -> ByPart<Vec<u32>> {
    let mut parts: BTreeMap<u32, HashSet<Part>> = BTreeMap::new();
    for (part, url) in addresses {
        let found = port(url).and_then(listener).or_else(|| is_local(url).then(|| by_name(*part)).flatten());
        if let Some(pid) = found {
            parts.entry(pid).or_default().insert(*part);
        }
    }
    let mut processes = ByPart::<Vec<u32>>::new();
    for (pid, parts) in parts {
        let part = if parts.len() > 1 { Part::Services } else { parts.into_iter().next().unwrap_or(Part::Services) };
        processes.entry(part).or_default().push(pid);
    }
    processes
}

/// The port of an address, if it is on this machine. Postgres addresses may name it, and a socket, behind the `?`.
fn port(url: &Url) -> Option<u16> {
    let named = url.query_pairs().find_map(|(name, value)| (name == "port").then(|| value.parse().ok()).flatten());
    let usual = match url.scheme() {
        "http" => 80,
        "nats" => 4222,
        _ => 5432,
    };
    is_local(url).then(|| named.or(url.port()).unwrap_or(usual))
}

fn is_local(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]" | "0.0.0.0") | None)
}

/// The process that listens on a TCP port.
pub fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes = tables.iter().flat_map(|table| listening(table, port));
    let sockets: HashSet<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    if sockets.is_empty() {
        return None;
    }
    // A child may hold its parent's socket too; the one that serves is the one whose parent does not.
    let holders: HashSet<u32> = proc::all().into_iter().filter(|&pid| holds(pid, &sockets)).collect();
    let is_first = |pid: &&u32| proc::cpu(**pid).is_some_and(|cpu| !holders.contains(&cpu.parent));
    holders.iter().find(is_first).copied()
}

fn holds(pid: u32, sockets: &HashSet<String>) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

/// The inodes of listening sockets in a table like `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<u64> {
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, its_port) = fields.get(1)?.rsplit_once(':')?;
        let listens = *fields.get(3)? == "0A" && u16::from_str_radix(its_port, 16) == Ok(port);
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(entry).collect()
}

/// Where the port tells nothing: the only process of that name.
fn by_name(part: Part) -> Option<u32> {
    let name = match part {
        Part::Nats => "nats-server".to_owned(),
        Part::Postgres => "postgres".to_owned(),
        part => format!("waybill-{}", part.name()),
    };
    let pids = proc::all().into_iter().filter(|&pid| proc::command(pid).is_some_and(|words| words[0] == name));
    let pids: Vec<u32> = pids.collect();
    match pids[..] {
        [pid] => Some(pid),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F93 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 0100007F:1F93 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 20 4 30 10 -1
";

    #[test]
    fn only_who_listens_counts() {
        assert_eq!(listening(TABLE, 8083), [4242]);
        assert!(listening(TABLE, 80).is_empty());
    }

    #[test]
    fn a_listener_of_our_own_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        let url = |scheme: &str| format!("{scheme}://127.0.0.1:{port}").parse::<Url>().unwrap();
        let addresses = vec![(Part::Order, url("http")), (Part::User, url("http"))];
        assert_eq!(find(&addresses), ByPart::from([(Part::Services, vec![std::process::id()])]));
        drop(socket);
        assert_eq!(listener(port), None);
    }

    #[test]
    fn ports_are_named_in_many_ways() {
        let of = |url: &str| port(&url.parse().unwrap());
        assert_eq!(of("http://127.0.0.1:8083/"), Some(8083));
        assert_eq!(of("nats://localhost"), Some(4222));
        assert_eq!(of("postgres://waybill:x@localhost/waybill_order?host=%2Ftmp%2Fsocket&port=15000"), Some(15_000));
        assert_eq!(of("postgres://waybill@db.internal:5432/x"), None);
    }
}
