//! Money: an integer count of minor units in one currency, with checked arithmetic. Never a float.

use std::borrow::Cow;

use iso_currency::Currency;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;

use crate::Quantity;

/// An amount in the minor units of its currency: `{"amount": 1999, "currency": "USD"}` is 19.99 US dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// Minor units (cents, pence, yen), ISO 4217.
    pub amount: i64,
    /// The ISO 4217 code.
    #[serde(deserialize_with = "currency")]
    #[schemars(with = "CurrencyCode")]
    pub currency: Currency,
}

/// Why two amounts could not be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// The amounts are in different currencies; there is no exchange rate here.
    #[error("{0} and {1} cannot be added")]
    Currencies(Currency, Currency),
    /// The result does not fit 64 bits.
    #[error("the amount is too large")]
    Overflow,
}

impl Money {
    /// The highest unit price: with it the largest order (200 lines of 100,000 pieces) still fits 64 bits.
    pub const MAX_PRICE: i64 = 100_000_000_000;

    /// An amount in minor units.
    pub const fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// The sum of two amounts of one currency.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Currencies(self.currency, other.currency));
        }
        let amount = self.amount.checked_add(other.amount).ok_or(MoneyError::Overflow)?;
        Ok(Self { amount, ..self })
    }

    /// This unit price for so many pieces.
    pub fn times(self, quantity: Quantity) -> Result<Self, MoneyError> {
        let amount = self.amount.checked_mul(quantity.get().into()).ok_or(MoneyError::Overflow)?;
        Ok(Self { amount, ..self })
    }

    /// The total of priced lines; `None` where there are none.
    pub fn total(lines: impl IntoIterator<Item = (Money, Quantity)>) -> Result<Option<Self>, MoneyError> {
        let mut sum: Option<Money> = None;
        for (price, quantity) in lines {
            let line = price.times(quantity)?;
            sum = Some(match sum {
                Some(so_far) => so_far.plus(line)?,
                None => line,
            });
        }
        Ok(sum)
    }
}

/// Reads a currency code with an error that quotes it.
fn currency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Currency, D::Error> {
    let code = std::borrow::Cow::<str>::deserialize(deserializer)?;
    Currency::from_code(&code).ok_or_else(|| de::Error::custom(format!("`{code}` is not an ISO 4217 currency code")))
}

/// The schema of a currency: in what is read the codes that are taken, in what is written the form alone, so that a currency more breaks no reader.
#[derive(Debug)]
pub enum CurrencyCode {}

impl JsonSchema for CurrencyCode {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        match generator.contract().is_serialize() {
            true => json_schema!({ "type": "string", "description": "The ISO 4217 code", "pattern": "^[A-Z]{3}$" }),
            false => json_schema!({ "type": "string", "description": "The ISO 4217 code", "enum": codes() }),
        }
    }
}

/// Every code that [`Currency::from_code`] reads.
fn codes() -> Vec<String> {
    let letters = || (b'A'..=b'Z').map(char::from);
    let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| String::from_iter([a, b, c]))));
    codes.filter(|code| Currency::from_code(code).is_some()).collect()
}

/// The schema of the price of one piece, in minor units.
#[derive(Debug)]
pub enum UnitPrice {}

impl JsonSchema for UnitPrice {
    fn schema_name() -> Cow<'static, str> {
        "UnitPrice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "integer",
            "description": "What one piece costs, in minor units of the currency",
            "minimum": 0,
            "maximum": Money::MAX_PRICE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_standard() {
        let codes = codes();
        assert!((150..300).contains(&codes.len()), "{}", codes.len());
        assert!(["EUR", "JPY", "USD"].iter().all(|code| codes.contains(&(*code).to_owned())));
    }

    fn usd(amount: i64) -> Money {
        Money::new(amount, Currency::USD)
    }

    #[test]
    fn a_total_is_the_sum_of_its_lines() {
        let two = Quantity::new(2).unwrap();
        let three = Quantity::new(3).unwrap();
        assert_eq!(Money::total([(usd(1999), two), (usd(1), three)]), Ok(Some(usd(4001))));
        assert_eq!(Money::total([]), Ok(None));
    }

    #[test]
    fn currencies_do_not_mix() {
        let one = Quantity::new(1).unwrap();
        let euro = Money::new(1, Currency::EUR);
        assert_eq!(Money::total([(usd(1), one), (euro, one)]), Err(MoneyError::Currencies(Currency::USD, Currency::EUR)));
    }

    #[test]
    fn arithmetic_is_checked_and_the_largest_order_fits() {
        let most = Quantity::new(Quantity::MAX).unwrap();
        assert_eq!(usd(i64::MAX).times(Quantity::new(2).unwrap()), Err(MoneyError::Overflow));
        assert!(Money::total(std::iter::repeat_n((usd(Money::MAX_PRICE), most), 200)).is_ok());
    }

    #[test]
    fn json_is_minor_units_and_a_code() {
        let money: Money = serde_json::from_str(r#"{"amount":1999,"currency":"USD"}"#).unwrap();
        assert_eq!(money, usd(1999));
        assert_eq!(serde_json::to_string(&money).unwrap(), r#"{"amount":1999,"currency":"USD"}"#);
        assert!(serde_json::from_str::<Money>(r#"{"amount":19.99,"currency":"USD"}"#).is_err());
        assert!(serde_json::from_str::<Money>(r#"{"amount":1,"currency":"usd!"}"#).is_err());
    }
}
