//! Rows as lists show them: one that this build cannot read is shown as such, and the others are served.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{Column as _, FromRow, Row as _};
use uuid::Uuid;

use crate::meaning::Meaning;

/// A row of a list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Listed<T> {
    /// It can be read.
    Whole(T),
    /// It cannot: its columns as far as they can be shown, and `unreadable`, which says why.
    Unreadable {
        #[allow(missing_docs)]
        #[serde(skip)]
        id: Uuid,
        #[allow(missing_docs)]
        #[serde(flatten)]
        columns: Map<String, Value>,
    },
}

impl<T> Listed<T> {
    /// The row's id.
    pub fn id(&self, of: impl Fn(&T) -> Uuid) -> Uuid {
        match self {
            Self::Whole(whole) => of(whole),
            Self::Unreadable { id, .. } => *id,
        }
    }

    /// The same of another type.
    pub fn map<U>(self, of: impl FnOnce(T) -> U) -> Listed<U> {
        match self {
            Self::Whole(whole) => Listed::Whole(of(whole)),
            Self::Unreadable { id, columns } => Listed::Unreadable { id, columns },
        }
    }
}

impl<T> Listed<T> {
    /// A row, if this can read it.
    ///
    /// # Errors
    /// What is no trouble of the row's own.
    pub fn read(row: &PgRow, read: impl FnOnce(&PgRow) -> sqlx::Result<T>) -> sqlx::Result<Self> {
        let error = match read(row) {
            Ok(whole) => return Ok(Self::Whole(whole)),
            Err(error) if Meaning::of(&error) != Meaning::Own => return Err(error),
            Err(error) => error,
        };
        let id: Uuid = row.try_get("id")?;
        tracing::error!(%id, %error, "a row cannot be read; lists show it as such");
        let columns = row.columns().iter().filter_map(|column| Some((column.name().to_owned(), shown(row, column.ordinal())?)));
        let mut columns: Map<String, Value> = columns.collect();
        columns.insert("unreadable".to_owned(), error.to_string().into());
        Ok(Self::Unreadable { id, columns })
    }
}

impl<T: for<'r> FromRow<'r, PgRow>> FromRow<'_, PgRow> for Listed<T> {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Self::read(row, |row| T::from_row(row))
    }
}

/// A column's value as JSON, if it has one.
fn shown(row: &PgRow, column: usize) -> Option<Value> {
    let text = || row.try_get::<Option<String>, _>(column).map(Value::from);
    let id = || row.try_get::<Option<Uuid>, _>(column).map(|id| id.map(|id| id.to_string()).into());
    let number = || row.try_get::<Option<i64>, _>(column).map(Value::from);
    let flag = || row.try_get::<Option<bool>, _>(column).map(Value::from);
    let time = || row.try_get::<Option<DateTime<Utc>>, _>(column).map(|time| time.map(|time| time.to_rfc3339()).into());
    let json = || row.try_get::<Option<Json<Value>>, _>(column).map(|json| json.map_or(Value::Null, |Json(json)| json));
    text().or_else(|_| id()).or_else(|_| number()).or_else(|_| flag()).or_else(|_| time()).or_else(|_| json()).ok()
}

/// The error of one row, with the row's name in it.
pub fn named(what: &str, id: impl std::fmt::Display, error: sqlx::Error) -> sqlx::Error {
    match Meaning::of(&error) {
        Meaning::Own => sqlx::Error::Decode(format!("the {what} {id} cannot be read: {error}").into()),
        _ => error,
    }
}
