//! An order's own columns, beside those of its saga: who ordered what, at which prices, and why it was given up. And what its customer and
//! everyone else see of it.

use chrono::{DateTime, Utc};
use events::order::{Item, Snapshot, Status};
use events::product::Line;
use events::{Currency, Money, OrderId, Reason, Reference, Tag, Tags, UserId};
use saga::State;
use saga_runtime::{Bound, Column, Layout, Record, Table, Values};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use crate::order::Order;
use crate::search::SEARCHES;

/// How orders are kept.
#[derive(Debug)]
pub enum Orders {}

/// The prices the stock was reserved at; they stay when a confirmed order is cancelled.
pub type Prices = Option<Vec<Money>>;

/// An order as the HTTP contract shows it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Order")]
pub struct View {
    /// The id.
    pub id: OrderId,
    user_id: UserId,
    items: Vec<Item>,
    total: Option<Money>,
    /// Where it stands.
    pub status: Status,
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Reference>,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    tags: Tags,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl View {
    /// `times`: when it was placed, and when it last moved.
    fn new(
        order: &Order,
        prices: Option<&[Money]>,
        status: Status,
        reason: Option<Reason>,
        times: (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        Self {
            id: order.id,
            user_id: order.user_id,
            items: order.priced(prices),
            total: total(order, prices),
            status,
            reason,
            reference: order.reference.clone(),
            tags: order.tags.clone(),
            created_at: times.0,
            updated_at: times.1,
        }
    }
}

impl FromRow<'_, PgRow> for View {
    /// From the columns alone: what an order's customer sees never depends on a build that can read its saga.
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let reason = row.try_get::<Option<Json<Reason>>, _>("reason")?.map(|Json(reason)| reason);
        let times: (DateTime<Utc>, DateTime<Utc>) = (row.try_get("created_at")?, row.try_get("updated_at")?);
        let status = row.try_get::<&str, _>("status")?.parse().map_err(corrupt)?;
        Ok(Self::new(&Orders::request(row)?, prices(row)?.as_deref(), status, reason, times))
    }
}

/// The sum of price times quantity, once it is reserved.
fn total(order: &Order, prices: Option<&[Money]>) -> Option<Money> {
    order.total(prices?).ok().flatten()
}

/// As everyone is told of it, without its history.
pub fn snapshot(record: &Record<Order>) -> Snapshot {
    let (order, prices) = (&record.request, record.projection.as_deref());
    Snapshot {
        order_id: order.id,
        user_id: order.user_id,
        items: order.priced(prices),
        total: total(order, prices),
        status: Order::status(&record.state),
        reason: Order::reason(&record.state),
        created_at: record.created_at,
        reference: order.reference.clone(),
        tags: order.tags.clone(),
        waybill: None,
        waybill_ref: None,
    }
}

fn corrupt(what: String) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

fn prices(row: &PgRow) -> sqlx::Result<Prices> {
    Ok(match (row.try_get::<Option<Vec<i64>>, _>("unit_prices")?, row.try_get::<Option<&str>, _>("currency")?) {
        (Some(amounts), Some(code)) => {
            let currency = Currency::from_code(code).ok_or_else(|| corrupt(format!("no currency: {code}")))?;
            Some(amounts.into_iter().map(|amount| Money::new(amount, currency)).collect())
        }
        _ => None,
    })
}

const fn column(name: &'static str, bound: Bound, cast: &'static str) -> Column {
    Column { name, bound, cast }
}

impl Layout<Order> for Orders {
    type Projection = Prices;
    type View = View;

    const TABLE: Table = Table {
        name: "orders",
        history: "order_history",
        history_id: "order_id",
        cancellations: "cancellations",
        owner: Some("user_id"),
        rare_statuses: &[Status::Rejected.as_str(), Status::Cancelled.as_str()],
        searches: SEARCHES,
        placed: &[
            column("user_id", Bound::Uuid, ""),
            column("items", Bound::Text, "json"),
            column("reference", Bound::Text, ""),
            column("tags", Bound::Text, "text[]"),
        ],
        moved: &[
            column("reason", Bound::Text, "jsonb"),
            column("currency", Bound::Text, ""),
            column("total", Bound::BigInt, ""),
            // An array as Postgres writes one: `unnest` would flatten arrays within an array.
            column("unit_prices", Bound::Text, "bigint[]"),
        ],
    };

