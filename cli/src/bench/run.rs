//! One run: warm up, measure, wait for the last orders, look up those that were not heard of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use tokio_util::task::AbortOnDropHandle;

use super::drive::{Drive, Mode};
use super::finals::{Awaited, FinalEvents, connect};
use super::http::{Connection, Endpoint};
use super::live::Live;
use super::meter::{Meter, per_order};
use super::result::Run;
use super::tally::{Tally, Window};
use super::target::Target;
use super::workload::Load;

/// How often memory is looked at and progress is shown.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What all runs share.
#[derive(Debug)]
pub struct Bench {
    /// The broker, as a customer sees it.
    pub broker: Client,
    /// CPU and memory of the system.
    pub meter: Arc<Meter>,
    endpoints: Vec<Arc<Endpoint>>,
    load: Arc<Load>,
    pace: Pace,
}

/// How long, and how much at once.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Load before the measured time.
    pub warmup: Duration,
    /// The measured time.
    pub seconds: Duration,
    /// How long an order may take before it is looked up and counted as an error.
    pub deadline: Duration,
    /// Open loop: the most requests under way.
    pub in_flight: usize,
}

impl Bench {
    /// Connects to the broker.
    pub async fn new(target: &Target, load: Load, pace: Pace) -> anyhow::Result<Self> {
        Ok(Self {
            broker: connect(&target.nats_url).await?,
            meter: Arc::new(Meter::new(target.processes.clone())),
            endpoints: target.endpoints.iter().map(|url| Endpoint::new(url).map(Arc::new)).collect::<anyhow::Result<_>>()?,
            load: Arc::new(load),
            pace,
        })
    }

    /// Runs once.
    pub async fn run(&self, mode: Mode) -> anyhow::Result<Run> {
        let begin = Instant::now();
        let start = begin + self.pace.warmup;
        let tally = Arc::new(Tally::new(Window { start, end: start + self.pace.seconds }));
        let awaited = Arc::new(Awaited::new(tally.clone()));
        let final_events = FinalEvents::listen(&self.broker, &awaited).await?;
        let watcher = AbortOnDropHandle::new(tokio::spawn(watch(tally.clone(), self.meter.clone(), begin)));
        let drive = Drive {
            endpoints: self.endpoints.clone(),
            load: self.load.clone(),
            tally: tally.clone(),
            awaited: awaited.clone(),
            deadline: self.pace.deadline,
            in_flight: self.pace.in_flight,
        };
        let driving = AbortOnDropHandle::new(tokio::spawn(drive.run(mode, begin)));
        tokio::time::sleep_until(tally.window.start.into()).await;
        let before = self.meter.cpu();
        tokio::time::sleep_until(tally.window.end.into()).await;
        let after = self.meter.cpu();
        self.meter.look_at_memory();
        driving.await??;
        settle(&awaited, self.pace.deadline).await;
        drop((final_events, watcher));
        self.look_up(&awaited, &tally).await;

        let counts = tally.counts();
        let cpu = per_order(&before, &after, counts.ended());
        Ok(Run::new(mode, self.pace.seconds.as_secs_f64(), counts, tally.finals(), &cpu, &self.meter.peak_rss_mib()))
    }

    /// Asks for each order that was not heard of. Each is an error, of the kind that says whether the order or only its event is missing.
    async fn look_up(&self, awaited: &Awaited, tally: &Tally) {
        let mut connection = Connection::new(self.endpoints[0].clone());
        for order in awaited.give_up() {
            let kind = match connection.status(order).await.as_deref() {
                Ok("confirmed" | "rejected" | "cancelled") => "event not seen".to_owned(),
                Ok(_) => "not final".to_owned(),
                Err(trouble) => format!("accepted, then {}", trouble.kind()),
            };
            tally.lost(&kind);
        }
    }
}

/// Waits until every order is final, or until none has become so for long.
async fn settle(awaited: &Awaited, deadline: Duration) {
    let (mut left, mut moved) = (awaited.waiting(), Instant::now());
    while left > 0 && moved.elapsed() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = awaited.waiting();
        if now != left {
            (left, moved) = (now, Instant::now());
        }
    }
}

async fn watch(tally: Arc<Tally>, meter: Arc<Meter>, begin: Instant) {
    let live = Live::start(begin, tally.window);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        meter.look_at_memory();
        live.show(tally.finals());
    }
}
