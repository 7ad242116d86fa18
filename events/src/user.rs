//! The user context: who may order.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OrderId, Reason, UserId};
use envelope::vocabulary;

vocabulary! {
    /// What the order service asks of the user service.
    #[derive(schemars::JsonSchema)]
    pub enum Command {
        /// May this user order?
        "waybill.user.validate.v1" => Validate(Validate),
    }
}

vocabulary! {
    /// What the user service answers.
    #[derive(schemars::JsonSchema)]
    pub enum Reply {
        /// The user exists and is active.
        "waybill.user.validated.v1" => Validated(Validated),
        /// The user may not order; nothing was changed.
        "waybill.user.refused.v1" => Refused(Refused),
    }
}

vocabulary! {
    /// What the user service tells everyone.
    #[derive(schemars::JsonSchema)]
    pub enum Event {
        /// A user came to be.
        "waybill.user.created.v1" => Created(Created),
        /// A user changed.
        "waybill.user.updated.v1" => Updated(Updated),
    }
}

/// See [`Command::Validate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Validate {
    /// The order that asks.
    pub order_id: OrderId,
    /// The user to validate.
    pub user_id: UserId,
}

/// See [`Reply::Validated`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Validated {
    /// The order that asked.
    pub order_id: OrderId,
    /// The user.
    pub user_id: UserId,
}

/// See [`Reply::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// The order that asked.
    pub order_id: OrderId,
    /// The user.
    pub user_id: UserId,
    /// Why.
    pub reason: Reason,
}

/// A user, as the HTTP contract shows it and events tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// The user's id.
    pub id: UserId,
    /// The address, unique in any case of letters.
    pub email: String,
    /// The name.
    pub name: String,
    /// Whether the user may order.
    pub active: bool,
    /// When the user came to be.
    pub created_at: DateTime<Utc>,
}

/// See [`Event::Created`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Created(pub User);

/// See [`Event::Updated`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Updated(pub User);
