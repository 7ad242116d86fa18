//! Orders as strangers send them.

use std::collections::HashSet;

use events::order::MAX_ITEMS;

use super::{Object, OrderBody, parse};

#[test]
fn a_body_is_an_order_that_cannot_be_wrong_or_is_refused() {
    fuzz::drive("orders", |input| {
        let Ok(Object(body)) = serde_json::from_slice::<Object<OrderBody>>(input) else { return };
        match parse(&body) {
            Ok(order) => {
                assert!((1..=MAX_ITEMS).contains(&order.items.len()));
                let distinct: HashSet<_> = order.items.iter().map(|line| line.product_id).collect();
                assert_eq!(distinct.len(), order.items.len(), "a product twice");
            }
            Err(problem) => assert!(problem.status == 422 && !problem.errors.is_empty(), "{problem:?}"),
        }
    });
}
