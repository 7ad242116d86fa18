//! What the service is asked to do: handlers decide about these, and the store writes what they name.

use events::{Email, Name, UserId};
use serde_json::{Value, json};

/// A user to be.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub id: UserId,
    pub email: Email,
    pub name: Name,
    pub key: Option<String>,
}

impl NewUser {
    /// What was asked for, to tell a repetition from another request with the same key.
    pub fn request(&self) -> Value {
        json!({ "email": self.email, "name": self.name })
    }
}

/// A change; what is `None` stays.
#[derive(Clone, Debug)]
pub struct Change {
    pub id: UserId,
    pub name: Option<Name>,
    pub active: Option<bool>,
}
