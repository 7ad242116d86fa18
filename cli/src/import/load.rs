//! The lines of both files become products, users and orders, many at a time, each at most once.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use events::{Currency, OrderId, ProductId, UserId};
use futures_util::StreamExt as _;
use saga_commands::client::Gateway;
use saga_commands::output::plain;
use saga_commands::problem::{Failure, Problem};
use saga_commands::progress::Progress;
use saga_commands::retry::patiently;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::OnceCell;

use super::lines::Lines;
use super::summary::{Summary, Tally, kind};

/// How many malformed lines of a file are named; all are counted.
const MOST_NAMED: u64 = 20;

/// A line of the products file.
#[derive(Debug, Deserialize)]
pub struct Product {
    product: i64,
    name: String,
    #[serde(default)]
    package: String,
    cents: i64,
}

/// A line of the baskets file. Quantities are read as they come: whether one is acceptable is for the server to say.
#[derive(Debug, Deserialize)]
pub struct Basket {
    basket: i64,
    household: i64,
    lines: Vec<(i64, i64)>,
}

/// What came of one request to make something.
enum Made<Id> {
    Created(Id),
    AlreadyThere(Id),
    Refused(Problem),
}

/// Sends, counts, and is patient.
pub struct Loader<'a> {
    /// Where to.
    pub gateway: &'a Gateway,
    /// How many requests at a time.
    pub concurrency: usize,
    /// How long one request is repeated while the server is busy or away.
    pub patience: Duration,
    /// How often a request was repeated.
    pub retries: AtomicU64,
}

