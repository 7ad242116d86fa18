//! How many orders one user may have under way.

use chassis::database::Database;
use chassis::http::Problem;
use clap::Args;
use events::UserId;
use sqlx::PgConnection;

/// What one user may have under way.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct PendingSettings {
    /// Orders of one user that may be pending or cancelling at once; one more is 429 with Retry-After. Not set: no limit, and no look before
    /// an order is placed. Orders placed at the same moment may all find room.
    #[arg(long, env = "WAYBILL_PENDING_PER_SUBJECT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub pending_per_subject: Option<u32>,
}

/// 429 where a user has as many orders under way as it may. Not for the repetition of one that was placed: that is answered again.
pub async fn leaves_room(database: &Database, user: UserId, most: u32, key: Option<&str>) -> Result<(), Problem> {
    match database.read(|mut db| async move { is_full(&mut db, user, most, key).await }).await? {
        true => {
            let detail = format!("{most} orders of this user are under way, and more may not be; one that ends makes room");
            Err(Problem::too_many_requests(detail))
        }
        false => Ok(()),
    }
}

async fn is_full(db: &mut PgConnection, user: UserId, most: u32, key: Option<&str>) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select (select count(*) from (select 1 from orders where user_id = $1 and not settled limit $2) as pending) >= $2 \
            and not exists (select 1 from orders where idempotency_key = $3)",
    )
    .bind(user.0)
    .bind(i64::from(most))
    .bind(key)
    .fetch_one(db)
    .await
}
