//! A page of a list, as the services give it.

use serde::{Deserialize, Serialize};

/// One page of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Where the next one starts; `null` on the last.
    pub next_cursor: Option<String>,
}
