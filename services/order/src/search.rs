//! What orders are found by beside their user, status and time.
//!
//! Every order has products, and an index of them would cost every order; so they are looked for among orders that something else finds. The indexes of
//! the others hold only the orders that have a reference, a reason or tags.

use chassis::http::Shape;
use chassis::indexes::Index;
use events::{ProductId, ReasonCode, Reference, Tag};
use saga_runtime::search::{By, Search, Walk};
use serde_json::{Value, json};

/// What has few orders for a value comes first.
pub const SEARCHES: &[Search] = &[REFERENCE, TAG, REASON, PRODUCT];

const REFERENCE: Search = Search {
    name: "reference",
    description: "Those with this reference",
    shape: Shape::of::<Reference>,
    read: |text| Reference::new(text).map(String::from).map_err(|error| error.to_string()),
    condition: "reference = {}",
    walk: Some(Walk {
        few: true,
        by: By::Column {
            value: "reference",
            holds: "reference is not null",
            index: Index {
                name: "orders_reference",
                create: "create index concurrently orders_reference on orders (reference, id) where reference is not null",
                drop: "drop index concurrently orders_reference",
            },
        },
    }),
};

/// All of several: `channel=web,campaign=spring`.
const TAG: Search = Search {
    name: "tag",
    description: "Those with this tag, `key=value`; with all of several, commas between them",
    shape: || {
        Shape::Value(
            json!({ "type": "string", "pattern": format!("^{pair}(,{pair})*$", pair = "[a-z0-9_.-]{1,32}=[^,]{1,100}") }),
        )
    },
    read: |text| {
        let tags: Result<Vec<String>, _> = text.split(',').map(|tag| tag.parse::<Tag>().map(|tag| tag.to_string())).collect();
        tags.map(|tags| tags.join(",")).map_err(|error| error.to_string())
    },
    condition: "tags @> string_to_array({}, ',')",
    walk: Some(Walk {
        few: false,
        by: By::Beside { table: "order_tags", value: "tag", id: "order_id", wanted: "split_part({}, ',', 1)" },
    }),
};

const REASON: Search = Search {
    name: "reason",
    description: "Those given up for this reason, by its code",
    shape: Shape::of::<ReasonCode>,
    read: |text| {
        let code: Result<ReasonCode, _> = serde_json::from_value(Value::from(text));
        code.map(|_| text.to_owned()).map_err(|_| "must be the code of a reason, such as `insufficient_stock`".to_owned())
    },
    condition: "reason->>'code' = {}",
    walk: Some(Walk {
        few: false,
        by: By::Column {
            value: "(reason->>'code')",
            holds: "reason is not null",
            index: Index {
                name: "orders_reason",
                create: "create index concurrently orders_reason on orders ((reason->>'code'), id) where reason is not null",
                drop: "drop index concurrently orders_reason",
            },
        },
    }),
};

const PRODUCT: Search = Search {
    name: "product_id",
    description: "Those with this product, among what something else finds",
    shape: Shape::of::<ProductId>,
    read: |text| text.parse::<ProductId>().map(|product| product.to_string()).map_err(|_| "must be a UUID".to_owned()),
    // Nothing else in the text of an order's lines is a UUID.
    condition: "strpos(items::text, {}) > 0",
    walk: None,
};
