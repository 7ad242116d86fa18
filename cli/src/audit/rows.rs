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
    /// Or why they cannot be read.
    pub lines: Result<Lines, String>,
}

/// A reservation that holds stock for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: Uuid,
    /// Or why they cannot be read.
    pub lines: Result<Lines, String>,
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

/// All reservations that hold stock.
pub const HOLDS: &str = "select id, items from reservations where status = 'reserved'";

/// One of them.
pub const RESERVATION: &str = "select id, items from reservations where status = 'reserved' and not direct and id = $1";

/// Reads an order. One whose lines cannot be read is an order all the same.
pub fn order(row: &PgRow) -> sqlx::Result<Order> {
    let lines = || {
        let Json(items): Json<Vec<Item>> = row.try_get("items")?;
        let prices: Option<Vec<i64>> = row.try_get("unit_prices")?;
        let price = |index: usize| prices.as_ref().and_then(|prices| prices.get(index)).copied();
        Ok(items.iter().enumerate().map(|(index, item)| (item.product_id, (item.quantity, price(index)))).collect())
    };
    let lines = lines().map_err(|error: sqlx::Error| error.to_string());
    Ok(Order { id: row.try_get("id")?, status: row.try_get("status")?, lines })
}

/// Reads a reservation.
pub fn reservation(row: &PgRow) -> sqlx::Result<Reservation> {
    let lines = row.try_get("items").map(|Json(items): Json<Vec<Item>>| {
        let line = |item: &Item| (item.product_id, (item.quantity, item.unit_price.as_ref().map(|price| price.amount)));
        items.iter().map(line).collect()
    });
    Ok(Reservation { id: row.try_get("id")?, lines: lines.map_err(|error: sqlx::Error| error.to_string()) })
}

/// One order, now.
pub async fn order_now(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Order>> {
    sqlx::query(ORDER).bind(id).fetch_optional(pool).await?.as_ref().map(order).transpose()
}

/// One reservation, now.
pub async fn reservation_now(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Reservation>> {
    sqlx::query(RESERVATION).bind(id).fetch_optional(pool).await?.as_ref().map(reservation).transpose()
}
