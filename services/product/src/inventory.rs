//! The inventory: what becomes of a command, decided in memory. Pure.
//!
//! Every participant of a saga must survive three things: *repetition* (the same command twice), *empty rollback* (a release of what
//! was never reserved) and *suspension* (a reservation that arrives after its release). The one row kept for each reservation answers all
//! three: whatever it says is the answer, for ever.

use std::collections::BTreeMap;

use events::product::Line;
use events::{Money, ProductId, Quantity, Reason, ReasonCode, ReservationId, ShortLine};
use serde::{Deserialize, Serialize};

/// The stock of one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stock {
    /// What one piece costs.
    pub price: Money,
    /// Pieces that can be reserved.
    pub available: i64,
    /// Pieces held.
    pub reserved: i64,
}

/// A line that is held, at the price it was reserved at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The product.
    pub product_id: ProductId,
    /// The pieces.
    pub quantity: Quantity,
    /// What one piece costs.
    pub unit_price: Money,
}

/// What stands about a reservation. Once it is not `Reserved`, it never changes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationState {
    /// Its lines are held.
    Reserved(Vec<Held>),
    /// Nothing was held, and nothing will be.
    Refused(Reason),
    /// Nothing is held any more, and nothing will be.
    Released(Vec<Held>),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hold every line, or none.
    Reserve(Vec<Line>),
    /// Hold nothing, now and ever after.
    Release,
}

/// The stock and the reservations a batch is about. Decisions change them in turn; what changed is written back once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The products asked for, those that exist.
    pub products: BTreeMap<ProductId, Stock>,
    /// What stands.
    pub reservations: BTreeMap<ReservationId, ReservationState>,
}

impl Inventory {
    /// Decides one command, and returns what stands after it.
    pub fn decide(&mut self, id: ReservationId, command: &Command) -> ReservationState {
        let state = match (self.reservations.remove(&id), command) {
            (None, Command::Reserve(lines)) => self.reserve(lines),
            // Empty rollback: the tombstone that suspends a reservation still on its way.
            (None, Command::Release) => ReservationState::Released(Vec::new()),
            (Some(ReservationState::Reserved(held)), Command::Release) => {
                for line in &held {
                    self.give_back(line);
                }
                ReservationState::Released(held)
            }
            // Repetition, suspension, and the release of what was refused: what stands, stands.
            (Some(state), _) => state,
        };
        self.reservations.insert(id, state.clone());
        state
    }

    fn reserve(&mut self, lines: &[Line]) -> ReservationState {
        // The edge refuses a product named twice; a message from elsewhere may still do it.
        let mut wanted: BTreeMap<ProductId, i64> = BTreeMap::new();
        for line in lines {
            *wanted.entry(line.product_id).or_default() += i64::from(line.quantity);
        }
        if let Err(reason) = self.check(lines, &wanted) {
            return ReservationState::Refused(reason);
        }
        let mut held = Vec::with_capacity(lines.len());
        for line in lines {
            let stock = self.products.get_mut(&line.product_id).expect("checked above");
            stock.available -= i64::from(line.quantity);
            stock.reserved += i64::from(line.quantity);
            held.push(Held { product_id: line.product_id, quantity: line.quantity, unit_price: stock.price });
        }
        ReservationState::Reserved(held)
    }

    fn check(&self, lines: &[Line], wanted: &BTreeMap<ProductId, i64>) -> Result<(), Reason> {
        let available = |line: &Line| self.products.get(&line.product_id).map(|stock| stock.available);
        let short = |line: &Line| ShortLine { product_id: line.product_id, requested: line.quantity, available: available(line) };
        let refuse = |code, detail: &str, lines: Vec<ShortLine>| Err(Reason { code, detail: detail.to_owned(), items: lines });

        let missing: Vec<_> = lines.iter().filter(|line| available(line).is_none()).map(short).collect();
        if !missing.is_empty() {
            return refuse(ReasonCode::ProductNotFound, "a product of the order does not exist", missing);
        }
        let too_few = |line: &&Line| available(line).is_some_and(|available| available < wanted[&line.product_id]);
        let too_few: Vec<_> = lines.iter().filter(too_few).map(short).collect();
        if !too_few.is_empty() {
            return refuse(ReasonCode::InsufficientStock, "there is not enough stock", too_few);
        }
        let prices = lines.iter().map(|line| (self.products[&line.product_id].price, line.quantity));
        if Money::total(prices).is_err() {
            return refuse(ReasonCode::CurrencyMismatch, "the products are priced in different currencies", Vec::new());
        }
        Ok(())
    }

