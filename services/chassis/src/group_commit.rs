//! Group commit at the edge: requests that arrive while a batch is written share the next one.

use anyhow::anyhow;
use tokio::sync::{mpsc, oneshot};

use crate::causes::causes;
use crate::client::Client;
use crate::failure::{Busy, Failure};
use crate::fair_limit::{FairLimit, Permit};
use crate::handler::Handler;
use crate::metrics::Metrics;
use crate::settings::{BatchSettings, HttpSettings};

/// A queue in front of a handler.
pub struct GroupCommit<H: Handler> {
    queue: mpsc::Sender<Request<H>>,
    places: FairLimit,
    busy: Busy,
    metrics: Metrics,
}

/// A request in the queue, or in a batch.
struct Request<H: Handler> {
    item: H::Item,
    answer: oneshot::Sender<Result<H::Output, Undone<H>>>,
    /// In the queue; given back when the batch begins.
    place: Option<Permit>,
}

/// Why a request was not carried out, and the request.
struct Undone<H: Handler> {
    failure: Failure,
    item: H::Item,
}

/// The queue, or the client's share of it, is full: the client should come again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

impl<H: Handler> Clone for GroupCommit<H> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), places: self.places.clone(), busy: self.busy, metrics: self.metrics.clone() }
    }
}

impl<H: Handler> GroupCommit<H> {
    /// The queue, and its other end.
    pub(crate) fn new(settings: &BatchSettings, http: &HttpSettings, busy: Busy, metrics: Metrics) -> (Self, Requests<H>) {
        let BatchSettings { batch_max, queue_max, .. } = *settings;
        metrics.count_handler(H::NAME);
        let (queue, queued) = mpsc::channel(queue_max);
        let requests = Requests { queued, batch: Vec::with_capacity(batch_max), batch_max, is_open: true };
        (Self { queue, places: FairLimit::new(queue_max, http), busy, metrics }, requests)
    }

    /// Queues a request and waits for its answer. A client that stops waiting changes nothing: the batch goes on without it. A request held
    /// up by a row that somebody else holds leaves its batch, and queues again until its time is up.
    pub async fn submit(&self, client: Client, mut item: H::Item) -> Result<Result<H::Output, Failure>, Overloaded> {
        let mut waits = self.busy.waits();
        loop {
            let (answer, answered) = oneshot::channel();
            let overloaded = || {
                self.metrics.overloaded(H::NAME);
                Overloaded
            };
            let place = self.places.acquire(client, 1).ok_or_else(overloaded)?;
            self.queue.try_send(Request { item, answer, place: Some(place) }).map_err(|_| overloaded())?;
            let undone = match answered.await {
                Ok(Ok(output)) => return Ok(Ok(output)),
                Ok(Err(undone)) => undone,
                Err(_) => return Ok(Err(Failure::Outage(anyhow!("the service is stopping")))),
            };
            match waits.next() {
                Some(wait) if matches!(undone.failure, Failure::Busy(_)) => tokio::time::sleep(wait).await,
                _ => return Ok(Err(undone.failure)),
            }
            item = undone.item;
        }
    }
}

/// The requests of a handler, queued and in the batch under way.
pub(crate) struct Requests<H: Handler> {
    queued: mpsc::Receiver<Request<H>>,
    batch: Vec<Request<H>>,
    batch_max: usize,
    is_open: bool,
}

impl<H: Handler> Requests<H> {
    /// Whether there may be more.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Takes no more; what is queued is answered that the service is stopping.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
        self.queued.close();
        while self.queued.try_recv().is_ok() {}
    }

    /// Waits until there are some, and takes what is there. `false`: nobody can make any more.
    pub(crate) async fn some(&mut self) -> bool {
        self.queued.recv_many(&mut self.batch, self.batch_max).await > 0
    }

    /// Takes what has arrived meanwhile, as far as there is room in the batch, which now begins.
    pub(crate) fn gather(&mut self) {
        while self.is_open
            && self.batch.len() < self.batch_max
            && let Ok(more) = self.queued.try_recv()
        {
            self.batch.push(more);
        }
        self.batch.iter_mut().for_each(|request| request.place = None);
    }

    /// What is in the batch.
    pub(crate) fn items(&self) -> impl Iterator<Item = &H::Item> {
        self.batch.iter().map(|request| &request.item)
    }

    /// Answers the batch; its results come first.
    pub(crate) fn answer(&mut self, results: &mut impl Iterator<Item = Result<H::Output, Failure>>) {
        for (Request { item, answer, .. }, result) in self.batch.drain(..).zip(results) {
            let _ = answer.send(result.map_err(|failure| Undone { failure, item }));
        }
    }

    /// Answers that nothing was done.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        if !self.batch.is_empty() {
            let reason = causes(failure.error());
            tracing::warn!(handler = H::NAME, reason, requests = self.batch.len(), "not committed");
        }
        for Request { item, answer, .. } in self.batch.drain(..) {
            let _ = answer.send(Err(Undone { failure: failure.copy(), item }));
        }
    }
}
