//! Every statement of the user service.

use std::collections::HashSet;

use chassis::listed::Listed;
use events::UserId;
use events::user::User;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, PgExecutor, Row};
use uuid::Uuid;

use crate::requests::{Change, NewUser};

/// A row of the table.
pub struct Stored(pub User);

impl FromRow<'_, PgRow> for Stored {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self(User {
            id: UserId(row.try_get("id")?),
            email: row.try_get("email")?,
            name: row.try_get("name")?,
            active: row.try_get("active")?,
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// Inserts those whose address and key are free, and returns them.
pub async fn insert(tx: &mut PgConnection, new: &[&NewUser]) -> sqlx::Result<Vec<User>> {
    let ids: Vec<Uuid> = new.iter().map(|user| user.id.0).collect();
    let emails: Vec<&str> = new.iter().map(|user| user.email.as_str()).collect();
    let email_keys: Vec<String> = new.iter().map(|user| user.email.key()).collect();
    let names: Vec<&str> = new.iter().map(|user| user.name.as_str()).collect();
    let keys: Vec<Option<&str>> = new.iter().map(|user| user.key.as_deref()).collect();
    let requests: Vec<Option<Value>> = new.iter().map(|user| user.key.is_some().then(|| user.request())).collect();
    let rows: Vec<Stored> = sqlx::query_as(
        "insert into users (id, email, email_key, name, idempotency_key, request) \
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[]) \
         on conflict do nothing returning id, email, name, active, created_at",
    )
    .bind(ids)
    .bind(emails)
    .bind(email_keys)
    .bind(names)
    .bind(keys)
    .bind(requests)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// The user created with a key, and what was asked for.
pub async fn by_key(tx: &mut PgConnection, key: &str) -> sqlx::Result<Option<(User, Value)>> {
    let row = sqlx::query("select id, email, name, active, created_at, request from users where idempotency_key = $1")
        .bind(key)
        .fetch_optional(tx)
        .await?;
    row.map(|row| Ok((Stored::from_row(&row)?.0, row.try_get("request")?))).transpose()
}

/// Changes what is to be changed; `None` where there is no such user.
pub async fn update(tx: &mut PgConnection, change: &Change) -> sqlx::Result<Option<User>> {
    let row: Option<Stored> = sqlx::query_as(
        "update users set name = coalesce($2, name), active = coalesce($3, active) where id = $1 \
         returning id, email, name, active, created_at",
    )
    .bind(change.id.0)
    .bind(change.name.as_ref().map(|name| name.as_str()))
    .bind(change.active)
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.0))
}

/// Users whose address has no key yet.
pub async fn without_email_key(tx: &mut PgConnection, rows: i64) -> sqlx::Result<Vec<(Uuid, String)>> {
    sqlx::query_as("select id, email from users where email_key is null order by id limit $1 for update skip locked")
        .bind(rows)
        .fetch_all(tx)
        .await
}

/// Sets the key. Where another user has it, both were taken before addresses were compared by it, and both stay: the key of this one bears its id.
pub async fn set_email_key(tx: &mut PgConnection, id: Uuid, key: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update users set email_key = case when exists (select 1 from users as other where other.email_key = $2) \
                                           then $2 || ' ' || id else $2 end \
         where id = $1 and email_key is null",
    )
    .bind(id)
    .bind(key)
    .execute(tx)
    .await
    .map(drop)
}

/// Which of these users there are, and whether each is active.
pub async fn activity(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, bool)>> {
    sqlx::query_as("select id, active from users where id = any($1)").bind(ids).fetch_all(db).await
}

/// Which of these users somebody else holds, without waiting for them.
pub async fn held(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
    let held: Vec<Uuid> = sqlx::query_scalar(
        "with free as (select id from users where id = any($1) order by id for update skip locked) \
         select id from users where id = any($1) and id not in (select id from free)",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    Ok(held.into_iter().collect())
}

/// One user. `only`: where it is this one.
pub async fn get(db: &mut PgConnection, id: UserId, only: Option<Uuid>) -> sqlx::Result<Option<User>> {
    let row: Option<Stored> =
        sqlx::query_as("select id, email, name, active, created_at from users where id = $1 and ($2::uuid is null or id = $2)")
            .bind(id.0)
            .bind(only)
            .fetch_optional(db)
            .await?;
    Ok(row.map(|row| row.0))
}

/// A page, newest first.
pub async fn list(db: &mut PgConnection, after: Option<Uuid>, rows: i64) -> sqlx::Result<Vec<Listed<User>>> {
    let rows: Vec<Listed<Stored>> = sqlx::query_as(
        "select id, email, name, active, created_at from users where $1::uuid is null or id < $1 order by id desc limit $2",
    )
    .bind(after)
    .bind(rows)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.map(|stored| stored.0)).collect())
}
