//! Cancellations by the keys they came with.

use events::OrderId;
use sqlx::PgConnection;
use uuid::Uuid;

/// The order that was cancelled with a key.
pub async fn cancelled(db: &mut PgConnection, key: &str) -> sqlx::Result<Option<OrderId>> {
    let order: Option<Uuid> =
        sqlx::query_scalar("select order_id from cancellations where idempotency_key = $1").bind(key).fetch_optional(db).await?;
    Ok(order.map(OrderId))
}

/// Keeps the key of a cancellation that changed nothing, because the order was going back already.
pub async fn keep_cancelled(db: &mut PgConnection, key: &str, order: OrderId) -> sqlx::Result<()> {
    sqlx::query("insert into cancellations (idempotency_key, order_id) values ($1, $2) on conflict do nothing")
        .bind(key)
        .bind(order.0)
        .execute(db)
        .await?;
    Ok(())
}
