//! The statements behind the completeness of the stream of events: checkpoints, who watches, and rebuilds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::saga::Saga;

/// For how long one instance watches before another may.
const HOLD: Duration = Duration::from_secs(15);

/// Up to a message of the stream, every event until a moment is stored.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Checkpoint {
    pub incarnation: String,
    pub sequence: i64,
    pub stored_at: DateTime<Utc>,
    pub deleted: i64,
    pub server: String,
    pub complete_until: DateTime<Utc>,
}

/// Events published again, or looked for.
#[derive(Clone, Debug, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Rebuild {
    pub id: Uuid,
    pub reason: String,
    pub asked_by: Option<String>,
    pub dry_run: bool,
    pub since: DateTime<Utc>,
    /// Up to this one only those that moved since, found by their histories.
    #[serde(skip)]
    pub first_order: Option<Uuid>,
    #[serde(skip)]
    pub after_order: Option<Uuid>,
    /// Events looked for in the stream.
    pub checked: i64,
    /// Those that were not there.
    pub missing: i64,
    /// Orders this build cannot read, and events the broker does not take.
    pub unreadable: i64,
    /// The first of those orders.
    pub unreadable_orders: Vec<Uuid>,
    /// When it began; more was lost meanwhile: when it began again.
    pub begun_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// Whether this instance is the one that watches. A hold that is further away than its span is void: the clock was set back since.
pub async fn hold_watch(db: &mut PgConnection, holder: Uuid) -> sqlx::Result<bool> {
    let held: Option<bool> = sqlx::query_scalar(
        "insert into event_watch (holder, until) values ($1, now() + make_interval(secs => $2)) \
         on conflict (one) do update set holder = excluded.holder, until = excluded.until \
         where event_watch.holder = $1 or event_watch.until not between now() and now() + make_interval(secs => $2) returning true",
    )
    .bind(holder)
    .bind(HOLD.as_secs_f64())
    .fetch_optional(db)
    .await?;
    Ok(held.is_some())
}

/// Until when every event is acknowledged: what is not is still in the outbox.
pub async fn acknowledged_until(db: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select least(now(), (select min(created_at) from outbox))").fetch_one(db).await
}

/// The newest checkpoint.
pub async fn checkpoint(db: &mut PgConnection) -> sqlx::Result<Option<Checkpoint>> {
    sqlx::query_as("select * from event_checkpoints order by number desc limit 1").fetch_optional(db).await
}

/// Checkpoints at or before a message, the newest first.
pub async fn checkpoints_until(db: &mut PgConnection, incarnation: String, sequence: i64) -> sqlx::Result<Vec<Checkpoint>> {
    sqlx::query_as(
        "select * from event_checkpoints where incarnation = $1 and sequence <= $2 order by sequence desc, number desc limit 100",
    )
    .bind(incarnation)
    .bind(sequence)
    .fetch_all(db)
    .await
}

/// Records a checkpoint. One at the same message takes its place; none promises more than a later one: the clock may have been set back.
/// `first`: the stream's first message and when it was stored. Where no checkpoint is that early one is made there, which promises nothing:
/// when the message is gone, something was removed from the front.
pub async fn record_checkpoint(
    db: &mut PgConnection,
    at: Checkpoint,
    first: Option<(i64, DateTime<Utc>)>,
    keep: Duration,
) -> sqlx::Result<()> {
    if let Some((sequence, stored_at)) = first {
        sqlx::query(
            "insert into event_checkpoints (incarnation, sequence, stored_at, deleted, server, complete_until) \
             select $1, $2, $3, $4, $5, 'epoch' \
             where not exists (select from event_checkpoints where incarnation = $1 and sequence between 1 and $2)",
        )
        .bind(&at.incarnation)
        .bind(sequence)
        .bind(stored_at)
        .bind(at.deleted)
        .bind(&at.server)
        .execute(&mut *db)
        .await?;
    }
    sqlx::query(
        "with same as (delete from event_checkpoints where incarnation = $1 and sequence = $2), \
              old as (delete from event_checkpoints where incarnation <> $1 \
                      or (complete_until < $6 - make_interval(secs => $7) and complete_until > 'epoch')), \
              less as (update event_checkpoints set complete_until = $6 where incarnation = $1 and sequence < $2 and complete_until > $6) \
         insert into event_checkpoints (incarnation, sequence, stored_at, deleted, server, complete_until) \
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(at.incarnation)
    .bind(at.sequence)
    .bind(at.stored_at)
    .bind(at.deleted)
    .bind(at.server)
    .bind(at.complete_until)
    .bind(keep.as_secs_f64())
    .execute(db)
    .await
    .map(drop)
}

/// Forgets checkpoints that are not true any more: of another incarnation, after a message, or before one.
pub async fn forget_checkpoints(db: &mut PgConnection, incarnation: String, after: i64, before: i64) -> sqlx::Result<()> {
    sqlx::query("delete from event_checkpoints where incarnation <> $1 or sequence > $2 or sequence < $3")
        .bind(incarnation)
        .bind(after)
        .bind(before)
        .execute(db)
        .await
        .map(drop)
}

/// The rebuild under way.
pub async fn open_rebuild(db: &mut PgConnection) -> sqlx::Result<Option<Rebuild>> {
    sqlx::query_as("select * from event_rebuilds where ended_at is null").fetch_optional(db).await
}

/// The last rebuild, whether it is under way or has ended.
pub async fn last_rebuild(db: &mut PgConnection) -> sqlx::Result<Option<Rebuild>> {
    sqlx::query_as("select * from event_rebuilds order by ended_at is null desc, begun_at desc limit 1").fetch_optional(db).await
}

/// One rebuild.
pub async fn rebuild(db: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Rebuild>> {
    sqlx::query_as("select * from event_rebuilds where id = $1").bind(id).fetch_optional(db).await
}

/// Begins a rebuild. One that is under way begins again, and covers both. Each beginning has a moment of its own, whatever the clock says: who
/// was at the one before notices by it, also where that had noted nothing yet.
pub async fn begin_rebuild(
    db: &mut PgConnection,
    reason: String,
    since: DateTime<Utc>,
    first_order: Option<Uuid>,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into event_rebuilds as open (id, reason, since, first_order) values ($1, $2, $3, $4) \
         on conflict ((true)) where ended_at is null do update \
         set reason = excluded.reason, since = least(open.since, excluded.since), after_order = null, dry_run = false, \
             begun_at = greatest(excluded.begun_at, open.begun_at + interval '1 microsecond'), \
             first_order = case when open.first_order is null or excluded.first_order is null then null \
                                else least(open.first_order, excluded.first_order) end",
    )
    .bind(Uuid::now_v7())
    .bind(reason)
    .bind(since)
    .bind(first_order)
    .execute(db)
    .await
    .map(drop)
}

/// Begins a rebuild that somebody asked for; `None`: one is under way.
pub async fn ask_rebuild(
    db: &mut PgConnection,
    by: Option<String>,
    since: DateTime<Utc>,
    dry_run: bool,
) -> sqlx::Result<Option<Rebuild>> {
    sqlx::query_as(
        "insert into event_rebuilds (id, reason, asked_by, since, dry_run) values ($1, 'asked for by an operator', $2, $3, $4) \
         on conflict ((true)) where ended_at is null do nothing returning *",
    )
    .bind(Uuid::now_v7())
    .bind(by)
    .bind(since)
    .bind(dry_run)
    .fetch_optional(db)
    .await
}

/// What a rebuild found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Events looked for.
    pub checked: i64,
    /// Those that the stream did not hold.
    pub missing: i64,
    /// Orders that cannot be read, and those of events that are not taken.
    pub unreadable: Vec<Uuid>,
}

