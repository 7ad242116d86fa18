//! Ids: UUIDs (version 7 where we make them), one type per thing named, so that a product can never be asked for by an order's id.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UUID")]
pub struct NotAnId(String);

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self).map_err(|_| NotAnId(text.chars().take(60).collect()))
            }
        }
    )*};
}

ids! {
    /// An order, and the saga that carries it.
    OrderId;
    /// A user.
    UserId;
    /// A product.
    ProductId;
    /// A hold on stock. A reservation made for an order bears the order's own id: one row per order decides.
    ReservationId;
}

impl From<OrderId> for ReservationId {
    fn from(order: OrderId) -> Self {
        Self(order.0)
    }
}
