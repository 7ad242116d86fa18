//! The load of one run: clients that wait for each order's end (closed loop), or orders at fixed moments whatever the answers
//! (open loop).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::finals::Awaited;
use super::http::{Connection, Endpoint};
use super::schedule::Schedule;
use super::tally::Tally;
use super::workload::Load;

/// How the load is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// So many clients, each with one order at a time.
    Closed(usize),
    /// So many orders a second.
    Open(f64),
}

/// What a run drives, and what it tells.
#[derive(Clone, Debug)]
pub struct Drive {
    /// Where orders are posted, in turn.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The orders.
    pub load: Arc<Load>,
    /// The counts.
    pub tally: Arc<Tally>,
    /// The orders whose end is not known yet.
    pub awaited: Arc<Awaited>,
    /// How long a client waits for an order's end before it goes on without.
    pub deadline: Duration,
    /// Open loop: the most requests that may be under way.
    pub in_flight: usize,
}

impl Drive {
    /// Sends orders from `begin` until the window ends; returns when the last answer is in. Ends may be outstanding then.
    pub async fn run(self, mode: Mode, begin: Instant) -> anyhow::Result<()> {
        match mode {
            Mode::Closed(clients) => self.closed(clients).await,
            Mode::Open(rate) => self.open(Schedule::new(begin, rate)).await,
        }
    }

    async fn closed(self, clients: usize) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let connection = Connection::new(self.endpoints[number % self.endpoints.len()].clone());
            tasks.spawn(self.clone().client(connection));
        }
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    async fn client(self, mut connection: Connection) {
        let end = self.tally.window.end;
        loop {
            let since = Instant::now();
            if since >= end {
                return;
            }
            match connection.place(self.load.next()).await {
                Ok(order) => {
                    let (wake, woken) = oneshot::channel();
                    self.awaited.expect(order, since, Some(wake));
                    // Late: it stays awaited, and is looked up after the run.
                    let _ = tokio::time::timeout(self.deadline, woken).await;
                }
                Err(trouble) => {
                    self.tally.failed(since, &trouble.kind());
                    tokio::time::sleep(trouble.pause().min(end.saturating_duration_since(Instant::now()))).await;
                }
            }
        }
    }

    async fn open(self, schedule: Schedule) -> anyhow::Result<()> {
        let places = Arc::new(Semaphore::new(self.in_flight));
        let pool = Arc::new(Pool::default());
        let mut tasks = JoinSet::new();
        for (number, due) in schedule.take_while(|due| *due < self.tally.window.end).enumerate() {
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            let Ok(place) = places.clone().try_acquire_owned() else {
                self.tally.failed(due, "too many under way");
                continue;
            };
            let (drive, pool) = (self.clone(), pool.clone());
            tasks.spawn(async move {
                let mut connection = pool.take(|| Connection::new(drive.endpoints[number % drive.endpoints.len()].clone()));
                // From when it was due: a late start is part of what a customer waits.
                match connection.place(drive.load.next()).await {
                    Ok(order) => drive.awaited.expect(order, due, None),
                    Err(trouble) => drive.tally.failed(due, &trouble.kind()),
                }
                pool.put(connection);
                drop(place);
            });
            while let Some(ended) = tasks.try_join_next() {
                ended?;
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// Connections that wait for the next order; the one used last is used first, so that no more are kept busy than are needed.
#[derive(Debug, Default)]
struct Pool(Mutex<Vec<Connection>>);

impl Pool {
    fn take(&self, new: impl FnOnce() -> Connection) -> Connection {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match idle.pop() {
                Some(connection) if connection.is_stale() => {}
                Some(connection) => return connection,
                None => return new(),
            }
        }
    }

    fn put(&self, connection: Connection) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}
