//! CPU time and memory by part of the system. A part is a set of processes, Postgres one with all its children.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::proc;

/// A part of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The order service, all its instances.
    Order,
    /// The user service.
    User,
    /// The product service.
    Product,
    /// The gateway.
    Gateway,
    /// Services that share one process, as under `waybill up`.
    Services,
    /// The broker.
    Nats,
    /// The databases.
    Postgres,
    /// This command.
    Driver,
}

impl Part {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 8] =
        [Self::Order, Self::User, Self::Product, Self::Gateway, Self::Services, Self::Nats, Self::Postgres, Self::Driver];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::User => "user",
            Self::Product => "product",
            Self::Gateway => "gateway",
            Self::Services => "services",
            Self::Nats => "nats",
            Self::Postgres => "postgres",
            Self::Driver => "driver",
        }
    }
}

/// A number for each part.
pub type ByPart<T> = BTreeMap<Part, T>;

/// Reads the meters of all parts.
#[derive(Debug)]
pub struct Meter {
    processes: ByPart<Vec<u32>>,
    ticks_per_s: f64,
    /// The most of Postgres that was seen at once, in KiB.
    postgres_peak: Mutex<u64>,
}

impl Meter {
    /// Meters these processes; of Postgres the postmaster is enough.
    pub fn new(mut processes: ByPart<Vec<u32>>) -> Self {
        processes.insert(Part::Driver, vec![std::process::id()]);
        let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
        Self { processes, ticks_per_s, postgres_peak: Mutex::default() }
    }

    /// CPU seconds used so far by each part.
    pub fn cpu(&self) -> ByPart<f64> {
        self.processes.iter().map(|(&part, pids)| (part, self.ticks(part, pids) as f64 / self.ticks_per_s)).collect()
    }

    /// A child that has exited was waited for by the postmaster, and is in its books: nothing is lost when connections come and go.
    fn ticks(&self, part: Part, pids: &[u32]) -> u64 {
        let tree = part == Part::Postgres;
        let of = |pid: u32| proc::cpu(pid).map_or(0, |cpu| cpu.own + if tree { cpu.exited_children } else { 0 });
        let children = pids.iter().filter(|_| tree).flat_map(|&pid| proc::children(pid));
        pids.iter().copied().chain(children).map(of).sum()
    }

    /// Looks how much memory Postgres takes: its processes share most of theirs, so their own peaks cannot be added up.
    pub fn look_at_memory(&self) {
        let mut peak = self.postgres_peak.lock().unwrap_or_else(PoisonError::into_inner);
        let postmasters = self.processes.get(&Part::Postgres).into_iter().flatten();
        let now = postmasters.map(|&pid| {
            let all: Vec<_> = proc::children(pid).into_iter().chain([pid]).filter_map(proc::memory).collect();
            let most = |of: fn(&proc::Memory) -> u64| all.iter().map(of).max().unwrap_or(0);
            all.iter().map(|memory| memory.anonymous).sum::<u64>() + most(|memory| memory.shared) + most(|memory| memory.file)
        });
        *peak = now.sum::<u64>().max(*peak);
    }

    /// The peak of resident memory of each part in MiB, since its processes started; of Postgres the most that was seen.
    pub fn peak_rss_mib(&self) -> ByPart<f64> {
        let peak = |(&part, pids): (&Part, &Vec<u32>)| {
            let kib = match part {
                Part::Postgres => *self.postgres_peak.lock().unwrap_or_else(PoisonError::into_inner),
                _ => pids.iter().filter_map(|&pid| proc::memory(pid)).map(|memory| memory.peak).sum(),
            };
            (part, round(kib as f64 / 1_024.0, 1))
        };
        self.processes.iter().map(peak).collect()
    }
}

/// CPU microseconds an order by part.
pub fn per_order(before: &ByPart<f64>, after: &ByPart<f64>, orders: u64) -> ByPart<f64> {
    let used = |part: &Part| after[part] - before.get(part).copied().unwrap_or_default();
    let per_order = |seconds: f64| round(seconds * 1e6 / orders.max(1) as f64, 1);
    after.keys().map(|part| (*part, per_order(used(part)))).collect()
}

/// With so many digits behind the point: more would claim more than was measured.
pub fn round(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_what_was_used_between_divided_by_the_orders() {
        let before = ByPart::from([(Part::Order, 1.0), (Part::Nats, 0.5)]);
        let after = ByPart::from([(Part::Order, 2.0), (Part::Nats, 0.75), (Part::Driver, 0.1)]);
        let per_order = per_order(&before, &after, 10_000);
        assert_eq!(per_order, ByPart::from([(Part::Order, 100.0), (Part::Nats, 25.0), (Part::Driver, 10.0)]));
    }

    #[test]
    fn a_child_counts_while_it_runs_and_after() {
        let meter = Meter::new(ByPart::from([(Part::Postgres, vec![std::process::id()])]));
        let before = meter.cpu()[&Part::Postgres];
        let busy = std::process::Command::new("sh").args(["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"]).status();
        assert!(busy.unwrap().success());
        assert!(meter.cpu()[&Part::Postgres] - before > 0.05);
        meter.look_at_memory();
        assert!(meter.peak_rss_mib()[&Part::Postgres] > 1.0);
    }
}
