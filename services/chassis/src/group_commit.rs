//! Group commit at the edge: requests that arrive while a transaction is running share the next one.

use std::sync::Arc;

use anyhow::anyhow;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::settings::BatchSettings;
use crate::unit_of_work::{Failure, Handler, UnitOfWork};
use crate::writers::Turn;

/// A queue in front of a handler.
pub struct GroupCommit<H: Handler> {
    queue: mpsc::Sender<Waiting<H>>,
}

struct Waiting<H: Handler> {
    item: H::Item,
    answer: oneshot::Sender<Result<H::Answer, Failure>>,
}

/// The queue is full: the client should come again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

impl<H: Handler> Clone for GroupCommit<H> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<H: Handler> GroupCommit<H> {
    /// The queue, and the task that works it off until it is told to stop. A batch that has begun is finished.
    pub(crate) fn new(
        handler: Arc<H>,
        unit: UnitOfWork,
        settings: &BatchSettings,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + use<H>) {
        let BatchSettings { batch_max, queue_max } = *settings;
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
                let turn = unit.turn().await;
                while batch.len() < batch_max
                    && let Ok(more) = waiting.try_recv()
                {
                    batch.push(more);
                }
                run(&unit, turn, &*handler, &mut batch).await;
            }
        };
        (Self { queue }, work)
    }

    /// Queues a request and waits for its answer. A client that stops waiting changes nothing: the batch goes on without it.
    pub async fn submit(&self, item: H::Item) -> Result<Result<H::Answer, Failure>, Overloaded> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiting { item, answer }).map_err(|_| {
            metrics::overloaded(H::NAME);
            Overloaded
        })?;
        Ok(answered.await.unwrap_or_else(|_| Err(Failure::Outage(anyhow!("the service is stopping")))))
    }
}

async fn run<H: Handler>(unit: &UnitOfWork, turn: Turn, handler: &H, batch: &mut Vec<Waiting<H>>) {
    let items: Vec<&H::Item> = batch.iter().map(|waiting| &waiting.item).collect();
    match unit.run(turn, handler, &items).await {
        Ok(results) => {
            for (waiting, result) in batch.drain(..).zip(results) {
                let _ = waiting.answer.send(result);
            }
        }
        Err(failure) => {
            let reason = format!("{:#}", failure.error());
            tracing::warn!(reason, requests = batch.len(), "not committed");
            for waiting in batch.drain(..) {
                let _ = waiting.answer.send(Err(Failure::Outage(anyhow!(reason.clone()))));
            }
        }
    }
}