    fn give_back(&mut self, line: &Held) {
        let stock =
            self.products.get_mut(&line.product_id).expect("the products of a reservation are loaded before it is released");
        stock.available += i64::from(line.quantity);
        stock.reserved -= i64::from(line.quantity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Currency;
    use uuid::Uuid;

    fn product(number: u128) -> ProductId {
        ProductId(Uuid::from_u128(number))
    }

    fn reservation(number: u128) -> ReservationId {
        ReservationId(Uuid::from_u128(number))
    }

    fn inventory(stock: &[i64]) -> Inventory {
        let products = stock.iter().enumerate().map(|(index, available)| {
            let price = Money::new(100 * (index as i64 + 1), Currency::USD);
            (product(index as u128), Stock { price, available: *available, reserved: 0 })
        });
        Inventory { products: products.collect(), ..Inventory::default() }
    }

    fn reserve(lines: &[(u128, i64)]) -> Command {
        let line = |&(number, pieces)| Line { product_id: product(number), quantity: Quantity::new(pieces).unwrap() };
        Command::Reserve(lines.iter().map(line).collect())
    }

    fn stock(inventory: &Inventory) -> Vec<(i64, i64)> {
        inventory.products.values().map(|stock| (stock.available, stock.reserved)).collect()
    }

    #[test]
    fn all_lines_are_held_at_their_prices() {
        let mut inventory = inventory(&[5, 7]);
        let ReservationState::Reserved(held) = inventory.decide(reservation(1), &reserve(&[(0, 2), (1, 7)])) else { panic!() };
        assert_eq!(held.iter().map(|line| line.unit_price.amount).collect::<Vec<_>>(), [100, 200]);
        assert_eq!(stock(&inventory), [(3, 2), (0, 7)]);
    }

    #[test]
    fn none_is_held_where_one_is_short_and_every_short_line_is_named() {
        let mut inventory = inventory(&[5, 1, 0]);
        let ReservationState::Refused(reason) = inventory.decide(reservation(1), &reserve(&[(0, 5), (1, 2), (2, 1)])) else {
            panic!()
        };
        assert_eq!(reason.code, ReasonCode::InsufficientStock);
        assert_eq!(reason.items.iter().map(|line| line.available).collect::<Vec<_>>(), [Some(1), Some(0)]);
        assert_eq!(stock(&inventory), [(5, 0), (1, 0), (0, 0)]);
    }

    #[test]
    fn an_unknown_product_and_mixed_currencies_are_refused() {
        let mut inventory = inventory(&[5, 5]);
        let ReservationState::Refused(reason) = inventory.decide(reservation(1), &reserve(&[(0, 1), (9, 1)])) else { panic!() };
        assert_eq!((reason.code, reason.items.len()), (ReasonCode::ProductNotFound, 1));
        inventory.products.get_mut(&product(1)).unwrap().price.currency = Currency::EUR;
        let ReservationState::Refused(reason) = inventory.decide(reservation(2), &reserve(&[(0, 1), (1, 1)])) else { panic!() };
        assert_eq!(reason.code, ReasonCode::CurrencyMismatch);
        assert_eq!(stock(&inventory), [(5, 0), (5, 0)]);
    }

    #[test]
    fn repetition_takes_nothing_twice() {
        let mut inventory = inventory(&[5]);
        let first = inventory.decide(reservation(1), &reserve(&[(0, 2)]));
        assert_eq!(inventory.decide(reservation(1), &reserve(&[(0, 2)])), first);
        assert_eq!(stock(&inventory), [(3, 2)]);
        inventory.decide(reservation(1), &Command::Release);
        inventory.decide(reservation(1), &Command::Release);
        assert_eq!(stock(&inventory), [(5, 0)]);
    }

    #[test]
    fn a_refusal_stands_even_when_stock_has_come() {
        let mut inventory = inventory(&[0]);
        let refused = inventory.decide(reservation(1), &reserve(&[(0, 1)]));
        inventory.products.get_mut(&product(0)).unwrap().available = 9;
        assert_eq!(inventory.decide(reservation(1), &reserve(&[(0, 1)])), refused);
        assert_eq!(stock(&inventory), [(9, 0)]);
    }

    #[test]
    fn a_reservation_after_its_release_takes_nothing() {
        let mut inventory = inventory(&[5]);
        assert_eq!(inventory.decide(reservation(1), &Command::Release), ReservationState::Released(vec![]));
        assert_eq!(inventory.decide(reservation(1), &reserve(&[(0, 2)])), ReservationState::Released(vec![]));
        assert_eq!(stock(&inventory), [(5, 0)]);
    }

    #[test]
    fn a_product_named_twice_is_counted_once() {
        let mut inventory = inventory(&[3]);
        assert!(matches!(inventory.decide(reservation(1), &reserve(&[(0, 2), (0, 2)])), ReservationState::Refused(_)));
        assert_eq!(stock(&inventory), [(3, 0)]);
    }
}
