//! Every statement of the product service.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chassis::listed::{Listed, named};
use chassis::{Outgoing, Statement};
use chrono::{DateTime, Utc};
use events::product::Product;
use events::{Currency, Money, ProductId, Reason, ReservationId};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use crate::inventory::{Held, ReservationState, Stock};
use crate::requests::{Keyed, NewProduct, Orphan};

/// A row of the table.
struct Stored(Product);

impl FromRow<'_, PgRow> for Stored {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(Product {
            id: ProductId(row.try_get("id")?),
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            price: money(row)?,
            stock: row.try_get("stock")?,
            reserved: row.try_get("reserved")?,
            created_at: row.try_get("created_at")?,
        }))
    }
}

fn money(row: &PgRow) -> sqlx::Result<Money> {
    let code: &str = row.try_get("currency")?;
    let currency = Currency::from_code(code).ok_or_else(|| sqlx::Error::Decode(format!("no currency: {code}").into()))?;
    Ok(Money::new(row.try_get("price")?, currency))
}

/// Inserts those whose key is free, with their initial stock as the first delivery, and returns them.
pub async fn insert(tx: &mut PgConnection, new: &[&NewProduct]) -> sqlx::Result<Vec<Product>> {
    let rows: Vec<Stored> = sqlx::query_as(
        "insert into products (id, name, description, price, currency, stock, idempotency_key, request) \
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[]) \
         on conflict do nothing returning id, name, description, price, currency, stock, reserved, created_at",
    )
    .bind(new.iter().map(|product| product.id.0).collect::<Vec<_>>())
    .bind(new.iter().map(|product| product.name.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|product| product.description.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|product| product.price.amount).collect::<Vec<_>>())
    .bind(new.iter().map(|product| product.price.currency.code()).collect::<Vec<_>>())
    .bind(new.iter().map(|product| product.stock.get()).collect::<Vec<_>>())
    .bind(new.iter().map(|product| product.key.as_deref()).collect::<Vec<_>>())
    .bind(new.iter().map(|product| product.key.is_some().then(|| product.request())).collect::<Vec<_>>())
    .fetch_all(&mut *tx)
    .await?;
    let products: Vec<Product> = rows.into_iter().map(|row| row.0).collect();
    let received: Vec<(ProductId, i64)> = products.iter().map(|product| (product.id, product.stock)).collect();
    record_changes(tx, &received).await?;
    Ok(products)
}

async fn record_changes(tx: &mut PgConnection, changes: &[(ProductId, i64)]) -> sqlx::Result<()> {
    sqlx::query("insert into stock_changes (id, product_id, delta) select * from unnest($1::uuid[], $2::uuid[], $3::bigint[])")
        .bind(changes.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind(changes.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, delta)| *delta).collect::<Vec<_>>())
        .execute(tx)
        .await?;
    Ok(())
}

/// The product created with a key, and what was asked for.
pub async fn by_key(tx: &mut PgConnection, key: &str) -> sqlx::Result<Option<(Product, Value)>> {
    let row = sqlx::query(
        "select id, name, description, price, currency, stock, reserved, created_at, request from products \
         where idempotency_key = $1",
    )
    .bind(key)
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok((Stored::from_row(&row)?.0, row.try_get("request")?))).transpose()
}

/// Adds to what is available and records it. What is available and what is held stay within the limit together, so that a release, which
/// moves from one to the other, never leaves it; what is over it may always become less.
pub async fn change_stock(tx: &mut PgConnection, id: ProductId, delta: i64, max: i64) -> sqlx::Result<Option<Product>> {
    let row: Option<Stored> = sqlx::query_as(
        "update products set stock = stock + $2 where id = $1 and stock + $2 >= 0 and ($2 < 0 or stock + reserved + $2 <= $3) \
         returning id, name, description, price, currency, stock, reserved, created_at",
    )
    .bind(id.0)
    .bind(delta)
    .bind(max)
    .fetch_optional(&mut *tx)
    .await?;
    if row.is_some() {
        record_changes(tx, &[(id, delta)]).await?;
    }
    Ok(row.map(|row| row.0))
}

/// What was asked with a key before, and what was answered.
pub async fn keyed(tx: &mut PgConnection, keyed: &Keyed) -> sqlx::Result<Option<(Value, Value)>> {
    sqlx::query_as("select request, answer from keyed_requests where kind = $1 and idempotency_key = $2")
        .bind(keyed.kind)
        .bind(&keyed.key)
        .fetch_optional(tx)
        .await
}

/// Deletes keys that are older than so many seconds, the oldest first and so many at most.
pub const EXPIRE_KEYS: &str = "delete from keyed_requests where (kind, idempotency_key) in \
    (select kind, idempotency_key from keyed_requests where created_at < now() - make_interval(secs => $1) \
     order by created_at limit $2 for update skip locked)";

