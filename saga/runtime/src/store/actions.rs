//! What operators did: read from wherever it is kept, and written down where no saga does.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::Store;
use crate::saga::Saga;

/// Past how many actions a page goes at most that shows some of them: the text of each is looked at.
const WALKED: i64 = 10_000;

/// Which actions; all of what is not said.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    /// Who took them.
    pub by: Option<String>,
    /// In a word.
    pub action: Option<String>,
    pub from: Option<DateTime<Utc>>,
    /// Up to then, exclusively.
    pub to: Option<DateTime<Utc>>,
}

/// An operator's action.
pub(crate) struct ActionRow {
    /// The saga's, or its own where it is outside of any.
    pub id: Uuid,
    pub at: DateTime<Utc>,
    pub kept: Kept,
}

/// Where it is kept.
pub(crate) enum Kept {
    /// In the history of its saga.
    Entry {
        sequence: u32,
        /// As it is stored.
        entry: String,
    },
    /// By itself.
    Outside(Outside),
}

/// An action outside of any saga.
pub(crate) struct Outside {
    pub by: String,
    pub action: String,
    pub about: String,
    pub saga: Option<Uuid>,
    pub reason: String,
    pub outcome: Option<String>,
}

impl ActionRow {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        let kept = match row.try_get::<Option<String>, _>("entry")? {
            Some(entry) => Kept::Entry { sequence: row.try_get::<i32, _>("sequence")?.unsigned_abs(), entry },
            None => Kept::Outside(Outside {
                by: row.try_get("by")?,
                action: row.try_get("action")?,
                about: row.try_get("about")?,
                saga: row.try_get("saga")?,
                reason: row.try_get("reason")?,
                outcome: row.try_get("outcome")?,
            }),
        };
        Ok(Self { id: row.try_get("id")?, at: row.try_get("at")?, kept })
    }
}

impl<S: Saga> Store<S> {
    /// What operators did, newest first; from a moment on, without so many of that moment. `outside`: also outside of any saga. And the moment from
    /// which to go on, where the page ended before all was looked through.
    pub async fn actions(
        &self,
        db: &mut PgConnection,
        from: Option<(DateTime<Utc>, i64)>,
        rows: i64,
        outside: bool,
        which: &Which,
    ) -> sqlx::Result<(Vec<ActionRow>, Option<DateTime<Utc>>)> {
        let (at, skip) = from.unzip();
        let end: Option<DateTime<Utc>> = match &which {
            Which { by: None, action: None, .. } => None,
            _ => sqlx::query_scalar(self.sql.actions_end).bind(at).bind(WALKED).bind(outside).fetch_one(&mut *db).await?,
        };
        // What was taken at the moment at which it ends is all on the next page, which goes on if that alone is as much.
        let end = end.filter(|end| which.from.is_none_or(|from| *end >= from) && at != Some(*end));
        let least = end.map(|end| end + TimeDelta::microseconds(1)).or(which.from);
        let as_json = which.by.as_ref().map(|by| Value::from(by.as_str()).to_string());
        let asked = sqlx::query(self.sql.actions)
            .bind(at)
            .bind(skip.unwrap_or_default())
            .bind(rows)
            .bind(outside)
            .bind(&which.by)
            .bind(as_json.as_deref().map(|quoted| &quoted[1..quoted.len() - 1]))
            .bind(&which.action)
            .bind(least)
            .bind(which.to);
        let found = asked.fetch_all(db).await?;
        Ok((found.iter().map(ActionRow::read).collect::<Result<_, _>>()?, end))
    }
}

/// Writes down what somebody is about to do. The same again is the same.
pub(crate) async fn begin(db: &mut PgConnection, id: Uuid, action: &Outside) -> sqlx::Result<()> {
    sqlx::query(
        "insert into operator_actions (id, by, action, about, saga, reason) values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
    )
    .bind(id)
    .bind(&action.by)
    .bind(&action.action)
    .bind(&action.about)
    .bind(action.saga)
    .bind(&action.reason)
    .execute(db)
    .await?;
    Ok(())
}

/// Writes down what came of it. What stands there already stays; `false`: there is no such action, or it was another's.
pub(crate) async fn end(db: &mut PgConnection, id: Uuid, by: &str, outcome: &str) -> sqlx::Result<bool> {
    let ended = sqlx::query(
        "update operator_actions set outcome = coalesce(outcome, $3), ended_at = coalesce(ended_at, now()) where id = $1 and by = $2",
    );
    Ok(ended.bind(id).bind(by).bind(outcome).execute(db).await?.rows_affected() > 0)
}
