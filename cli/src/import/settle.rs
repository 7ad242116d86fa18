//! After the last basket: wait until every order of the import is final, then count what became of them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use events::order::Status;
use events::{Money, OrderId};
use saga_commands::client::Gateway;
use saga_commands::list::LARGEST_PAGE;
use saga_commands::page::Page;
use saga_commands::problem::Failure;
use saga_commands::progress::Progress;
use saga_commands::retry::patiently;
use serde::Deserialize;

use super::summary::{Outcomes, count};

/// What is needed of an order to count it.
#[derive(Debug, Deserialize)]
struct Order {
    id: OrderId,
    status: Status,
    total: Option<Money>,
    reason: Option<Reason>,
}

/// The code as text: a code this build does not know can still be counted.
#[derive(Debug, Deserialize)]
struct Reason {
    code: String,
}

/// Lists orders, patiently.
pub struct Settle<'a> {
    /// From where.
    pub gateway: &'a Gateway,
    /// How long one request is repeated while the server is busy or away.
    pub patience: Duration,
}

impl Settle<'_> {
    /// Returns once none of these orders is pending.
    pub async fn until_final(&self, ours: &HashSet<OrderId>) -> Result<(), Failure> {
        let progress = Progress::start("outcomes", None);
        let started = Instant::now();
        let mut delay = Duration::from_millis(50);
        while self.any_pending(ours, &progress).await? {
            progress.at(0, || format!("{:.0} s, orders still pending", started.elapsed().as_secs_f64()));
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Whether one of these orders is pending. One row answers this, unless that row is somebody else's order: then all
    /// pending ones are looked through, so that other people's orders do not keep us waiting.
    async fn any_pending(&self, ours: &HashSet<OrderId>, progress: &Progress) -> Result<bool, Failure> {
        let mut page = self.page(Some(Status::Pending), 1, None, progress).await?;
        loop {
            if page.items.iter().any(|order| ours.contains(&order.id)) {
                return Ok(true);
            }
            let Some(cursor) = page.next_cursor else { return Ok(false) };
            page = self.page(Some(Status::Pending), LARGEST_PAGE, Some(cursor), progress).await?;
        }
    }

    /// Counts what became of these orders, by paging through all there are until each of them was seen.
    pub async fn outcomes(&self, mut ours: HashSet<OrderId>) -> anyhow::Result<Outcomes> {
        let all = ours.len() as u64;
        let progress = Progress::start("outcomes", Some(all));
        let mut outcomes = Outcomes::default();
        let mut cursor = None;
        while !ours.is_empty() {
            let page = self.page(None, LARGEST_PAGE, cursor, &progress).await?;
            for order in page.items {
                // Removed as it is counted: an order that a shifting page shows twice counts once.
                if ours.remove(&order.id) {
                    outcomes.add(order)?;
                }
            }
            let seen = all - ours.len() as u64;
            progress.at(seen, || format!("{seen} of {all} counted"));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        outcomes.missing = ours.len() as u64;
        Ok(outcomes)
    }

    async fn page(
        &self,
        status: Option<Status>,
        limit: usize,
        cursor: Option<String>,
        progress: &Progress,
    ) -> Result<Page<Order>, Failure> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(status.map(|status| ("status", status.as_str().to_owned())));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let on_retry = |failure: &Failure| progress.complain(|| format!("trying again: {failure}"));
        patiently(self.patience, on_retry, async || self.gateway.page("/orders", &query).await).await
    }
}

impl Outcomes {
    fn add(&mut self, order: Order) -> anyhow::Result<()> {
        match order.status {
            Status::Confirmed => {
                self.confirmed += 1;
                self.total = match (self.total, order.total) {
                    (Some(sum), Some(total)) => Some(sum.plus(total)?),
                    (sum, total) => sum.or(total),
                };
            }
            Status::Rejected => {
                count(&mut self.rejected, order.reason.map_or_else(|| "no reason given".to_owned(), |reason| reason.code));
            }
            Status::Cancelled => self.cancelled += 1,
            Status::Pending | Status::Cancelling => self.pending += 1,
        }
        Ok(())
    }
}
