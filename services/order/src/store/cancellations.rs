//! Cancellations by the keys they came with.

use std::collections::HashMap;

use events::OrderId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Deletes keys that are older than so many seconds, the oldest first and so many at most.
pub const EXPIRE: &str = "delete from cancellations where idempotency_key in \
    (select idempotency_key from cancellations where created_at < now() - make_interval(secs => $1) \
     order by created_at limit $2 for update skip locked)";

/// The orders that were cancelled with these keys.
pub async fn cancelled_with(db: impl PgExecutor<'_>, keys: &[&str]) -> sqlx::Result<HashMap<String, OrderId>> {
    let rows: Vec<(String, Uuid)> =
        sqlx::query_as("select idempotency_key, order_id from cancellations where idempotency_key = any($1)")
            .bind(keys)
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().map(|(key, order)| (key, OrderId(order))).collect())
}

/// Keeps the key of a cancellation that changed nothing, because the order was going back already. `false`: it cancelled another order meanwhile.
pub async fn keep_cancelled(db: &mut PgConnection, key: &str, order: OrderId) -> sqlx::Result<bool> {
    sqlx::query("insert into cancellations (idempotency_key, order_id) values ($1, $2) on conflict do nothing")
        .bind(key)
        .bind(order.0)
        .execute(&mut *db)
        .await?;
    Ok(cancelled_with(db, &[key]).await?.get(key).is_none_or(|cancelled| *cancelled == order))
}
