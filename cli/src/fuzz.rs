//! What the command reads from people, whatever it is.

use crate::price;

#[test]
fn what_a_person_types() {
    fuzz::drive("arguments", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(money) = price::parse(&text, events::Currency::USD) {
            assert!(money.amount >= 0, "{money:?}");
        }
    });
}
