//! What the relay looks at: rows not tried yet in the order of writing, and beside them those that were set aside and are due again. However
//! many are set aside, they hide no other.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, Row as _};
use uuid::Uuid;

use super::rows::{CLAIM, RETRY_MAX};
use crate::note::Note;
use crate::packet::subject_id;

/// The order of writing. Rows without a position are older than all.
pub(super) type Place = (Option<i64>, Uuid);

/// A row as the relay sees it before it takes it.
#[derive(Debug)]
pub(super) struct Seen {
    pub id: Uuid,
    pub place: Place,
    /// What it tells of.
    pub about: Vec<Uuid>,
    /// By the database's clock it has been here for longer than a publisher needs.
    pub old: bool,
    /// Another relay is at it.
    pub claimed: bool,
    /// It is so for longer than that takes where all is well: it may have died.
    pub stalled: bool,
    /// It was set aside, for whatever reason, and may still be.
    pub aside: bool,
    /// It is set aside until its next attempt.
    pub waiting: bool,
    /// It was tried and not published whole.
    pub tried: bool,
}

/// What a look finds.
#[derive(Debug)]
pub(super) struct View {
    /// In the order of writing.
    pub rows: Vec<Seen>,
    /// There may be more that were never set aside.
    pub full: bool,
    /// There may be more that were, and are due.
    pub full_aside: bool,
    /// There are more that were set aside, due or not.
    pub more_aside: bool,
}

macro_rules! columns {
    () => {
        "id, position, subjects, notes, about, pending is not null or attempts > 0 as tried, retry_at is not null as aside, \
         created_at < now() - make_interval(secs => $1) as old, \
         coalesce(claimed_until between now() and now() + make_interval(secs => $2), false) as claimed, \
         coalesce(claimed_until between now() and now() + make_interval(secs => $2 - 1), false) as stalled, \
         coalesce(retry_at between now() and now() + make_interval(secs => $3), false) as waiting"
    };
}

/// The oldest rows that were never set aside, and the longest due of those that were, so many of each. A claim or a retry that is further away
/// than its own span is void: the clock was set back since.
pub(super) async fn look(db: impl PgExecutor<'_>, relay_after: Duration, limit: i64) -> sqlx::Result<View> {
    let rows = sqlx::query(concat!(
        "(select ",
        columns!(),
        ", null::bigint as others from outbox where retry_at is null order by position nulls first, id limit $4) \
         union all (select ",
        columns!(),
        ", null from outbox where retry_at < now() order by retry_at limit $4) union all (select ",
        columns!(),
        ", null from outbox where retry_at > now() + make_interval(secs => $3) order by retry_at limit $4) \
         union all select null, null, null, null, null, null, null, null, null, null, null, \
                          (select count(*) from (select from outbox where retry_at is not null limit 2 * $4 + 1) counted)"
    ))
    .bind(relay_after.as_secs_f64())
    .bind(CLAIM.as_secs_f64())
    .bind(RETRY_MAX.as_secs_f64())
    .bind(limit)
    .fetch_all(db)
    .await?;
    let (mut seen, mut set_aside) = (Vec::with_capacity(rows.len()), 0);
    for row in &rows {
        match row.try_get::<Option<i64>, _>("others")? {
            Some(count) => set_aside = count,
            None => seen.push(read(row)?),
        }
    }
    seen.sort_unstable_by_key(|row| row.place);
    let aside = seen.iter().filter(|row| row.aside).count() as i64;
    let full = seen.len() as i64 - aside == limit;
    Ok(View { full, full_aside: aside >= limit, more_aside: set_aside > aside, rows: seen })
}

/// Rows that were set aside and tell of any of these things, wherever they stand.
pub(super) async fn set_aside_about(db: impl PgExecutor<'_>, things: &[Uuid], relay_after: Duration) -> sqlx::Result<Vec<Seen>> {
    // The build before this one did not write down what all of them tell of.
    let rows = sqlx::query(concat!(
        "select ",
        columns!(),
        " from outbox where retry_at is not null and about && $4 \
         union all select ",
        columns!(),
        " from outbox where retry_at is not null and about is null"
    ))
    .bind(relay_after.as_secs_f64())
    .bind(CLAIM.as_secs_f64())
    .bind(RETRY_MAX.as_secs_f64())
    .bind(things)
    .fetch_all(db)
    .await?;
    rows.iter().map(read).collect()
}

/// Sets rows aside, untried, that wait behind others which are: they would take the room of rows that wait for nobody. Returns how many.
pub(super) async fn stand_behind(db: impl PgExecutor<'_>, rows: &[&Seen], wait: Duration) -> sqlx::Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let about: Vec<(Uuid, Uuid)> = rows.iter().flat_map(|row| row.about.iter().map(|thing| (row.id, *thing))).collect();
    let (ids, things): (Vec<Uuid>, Vec<Uuid>) = about.into_iter().unzip();
    sqlx::query(
        "update outbox set retry_at = now() + make_interval(secs => $3), about = new.about \
         from (select id, array_agg(thing) from unnest($1::uuid[], $2::uuid[]) as told (id, thing) group by id) as new (id, about) \
         where outbox.id = new.id \
           and outbox.id in (select id from outbox where id = any($1) order by id for update skip locked)",
    )
    .bind(ids)
    .bind(things)
    .bind(wait.as_secs_f64())
    .execute(db)
    .await
    .map(|done| done.rows_affected())
}

/// What holds up what, where the rows set aside do not all show.
pub(super) fn with_those_aside(rows: Vec<Seen>, aside: Vec<Seen>) -> Vec<Seen> {
    let mut all: HashMap<Uuid, Seen> = aside.into_iter().map(|row| (row.id, row)).collect();
    all.extend(rows.into_iter().map(|row| (row.id, row)));
    let mut all: Vec<Seen> = all.into_values().collect();
    all.sort_unstable_by_key(|row| row.place);
    all
}

fn read(row: &PgRow) -> sqlx::Result<Seen> {
    let about = match row.try_get("about")? {
        Some(about) => about,
        None => whole(row.try_get("notes")?, &row.try_get::<Vec<String>, _>("subjects")?),
    };
    let id = row.try_get("id")?;
    Ok(Seen {
        id,
        place: (row.try_get("position")?, id),
        about,
        old: row.try_get("old")?,
        claimed: row.try_get("claimed")?,
        stalled: row.try_get("stalled")?,
        aside: row.try_get("aside")?,
        waiting: row.try_get("waiting")?,
        tried: row.try_get("tried")?,
    })
}

/// What a whole row may tell of.
pub(super) fn whole(notes: &[u8], subjects: &[String]) -> Vec<Uuid> {
    let noted = Note::read_all(notes).unwrap_or_default().into_iter().map(|note| note.subject);
    noted.chain(subjects.iter().filter_map(|subject| subject_id(subject))).collect()
}
