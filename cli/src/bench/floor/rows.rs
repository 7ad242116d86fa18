//! The floor of the rows: the same rows as orders leave, on one connection, 256 a statement, one commit a step.

use anyhow::Context as _;
use chassis::database::options;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use uuid::Uuid;

/// Orders written before it is measured.
pub const WARM_UP: usize = 10 * BATCH;

/// Orders measured.
pub const ORDERS: usize = 80 * BATCH;

/// Where a batch costs least.
const BATCH: usize = 256;

/// Products whose stock each batch writes back.
const PRODUCTS: i64 = 100;

// What a row holds, in the size it has.
const ENTRY: &str = r#"{"message":{"type":"answer","step":"reserve_stock","event":"done"},"decision":{"verdict":"advanced"},"sent":[{"type":"event","event":"confirmed"}],"state":{"version":1,"phase":"done","steps":{"validate_user":"done","reserve_stock":"done"}}}"#;
const ITEMS: &str = r#"[{"product_id":"01920000-0000-7000-8000-00000000000a","quantity":1},{"product_id":"01920000-0000-7000-8000-00000000000b","quantity":2}]"#;
const STATE: &str = r#"{"version":1,"phase":"running","steps":{"validate_user":"asked","reserve_stock":"waiting"}}"#;

const TABLES: &str = "
    create table orders (id uuid primary key, user_id uuid not null, items jsonb not null, status text not null, state jsonb not null,
        sequence integer not null, due_at timestamptz, created_at timestamptz not null default now()) with (fillfactor = 50);
    create table history (order_id uuid not null, sequence integer not null, at timestamptz not null default now(), entry json not null,
        primary key (order_id, sequence));
    create table reservations (id uuid primary key, status text not null, items jsonb not null,
        created_at timestamptz not null default now());
    create table products (id bigint primary key, stock bigint not null) with (fillfactor = 50);
    -- A young table has no statistics, and a scan of it looks cheap.
    set enable_seqscan = off";

/// A database that nobody else uses.
pub struct Scratch {
    /// To the database of the same server that was named; the scratch one is made and dropped from here.
    maker: PgConnection,
    name: String,
    connection: PgConnection,
}

impl Scratch {
    /// Makes it on the server of this address.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let mut maker = PgConnection::connect_with(&options(address)?).await.context("the database does not answer")?;
        let name = format!("waybill_bench_{}", Uuid::now_v7().simple());
        maker
            .execute(AssertSqlSafe(format!("create database {name}")))
            .await
            .context("no scratch database can be made for the floor; --floor=false leaves it out")?;
        let mut connection = PgConnection::connect_with(&options(address)?.database(&name)).await?;
        connection.execute(TABLES).await?;
        sqlx::query("insert into products select number, 0 from generate_series(1, $1) as number")
            .bind(PRODUCTS)
            .execute(&mut connection)
            .await?;
        Ok(Self { maker, name, connection })
    }

    /// Writes the rows of so many orders: placed; validated; reserved; confirmed.
    pub async fn write(&mut self, orders: usize) -> anyhow::Result<()> {
        for _ in 0..orders.div_ceil(BATCH) {
            let ids: Vec<Uuid> = (0..BATCH).map(|_| Uuid::now_v7()).collect();
            self.place(&ids).await?;
            self.step(&ids, 2).await?;
            self.reserve(&ids).await?;
            self.step(&ids, 3).await?;
        }
        Ok(())
    }

    async fn place(&mut self, ids: &[Uuid]) -> sqlx::Result<()> {
        let mut tx = self.connection.begin().await?;
        sqlx::query(
            "insert into orders (id, user_id, items, status, state, sequence, due_at) \
             select id, id, items::jsonb, 'pending', state::jsonb, 1, now() \
             from unnest($1::uuid[], $2::text[], $3::text[]) as new (id, items, state)",
        )
        .bind(ids)
        .bind(vec![ITEMS; ids.len()])
        .bind(vec![STATE; ids.len()])
        .execute(&mut *tx)
        .await?;
        append(&mut tx, ids, 1).await?;
        tx.commit().await
    }

    async fn step(&mut self, ids: &[Uuid], sequence: i32) -> sqlx::Result<()> {
        let mut tx = self.connection.begin().await?;
        sqlx::query(
            "update orders set state = new.state::jsonb, sequence = $3, due_at = now() \
             from unnest($1::uuid[], $2::text[]) as new (id, state) where orders.id = new.id and orders.id = any($1)",
        )
        .bind(ids)
        .bind(vec![STATE; ids.len()])
        .bind(sequence)
        .execute(&mut *tx)
        .await?;
        append(&mut tx, ids, sequence).await?;
        tx.commit().await
    }

    async fn reserve(&mut self, ids: &[Uuid]) -> sqlx::Result<()> {
        let mut tx = self.connection.begin().await?;
        sqlx::query("update products set stock = stock - 5").execute(&mut *tx).await?;
        sqlx::query(
            "insert into reservations (id, status, items) \
             select id, 'reserved', items::jsonb from unnest($1::uuid[], $2::text[]) as new (id, items)",
        )
        .bind(ids)
        .bind(vec![ITEMS; ids.len()])
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    /// Drops it.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.connection.close().await?;
        self.maker.execute(AssertSqlSafe(format!("drop database {}", self.name))).await?;
        Ok(self.maker.close().await?)
    }
}

async fn append(tx: &mut PgConnection, ids: &[Uuid], sequence: i32) -> sqlx::Result<()> {
    sqlx::query(
        "insert into history (order_id, sequence, entry) \
         select id, $2, entry::json from unnest($1::uuid[], $3::text[]) as new (id, entry)",
    )
    .bind(ids)
    .bind(sequence)
    .bind(vec![ENTRY; ids.len()])
    .execute(tx)
    .await?;
    Ok(())
}
