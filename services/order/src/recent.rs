//! The orders this instance wrote last, as it wrote them: what comes to an order next mostly comes within milliseconds.
//!
//! Never the truth: another instance may have carried an order on. Only a step forward is decided on what is kept here, and it is written only
//! if the order's row still has the sequence it was decided at.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use events::OrderId;
use serde_json::value::RawValue;

use crate::view::Row;

/// Bytes of JSON in one of two generations. Some ten thousand orders of two lines each: more than are ever under way at once, unless
/// somebody else is slow; then they are read from the database again.
const GENERATION_BYTES: usize = 16 * 1024 * 1024;

/// An order with its whole waybill.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its row.
    pub row: Row,
    /// Its history, each entry as JSON.
    pub history: Vec<Box<RawValue>>,
}

/// Orders by id. When the young generation is full it becomes the old one, and what was old is forgotten.
#[derive(Default)]
pub struct Recent(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<OrderId, Kept>,
    old: HashMap<OrderId, Kept>,
    young_bytes: usize,
}

impl Recent {
    /// Takes an order out, as it was last seen.
    pub fn take(&self, id: OrderId) -> Option<Kept> {
        let mut generations = self.lock();
        generations.young.remove(&id).or_else(|| generations.old.remove(&id))
    }

    /// Keeps orders after their commit.
    pub fn keep(&self, orders: impl IntoIterator<Item = Kept>) {
        let mut generations = self.lock();
        for kept in orders {
            generations.young_bytes += kept.bytes();
            generations.young.insert(kept.row.order.id, kept);
            if generations.young_bytes > GENERATION_BYTES {
                generations.old = std::mem::take(&mut generations.young);
                generations.young_bytes = 0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().expect("the orders are never poisoned")
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        // An order's state is about as large as its last entry says.
        let history: usize = self.history.iter().map(|entry| entry.get().len()).sum();
        let last = self.history.last().map_or(0, |entry| entry.get().len());
        history + last + self.row.order.items.len() * 64
    }
}