/// Orders of a rebuild that are named.
const NAMED: i32 = 100;

/// Notes how far a rebuild has come. `false`: it was begun again meanwhile.
pub async fn advance_rebuild(
    db: &mut PgConnection,
    before: Rebuild,
    after_order: Option<Uuid>,
    found: Found,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update event_rebuilds set after_order = coalesce($3, after_order), ended_at = case when $3 is null then now() end, \
                checked = checked + $4, missing = missing + $5, unreadable = unreadable + $6, \
                unreadable_orders = (unreadable_orders || $8)[1:$9] \
         where id = $1 and after_order is not distinct from $2 and begun_at = $7",
    )
    .bind(before.id)
    .bind(before.after_order)
    .bind(after_order)
    .bind(found.checked)
    .bind(found.missing)
    .bind(found.unreadable.len() as i64)
    .bind(before.begun_at)
    .bind(found.unreadable)
    .bind(NAMED)
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Sagas that are counted.
pub const COUNT_MAX: i64 = 100_000;

impl<S: Saga> Store<S> {
    /// A page of sagas after one of them: the last, and those that moved since a moment. `None`: there are no more.
    pub async fn moved_since(
        &self,
        db: &mut PgConnection,
        after: Option<Uuid>,
        since: DateTime<Utc>,
        limit: i64,
    ) -> sqlx::Result<Option<(Uuid, Vec<Uuid>)>> {
        let page = sqlx::query_as(self.sql.moved_since).bind(after).bind(since).bind(limit);
        let rows: Vec<(Uuid, bool)> = page.fetch_all(db).await?;
        let Some((last, _)) = rows.last() else { return Ok(None) };
        Ok(Some((*last, rows.iter().filter(|(_, moved)| *moved).map(|(id, _)| *id).collect())))
    }

    /// Sagas after one of them and up to another that moved since a moment, by their histories: few of many.
    pub async fn moved_late(
        &self,
        db: &mut PgConnection,
        after: Option<Uuid>,
        up_to: Uuid,
        since: DateTime<Utc>,
        limit: i64,
    ) -> sqlx::Result<Vec<Uuid>> {
        sqlx::query_scalar(self.sql.moved_late).bind(after).bind(up_to).bind(since).bind(limit).fetch_all(db).await
    }

    /// How many sagas there are after one of them, up to [`COUNT_MAX`].
    pub async fn after(&self, db: &mut PgConnection, after: Option<Uuid>) -> sqlx::Result<i64> {
        sqlx::query_scalar(self.sql.after).bind(after).bind(COUNT_MAX).fetch_one(db).await
    }
}

/// Which of these notes are still in the outbox.
pub async fn in_outbox(db: &mut PgConnection, notes: Vec<Vec<u8>>) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar(
        "select note from unnest($1::bytea[]) as new (note) where exists (select from outbox where position(note in notes) > 0)",
    )
    .bind(notes)
    .fetch_all(db)
    .await
}
