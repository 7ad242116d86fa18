//! The floor of the rows: what orders of the run left, written again to the same tables with the same indexes, on one connection, 256 orders a
//! statement, one commit a step.

use anyhow::Context as _;
use chassis::database::options;
use chrono::Utc;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use uuid::Uuid;

/// Orders written before it is measured.
pub const WARM_UP: usize = 10 * BATCH;

/// Orders measured.
pub const ORDERS: usize = 80 * BATCH;

/// Where a batch costs least.
const BATCH: usize = 256;

/// Bytes of the note that the order service's outbox keeps of what it sends about one order.
const NOTE: usize = chassis::Note::LENGTH;

/// Bytes of a reply about one order, as the product service's outbox keeps it.
const REPLY: usize = 300;

const SENT: &str = "with sent as (insert into bench_orders.outbox (id, subjects, headers, payloads, notes) values ($1, '{}', '[]', '{}', $2)), \
     appended as (insert into bench_orders.order_history (order_id, sequence, at, entry) \
                  select id, $4, $3, entry from unnest($5::uuid[], $6::text[]) as new (id, entry))";

const PLACE: &str = " insert into bench_orders.orders (id, user_id, items, state, status, sequence, began_at, waiting_since, due_at, traceparent, \
                                    created_at, updated_at) \
     select id, user_id, items::json, state::json, 'pending', $4, $3, $3, $3, traceparent, $3, $3 \
     from unnest($5::uuid[], $7::uuid[], $8::text[], $9::text[], $10::text[]) as new (id, user_id, items, state, traceparent)";

const MOVE: &str = ", gone as (delete from bench_orders.outbox where id = $7) \
     update bench_orders.orders set state = new.state::json, sequence = $4, status = new.status, settled = $8, \
            waiting_since = case when not $8 then $3 end, due_at = case when not $8 then $3 end, updated_at = $3, \
            history_bytes = new.history_bytes, unit_prices = new.unit_prices::bigint[], currency = new.currency, total = new.total \
     from unnest($5::uuid[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[], $14::bigint[]) \
          as new (id, state, status, history_bytes, unit_prices, currency, total) \
     where orders.id = new.id and orders.sequence = $4 - 1";

const RESERVE: &str = "with sent as (insert into bench_products.outbox (id, subjects, headers, payloads) values ($1, '{r}', '[{}]', array[$2::bytea])), \
     gone as (delete from bench_products.outbox where id = $3), \
     taken as (update bench_products.products set stock = stock - 1, reserved = reserved + 1 where id = any($4)) \
     insert into bench_products.reservations (id, direct, status, items) \
     select id, false, 'reserved', items::json from unnest($5::uuid[], $6::text[]) as new (id, items)";

/// What an order of the run left.
#[derive(Clone, Debug)]
struct Sample {
    user: Uuid,
    items: String,
    state: String,
    status: String,
    traceparent: String,
    history_bytes: i64,
    unit_prices: Option<String>,
    currency: Option<String>,
    total: Option<i64>,
    entries: Vec<String>,
    /// What the product service holds of it.
    reserved: Option<String>,
}

/// The schemas of the tables. In the order service's database: its role may make no other.
const SCHEMAS: &str = "bench_orders, bench_products";

/// Tables that nobody else uses, and the orders that are written to them.
pub struct Scratch {
    connection: PgConnection,
    samples: Vec<Sample>,
    products: Vec<Uuid>,
    /// The rows of the two outboxes that the next statement deletes.
    sent: [Uuid; 2],
}

impl Scratch {
    /// Makes it in the order service's database, for orders that both databases hold by now.
    pub async fn open(orders: &str, products: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect_with(&options(orders)?).await.context("the database does not answer")?;
        let mut stock = PgConnection::connect_with(&options(products)?).await.context("the database does not answer")?;
        let samples = samples(&mut connection, &mut stock).await.context("no orders can be read for the floor")?;
        anyhow::ensure!(!samples.is_empty(), "the run left no order to take for the floor; --floor=false leaves it out");
        // Left by a run that was killed.
        drop_schemas(&mut connection).await?;
        migrate(&mut connection, "bench_orders", &::order::MIGRATIONS).await?;
        migrate(&mut connection, "bench_products", &::product::MIGRATIONS).await?;
        // A young table has no statistics, and a scan of it looks cheap.
        connection.execute("set enable_seqscan = off").await?;
        let products = stock_up(&mut connection, &mut stock).await?;
        Ok(Self { connection, samples, products, sent: [Uuid::nil(); 2] })
    }

    /// Writes the rows of so many orders, step by step.
    pub async fn write(&mut self, orders: usize) -> anyhow::Result<()> {
        let steps = self.samples.iter().map(|sample| sample.entries.len()).max().unwrap_or_default();
        for _ in 0..orders.div_ceil(BATCH) {
            let ids: Vec<Uuid> = (0..BATCH).map(|_| Uuid::now_v7()).collect();
            self.place(&ids).await?;
            for step in 2..=steps {
                if step == steps {
                    self.reserve(&ids).await?;
                }
                self.advance(&ids, step, step == steps).await?;
            }
        }
        Ok(())
    }

    async fn place(&mut self, ids: &[Uuid]) -> sqlx::Result<()> {
        let sent = Uuid::now_v7();
        sqlx::query(AssertSqlSafe([SENT, PLACE].concat()))
            .bind(sent)
            .bind(vec![0_u8; NOTE * ids.len()])
            .bind(Utc::now())
            .bind(1)
            .bind(ids)
            .bind(self.each(|sample| sample.entries[0].as_str()))
            .bind(self.each(|sample| sample.user))
            .bind(self.each(|sample| sample.items.as_str()))
            .bind(self.each(|sample| sample.state.as_str()))
            .bind(self.each(|sample| sample.traceparent.as_str()))
            .execute(&mut self.connection)
            .await?;
        self.sent[0] = sent;
        Ok(())
    }

