//! Waiting for an order to become final: woken in this process, and looking now and then for what another instance did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use events::OrderId;
use tokio::sync::Notify;

/// Those who wait, by order.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<HashMap<OrderId, Arc<Notify>>>>);

/// A place among those who wait; leaves when dropped.
pub struct Place {
    waiting: Waiting,
    order: OrderId,
    /// Woken when the order moves.
    pub moved: Arc<Notify>,
}

impl Waiting {
    /// Takes a place. Take it before looking at the order, or its last move may go unseen.
    pub fn join(&self, order: OrderId) -> Place {
        let moved = self.0.lock().expect("the map is never poisoned").entry(order).or_default().clone();
        Place { waiting: self.clone(), order, moved }
    }

    /// Wakes whoever waits for an order.
    pub fn wake(&self, order: OrderId) {
        if let Some(moved) = self.0.lock().expect("the map is never poisoned").get(&order) {
            moved.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut map = self.waiting.0.lock().expect("the map is never poisoned");
        // The map holds one, this place another: nobody else waits.
        if map.get(&self.order).is_some_and(|moved| Arc::strong_count(moved) <= 2) {
            map.remove(&self.order);
        }
    }
}
