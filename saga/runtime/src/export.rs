//! Sagas as they are exported: one on each line, with its whole history. Streams: however many or long they are, neither side holds more
//! than a few hundred entries at a time.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chassis::database::Database;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::saga::{Saga, StatusWord};
use crate::store::{Exported, Store};

/// Sagas looked up at once.
const SAGAS: usize = 200;

/// Entries read at once; the same bounds for a part of one long history.
const ENTRIES: i64 = 500;

/// Bytes of one long history read at once.
const BYTES: i64 = 1 << 20;

/// An export under way. A line is `{"saga":"order","order":{...},"entries":[...]}`; see [`saga::Transcript`]. In place of its
/// entries, or of one of them, `unreadable` says why they are not there.
pub(crate) struct Export<S: Saga> {
    database: Database,
    store: Store<S>,
    since: Option<DateTime<Utc>>,
    status: Option<StatusWord>,
    after: Option<Uuid>,
    /// How many sagas are still to be looked up.
    left: usize,
    sagas: VecDeque<Exported<S>>,
    /// The saga whose line has begun, and the sequence of its last entry written.
    open: Option<(Uuid, u32)>,
}

impl<S: Saga> Export<S> {
    /// Every saga begun since a moment, oldest first, at most so many.
    pub fn all(
        database: Database,
        store: Store<S>,
        since: Option<DateTime<Utc>>,
        status: Option<StatusWord>,
        limit: usize,
    ) -> Self {
        Self { database, store, since, status, after: None, left: limit, sagas: VecDeque::new(), open: None }
    }

    /// One saga.
    pub fn one(database: Database, store: Store<S>, saga: Exported<S>) -> Self {
        Self { sagas: [saga].into(), ..Self::all(database, store, None, None, 0) }
    }

    /// The answer. What fails before anything is sent is an error; what fails later breaks the answer off.
    pub async fn respond(mut self, content_type: &'static str) -> sqlx::Result<Response> {
        let first = self.next().await?;
        let rest = stream::try_unfold(self, |mut export| async move {
            // In a task of its own, because its client may leave meanwhile, or its token expire.
            let look = tokio::spawn(async move { (export.next().await, export) });
            let (piece, export) = look.await.map_err(|_| sqlx::Error::WorkerCrashed)?;
            if let Err(error) = &piece {
                tracing::warn!(%error, "the export broke off");
            }
            Ok::<_, sqlx::Error>(piece?.map(|piece| (piece, export)))
        });
        let first = stream::iter(first.map(Ok));
        Ok(([(header::CONTENT_TYPE, content_type)], Body::from_stream(first.chain(rest))).into_response())
    }

    /// The next piece.
    async fn next(&mut self) -> sqlx::Result<Option<Bytes>> {
        if let Some((id, after)) = self.open {
            return self.go_on(id, after, Vec::new()).await.map(Some);
        }
        if self.sagas.is_empty() && self.left > 0 {
            let rows = SAGAS.min(self.left);
            let (store, since, status, after) = (self.store, self.since, self.status, self.after);
            let found = self
                .database
                .read(|mut db| async move { store.oldest_first(&mut db, since, status, after, rows as i64).await })
                .await?;
            self.left = if found.len() < rows { 0 } else { self.left - rows };
            self.after = found.last().map(|exported| exported.id);
            self.sagas = found.into();
        }
        match self.sagas.front() {
            None => Ok(None),
            Some(first) if i64::from(first.entries) > ENTRIES => {
                let Exported { id, request, .. } = self.sagas.pop_front().expect("the front");
                match request {
                    Ok(request) => self.go_on(id, 0, head(&request)?).await.map(Some),
                    Err(why) => Ok(Some(unreadable::<S>(id, &why).into())),
                }
            }
            Some(_) => self.several().await.map(Some),
        }
    }

    /// As many whole lines as are read at once.
    async fn several(&mut self) -> sqlx::Result<Bytes> {
        let (store, mut sagas, mut entries) = (self.store, Vec::new(), 0);
        while let Some(next) = self.sagas.pop_front() {
            entries += i64::from(next.entries);
            if entries > ENTRIES {
                self.sagas.push_front(next);
                break;
            }
            sagas.push(next);
        }
        let ids = &sagas.iter().filter(|next| next.request.is_ok()).map(|next| next.id).collect::<Vec<Uuid>>();
        let histories = self.database.read(|mut db| async move { store.histories_served(&mut db, ids).await }).await?;
        let mut histories = histories.into_iter().peekable();
        let mut piece = Vec::new();
        for Exported { id, request, .. } in &sagas {
            let request = match request {
                Ok(request) => request,
                Err(why) => {
                    piece.append(&mut unreadable::<S>(*id, why));
                    continue;
                }
            };
            piece.append(&mut head(request)?);
            let mut first = true;
            while let Some((_, entry)) = histories.next_if(|(of, _)| of == id) {
                push(&mut piece, &entry, std::mem::take(&mut first));
            }
            piece.extend_from_slice(TAIL);
        }
        Ok(piece.into())
    }

    /// The next part of a long line.
    async fn go_on(&mut self, id: Uuid, after: u32, mut piece: Vec<u8>) -> sqlx::Result<Bytes> {
        let store = self.store;
        let page = self
            .database
            .read(|mut db| async move { store.history_page(&mut db, id, None, after, ENTRIES, BYTES).await })
            .await?;
        for entry in &page.entries {
            push(&mut piece, &entry.json, entry.sequence == 1);
        }
        self.open = page.entries.last().filter(|_| page.more).map(|last| (id, last.sequence));
        if self.open.is_none() {
            piece.extend_from_slice(TAIL);
        }
        Ok(piece.into())
    }
}

const TAIL: &[u8] = b"]}\n";

fn head<S: Saga>(request: &S) -> sqlx::Result<Vec<u8>> {
    let request = serde_json::to_string(request).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(format!(r#"{{"saga":"{name}","{name}":{request},"entries":["#, name = S::NAME).into_bytes())
}

/// The line of a saga that cannot be read: the others are exported all the same, and whoever reads them is told of this one.
fn unreadable<S: Saga>(id: Uuid, why: &str) -> Vec<u8> {
    tracing::error!(saga = S::NAME, %id, why, "a saga cannot be read; its export says so");
    let line = serde_json::json!({ "saga": S::NAME, S::NAME: { "id": id }, "unreadable": why });
    format!("{line}\n").into_bytes()
}

fn push(piece: &mut Vec<u8>, entry: &RawValue, first: bool) {
    if !first {
        piece.push(b',');
    }
    piece.extend_from_slice(entry.get().as_bytes());
}
