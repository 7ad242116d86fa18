//! How an order's row is read: for a decision, with its saga's state; for its customer, without.
//!
//! One row that this build cannot read is that row's trouble alone: whoever reads several gets the others.

use crate::saga::Order;
use chrono::{DateTime, Utc};
use events::order::Status;
use events::product::Line;
use events::{Currency, Money, OrderId, Reason, TraceParent, UserId};
use saga::State;
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row as _};

use super::corrupt;
use crate::view::{Row, View};

/// An order whose row this build cannot read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// The order.
    pub id: OrderId,
    /// Where it stands.
    pub status: Status,
    /// The plan version it was begun with, as far as that can be told.
    pub plan: Option<u32>,
    /// What stands in the way.
    pub why: String,
}

/// What a persisted state says of its plan, whatever else it says.
pub fn plan_of(state: &RawValue) -> Option<u32> {
    #[derive(Deserialize)]
    struct Planned {
        plan: u32,
    }
    serde_json::from_str::<Planned>(state.get()).ok().map(|planned| planned.plan)
}

/// A row for a decision.
pub(super) fn readable(row: &PgRow) -> sqlx::Result<Result<Row, Unreadable>> {
    Row::from_row(row).map(Ok).or_else(|error| {
        let state: Option<Json<&RawValue>> = row.try_get("state").ok();
        let plan = state.and_then(|Json(state)| plan_of(state));
        Ok(Err(Unreadable { id: OrderId(row.try_get("id")?), status: status(row)?, plan, why: error.to_string() }))
    })
}

fn status(row: &PgRow) -> sqlx::Result<Status> {
    row.try_get::<&str, _>("status")?.parse().map_err(corrupt)
}

fn prices(row: &PgRow) -> sqlx::Result<Option<Vec<Money>>> {
    Ok(match (row.try_get::<Option<Vec<i64>>, _>("unit_prices")?, row.try_get::<Option<&str>, _>("currency")?) {
        (Some(amounts), Some(code)) => {
            let currency = Currency::from_code(code).ok_or_else(|| corrupt(format!("no currency: {code}")))?;
            Some(amounts.into_iter().map(|amount| Money::new(amount, currency)).collect())
        }
        _ => None,
    })
}

/// What was asked for.
pub(super) fn order(row: &PgRow) -> sqlx::Result<Order> {
    let Json(items): Json<Vec<Line>> = row.try_get("items")?;
    Ok(Order { id: OrderId(row.try_get("id")?), user_id: UserId(row.try_get("user_id")?), items })
}

impl FromRow<'_, PgRow> for Row {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let Json(state): Json<State<Order>> = row.try_get("state")?;
        let trace: &str = row.try_get("traceparent")?;
        Ok(Self {
            order: order(row)?,
            state,
            sequence: row.try_get::<i32, _>("sequence")?.unsigned_abs(),
            history_bytes: row.try_get::<i64, _>("history_bytes")?.unsigned_abs(),
            prices: prices(row)?,
            trace: TraceParent::parse(trace).ok_or_else(|| corrupt(format!("no traceparent: {trace}")))?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            began_at: row.try_get("began_at")?,
            waiting_since: row.try_get("waiting_since")?,
            due_at: row.try_get("due_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for View {
    /// From the columns alone: what an order's customer sees never depends on a build that can read its saga.
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let reason = row.try_get::<Option<Json<Reason>>, _>("reason")?.map(|Json(reason)| reason);
        let times: (DateTime<Utc>, DateTime<Utc>) = (row.try_get("created_at")?, row.try_get("updated_at")?);
        Ok(Self::new(&order(row)?, prices(row)?.as_deref(), status(row)?, reason, times))
    }
}