/// Keeps what was answered, unless the key is taken.
pub async fn keep_keyed(tx: &mut PgConnection, keyed: &Keyed, answer: &Value) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into keyed_requests (kind, idempotency_key, request, answer) values ($1, $2, $3, $4) on conflict do nothing",
    )
    .bind(keyed.kind)
    .bind(&keyed.key)
    .bind(&keyed.request)
    .bind(answer)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Locks the stock of products, in the order of their ids, so that two batches never wait for each other in a circle.
pub async fn lock_stock(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<BTreeMap<ProductId, Stock>> {
    let rows = sqlx::query("select id, price, currency, stock, reserved from products where id = any($1) order by id for update")
        .bind(ids)
        .fetch_all(tx)
        .await?;
    let stock = |row: &PgRow| {
        let stock = Stock { price: money(row)?, available: row.try_get("stock")?, reserved: row.try_get("reserved")? };
        Ok((ProductId(row.try_get("id")?), stock))
    };
    rows.iter().map(stock).collect()
}

/// Which of these products and reservations somebody else holds, without waiting for them.
pub async fn held(db: &mut PgConnection, products: &[Uuid], reservations: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
    let mut held: HashSet<Uuid> = sqlx::query_scalar(
        "with free as (select id from products where id = any($1) order by id for update skip locked) \
         select id from products where id = any($1) and id not in (select id from free)",
    )
    .bind(products)
    .fetch_all(&mut *db)
    .await?
    .into_iter()
    .collect();
    let reservations: Vec<Uuid> = sqlx::query_scalar(
        "with free as (select id from reservations where id = any($1) order by id for update skip locked) \
         select id from reservations where id = any($1) and id not in (select id from free)",
    )
    .bind(reservations)
    .fetch_all(db)
    .await?;
    held.extend(reservations);
    Ok(held)
}

/// What stands about reservations.
pub async fn reservation_states(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<BTreeMap<ReservationId, ReservationState>> {
    let rows =
        sqlx::query("select id, status, items, reason from reservations where id = any($1)").bind(ids).fetch_all(db).await?;
    let state = |row: &PgRow| {
        let id = ReservationId(row.try_get("id")?);
        let held =
            || row.try_get("items").map(|Json(held): Json<Vec<Held>>| held).map_err(|error| named("reservation", id, error));
        let state = match row.try_get("status")? {
            "reserved" => ReservationState::Reserved(held()?),
            "refused" => {
                let Json(reason): Json<Reason> = row.try_get("reason").map_err(|error| named("reservation", id, error))?;
                ReservationState::Refused(reason)
            }
            _ => ReservationState::Released(held()?),
        };
        Ok((id, state))
    };
    rows.iter().map(state).collect()
}

/// Whether a reservation was made over HTTP, without an order; `None` where there is none. `only`: where it is this subject's.
pub async fn is_direct(db: &mut PgConnection, id: ReservationId, only: Option<&str>) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar("select direct from reservations where id = $1 and ($2::text is null or subject = $2)")
        .bind(id.0)
        .bind(only)
        .fetch_optional(db)
        .await
}

/// When what is held from now on, for so long, is given back. By the database's clock, as all that asks whether it has come.
pub async fn expiry(tx: &mut PgConnection, after: Duration) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select now() + make_interval(secs => $1)").bind(after.as_secs_f64()).fetch_one(tx).await
}

/// What is held without an order for longer than it may be, the oldest first, so many at most. What a build that knew no end held is given one
/// on the way.
pub async fn expired(db: &mut PgConnection, after: Duration, most: i64) -> sqlx::Result<Vec<ReservationId>> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "with endless as (\
             select id from reservations where direct and expires_at is null order by id limit $2 for update skip locked), \
         ended as (\
             update reservations set expires_at = case status when 'reserved' then created_at + make_interval(secs => $1) else 'infinity' end \
             where id in (select id from endless)) \
         select id from reservations where direct and expires_at < now() and status = 'reserved' order by expires_at limit $2",
    )
    .bind(after.as_secs_f64())
    .bind(most)
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(ReservationId).collect())
}

/// Whether a subject holds as much without an order as it may, and this is not the repetition of a request that was answered.
pub async fn holds_enough(db: &mut PgConnection, subject: &str, most: u32, key: Option<&str>) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select (select count(*) from (\
                select 1 from reservations where direct and subject = $1 and expires_at < 'infinity' limit $2) as held) >= $2 \
            and not exists (select 1 from keyed_requests where kind = 'reserve' and idempotency_key = $3)",
    )
    .bind(subject)
    .bind(i64::from(most))
    .bind(key)
    .fetch_one(db)
    .await
}

/// Has what cannot be given back wait a minute.
pub async fn put_off(db: &mut PgConnection, ids: &[ReservationId]) -> sqlx::Result<()> {
    sqlx::query("update reservations set expires_at = now() + interval '1 minute' where id = any($1) and status = 'reserved'")
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .execute(db)
        .await?;
    Ok(())
}

