//! Lists of sagas, a page at a time: as their customers see them, and as operators do.

use std::time::Duration;

use chassis::listed::Listed;
use chrono::{DateTime, Utc};
use saga::step_name;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{PgConnection, Postgres, Row as _};
use uuid::Uuid;

use super::operator::{before, ids_at};
use super::{Store, named};
use crate::cause::words;
use crate::filter::{CLOCKS_DIFFER, Filter, Found, WALKED, WALKED_IN_WORDS};
use crate::saga::{Layout as _, Saga, View};
use crate::statements::List;
use crate::steps::known_plans;

/// A saga with what an operator wants to know of it, also one that this build cannot read.
pub(crate) struct InFlight {
    pub id: Uuid,
    /// What tells it from others beside its id.
    pub summary: Map<String, Value>,
    pub status: String,
    /// As it is persisted.
    pub state: Box<RawValue>,
    pub settled: bool,
    /// Since when the command under way is unanswered, as a time of day.
    pub waiting_since: Option<DateTime<Utc>>,
    /// When to ask again, or to give up, as a time of day.
    pub due_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub fingerprint: Option<String>,
    pub stuck: bool,
    /// The type of the last answer in its history, if it is among the last entries.
    pub last_answer: Option<String>,
}

impl InFlight {
    fn read<S: Saga>(row: &PgRow) -> sqlx::Result<Self> {
        let Json(state): Json<Box<RawValue>> = row.try_get("state")?;
        Ok(Self {
            id: row.try_get("id")?,
            summary: S::Layout::summary(row)?,
            status: row.try_get("status")?,
            state,
            settled: row.try_get("settled")?,
            waiting_since: row.try_get("waiting_since")?,
            due_at: row.try_get("due_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            fingerprint: row.try_get("fingerprint")?,
            stuck: row.try_get("stuck")?,
            last_answer: row.try_get("last_answer")?,
        })
    }
}

/// Which sagas operators are shown, beside what everybody can ask.
#[derive(Clone, Debug)]
pub(crate) struct SagaFilter<S: Saga> {
    pub filter: Filter,
    pub id: Option<Uuid>,
    pub step: Option<S::Step>,
    pub stuck_only: bool,
    /// A part of what they wait for, in words.
    pub cause: Option<String>,
    /// Those that could not be decided.
    pub aside: Vec<Uuid>,
    /// How long a saga may wait before it is stuck.
    pub stuck_after: Duration,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Part<T> {
    /// What was found, newest first.
    pub items: Vec<T>,
    /// Where the next part begins, if this one ended before all was looked through and before there was enough.
    pub next: Option<Uuid>,
}

/// Between which ids, or from which time on, a walk goes, and past how many sagas.
struct Bounds {
    walked: i64,
    before: Uuid,
    least: Uuid,
    time: Option<DateTime<Utc>>,
}

impl Bounds {
    fn new(filter: &Filter, found: Found, after: Option<Uuid>) -> Self {
        let (least, to) = (filter.from.map(|from| ids_at(from - CLOCKS_DIFFER)), filter.to.map(|to| ids_at(to + CLOCKS_DIFFER)));
        match found {
            Found::Time => {
                let time = after.map_or(filter.to, |after| Some(time_of(after)));
                Self { walked: WALKED, before: after.unwrap_or_default(), least: Uuid::nil(), time }
            }
            _ => Self {
                walked: WALKED,
                before: after.into_iter().chain(to).min().unwrap_or(Uuid::max()),
                least: least.unwrap_or_default(),
                time: None,
            },
        }
    }
}

/// When an id was made (RFC 9562, section 5.7).
fn time_of(id: Uuid) -> DateTime<Utc> {
    let millis = i64::try_from(id.as_u128() >> 80).unwrap_or_default();
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

type Asked<'q> = Query<'q, Postgres, PgArguments>;

impl<S: Saga> Store<S> {
    /// What everybody can ask for, bound.
    fn ask(sql: &'static str, filter: &Filter, bounds: &Bounds, rows: i64) -> Asked<'static> {
        let asked = sqlx::query(sql)
            .bind(bounds.before)
            .bind(bounds.least)
            .bind(bounds.walked)
            .bind(rows)
            .bind(filter.owner)
            .bind(filter.only)
            .bind(filter.status.map(|status| status.name))
            .bind(filter.in_flight)
            .bind(filter.from)
            .bind(filter.to)
            .bind(bounds.time);
        filter.searched.iter().fold(asked, |asked, value| asked.bind(value.clone()))
    }

    /// Sagas as their customers see them, newest first.
    pub async fn views(
        &self,
        db: &mut PgConnection,
        filter: &Filter,
        after: Option<Uuid>,
        rows: i64,
    ) -> sqlx::Result<Part<Listed<View<S>>>> {
        let Some((found, list)) = self.list(filter) else { return Ok(Part { items: Vec::new(), next: None }) };
        let bounds = Bounds::new(filter, found, after);
        let read = Self::ask(list.views, filter, &bounds, rows).fetch_all(&mut *db).await?;
        let next = Self::next(db, filter, (found, list), &bounds, &read, rows).await?;
        let view = |row: &PgRow| Listed::read(row, S::Layout::view_of_row);
        Ok(Part { items: read.iter().map(view).collect::<Result<_, _>>()?, next })
    }

    /// Sagas as operators see them, newest first. `steady`: what the steady clock says now.
    pub async fn sagas(
        &self,
        db: &mut PgConnection,
        steady: DateTime<Utc>,
        wanted: &SagaFilter<S>,
        after: Option<Uuid>,
        rows: i64,
    ) -> sqlx::Result<Part<InFlight>> {
        let filter = &wanted.filter;
        let Some((found, list)) = self.list(filter) else { return Ok(Part { items: Vec::new(), next: None }) };
        let mut bounds = Bounds::new(filter, found, after);
        if let Some(id) = wanted.id {
            (bounds.before, bounds.least) = (Uuid::from_u128(id.as_u128().saturating_add(1)), id);
        }
        if wanted.cause.is_some() {
            bounds.walked = WALKED_IN_WORDS;
        }
        let asked = Self::ask(list.sagas, filter, &bounds, rows)
            .bind(before(steady, wanted.stuck_after))
            .bind(known_plans::<S>())
            .bind(steady)
            .bind(wanted.step.map(step_name::<S>))
            .bind(wanted.stuck_only)
            .bind(&wanted.aside)
            .bind(words::<S>())
            .bind(&wanted.cause);
        let read = asked.fetch_all(&mut *db).await?;
        let next = Self::next(db, filter, (found, list), &bounds, &read, rows).await?;
        let saga = |row: &PgRow| InFlight::read::<S>(row).map_err(|error| named(S::NAME, row.get::<Uuid, _>("id"), error));
        Ok(Part { items: read.iter().map(saga).collect::<Result<_, _>>()?, next })
    }

    /// The same of these ids.
    pub async fn those(
        &self,
        db: &mut PgConnection,
        steady: DateTime<Utc>,
        stuck_after: Duration,
        aside: &[Uuid],
        ids: &[Uuid],
    ) -> sqlx::Result<Vec<InFlight>> {
        let filter = Filter::all::<S>();
        let bounds = Bounds::new(&filter, Found::All, None);
        let asked = Self::ask(self.sql.those, &filter, &bounds, ids.len() as i64)
            .bind(before(steady, stuck_after))
            .bind(known_plans::<S>())
            .bind(steady)
            .bind(None::<String>)
            .bind(false)
            .bind(aside)
            .bind(words::<S>())
            .bind(None::<String>)
            .bind(ids);
        let read = asked.fetch_all(&mut *db).await?;
        read.iter().map(|row| InFlight::read::<S>(row).map_err(|error| named(S::NAME, row.get::<Uuid, _>("id"), error))).collect()
    }

    /// The statements that find these; `None`: there can be none.
    fn list(&self, filter: &Filter) -> Option<(Found, List)> {
        let found = filter.found(&S::Layout::TABLE);
        self.sql.lists.get(&found).map(|list| (found, *list))
    }

    /// Where to go on, if fewer were found than wanted and the walk went as far as it may.
    async fn next(
        db: &mut PgConnection,
        filter: &Filter,
        (found, list): (Found, List),
        bounds: &Bounds,
        read: &[PgRow],
        rows: i64,
    ) -> sqlx::Result<Option<Uuid>> {
        if read.len() as i64 >= rows {
            return Ok(None);
        }
        let place = |row: &PgRow| -> sqlx::Result<(Option<DateTime<Utc>>, Uuid)> {
            let time = if found == Found::Time { Some(row.try_get("created_at")?) } else { None };
            Ok((time, row.try_get("id")?))
        };
        let end = Self::ask(list.end, filter, bounds, rows).fetch_optional(db).await?;
        let Some(end) = end.as_ref().map(place).transpose()? else { return Ok(None) };
        // What began meanwhile makes this walk end earlier than that one did. What it found is not found again.
        let last = read.last().map(place).transpose()?;
        Ok(Some(last.map_or(end, |last| last.min(end)).1))
    }
}