    fn project(prices: &mut Prices, state: &State<Order>) {
        if let Some(reserved) = Order::reserved(state) {
            *prices = Some(reserved.to_vec());
        }
    }

    fn view(record: &Record<Order>) -> View {
        let (state, times) = (&record.state, (record.created_at, record.updated_at));
        View::new(&record.request, record.projection.as_deref(), Order::status(state), Order::reason(state), times)
    }

    fn view_of_row(row: &PgRow) -> sqlx::Result<View> {
        View::from_row(row)
    }

    fn id_of(view: &View) -> Uuid {
        view.id.0
    }

    fn is_final(view: &View) -> bool {
        view.status.is_final()
    }

    /// Everything but the id, which is ours.
    fn is_same(Order { id: _, user_id, items, reference, tags }: &Order, second: &Order) -> bool {
        *user_id == second.user_id && *items == second.items && *reference == second.reference && *tags == second.tags
    }

    fn request(row: &PgRow) -> sqlx::Result<Order> {
        let Json(items): Json<Vec<Line>> = row.try_get("items")?;
        let reference = row.try_get::<Option<&str>, _>("reference")?.map(Reference::new).transpose();
        let tags = row.try_get::<Option<Vec<String>>, _>("tags")?.unwrap_or_default();
        let tags = tags.iter().map(|tag| tag.parse::<Tag>()).collect::<Result<Vec<_>, _>>().and_then(Tags::of);
        Ok(Order {
            id: OrderId(row.try_get("id")?),
            user_id: UserId(row.try_get("user_id")?),
            items,
            reference: reference.map_err(|error| corrupt(format!("reference: {error}")))?,
            tags: tags.map_err(|error| corrupt(format!("tags: {error}")))?,
        })
    }

    fn projection(row: &PgRow) -> sqlx::Result<Prices> {
        prices(row)
    }

    fn summary(row: &PgRow) -> sqlx::Result<Map<String, Value>> {
        let user: Uuid = row.try_get("user_id")?;
        let mut summary = Map::from_iter([("user_id".to_owned(), user.to_string().into())]);
        let reference: Option<String> = row.try_get("reference")?;
        summary.extend(reference.map(|reference| ("reference".to_owned(), reference.into())));
        let tags: Option<Vec<String>> = row.try_get("tags")?;
        summary.extend(tags.map(|tags| ("tags".to_owned(), tags.join(", ").into())));
        Ok(summary)
    }

    fn placed(records: &[&Record<Order>]) -> anyhow::Result<Vec<Values>> {
        let items = records.iter().map(|record| serde_json::to_string(&record.request.items).map(Some));
        Ok(vec![
            Values::Uuid(records.iter().map(|record| record.request.user_id.0).collect()),
            Values::Text(items.collect::<Result<_, _>>()?),
            Values::Text(records.iter().map(|record| record.request.reference.clone().map(String::from)).collect()),
            Values::Text(records.iter().map(|record| tags(&record.request.tags)).collect()),
        ])
    }

    fn moved(records: &[&Record<Order>]) -> anyhow::Result<Vec<Values>> {
        let totals: Vec<Option<Money>> =
            records.iter().map(|record| total(&record.request, record.projection.as_deref())).collect();
        let reason =
            |record: &&Record<Order>| Order::reason(&record.state).map(|reason| serde_json::to_string(&reason)).transpose();
        let currency = |total: &Option<Money>| total.map(|total| total.currency.code().to_owned());
        Ok(vec![
            Values::Text(records.iter().map(reason).collect::<Result<_, _>>()?),
            Values::Text(totals.iter().map(currency).collect()),
            Values::BigInt(totals.iter().map(|total| total.map(|total| total.amount)).collect()),
            Values::Text(records.iter().map(|record| record.projection.as_deref().map(array)).collect()),
        ])
    }
}

/// An array of tags as Postgres writes one; none is no array.
fn tags(tags: &Tags) -> Option<String> {
    let quoted = |tag: String| format!("\"{}\"", tag.replace('\\', r"\\").replace('"', "\\\""));
    let quoted: Vec<String> = tags.pairs().map(quoted).collect();
    (!quoted.is_empty()).then(|| format!("{{{}}}", quoted.join(",")))
}

/// An array of prices as Postgres writes one.
fn array(prices: &[Money]) -> String {
    let amounts: Vec<String> = prices.iter().map(|price| price.amount.to_string()).collect();
    format!("{{{}}}", amounts.join(","))
}
