//! Group commit at the edge: requests that arrive while a transaction is running share the next one.

use std::sync::Arc;

use anyhow::anyhow;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::fair_limit::{FairLimit, Permit};
use crate::metrics;
use crate::settings::{BatchSettings, HttpSettings};
use crate::unit_of_work::{Busy, Failure, Handler, UnitOfWork};
use crate::writers::WritePermit;

/// A queue in front of a handler.
pub struct GroupCommit<H: Handler> {
    queue: mpsc::Sender<Waiting<H>>,
    places: FairLimit,
    busy: Busy,
}

struct Waiting<H: Handler> {
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
        Self { queue: self.queue.clone(), places: self.places.clone(), busy: self.busy }
    }
}

impl<H: Handler> GroupCommit<H> {
    /// The queue, and the task that works it off until it is told to stop. A batch that has begun is finished.
    pub(crate) fn new(
        handler: Arc<H>,
        unit: UnitOfWork,
        settings: &BatchSettings,
        http: &HttpSettings,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + use<H>) {
        let BatchSettings { batch_max, queue_max, .. } = *settings;
        let busy = unit.busy();
        let (queue, mut waiting) = mpsc::channel::<Waiting<H>>(queue_max);
        let work = async move {
            let mut batch = Vec::with_capacity(batch_max);
            // `recv_many` waits for one and takes what is there: no timer decides, the load does.
            loop {
                tokio::select! {
                    biased;
                    some = waiting.recv_many(&mut batch, batch_max) => if some == 0 { break },
                    () = stop.cancelled() => break,
                }
                let permit = unit.permit().await;
                while batch.len() < batch_max
                    && let Ok(more) = waiting.try_recv()
                {
                    batch.push(more);
                }
                batch.iter_mut().for_each(|waiting| waiting.place = None);
                run(&unit, permit, &*handler, &mut batch).await;
            }
        };
        (Self { queue, places: FairLimit::new(queue_max, http), busy }, work)
    }

    /// Queues a request and waits for its answer. A client that stops waiting changes nothing: the batch goes on without it. A request held
    /// up by a row that somebody else holds leaves its batch, and queues again until its time is up.
    pub async fn submit(&self, client: Client, mut item: H::Item) -> Result<Result<H::Output, Failure>, Overloaded> {
        let mut waits = self.busy.waits();
        loop {
            let (answer, answered) = oneshot::channel();
            let overloaded = || {
                metrics::overloaded(H::NAME);
                Overloaded
            };
            let place = self.places.acquire(client, 1).ok_or_else(overloaded)?;
            self.queue.try_send(Waiting { item, answer, place: Some(place) }).map_err(|_| overloaded())?;
            let undone = match answered.await {
                Ok(Ok(answer)) => return Ok(Ok(answer)),
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

async fn run<H: Handler>(unit: &UnitOfWork, permit: WritePermit, handler: &H, batch: &mut Vec<Waiting<H>>) {
    let items: Vec<&H::Item> = batch.iter().map(|waiting| &waiting.item).collect();
    match unit.run(permit, handler, &items).await {
        Ok(results) => {
            for (Waiting { item, answer, .. }, result) in batch.drain(..).zip(results) {
                let _ = answer.send(result.map_err(|failure| Undone { failure, item }));
            }
        }
        Err(failure) => {
            let reason = format!("{:#}", failure.error());
            tracing::warn!(reason, requests = batch.len(), "not committed");
            for Waiting { item, answer, .. } in batch.drain(..) {
                let _ = answer.send(Err(Undone { failure: failure.copy(), item }));
            }
        }
    }
}
