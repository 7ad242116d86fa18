//! Batches that go on without what somebody else has locked.

use anyhow::anyhow;
use tokio::time::timeout;

use super::{RENEWALS, UnitOfWork};
use crate::causes::causes;
use crate::failure::Failure;
use crate::handler::Handler;
use crate::held::Known;
use crate::meaning::Meaning;
use crate::writers::WritePermit;

/// Items in a row that meet a lock nobody can name, or a conflict that stays, before the rest is not tried: then it is none of them, but the
/// whole table.
const HINDERED_IN_A_ROW: usize = 3;

/// What becomes of each item of a batch.
pub(super) type Results<O> = Vec<Result<O, Failure>>;

impl UnitOfWork {
    /// Does a batch without the items that need a row somebody else holds: those are [`Failure::Busy`], and are not waited for. `met`: a try
    /// of this batch has just met a lock.
    pub(super) async fn around_locks<H: Handler>(
        &self,
        permit: Option<WritePermit>,
        handler: &H,
        items: &[&H::Item],
        met: bool,
    ) -> Result<Results<H::Output>, Failure> {
        self.held.forget();
        let known: Vec<Known> = items.iter().map(|item| self.held.known(&handler.rows(item))).collect();
        let mut busy: Vec<bool> = known.iter().map(|known| *known == Known::Held).collect();
        let mut permit = Some(match permit {
            Some(permit) => permit,
            None => self.permit().await,
        });
        if met || known.contains(&Known::Doubtful) {
            let asked: Vec<usize> = (0..items.len()).filter(|index| !busy[*index]).collect();
            match self.look(handler, &asked.iter().map(|index| items[*index]).collect::<Vec<_>>()).await {
                Ok(held) => {
                    for (index, rows) in asked.into_iter().zip(held) {
                        busy[index] = !rows.is_empty();
                        if rows.is_empty() { self.held.free(&handler.rows(items[index])) } else { self.held.hold(&rows) }
                    }
                }
                // Even the look meets a lock: a whole table is locked.
                Err(Failure::Busy(_)) => busy.fill(true),
                Err(failure) => return Err(failure),
            }
        }
        let open: Vec<&H::Item> = items.iter().zip(&busy).filter(|(_, busy)| !**busy).map(|(item, _)| *item).collect();
        let done = match open.len() {
            0 => Vec::new(),
            _ => match self.attempt(permit.take().expect("taken once"), handler, &open).await {
                Ok(outputs) => outputs.into_iter().map(Ok).collect(),
                Err(failure @ Failure::Outage(_)) => return Err(failure),
                Err(failure) if open.len() == 1 => vec![Err(failure)],
                Err(_) => self.one_by_one(None, handler, &open).await,
            },
        };
        drop(permit);
        let mut done = done.into_iter();
        let held = || Err(Failure::Busy(anyhow!("somebody else holds a row that is needed")));
        Ok(busy.into_iter().map(|busy| if busy { held() } else { done.next().expect("one for each") }).collect())
    }

    /// Each item in a transaction of its own.
    pub(super) async fn one_by_one<H: Handler>(
        &self,
        mut permit: Option<WritePermit>,
        handler: &H,
        items: &[&H::Item],
    ) -> Results<H::Output> {
        let mut results: Results<H::Output> = Vec::with_capacity(items.len());
        let mut hindered_in_a_row = 0;
        for &item in items {
            let permit = match permit.take() {
                Some(permit) => permit,
                None => self.permit().await,
            };
            let result = match self.attempt(permit, handler, &[item]).await {
                Ok(mut outputs) => outputs.pop().ok_or_else(|| Failure::Item(anyhow!("the handler gave no output"))),
                Err(failure) => Err(failure),
            };
            let hindered = matches!(result, Err(Failure::Busy(_) | Failure::Conflict(_)));
            hindered_in_a_row = if hindered { hindered_in_a_row + 1 } else { 0 };
            // Those before it are committed, and must not be reported as undone. The rest is not tried: it would only wait for as long.
            let rest = match &result {
                Err(Failure::Outage(error)) => Some(causes(error)).map(|why| (why, Failure::Outage as fn(_) -> _)),
                Err(Failure::Busy(error) | Failure::Conflict(error)) if hindered_in_a_row == HINDERED_IN_A_ROW => {
                    Some((causes(error), Failure::Busy as fn(_) -> _))
                }
                _ => None,
            };
            results.push(result);
            if let Some((why, failure)) = rest {
                results.resize_with(items.len(), || Err(failure(anyhow!(why.clone()))));
                break;
            }
        }
        results
    }

    /// Which rows of each item somebody else holds.
    async fn look<H: Handler>(&self, handler: &H, items: &[&H::Item]) -> Result<Vec<Vec<uuid::Uuid>>, Failure> {
        let mut renewals = 0;
        loop {
            let mut writer = self.writers.writer().await.map_err(|error| Failure::of(error.into()))?;
            let error = match timeout(self.writers.patience(), handler.held(writer.connection.writable(), items)).await {
                Ok(Ok(held)) => {
                    self.writers.keep(writer);
                    return Ok(held);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    // Closed, not released: nobody knows what it is at.
                    writer.close();
                    return Err(Failure::Outage(anyhow!("the database does not answer")));
                }
            };
            let meaning = Meaning::of_any(&error);
            self.writers.failed(writer, &error).await;
            if !matches!(meaning, Meaning::StalePlan | Meaning::Conflict) || renewals == RENEWALS {
                return Err(Failure::of(error));
            }
            renewals += 1;
        }
    }
}
