//! On what it was measured: numbers mean nothing without it.

use std::fs;

use serde::Serialize;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// The kernel's version.
    pub kernel: String,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal").and_then(|kib| kib.split(' ').next()?.parse::<f64>().ok());
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: super::meter::round(memory.unwrap_or_default() / 1_048_576.0, 1),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// The first value of a name in `name: value` lines.
fn field(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(found, value)| (found.trim() == name).then(|| value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_whatever_stands_around_the_colon() {
        let text = "processor\t: 0\nmodel name\t: A processor\nMemTotal:       24556788 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A processor"));
        assert_eq!(field(text, "MemTotal").as_deref(), Some("24556788 kB"));
        assert_eq!(field(text, "nothing"), None);
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_gib > 0.1 && !machine.kernel.is_empty());
    }
}
