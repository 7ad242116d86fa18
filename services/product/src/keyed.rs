//! Requests with an Idempotency-Key that leave no row of their own to keep the key on: each is done once, and answered the same again.

use chassis::Conflict;
use serde_json::Value;
use sqlx::PgConnection;

use crate::requests::Keyed;
use crate::store;

/// What became of a request that may bear a key.
#[derive(Clone, Debug)]
pub enum Once<T> {
    /// It was dealt with now.
    Now(T),
    /// It was done before; this was the answer.
    Before(Value),
    /// The key was used for another request.
    KeyReused,
}

impl Keyed {
    /// What the key was used for before.
    pub async fn earlier<T>(&self, tx: &mut PgConnection) -> sqlx::Result<Option<Once<T>>> {
        let earlier = store::keyed(tx, self).await?;
        Ok(earlier.map(|(request, answer)| if request == self.request { Once::Before(answer) } else { Once::KeyReused }))
    }

    /// Keeps the answer, in the transaction of what was done.
    ///
    /// # Errors
    /// [`Conflict`] where another transaction used the key meanwhile: nothing of this one stands, and begun again it finds the other's answer.
    pub async fn keep(&self, tx: &mut PgConnection, answer: &Value) -> anyhow::Result<()> {
        if store::keep_keyed(tx, self, answer).await? { Ok(()) } else { Err(Conflict.into()) }
    }
}
