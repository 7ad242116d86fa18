//! The statements of the outbox. None is part of a transaction that waits for the broker.

use std::time::Duration;

use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row as _};
use uuid::Uuid;

use crate::note::Note;
use crate::packet::Packet;

/// For how long a row is one relay's. Longer than publishing takes at worst: acknowledgements that never come.
pub(super) const CLAIM: Duration = Duration::from_secs(15);

/// The longest wait between two attempts at one row.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(60);

/// A row that is this relay's for a while.
#[derive(Debug)]
pub(super) struct Claimed {
    pub id: Uuid,
    position: Option<i64>,
    pub notes: Vec<u8>,
    /// Its messages, where it holds them.
    pub packets: Vec<Packet>,
    /// Those of its messages that are not published yet; `None`: all.
    pub pending: Option<Vec<i32>>,
    /// How often it was refused.
    pub attempts: i32,
}

/// Takes rows, in their order; those another relay took first are left out. One statement: nobody waits for it, and it for nobody.
pub(super) async fn claim(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<Claimed>> {
    let rows = sqlx::query(
        "update outbox set claimed_until = now() + make_interval(secs => $2) \
         where id in (select id from outbox where id = any($1) \
                        and not coalesce(claimed_until between now() and now() + make_interval(secs => $2), false) \
                      order by id for update skip locked) \
         returning id, position, subjects, headers, payloads, notes, pending, attempts",
    )
    .bind(ids)
    .bind(CLAIM.as_secs_f64())
    .fetch_all(db)
    .await?;
    let claimed = |row: &PgRow| {
        Ok(Claimed {
            id: row.try_get("id")?,
            position: row.try_get("position")?,
            notes: row.try_get("notes")?,
            packets: packets(row.try_get("subjects")?, row.try_get("headers")?, row.try_get("payloads")?),
            pending: row.try_get("pending")?,
            attempts: row.try_get("attempts")?,
        })
    };
    let mut claimed: Vec<Claimed> = rows.iter().map(claimed).collect::<sqlx::Result<_>>()?;
    claimed.sort_by_key(|row| (row.position, row.id));
    Ok(claimed)
}

/// Which of these rows are still there.
pub(super) async fn there(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select id from outbox where id = any($1)").bind(ids).fetch_all(db).await
}

/// Gives rows back untried.
pub(super) async fn give_back(db: impl PgExecutor<'_>, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query("update outbox set claimed_until = null where id = any($1)").bind(ids).execute(db).await.map(drop)
}

/// What is left of a row that could not be published whole.
#[derive(Debug)]
pub(super) struct SetAside<'a> {
    pub id: Uuid,
    /// The messages that are left; `None`: all.
    pub pending: Option<&'a [i32]>,
    /// What they tell of.
    pub about: &'a [Uuid],
    pub attempts: i32,
    pub retry_after: Duration,
    /// Why it failed; `None`: it did not, and waits behind another row.
    pub reason: Option<&'a str>,
}

/// Sets a row aside until its next attempt.
pub(super) async fn set_aside(db: impl PgExecutor<'_>, row: &SetAside<'_>) -> sqlx::Result<()> {
    sqlx::query(
        "update outbox set claimed_until = null, pending = $2, about = $3, attempts = $4, \
                retry_at = now() + make_interval(secs => $5), last_error = $6 where id = $1",
    )
    .bind(row.id)
    .bind(row.pending)
    .bind(row.about)
    .bind(row.attempts)
    .bind(row.retry_after.min(RETRY_MAX).as_secs_f64())
    .bind(row.reason)
    .execute(db)
    .await
    .map(drop)
}

/// Makes of a row one row for each of its notes, so that the one that cannot be rebuilt stops none of the others. Returns their ids.
pub(super) async fn split(db: impl PgExecutor<'_>, id: Uuid, notes: &[Note]) -> sqlx::Result<Vec<Uuid>> {
    let parts: Vec<Uuid> = notes.iter().map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        "with whole as (delete from outbox where id = $1 returning created_at, position) \
         insert into outbox (id, created_at, position, subjects, headers, payloads, notes) \
         select new.id, created_at, position, '{}', '[]', '{}', new.notes \
         from whole, unnest($2::uuid[], $3::bytea[]) as new (id, notes)",
    )
    .bind(id)
    .bind(&parts)
    .bind(notes.iter().map(|note| note.bytes().to_vec()).collect::<Vec<_>>())
    .execute(db)
    .await?;
    Ok(parts)
}

