//! What one run came to, as it is printed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use saga_commands::output::table;
use serde::Serialize;

use super::drive::Mode;
use super::floor::Floor;
use super::machine::Machine;
use super::meter::{ByPart, Part, round};
use super::tally::{Counts, percentile_ms};

/// One run. Milliseconds, microseconds and MiB.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Clients of a closed loop.
    pub concurrency: Option<usize>,
    /// Orders a second offered by an open loop.
    pub rate: Option<f64>,
    /// The measured time.
    pub seconds: f64,
    /// Orders that became final in it, a second.
    pub orders_per_s: f64,
    #[allow(missing_docs)]
    pub p50_ms: f64,
    #[allow(missing_docs)]
    pub p90_ms: f64,
    #[allow(missing_docs)]
    pub p99_ms: f64,
    #[allow(missing_docs)]
    pub p999_ms: f64,
    #[allow(missing_docs)]
    pub max_ms: f64,
    /// Orders confirmed.
    pub confirmed: u64,
    /// Orders rejected.
    pub rejected: u64,
    /// Everything that went wrong.
    pub errors: u64,
    /// The same by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Of the servers.
    pub cpu_us_per_order: Cpu,
    /// Of this command.
    pub driver_cpu_us_per_order: f64,
    /// Of each part; `null` where its processes could not be found.
    pub peak_rss_mib: Parts,
    /// CPU of the servers as a multiple of what the same messages and rows cost without any service.
    pub floor_ratio: Option<f64>,
    /// That cost.
    pub floor_us_per_order: Option<Floor>,
    /// Orders that became final, with those of the warm-up.
    #[serde(skip)]
    pub all_orders: u64,
    /// The whole distribution, for the page.
    #[serde(skip)]
    pub latency: Histogram<u64>,
}

/// What all runs have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Context {
    /// `uniform`, `hot` or `baskets`.
    pub load: &'static str,
    #[allow(missing_docs)]
    pub lines_per_order: f64,
    #[allow(missing_docs)]
    pub products: usize,
    #[allow(missing_docs)]
    pub via_gateway: bool,
    /// Of each service, where we started them.
    pub instances: Option<u8>,
    /// When the broker brings what it stored to disk, where we started it.
    pub sync: Option<String>,
    #[allow(missing_docs)]
    pub warmup_seconds: f64,
    /// Whether everything added up at the end; `null` where nobody looked.
    pub audit_clean: Option<bool>,
    #[allow(missing_docs)]
    pub machine: Machine,
    #[allow(missing_docs)]
    pub version: &'static str,
    /// Of the build, if it was told.
    pub commit: Option<&'static str>,
    /// As it was typed.
    pub command: String,
    #[allow(missing_docs)]
    pub at: DateTime<Utc>,
}

/// One run with all there is to know about it: one object of the JSON lines.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RunInContext<'a> {
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub run: &'a Run,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub context: &'a Context,
}

/// CPU microseconds an order.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// Of all servers together.
    pub total: f64,
    /// Of each.
    #[serde(flatten)]
    pub parts: Parts,
}

/// A number for each part but the driver; `null` where its processes could not be found.
#[derive(Clone, Debug, Serialize)]
pub struct Parts {
    #[allow(missing_docs)]
    pub order: Option<f64>,
    #[allow(missing_docs)]
    pub user: Option<f64>,
    #[allow(missing_docs)]
    pub product: Option<f64>,
    #[allow(missing_docs)]
    pub gateway: Option<f64>,
    /// Services that share a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<f64>,
    #[allow(missing_docs)]
    pub nats: Option<f64>,
    #[allow(missing_docs)]
    pub postgres: Option<f64>,
}

impl From<&ByPart<f64>> for Parts {
    fn from(numbers: &ByPart<f64>) -> Self {
        let of = |part| numbers.get(&part).copied();
        Self {
            order: of(Part::Order),
            user: of(Part::User),
            product: of(Part::Product),
            gateway: of(Part::Gateway),
            services: of(Part::Services),
            nats: of(Part::Nats),
            postgres: of(Part::Postgres),
        }
    }
}

impl Parts {
    /// The number of one part.
    pub fn of(&self, part: Part) -> Option<f64> {
        match part {
            Part::Order => self.order,
            Part::User => self.user,
            Part::Product => self.product,
            Part::Gateway => self.gateway,
            Part::Services => self.services,
            Part::Nats => self.nats,
            Part::Postgres => self.postgres,
            Part::Driver => None,
        }
    }
}

