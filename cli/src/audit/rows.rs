//! What the audit reads: an order's lines, a reservation's lines, in one form, so that they can be laid side by side.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

/// Pieces and unit price of each product; the price where it is known.
pub type Lines = BTreeMap<Uuid, (i64, Option<i64>)>;

/// An order that may hold stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: Uuid,
    pub status: String,
    pub lines: Lines,
}

/// A reservation that holds stock for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: Uuid,
    pub lines: Lines,
}

#[derive(Deserialize)]
struct Item {
    product_id: Uuid,
    quantity: i64,
    unit_price: Option<Price>,
}

#[derive(Deserialize)]
struct Price {
    amount: i64,
}

/// Confirmed orders, and those under way.
pub const ORDERS: &str =
    "select id, status, items, unit_prices from orders where status = 'confirmed' or not settled order by id";

/// One order, whatever its status.
pub const ORDER: &str = "select id, status, items, unit_prices from orders where id = $1";

/// Reservations that hold stock for orders.
pub const RESERVATIONS: &str = "select id, items from reservations where status = 'reserved' and not direct order by id";

/// One of them.
pub const RESERVATION: &str = "select id, items from reservations where status = 'reserved' and not direct and id = $1";

/// Reads an order.
pub fn order(row: &PgRow) -> sqlx::Result<Order> {
    let Json(items): Json<Vec<Item>> = row.try_get("items")?;
    let prices: Option<Vec<i64>> = row.try_get("unit_prices")?;
    let price = |index: usize| prices.as_ref().and_then(|prices| prices.get(index)).copied();
    let lines = items.iter().enumerate().map(|(index, item)| (item.product_id, (item.quantity, price(index)))).collect();
    Ok(Order { id: row.try_get("id")?, status: row.try_get("status")?, lines })
}

/// Reads a reservation.
pub fn reservation(row: &PgRow) -> sqlx::Result<Reservation> {
    let Json(items): Json<Vec<Item>> = row.try_get("items")?;
    let lines = items.iter().map(|item| (item.product_id, (item.quantity, item.unit_price.as_ref().map(|price| price.amount))));
    Ok(Reservation { id: row.try_get("id")?, lines: lines.collect() })
}

/// One order, now.
pub async fn order_now(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Order>> {
    sqlx::query(ORDER).bind(id).fetch_optional(pool).await?.as_ref().map(order).transpose()
}

/// One reservation, now.
pub async fn reservation_now(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Reservation>> {
    sqlx::query(RESERVATION).bind(id).fetch_optional(pool).await?.as_ref().map(reservation).transpose()
}
