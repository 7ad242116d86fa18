//! What Linux says of the process, by the names that Prometheus' own clients use.

use std::sync::OnceLock;

use procfs::ProcResult;
use procfs::process::{LimitValue, Process};

/// Adds it to what is shown.
pub(super) fn render(text: &mut String) {
    for (name, kind, help, value) in facts().unwrap_or_default() {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n"));
    }
}

/// Name, kind, what it is, value.
type Fact = (&'static str, &'static str, &'static str, f64);

fn facts() -> ProcResult<Vec<Fact>> {
    let process = Process::myself()?;
    let (stat, ticks) = (process.stat()?, procfs::ticks_per_second() as f64);
    let seconds = |ticked: u64| ticked as f64 / ticks;
    // Once: when the machine began moves with its clock, and whoever starts again and again is told from it.
    static STARTED: OnceLock<f64> = OnceLock::new();
    let started = match STARTED.get() {
        Some(started) => *started,
        None => {
            let started = procfs::boot_time_secs()? as f64 + seconds(stat.starttime);
            *STARTED.get_or_init(|| started)
        }
    };
    let mut facts = vec![
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time spent, in user and kernel.",
            seconds(stat.utime.saturating_add(stat.stime)),
        ),
        ("process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.", started),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use that is not swapped out.",
            stat.rss as f64 * procfs::page_size() as f64,
        ),
        ("process_virtual_memory_bytes", "gauge", "Memory addressed, most of it never used.", stat.vsize as f64),
        ("process_threads", "gauge", "Threads.", stat.num_threads as f64),
        ("process_open_fds", "gauge", "Open files and connections.", process.fd_count()? as f64),
    ];
    if let LimitValue::Value(limit) = process.limits()?.max_open_files.soft_limit {
        facts.push(("process_max_fds", "gauge", "How many files and connections it may have open.", limit as f64));
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_the_process() {
        let facts = facts().unwrap();
        let value = |name: &str| facts.iter().find(|(found, ..)| *found == name).unwrap().3;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 3600.0..=now + 1.0).contains(&value("process_start_time_seconds")), "{facts:?}");
        assert!(value("process_resident_memory_bytes") > 1_000_000.0 && value("process_open_fds") >= 3.0, "{facts:?}");
        assert!(value("process_threads") >= 1.0 && value("process_max_fds") >= value("process_open_fds"), "{facts:?}");
    }
}
