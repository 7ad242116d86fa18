//! The sagas this instance wrote last, as it wrote them: what comes to a saga next mostly comes within milliseconds.
//!
//! Never the truth: another instance may have carried a saga on. Only a step forward is decided on what is cached, and it is written only if
//! the saga's row still has the sequence it was decided at. What is due, and what an operator does, is decided on the row: it may be damaged.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

use crate::saga::{LoadedSaga, Saga};

/// Bytes of JSON in one of two generations. Some ten thousand orders of two lines each: more than are ever under way at once, unless
/// somebody else is slow; then they are read from the database again.
const GENERATION_BYTES: usize = 16 * 1024 * 1024;

/// Sagas by id. When the young generation is full it becomes the old one, and what was old is forgotten.
pub(crate) struct SagaCache<S: Saga>(Mutex<Generations<S>>);

struct Generations<S: Saga> {
    young: HashMap<Uuid, LoadedSaga<S>>,
    old: HashMap<Uuid, LoadedSaga<S>>,
    young_bytes: usize,
}

impl<S: Saga> Default for SagaCache<S> {
    fn default() -> Self {
        Self(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new(), young_bytes: 0 }))
    }
}

impl<S: Saga> SagaCache<S> {
    /// Takes a saga out, as it was last seen.
    pub fn take(&self, id: Uuid) -> Option<LoadedSaga<S>> {
        let mut generations = self.lock();
        generations.young.remove(&id).or_else(|| generations.old.remove(&id))
    }

    /// Keeps sagas after their commit.
    pub fn keep(&self, sagas: impl IntoIterator<Item = LoadedSaga<S>>) {
        let mut generations = self.lock();
        for saga in sagas {
            generations.young_bytes += bytes(&saga);
            generations.young.insert(saga.record.id(), saga);
            if generations.young_bytes > GENERATION_BYTES {
                generations.old = std::mem::take(&mut generations.young);
                generations.young_bytes = 0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations<S>> {
        self.0.lock().expect("the cache is never poisoned")
    }
}

fn bytes<S: Saga>(saga: &LoadedSaga<S>) -> usize {
    // A saga's state is about as large as its last entry says, and what was asked for as its first.
    let lengths = || saga.history.iter().map(|entry| entry.get().len());
    lengths().sum::<usize>() + lengths().next_back().unwrap_or_default() + lengths().next().unwrap_or_default()
}
