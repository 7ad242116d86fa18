//! The intake of a handler: what clients request and what consumers bring share its batches.
//!
//! No timer makes a batch; the load does. Each side has a limit of its own in a batch, so that neither starves the other, and neither waits for
//! the other's troubles: requests are taken while the broker is away, and while messages rest after an outage of the database.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::batch_span::BatchSpan;
use crate::causes::causes;
use crate::consumer::{Messages, Received};
use crate::group_commit::Requests;
use crate::handler::Handler;
use crate::otlp::Traces;
use crate::unit_of_work::UnitOfWork;

/// An intake in the making.
pub(crate) struct Intake<H: Handler> {
    pub handler: Arc<H>,
    pub unit: UnitOfWork,
    pub requests: Requests<H>,
    pub messages: Messages<H::Item>,
    /// Who is told of batches, if there is somebody.
    pub traces: Option<Traces>,
}

impl<H: Handler> Intake<H> {
    /// Takes messages until shutdown, and requests until `stop_requests` or until nobody can make any more. A batch that has begun is finished.
    pub async fn run(mut self, shutdown: CancellationToken, stop_requests: CancellationToken) {
        loop {
            let mut first = None;
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if self.messages.is_open() => {
                    self.messages.close();
                    continue;
                }
                some = self.requests.some(), if self.requests.is_open() => {
                    if !some {
                        self.requests.close();
                        continue;
                    }
                }
                received = self.messages.some(), if self.messages.is_open() => match received {
                    Some(bad) if bad.events.is_empty() => {
                        // It needs no permit: there is nothing in it to be handled.
                        self.messages.settle_bad(bad).await;
                        continue;
                    }
                    received => first = received,
                },
                () = stop_requests.cancelled(), if self.requests.is_open() => {
                    self.requests.close();
                    continue;
                }
                else => break,
            }
            self.batch(first).await;
        }
        self.messages.end().await;
    }

    /// One batch. What arrives while others write is in it.
    async fn batch(&mut self, first: Option<Received<H::Item>>) {
        let permit = self.unit.permit().await;
        self.requests.gather();
        let batch = self.messages.gather(first);
        let span = self.traces.as_ref().and_then(|traces| BatchSpan::process(traces, H::NAME, batch.members()));
        let items: Vec<&H::Item> = self.requests.items().chain(batch.items()).collect();
        let results = if items.is_empty() { Ok(Vec::new()) } else { self.unit.run(permit, &*self.handler, &items).await };
        if let Some(span) = span {
            span.end(results.as_ref().err().map(|failure| ("outage", causes(failure.error()))));
        }
        match results {
            Ok(results) => {
                let mut results = results.into_iter();
                self.requests.answer(&mut results);
                self.messages.settle(batch, results).await;
            }
            Err(failure) => {
                self.requests.fail(&failure);
                self.messages.put_back(batch, &failure);
            }
        }
    }
}