impl Run {
    /// Puts together what was counted and metered.
    pub fn new(mode: Mode, seconds: f64, counts: Counts, all_orders: u64, cpu: &ByPart<f64>, memory: &ByPart<f64>) -> Self {
        let latency = &counts.latency;
        let ms = |percentile| round(percentile_ms(latency, percentile), 3);
        let servers = cpu.iter().filter(|(part, _)| **part != Part::Driver).map(|(_, us)| us).sum();
        let (concurrency, rate) = match mode {
            Mode::Closed(clients) => (Some(clients), None),
            Mode::Open(rate) => (None, Some(rate)),
        };
        Self {
            concurrency,
            rate,
            seconds,
            orders_per_s: round(counts.ended() as f64 / seconds, 1),
            p50_ms: ms(50.0),
            p90_ms: ms(90.0),
            p99_ms: ms(99.0),
            p999_ms: ms(99.9),
            max_ms: ms(100.0),
            confirmed: counts.confirmed,
            rejected: counts.rejected,
            errors: counts.errors.values().sum(),
            cpu_us_per_order: Cpu { total: round(servers, 1), parts: cpu.into() },
            driver_cpu_us_per_order: cpu.get(&Part::Driver).copied().unwrap_or_default(),
            peak_rss_mib: memory.into(),
            floor_ratio: None,
            floor_us_per_order: None,
            all_orders,
            errors_by_kind: counts.errors,
            latency: counts.latency,
        }
    }

    /// What went wrong, in words.
    pub fn kinds(&self) -> String {
        let kinds: Vec<_> = self.errors_by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        kinds.join(", ")
    }

    /// Sets the floor.
    pub fn stand_on(&mut self, floor: Floor) {
        self.floor_ratio = (floor.total > 0.0).then(|| round(self.cpu_us_per_order.total / floor.total, 2));
        self.floor_us_per_order = Some(floor);
    }

    /// What was asked for: `256 clients`, `5000/s`.
    pub fn load(&self) -> String {
        match (self.concurrency, self.rate) {
            (Some(1), _) => "1 client".to_owned(),
            (Some(clients), _) => format!("{clients} clients"),
            (_, Some(rate)) => format!("{rate}/s"),
            _ => String::new(),
        }
    }
}

/// One row a run: latency, then CPU and memory, then what went wrong.
pub fn tables(runs: &[Run]) -> String {
    const LATENCY: [&str; 10] =
        ["LOAD", "ORDERS/S", "P50 MS", "P90 MS", "P99 MS", "P99.9 MS", "MAX MS", "CONFIRMED", "REJECTED", "ERRORS"];
    let latency = runs.iter().map(|run| {
        let mut row = vec![run.load(), format!("{:.0}", run.orders_per_s)];
        row.extend([run.p50_ms, run.p90_ms, run.p99_ms, run.p999_ms, run.max_ms].map(|ms| format!("{ms:.1}")));
        row.extend([run.confirmed, run.rejected, run.errors].map(|count| count.to_string()));
        row
    });
    let mut text = table(&LATENCY, latency);

    let shown: Vec<Part> =
        Part::ALL.into_iter().filter(|&part| runs.iter().any(|run| run.cpu_us_per_order.parts.of(part).is_some())).collect();
    let upper: Vec<String> = shown.iter().map(|part| part.name().to_uppercase()).collect();
    let header = |first: &'static str| {
        let names = upper.iter().map(String::as_str);
        ["LOAD", first].into_iter().chain(names).collect::<Vec<_>>()
    };
    let cell = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"));
    let cpu = runs.iter().map(|run| {
        let parts = shown.iter().map(|&part| cell(run.cpu_us_per_order.parts.of(part)));
        let mut row = vec![run.load(), format!("{:.1}", run.cpu_us_per_order.total)];
        row.extend(parts);
        row.push(cell(Some(run.driver_cpu_us_per_order)));
        row.push(run.floor_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
        row
    });
    let mut names = header("CPU US/ORDER");
    names.extend(["(DRIVER)", "X FLOOR"]);
    text = format!("{text}\n\n{}", table(&names, cpu));

    let memory = runs.iter().map(|run| {
        let parts: Vec<_> = shown.iter().map(|&part| run.peak_rss_mib.of(part)).collect();
        let mut row = vec![run.load(), format!("{:.1}", parts.iter().flatten().sum::<f64>())];
        row.extend(parts.into_iter().map(cell));
        row
    });
    text = format!("{text}\n\n{}", table(&header("PEAK MIB"), memory));

    for run in runs.iter().filter(|run| run.errors > 0) {
        text = format!("{text}\n\nErrors at {}: {}", run.load(), run.kinds());
    }
    text
}
