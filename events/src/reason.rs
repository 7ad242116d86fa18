//! Why an order did not come to be: a refusal is data that travels, from the participant to the customer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProductId, Quantity};

/// The stable code of a reason; clients switch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// No user has this id.
    UserNotFound,
    /// The user exists and may not order.
    UserInactive,
    /// A product of the order does not exist.
    ProductNotFound,
    /// Less is available than was asked for.
    InsufficientStock,
    /// The products of the order are priced in different currencies.
    CurrencyMismatch,
    /// A service did not answer before the deadline.
    TimedOut,
    /// The customer cancelled.
    CancelledByCustomer,
    /// An operator withdrew the order; the detail is the operator's reason.
    WithdrawnByOperator,
}

/// Why an order was rejected or cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// The code to switch on.
    pub code: ReasonCode,
    /// A sentence for people.
    pub detail: String,
    /// The lines that stood in the way, where the reason lies in lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ShortLine>,
}

impl Reason {
    /// A reason that does not lie in single lines.
    pub fn new(code: ReasonCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), items: Vec::new() }
    }
}

/// A line that could not be reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShortLine {
    /// The product asked for.
    pub product_id: ProductId,
    /// How many were asked for.
    pub requested: Quantity,
    /// How many there were; `null` where the product does not exist.
    pub available: Option<i64>,
}
