//! Pieces: of a line, and of a product.

use serde::{Deserialize, Serialize};

/// How many pieces of a product a line asks for: 1 to 100,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Quantity(u32);

impl Quantity {
    /// The most pieces in one line.
    pub const MAX: i64 = 100_000;

    /// Checks a number; `None` outside 1 to 100,000.
    pub fn new(pieces: i64) -> Option<Self> {
        (1..=Self::MAX).contains(&pieces).then_some(Self(pieces as u32))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = &'static str;

    fn try_from(pieces: i64) -> Result<Self, Self::Error> {
        Self::new(pieces).ok_or("must be 1 to 100000")
    }
}

impl From<Quantity> for i64 {
    fn from(quantity: Quantity) -> i64 {
        quantity.0.into()
    }
}

/// How many pieces of a product there are: 0 to 1,000,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct StockLevel(i64);

impl StockLevel {
    /// The most pieces of one product.
    pub const MAX: i64 = 1_000_000_000;

    /// Checks a number; `None` outside 0 to 1,000,000,000.
    pub fn new(pieces: i64) -> Option<Self> {
        (0..=Self::MAX).contains(&pieces).then_some(Self(pieces))
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for StockLevel {
    type Error = &'static str;

    fn try_from(pieces: i64) -> Result<Self, Self::Error> {
        Self::new(pieces).ok_or("must be 0 to 1000000000")
    }
}

impl From<StockLevel> for i64 {
    fn from(level: StockLevel) -> i64 {
        level.0
    }
}
