//! What the service is asked to do: handlers decide about these, and the store writes what they name.

use events::{Description, Money, Name, ProductId, ReservationId, StockLevel};
use serde_json::{Value, json};

use crate::inventory::Command;

/// A request that bears a key.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// What is asked: a key belongs to one kind of request.
    pub kind: &'static str,
    /// The client's key.
    pub key: String,
    /// What is asked for, to tell a repetition from another request with the same key.
    pub request: Value,
}

/// A product to be.
#[derive(Clone, Debug)]
pub struct NewProduct {
    pub id: ProductId,
    pub name: Name,
    pub description: Description,
    pub price: Money,
    pub stock: StockLevel,
    pub key: Option<String>,
}

impl NewProduct {
    /// What was asked for, to tell a repetition from another request with the same key.
    pub fn request(&self) -> Value {
        json!({ "name": self.name, "description": self.description, "price": self.price, "stock": self.stock })
    }
}

/// A delivery, or a loss.
#[derive(Clone, Debug)]
pub struct Delta {
    pub product: ProductId,
    pub delta: i64,
    pub keyed: Option<Keyed>,
}

/// What a caller asks, without an order.
#[derive(Clone, Debug)]
pub struct DirectCommand {
    pub id: ReservationId,
    pub command: Command,
    pub keyed: Option<Keyed>,
    /// Who asks, where that is known: whose a reservation is.
    pub subject: Option<String>,
}

/// A reservation without a saga, and who gives back what it holds, and why.
#[derive(Clone, Debug)]
pub struct Orphan {
    pub id: ReservationId,
    pub by: String,
    pub reason: String,
}
