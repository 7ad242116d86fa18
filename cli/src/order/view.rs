//! An order as the HTTP contract shows it, and as people read it.

use chrono::{DateTime, Utc};
use events::order::{Item, Status};
use events::{Money, OrderId, Reason, Reference, Tags, UserId};
use saga_commands::output::{Tabular, time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::price;

/// An order, as the HTTP contract shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The order's id.
    pub id: OrderId,
    /// Who ordered.
    pub user_id: UserId,
    /// The lines.
    pub items: Vec<Item>,
    /// What it costs; `null` until the stock is reserved.
    pub total: Option<Money>,
    /// Where it stands.
    pub status: Status,
    /// Why it was rejected or cancelled.
    pub reason: Option<Reason>,
    /// What its customer calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What it is found by.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Tabular for Order {
    const HEADER: &'static [&'static str] = &["ID", "USER", "ITEMS", "TOTAL", "STATUS", "REASON", "CREATED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.user_id.to_string(),
            self.items.len().to_string(),
            self.total.map(price::show).unwrap_or_default(),
            self.status.as_str().to_owned(),
            self.reason.as_ref().map(code).unwrap_or_default(),
            time(self.created_at),
        ]
    }

    fn details(&self) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("id".to_owned(), self.id.to_string()),
            ("user".to_owned(), self.user_id.to_string()),
            ("status".to_owned(), self.status.as_str().to_owned()),
        ];
        if let Some(reason) = &self.reason {
            pairs.push(("reason".to_owned(), format!("{}: {}", code(reason), reason.detail)));
            for line in &reason.items {
                let available =
                    line.available.map_or_else(|| "no such product".to_owned(), |pieces| format!("{pieces} available"));
                pairs.push((String::new(), format!("{}: {} asked for, {available}", line.product_id, line.requested.get())));
            }
        }
        for item in &self.items {
            let price = item.unit_price.map(|price| format!(" at {}", price::show(price))).unwrap_or_default();
            pairs.push(("item".to_owned(), format!("{} x {}{price}", item.product_id, item.quantity.get())));
        }
        pairs.extend(self.total.map(|total| ("total".to_owned(), price::show(total))));
        pairs.extend(self.reference.as_ref().map(|reference| ("reference".to_owned(), reference.as_str().to_owned())));
        pairs.extend(self.tags.pairs().map(|tag| ("tag".to_owned(), tag)));
        pairs.push(("created".to_owned(), time(self.created_at)));
        pairs.push(("updated".to_owned(), time(self.updated_at)));
        pairs
    }
}

/// The reason's code as it stands in JSON.
fn code(reason: &Reason) -> String {
    serde_json::to_value(reason.code).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What an event says of an order, in short.
pub fn gist(data: &Value) -> String {
    let items = data["items"].as_array().map_or(0, Vec::len);
    let mut text = format!("{items} {}", if items == 1 { "line" } else { "lines" });
    if let Ok(total) = serde_json::from_value::<Money>(data["total"].clone()) {
        text += &format!(", {}", price::show(total));
    }
    if let (Some(code), Some(detail)) = (data["reason"]["code"].as_str(), data["reason"]["detail"].as_str()) {
        text += &format!(", {code}: {detail}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PRODUCT: &str = "01920000-0000-7000-8000-000000000002";

    #[test]
    fn a_rejected_order_tells_why_and_what_was_short() {
        let order: Order = serde_json::from_value(json!({
            "id": "01920000-0000-7000-8000-000000000003", "user_id": "01920000-0000-7000-8000-000000000001",
            "items": [{"product_id": PRODUCT, "quantity": 5, "unit_price": null}], "total": null, "status": "rejected",
            "reason": {"code": "insufficient_stock", "detail": "too little", "items": [{"product_id": PRODUCT, "requested": 5, "available": 2}]},
            "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:06Z",
        }))
        .unwrap();
        let text = saga_commands::output::pairs(&order.details());
        assert!(text.contains("insufficient_stock: too little"), "{text}");
        assert!(text.contains("5 asked for, 2 available"), "{text}");
        assert_eq!(order.row()[5], "insufficient_stock");
        assert_eq!(order.row()[6], "2026-01-02T03:04:05Z");
    }
}
