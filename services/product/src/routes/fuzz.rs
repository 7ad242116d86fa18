//! Products, deliveries and reservations as strangers send them.

use chassis::http::Object;
use events::{ProductId, Quantity};

use super::{CreateBody, Description, Name, ReserveBody, StockBody, StockLevel, price};

#[test]
fn bodies_are_products_or_are_refused() {
    fuzz::drive("products", |input| {
        if let Ok(Object(body)) = serde_json::from_slice::<Object<CreateBody>>(input) {
            let _ = (Name::new(&body.name).is_ok(), Description::new(&body.description).is_ok());
            if let Ok(money) = price(&body.price.0) {
                assert_eq!(money.amount, body.price.0.amount);
            }
            if let Ok(stock) = StockLevel::try_from(body.stock) {
                assert_eq!(i64::from(stock), body.stock);
            }
        }
        if let Ok(Object(body)) = serde_json::from_slice::<Object<StockBody>>(input) {
            let _ = body.delta;
        }
        if let Ok(Object(body)) = serde_json::from_slice::<Object<ReserveBody>>(input) {
            let _ = (body.product_id.parse::<ProductId>().is_ok(), Quantity::try_from(body.quantity).is_ok());
        }
    });
}