/// Deletes published rows. Without waiting for the disk: a deletion lost in a crash means one more harmless repetition.
pub(super) async fn delete(pool: &PgPool, ids: &[Uuid]) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query("set local synchronous_commit = off").execute(&mut *tx).await?;
    sqlx::query("delete from outbox where id = any($1)").bind(ids).execute(&mut *tx).await?;
    tx.commit().await
}

/// How many rows there are, and what is known of the oldest.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// Rows, up to [`COUNT_MAX`].
    pub rows: i64,
    /// Rows set aside after a refusal of their own.
    pub refused: i64,
    /// One of them, and why.
    pub last_error: Option<(Uuid, String)>,
    /// The oldest row that waits for nothing of its own and behind no other, and its age in seconds.
    pub oldest: Option<(Uuid, f64)>,
    /// Why it could not be published, if that was tried.
    pub oldest_error: Option<String>,
    /// The age of the oldest of all, in seconds.
    pub age: f64,
}

/// Rows that are counted: beyond, it does not matter how many more there are.
pub(super) const COUNT_MAX: i64 = 100_000;

/// Counts. The oldest is sought among rows never set aside, which are in order, and among those that are, which are few. `behind`: rows that
/// wait behind others.
pub(super) async fn standing(db: impl PgExecutor<'_>, behind: &[Uuid]) -> sqlx::Result<Standing> {
    let row = sqlx::query(
        "with first as materialized ( \
             (select id, position, created_at, attempts, last_error, false as behind from outbox \
              where retry_at is null and id <> all($2) order by position nulls first, id limit 1) \
             union all (select id, position, created_at, attempts, last_error, last_error is null or id = any($2) \
                        from outbox where retry_at is not null limit $1)), \
         oldest as (select id, created_at, last_error from first where attempts = 0 and not behind \
                    order by position nulls first, id limit 1), \
         refused as (select id, last_error from outbox where retry_at is not null and attempts > 0 and last_error is not null \
                     order by retry_at limit 1) \
         select count(*) as rows, count(*) filter (where attempts > 0) as refused, \
                (select id from refused) as refused_row, (select last_error from refused) as last_error, \
                (select id from oldest) as oldest, (select last_error from oldest) as oldest_error, \
                coalesce((select extract(epoch from now() - created_at)::float8 from oldest), 0) as oldest_age, \
                coalesce((select extract(epoch from now() - min(created_at))::float8 from first), 0) as age \
         from (select attempts from outbox limit $1) counted",
    )
    .bind(COUNT_MAX)
    .bind(behind)
    .fetch_one(db)
    .await?;
    let oldest: Option<Uuid> = row.try_get("oldest")?;
    let oldest_age: f64 = row.try_get("oldest_age")?;
    let refused: (Option<Uuid>, Option<String>) = (row.try_get("refused_row")?, row.try_get("last_error")?);
    Ok(Standing {
        rows: row.try_get("rows")?,
        refused: row.try_get("refused")?,
        last_error: refused.0.zip(refused.1),
        oldest: oldest.map(|id| (id, oldest_age.max(0.0))),
        oldest_error: row.try_get("oldest_error")?,
        age: row.try_get::<f64, _>("age")?.max(0.0),
    })
}

fn packets(subjects: Vec<String>, headers: Value, payloads: Vec<Vec<u8>>) -> Vec<Packet> {
    let headers = headers.as_array().cloned().unwrap_or_default();
    let read = |headers: &Map<String, Value>| {
        headers.iter().map(|(name, value)| (name.clone().into(), value.as_str().unwrap_or_default().to_owned())).collect()
    };
    subjects
        .into_iter()
        .zip(payloads)
        .enumerate()
        .map(|(index, (subject, payload))| Packet {
            subject,
            headers: headers.get(index).and_then(Value::as_object).map(read).unwrap_or_default(),
            payload: payload.into(),
        })
        .collect()
}