    async fn advance(&mut self, ids: &[Uuid], step: usize, last: bool) -> sqlx::Result<()> {
        let sent = Uuid::now_v7();
        sqlx::query(AssertSqlSafe([SENT, MOVE].concat()))
            .bind(sent)
            .bind(vec![0_u8; NOTE * ids.len()])
            .bind(Utc::now())
            .bind(step as i32)
            .bind(ids)
            .bind(self.each(|sample| sample.entries.get(step - 1).or(sample.entries.last()).map_or("", String::as_str)))
            .bind(self.sent[0])
            .bind(last)
            .bind(self.each(|sample| sample.state.as_str()))
            .bind(self.each(|sample| if last { sample.status.as_str() } else { "pending" }))
            .bind(self.each(|sample| sample.history_bytes))
            .bind(self.each(|sample| sample.unit_prices.as_deref().filter(|_| last)))
            .bind(self.each(|sample| sample.currency.as_deref().filter(|_| last)))
            .bind(self.each(|sample| sample.total.filter(|_| last)))
            .execute(&mut self.connection)
            .await?;
        self.sent[0] = sent;
        Ok(())
    }

    async fn reserve(&mut self, ids: &[Uuid]) -> sqlx::Result<()> {
        let sent = Uuid::now_v7();
        let (ids, items): (Vec<Uuid>, Vec<&str>) = ids
            .iter()
            .zip(self.samples.iter().cycle())
            .filter_map(|(id, sample)| Some((*id, sample.reserved.as_deref()?)))
            .unzip();
        sqlx::query(RESERVE)
            .bind(sent)
            .bind(vec![0_u8; REPLY * ids.len()])
            .bind(self.sent[1])
            .bind(&self.products)
            .bind(&ids)
            .bind(items)
            .execute(&mut self.connection)
            .await?;
        self.sent[1] = sent;
        Ok(())
    }

    /// Something of each sample, for as many orders as a batch has.
    fn each<'a, T>(&'a self, of: impl Fn(&'a Sample) -> T) -> Vec<T> {
        self.samples.iter().cycle().take(BATCH).map(of).collect()
    }

    /// Drops it.
    pub async fn close(mut self) -> anyhow::Result<()> {
        drop_schemas(&mut self.connection).await?;
        Ok(self.connection.close().await?)
    }
}

async fn drop_schemas(connection: &mut PgConnection) -> anyhow::Result<()> {
    connection.execute("set client_min_messages = warning").await?;
    connection.execute(AssertSqlSafe(format!("drop schema if exists {SCHEMAS} cascade"))).await?;
    Ok(())
}

/// The tables of a service, in a schema of their own.
async fn migrate(connection: &mut PgConnection, schema: &str, migrations: &Migrator) -> anyhow::Result<()> {
    connection
        .execute(AssertSqlSafe(format!("create schema {schema}; set search_path to {schema}")))
        .await
        .context("no schema can be made for the floor; --floor=false leaves it out")?;
    migrations.run(&mut *connection).await.context("no tables can be made for the floor; --floor=false leaves it out")?;
    connection.execute("reset search_path").await?;
    Ok(())
}

/// The youngest orders that have come to an end.
async fn samples(orders: &mut PgConnection, products: &mut PgConnection) -> anyhow::Result<Vec<Sample>> {
    let rows = sqlx::query(
        "select id, user_id, items::text, state::text, status, traceparent, history_bytes, unit_prices::text, currency, total, \
                array(select entry from order_history where order_id = id order by sequence) as entries \
         from orders where settled order by id desc limit $1",
    )
    .bind(BATCH as i64)
    .fetch_all(orders)
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
    let reserved: Vec<(Uuid, String)> =
        sqlx::query_as("select id, items::text from reservations where id = any($1)").bind(ids).fetch_all(products).await?;
    let sample = |row: &PgRow| {
        let id: Uuid = row.try_get("id")?;
        Ok(Sample {
            user: row.try_get("user_id")?,
            items: row.try_get("items")?,
            state: row.try_get("state")?,
            status: row.try_get("status")?,
            traceparent: row.try_get("traceparent")?,
            history_bytes: row.try_get("history_bytes")?,
            unit_prices: row.try_get("unit_prices")?,
            currency: row.try_get("currency")?,
            total: row.try_get("total")?,
            entries: row.try_get("entries")?,
            reserved: reserved.iter().find(|(reserved, _)| *reserved == id).map(|(_, items)| items.clone()),
        })
    };
    rows.iter().map(sample).collect()
}

/// Products as the run had them, up to as many as a batch writes back.
async fn stock_up(scratch: &mut PgConnection, products: &mut PgConnection) -> anyhow::Result<Vec<Uuid>> {
    type Product = (Uuid, String, String, i64, String);
    let rows: Vec<Product> =
        sqlx::query_as("select id, name, description, price, currency from products order by id desc limit 100")
            .fetch_all(products)
            .await?;
    for (id, name, description, price, currency) in &rows {
        sqlx::query(
            "insert into bench_products.products (id, name, description, price, currency, stock) values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id)
        .bind(name)
        .bind(description)
        .bind(price)
        .bind(currency)
        .bind(1_000_000_000_i64)
        .execute(&mut *scratch)
        .await?;
    }
    Ok(rows.into_iter().map(|(id, ..)| id).collect())
}
