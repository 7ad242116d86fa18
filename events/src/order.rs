//! The order context: what a customer asked for, and what came of it.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::{Money, OrderId, ProductId, Quantity, Reason, Reference, Tags, UserId};
use envelope::vocabulary;

/// The most lines in one order.
pub const MAX_ITEMS: usize = 200;

vocabulary! {
    /// What the order service tells everyone, one message each, its subject ending in the order's id.
    #[derive(schemars::JsonSchema)]
    pub enum Event {
        /// An order was accepted; its saga began.
        "waybill.order.placed.v1" => Placed(Placed),
        /// Something that was done, or may have been, is being undone.
        "waybill.order.compensating.v1" => Compensating(Compensating),
        /// Every step is done. Final unless the customer cancels.
        "waybill.order.confirmed.v1" => Confirmed(Confirmed),
        /// The order will not be; everything is undone. Final.
        "waybill.order.rejected.v1" => Rejected(Rejected),
        /// The customer's cancellation is complete; everything is undone. Final.
        "waybill.order.cancelled.v1" => Cancelled(Cancelled),
    }
}

impl Event {
    /// The word in the subject: `events.order.<word>.<order>`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Placed(_) => "placed",
            Self::Compensating(_) => "compensating",
            Self::Confirmed(_) => "confirmed",
            Self::Rejected(_) => "rejected",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

/// Where an order stands, as its customer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Under way.
    Pending,
    /// Every step is done.
    Confirmed,
    /// It will not be, and holds nothing.
    Rejected,
    /// The customer cancelled, and what was done is being undone.
    Cancelling,
    /// The customer cancelled, and it holds nothing.
    Cancelled,
}

impl Status {
    /// Every status, in the order of an order's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Confirmed, Self::Rejected, Self::Cancelling, Self::Cancelled];

    /// The word in JSON, in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the saga has come to an end.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Confirmed | Self::Rejected | Self::Cancelled)
    }
}

impl std::str::FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not one of pending, confirmed, rejected, cancelling, cancelled"))
    }
}

/// One line of an order, with the price it was reserved at once it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// The product.
    pub product_id: ProductId,
    /// The pieces.
    pub quantity: Quantity,
    /// What one piece costs; `null` until the stock is reserved.
    pub unit_price: Option<Money>,
}

/// What every order event says of its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// The order.
    pub order_id: OrderId,
    /// Who ordered.
    pub user_id: UserId,
    /// The lines.
    pub items: Vec<Item>,
    /// The sum of price times quantity; `null` until the stock is reserved.
    pub total: Option<Money>,
    /// Where it stands.
    pub status: Status,
    /// Why it was rejected or cancelled.
    pub reason: Option<Reason>,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// What its customer calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What it is found by.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// The whole history, in the final event: the saga can be replayed from this message alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waybill: Option<Waybill>,
    /// In place of a history that is too large for the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waybill_ref: Option<WaybillRef>,
}

/// A claim check: where a history can be read, and how to know that it is the one that is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaybillRef {
    /// `sha256:` and the digest, in hexadecimal digits, of the JSON array of entries that the event would have carried: `[`, the entries
    /// as the service serves them, with a comma between two, `]`.
    pub digest: String,
    /// The bytes of that array.
    pub length: u64,
    /// How many entries are meant, from the first: the history may have grown since.
    pub entries: u32,
    /// Where the order service, and the gateway, serve the entries by pages.
    pub href: String,
}

impl WaybillRef {
    /// The claim check for an order's history of so many entries.
    pub fn new(order: OrderId, waybill: &Waybill, entries: u32) -> Self {
        let json = waybill.json();
        Self { digest: digest(json), length: json.len() as u64, entries, href: format!("/orders/{order}/history") }
    }

    /// Whether this array of entries is the one that is meant.
    ///
    /// # Errors
    /// In what it differs, in words.
    pub fn verify(&self, json: &str) -> Result<(), String> {
        if json.len() as u64 != self.length {
            return Err(format!("it is {} bytes long, and the event was told of {}", json.len(), self.length));
        }
        let found = digest(json);
        if found == self.digest {
            Ok(())
        } else {
            Err(format!("its digest is {found}, and the event was told of {}", self.digest))
        }
    }
}

fn digest(json: &str) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(json) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A saga's whole history as JSON: what `GET /orders/{id}/history` lists. Written as it is, read by who knows its form.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Waybill(Box<RawValue>);

impl Waybill {
    /// Takes entries that are JSON already.
    pub fn of(entries: &[Box<RawValue>]) -> serde_json::Result<Self> {
        serde_json::value::to_raw_value(entries).map(Self)
    }

    /// The JSON array of entries.
    pub fn json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Waybill {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl<'de> Deserialize<'de> for Waybill {
    // By way of `Value`, because a raw value cannot be read through a tagged enum.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<Value>::deserialize(deserializer)?;
        serde_json::value::to_raw_value(&entries).map(Self).map_err(serde::de::Error::custom)
    }
}

macro_rules! snapshots {
    ($($name:ident),*) => {$(
        #[doc = concat!("See [`Event::", stringify!($name), "`].")]
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Snapshot);
    )*};
}

snapshots!(Placed, Compensating, Confirmed, Rejected, Cancelled);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_claim_check_knows_its_history() {
        let entries: Vec<Box<RawValue>> =
            ["{\"sequence\":1}", "{\"sequence\":2}"].map(|entry| RawValue::from_string(entry.to_owned()).unwrap()).into();
        let claim = WaybillRef::new(OrderId(Uuid::nil()), &Waybill::of(&entries).unwrap(), 2);
        assert_eq!(claim.digest, "sha256:6023cb6559f9fa2237412500b07a9bfaf50cc1af2a5d06432c1841bd8bc8a26d");
        assert_eq!((claim.length, claim.href.as_str()), (31, "/orders/00000000-0000-0000-0000-000000000000/history"));
        assert_eq!(claim.verify(r#"[{"sequence":1},{"sequence":2}]"#), Ok(()));
        assert!(claim.verify(r#"[{"sequence":1},{"sequence":3}]"#).unwrap_err().starts_with("its digest is sha256:"));
        assert!(claim.verify("[]").unwrap_err().starts_with("it is 2 bytes long, and"));
    }
}