impl Loader<'_> {
    /// Makes the products, and says which id each number got.
    pub async fn products(
        &self,
        lines: Lines<Product>,
        currency: Currency,
        stock: i64,
        summary: &mut Summary,
    ) -> anyhow::Result<HashMap<i64, ProductId>> {
        let mut ids = HashMap::new();
        let progress = &Progress::start("products", lines.size);
        let make = |line: Product| async move {
            let key = format!("import:product:{}", line.product);
            let price = json!({"amount": line.cents, "currency": currency});
            let body = json!({"name": line.name, "description": line.package, "price": price, "stock": stock});
            let made = self.make::<ProductId>("/products", &key, &body, progress).await?;
            if let Made::Refused(problem) = &made {
                anyhow::ensure!(
                    !problem.body.is_key_reused(),
                    "Product {} was imported before with other contents: use the same --stock and --currency as then.\n{problem}",
                    line.product
                );
            }
            Ok((line.product, made))
        };
        let tally = &mut summary.products;
        let done = |(number, made)| {
            ids.extend(tally.add(made).map(|id| (number, id)));
            tally.to_string()
        };
        summary.malformed_lines += self.each(lines, usize::MAX, progress, make, done).await?;
        Ok(ids)
    }

    /// Makes one user a household and one order a basket, and says which orders these are.
    pub async fn baskets(
        &self,
        lines: Lines<Basket>,
        limit: usize,
        products: &HashMap<i64, ProductId>,
        summary: &mut Summary,
    ) -> anyhow::Result<HashSet<OrderId>> {
        let mut orders = HashSet::new();
        let mut households: HashMap<i64, Arc<OnceCell<UserId>>> = HashMap::new();
        let progress = &Progress::start("orders", lines.size);
        let make = |line: Basket| {
            let household = households.entry(line.household).or_default().clone();
            async move {
                let items: Option<Vec<_>> = line
                    .lines
                    .iter()
                    .map(|(product, quantity)| Some(json!({"product_id": products.get(product)?, "quantity": quantity})))
                    .collect();
                let Some(items) = items else { return Ok((None, None)) };
                // Of all baskets of a household that are on the way, one makes the user and the others wait for it.
                let mut user = None;
                let user_id = household.get_or_try_init(|| self.user(line.household, progress, &mut user)).await?;
                let key = format!("import:basket:{}", line.basket);
                let body = json!({"user_id": user_id, "items": items});
                Ok((user, Some(self.make::<OrderId>("/orders", &key, &body, progress).await?)))
            }
        };
        let Summary { users, orders: tally, baskets_without_product, .. } = summary;
        let done = |(user, order): (Option<Made<UserId>>, Option<Made<OrderId>>)| {
            user.map(|user| users.add(user));
            match order {
                Some(order) => orders.extend(tally.add(order)),
                None => *baskets_without_product += 1,
            }
            tally.to_string()
        };
        let malformed = self.each(lines, limit, progress, make, done).await?;
        summary.malformed_lines += malformed;
        Ok(orders)
    }

    /// Makes the user of a household, and leaves in `made` how.
    async fn user(&self, household: i64, progress: &Progress, made: &mut Option<Made<UserId>>) -> anyhow::Result<UserId> {
        let key = format!("import:user:household-{household}");
        let email = format!("household-{household}@baskets.example");
        let body = json!({"email": email, "name": format!("Household {household}")});
        let user = self.make("/users", &key, &body, progress).await?;
        let id = match &user {
            Made::Created(id) | Made::AlreadyThere(id) => *id,
            Made::Refused(problem) => anyhow::bail!("The user {email} was refused.\n{problem}"),
        };
        *made = Some(user);
        Ok(id)
    }

    /// One request under a key. A refusal of what was sent (422) is an answer; what may pass is tried again; all else ends
    /// the import.
    async fn make<Id: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
        progress: &Progress,
    ) -> anyhow::Result<Made<Id>> {
        #[derive(Deserialize)]
        struct Thing<Id> {
            id: Id,
        }
        let on_retry = |failure: &Failure| {
            self.retries.fetch_add(1, Ordering::Relaxed);
            progress.complain(|| format!("trying again: {failure}"));
        };
        match patiently(self.patience, on_retry, async || self.gateway.create::<Thing<Id>>(path, key, body).await).await {
            Ok(answer) if answer.replayed => Ok(Made::AlreadyThere(answer.body.id)),
            Ok(answer) => Ok(Made::Created(answer.body.id)),
            Err(Failure::Problem(problem)) if problem.status == 422 => Ok(Made::Refused(*problem)),
            Err(failure) => Err(failure).context(format!("Stopped at {key}. The same command again continues from here.")),
        }
    }

    /// Does the work of every line, many at a time, and returns how many lines were malformed. `done` returns the words for
    /// the progress bar.
    async fn each<T, R, F>(
        &self,
        lines: Lines<T>,
        limit: usize,
        progress: &Progress,
        mut work: impl FnMut(T) -> F,
        mut done: impl FnMut(R) -> String,
    ) -> anyhow::Result<u64>
    where
        T: DeserializeOwned + Send + 'static,
        F: Future<Output = anyhow::Result<R>>,
    {
        let (name, read) = (lines.name.clone(), lines.read.clone());
        let works = lines.into_stream().take(limit).map(|entry| {
            let entry = entry.map(|entry| (entry.number, entry.parsed.map(&mut work)));
            let name = &name;
            async move {
                let (number, work) = entry.with_context(|| format!("cannot read {name}"))?;
                match work {
                    Ok(work) => work.await.map(Ok),
                    Err(why) => Ok(Err((number, why))),
                }
            }
        });
        let mut results = std::pin::pin!(works.buffer_unordered(self.concurrency));
        let mut malformed = 0;
        while let Some(result) = results.next().await {
            match result? {
                Ok(result) => {
                    let words = done(result);
                    progress.at(read.load(Ordering::Relaxed), || words);
                }
                Err((number, why)) => {
                    malformed += 1;
                    if malformed <= MOST_NAMED {
                        progress.say(&format!("{name}:{number}: {}", plain(why)));
                    }
                }
            }
        }
        if malformed > MOST_NAMED {
            progress.say(&format!("{name}: {} more malformed lines", malformed - MOST_NAMED));
        }
        Ok(malformed)
    }
}

impl Tally {
    /// Counts, and passes the id on.
    fn add<Id>(&mut self, made: Made<Id>) -> Option<Id> {
        match made {
            Made::Created(id) => {
                self.created += 1;
                Some(id)
            }
            Made::AlreadyThere(id) => {
                self.already_there += 1;
                Some(id)
            }
            Made::Refused(problem) => {
                self.refuse(kind(&problem));
                None
            }
        }
    }
}
