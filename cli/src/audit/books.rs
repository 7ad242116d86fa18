//! What is audited, and what an audit finds.

use std::time::Duration;

use anyhow::Context as _;
use saga_commands::output::Tabular;
use serde::Serialize;
use sqlx::postgres::{PgPool, PgPoolOptions};

/// What one check found.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was to be proved.
    pub check: &'static str,
    /// How many rows were looked at.
    pub rows: u64,
    /// What contradicts it.
    pub findings: Vec<Finding>,
}

/// A row that contradicts a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The order, reservation or product.
    pub id: String,
    /// What is wrong with it.
    pub what: String,
}

impl Tabular for Check {
    const HEADER: &'static [&'static str] = &["CHECK", "ROWS", "WRONG"];

    fn row(&self) -> Vec<String> {
        vec![self.check.to_owned(), self.rows.to_string(), self.findings.len().to_string()]
    }
}

/// The databases under audit.
pub struct Books {
    /// The order service's.
    pub orders: PgPool,
    /// The product service's.
    pub products: PgPool,
    /// How long an order may be under way.
    pub patience: Duration,
    /// By how much a deadline may be missed.
    pub grace: Duration,
}

impl Books {
    /// Opens the databases of the order and the product service; patience and grace are the usual ones.
    pub async fn open(order_url: &str, product_url: &str) -> anyhow::Result<Self> {
        let (orders, products) = (connect(order_url, "order").await?, connect(product_url, "product").await?);
        Ok(Self { orders, products, patience: Duration::from_secs(900), grace: Duration::from_secs(120) })
    }

    /// In which of the databases a statement of this audit waits for a lock.
    pub async fn waits(&self) -> Vec<&'static str> {
        let waits = "select exists (select from pg_stat_activity \
                     where wait_event_type = 'Lock' and datname = current_database() and application_name = $1)";
        let mut names = Vec::new();
        for (name, pool) in [("order", &self.orders), ("product", &self.products)] {
            // Whoever cannot tell says nothing: the audit goes on.
            if sqlx::query_scalar(waits).bind(this_audit()).fetch_one(pool).await.unwrap_or(false) {
                names.push(name);
            }
        }
        names
    }
}

/// What its connections are called.
fn this_audit() -> String {
    format!("waybill-audit-{}", std::process::id())
}

async fn connect(url: &str, name: &str) -> anyhow::Result<PgPool> {
    let options = PgPoolOptions::new().max_connections(3).acquire_timeout(Duration::from_secs(10));
    options
        .connect_with(chassis::database::options(url)?.application_name(&this_audit()))
        .await
        .with_context(|| format!("the {name} service's database does not answer"))
}
