//! The product context: what there is, what it costs, and who holds it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Money, OrderId, ProductId, Quantity, Reason};
use envelope::vocabulary;

vocabulary! {
    /// What the order service asks of the product service.
    #[derive(schemars::JsonSchema)]
    pub enum Command {
        /// Hold these lines for this order: all of them or none.
        "waybill.product.reserve.v1" => Reserve(Reserve),
        /// Give back whatever this order holds, and hold nothing for it ever after.
        "waybill.product.release.v1" => Release(Release),
    }
}

vocabulary! {
    /// What the product service answers.
    #[derive(schemars::JsonSchema)]
    pub enum Reply {
        /// Every line is held, at these prices.
        "waybill.product.reserved.v1" => Reserved(Reserved),
        /// Nothing is held; nothing was changed.
        "waybill.product.refused.v1" => Refused(Refused),
        /// Nothing is held any more.
        "waybill.product.released.v1" => Released(Released),
    }
}

vocabulary! {
    /// What the product service tells everyone.
    #[derive(schemars::JsonSchema)]
    pub enum Event {
        /// A product came to be.
        "waybill.product.created.v1" => Created(Created),
        /// Stock was delivered or written off. Reservations do not tell: the order's events do.
        "waybill.product.stock_changed.v1" => StockChanged(StockChanged),
    }
}

/// One line: so many pieces of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// The product.
    pub product_id: ProductId,
    /// The pieces.
    pub quantity: Quantity,
}

/// See [`Command::Reserve`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reserve {
    /// The order that asks.
    pub order_id: OrderId,
    /// All its lines.
    pub items: Vec<Line>,
}

/// See [`Command::Release`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// The order that gives back.
    pub order_id: OrderId,
}

/// The price one line was reserved at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PricedLine {
    /// The product.
    pub product_id: ProductId,
    /// What one piece costs.
    pub unit_price: Money,
}

/// See [`Reply::Reserved`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reserved {
    /// The order that asked.
    pub order_id: OrderId,
    /// The price of each of its lines.
    pub items: Vec<PricedLine>,
}

/// See [`Reply::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// The order that asked.
    pub order_id: OrderId,
    /// Why, with each line that stood in the way.
    pub reason: Reason,
}

/// See [`Reply::Released`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// The order that asked.
    pub order_id: OrderId,
}

/// A product, as the HTTP contract shows it and events tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Product {
    /// The product's id.
    pub id: ProductId,
    /// The name.
    pub name: String,
    /// The description, may be empty.
    pub description: String,
    /// What one piece costs.
    pub price: Money,
    /// Pieces available.
    pub stock: i64,
    /// Pieces held by orders.
    pub reserved: i64,
    /// When the product came to be.
    pub created_at: DateTime<Utc>,
}

/// See [`Event::Created`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Created(pub Product);

/// See [`Event::StockChanged`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockChanged {
    /// By how much.
    pub delta: i64,
    /// The product after it.
    pub product: Product,
}