/// Records who gave back what these held, and why. `false`: somebody gave back one of them meanwhile.
pub async fn record_given_back(tx: &mut PgConnection, orphans: &[&Orphan]) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into given_back (reservation_id, released_by, reason) select * from unnest($1::uuid[], $2::text[], $3::text[]) \
         on conflict do nothing",
    )
    .bind(orphans.iter().map(|orphan| orphan.id.0).collect::<Vec<_>>())
    .bind(orphans.iter().map(|orphan| orphan.by.as_str()).collect::<Vec<_>>())
    .bind(orphans.iter().map(|orphan| orphan.reason.as_str()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == orphans.len() as u64)
}

/// What a batch changes.
pub struct Change {
    /// The stock of products, as it is now.
    pub stock: Vec<(ProductId, Stock)>,
    /// What stands, and stood not before.
    pub new: Vec<(ReservationId, ReservationState)>,
    /// Reservations that stood, and are released.
    pub released: Vec<ReservationId>,
}

/// Whose reservations a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    /// Orders', which decide themselves how long they hold.
    Orders,
    /// Callers' without an order, who hold until then.
    Callers(DateTime<Utc>, &'a Makers<'a>),
}

/// Who made reservations without an order, where that is known.
pub type Makers<'a> = BTreeMap<ReservationId, Option<&'a str>>;

/// Writes a change and what is sent with it: one statement, because each costs a round trip.
pub fn write(outgoing: Outgoing, holder: Holder<'_>, change: &Change) -> anyhow::Result<Statement> {
    let (expires_at, makers) = match holder {
        Holder::Orders => (None, None),
        Holder::Callers(until, makers) => (Some(until), Some(makers)),
    };
    let Change { stock, new, released } = change;
    let maker = |id: &ReservationId, makers: &Makers<'_>| makers.get(id).copied().flatten().map(str::to_owned);
    // Those of orders have none: then there is nothing to bind, and each row gets null.
    let subjects = makers.map(|makers| new.iter().map(|(id, _)| maker(id, makers)).collect::<Vec<_>>()).unwrap_or_default();
    let (mut statuses, mut items, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for (_, state) in new {
        let (status, held, reason) = match state {
            ReservationState::Reserved(held) => ("reserved", held.as_slice(), None),
            ReservationState::Refused(reason) => ("refused", [].as_slice(), Some(Json(reason.clone()))),
            ReservationState::Released(held) => ("released", held.as_slice(), None),
        };
        statuses.push(status);
        items.push(serde_json::to_string(held)?);
        reasons.push(reason);
    }
    const SQL: &str = concat!(
        "with sent as (",
        chassis::outbox!("$1", "$2", "$3", "$4", "$5"),
        "), counted as (\
             update products set stock = changed.stock, reserved = changed.reserved \
             from unnest($6::uuid[], $7::bigint[], $8::bigint[]) as changed (id, stock, reserved) where products.id = changed.id), \
         stood as (\
             insert into reservations (id, direct, status, items, reason, expires_at, subject) \
             select id, $10::timestamptz is not null, status, items::json, reason, \
                 case when status = 'reserved' or $10 is null then $10 else 'infinity' end, subject \
             from unnest($9::uuid[], $11::text[], $12::text[], $13::jsonb[], $15::text[]) as new (id, status, items, reason, subject)) \
         update reservations set status = 'released', updated_at = now(), expires_at = case when direct then 'infinity'::timestamptz end \
         where id = any($14)"
    );
    // Another transaction may have been first to decide about one of these.
    Ok(outgoing
        .statement(SQL, &["reservations_pkey"])
        .bind(stock.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(stock.iter().map(|(_, stock)| stock.available).collect::<Vec<_>>())
        .bind(stock.iter().map(|(_, stock)| stock.reserved).collect::<Vec<_>>())
        .bind(new.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(expires_at)
        .bind(statuses)
        .bind(items)
        .bind(reasons)
        .bind(released.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(subjects))
}

/// One product.
pub async fn get(db: &mut PgConnection, id: ProductId) -> sqlx::Result<Option<Product>> {
    let row: sqlx::Result<Option<Stored>> =
        sqlx::query_as("select id, name, description, price, currency, stock, reserved, created_at from products where id = $1")
            .bind(id.0)
            .fetch_optional(db)
            .await;
    Ok(row.map_err(|error| named("product", id, error))?.map(|row| row.0))
}

/// A page, newest first.
pub async fn list(db: &mut PgConnection, after: Option<Uuid>, rows: i64) -> sqlx::Result<Vec<Listed<Product>>> {
    let rows: Vec<Listed<Stored>> = sqlx::query_as(
        "select id, name, description, price, currency, stock, reserved, created_at from products \
         where $1::uuid is null or id < $1 order by id desc limit $2",
    )
    .bind(after)
    .bind(rows)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.map(|stored| stored.0)).collect())
}
