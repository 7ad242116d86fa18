//! The relay: publishes the rows that their own tasks did not, in the order they were written in.
//!
//! It looks, takes what may go out now, publishes outside any transaction, and then deletes what is published and sets aside what is not.
//! Several instances may do so side by side: none takes a row while another row that tells of the same thing, and is older, is not
//! published yet.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Outbox;
use super::choose::{Candidate, Choice, Room, Watched, choose};
use super::letter;
use super::rebuild::CannotRebuild;
use super::rows::{self, Claimed};
use super::seen::{self, Seen, View};
use super::settle::BEHIND_FOR;
use super::wire::{in_wire_order, message_id};
use crate::causes::causes;
use crate::database::Reader;
use crate::meaning::Meaning;
use crate::note::Note;
use crate::packet::{Packet, subject_id};
use crate::unpublished::{Cause, Unpublished};

/// How often the relay looks for rows left behind; and how soon again where rows of its own wait for those of others.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Rows the relay looks at, and takes, at once, of those never tried and of those that were: after an outage thousands of small ones wait, and
/// a row may hold a batch of 256 messages.
const LOOK_AT: i64 = 256;
const TAKE: Room = Room { rows: 128, messages: 4096 };

/// How often in a row the relay goes on although nothing went out, where the broker has answered and not been silent: a stream that is not
/// there holds up no other, and a broker without any is not asked without end.
const IN_VAIN_MAX: u32 = 32;
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// How long the end of the service waits for what is left to be published.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a look at the outbox led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Something was published, or stands aside: look again at once.
    Published,
    /// There was nothing to publish.
    Nothing,
    /// What was tried is set aside, because no stream takes it: others may have more luck.
    InVain,
    /// Nothing could be published: no use to try again at once.
    Failed,
    /// Rows of ours wait for older ones that others are at.
    Behind,
}

impl Outbox {
    /// Publishes what was left behind, until shutdown; then what the last batches left.
    pub(super) async fn run_relay(&self, shutdown: &CancellationToken) {
        let mut watched = Watched::default();
        let (mut pass, mut wait) = (Pass::Nothing, LOOK_EVERY);
        while !shutdown.is_cancelled() {
            let changed = self.0.broker.connection_changed();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.something_left.notified(), if !matches!(pass, Pass::InVain | Pass::Failed) => {}
                // What there was no stream for, there may be one for soon.
                () = changed => self.unheard().forget(),
                () = shutdown.cancelled() => return,
            }
            pass = Pass::Published;
            let mut in_vain = 0;
            while (pass == Pass::Published || (pass == Pass::InVain && in_vain < IN_VAIN_MAX))
                && self.0.broker.is_connected()
                && !shutdown.is_cancelled()
            {
                pass = self.pass(&mut watched).await;
                in_vain += u32::from(pass == Pass::InVain);
            }
            wait = match pass {
                Pass::Behind if wait == LOOK_EVERY => LOOK_AGAIN,
                Pass::Behind => (wait * 2).min(LOOK_EVERY),
                _ => LOOK_EVERY,
            };
        }
    }

    /// Publishes the rows of this instance that are left, as far as that goes before the end.
    pub(super) async fn last_words(&self) {
        let (mut watched, deadline) = (Watched::default(), Instant::now() + LAST_WORDS);
        while Instant::now() < deadline && !self.lane().is_empty() && self.0.broker.is_connected() {
            match self.pass(&mut watched).await {
                Pass::Published => {}
                Pass::Behind => tokio::time::sleep(LOOK_AGAIN).await,
                Pass::Nothing | Pass::InVain | Pass::Failed => return,
            }
        }
    }

    async fn pass(&self, watched: &mut Watched) -> Pass {
        self.try_pass(watched).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the outbox cannot be read; trying again");
            Pass::Failed
        })
    }

    async fn try_pass(&self, watched: &mut Watched) -> sqlx::Result<Pass> {
        let pool = self.0.database.pool();
        // Before the look: a row that is left after it is not among what was seen.
        let left = self.lane().rows();
        let relay_after = self.0.relay_after;
        let look = move |mut db: Reader| async move { seen::look(&mut **db, relay_after, LOOK_AT).await };
        let View { rows: mut seen, full, full_aside, more_aside } = self.0.database.read(look).await?;
        if !full {
            self.forget_gone(left, &seen, more_aside).await?;
        }
        // Beyond the rows that were seen in their order nobody knows what is older.
        let horizon = seen.iter().filter(|row| full && !row.aside).map(|row| row.place).max();
        // What is published holds up nothing; it only waits for its deletion.
        let published: HashSet<Uuid> = self.published().iter().copied().collect();
        seen.retain(|row| !published.contains(&row.id));
        let lying = watched.look(&seen);
        if more_aside && !seen.is_empty() {
            let things: HashSet<Uuid> = seen.iter().flat_map(|row| row.about.iter().copied()).collect();
            let about = |mut db: Reader| {
                let things: Vec<Uuid> = things.iter().copied().collect();
                async move { seen::set_aside_about(&mut **db, &things, relay_after).await }
            };
            seen = seen::with_those_aside(seen, self.0.database.read(about).await?);
            seen.retain(|row| !published.contains(&row.id));
        }
        let mut candidates: Vec<Candidate<'_>> = {
            let (lane, in_hand) = (self.lane(), self.in_hand());
            let due = |row: &Seen| {
                let mine = lane.holds(row.id);
                let long = row.old || lying.get(&row.id).is_some_and(|lying| *lying >= self.0.relay_after);
                let known = horizon.is_none_or(|horizon| row.place <= horizon);
                (mine || long) && known && !row.claimed && !row.waiting && !in_hand.contains(&row.id)
            };
            seen.iter().map(|row| Candidate { due: due(row), row }).collect()
        };
        let Choice { chosen, behind } = choose(&candidates, TAKE);
        *self.behind() = behind.iter().map(|row| row.id).collect();
        // Where there may be more than was seen, what cannot go out gives way to it.
        let in_the_way: Vec<&Seen> = behind.into_iter().filter(|row| if row.aside { full_aside } else { full }).collect();
        let moved = seen::stand_behind(&pool, &in_the_way, BEHIND_FOR).await? > 0;
        if chosen.is_empty() && moved {
            return Ok(Pass::Published);
        }
        if chosen.is_empty() {
            let behind = candidates.iter().any(|candidate| candidate.due);
            return Ok(if behind { Pass::Behind } else { Pass::Nothing });
        }
        let take = |mut db: Reader| {
            let ids: Vec<Uuid> = chosen.iter().map(|(id, _)| *id).collect();
            async move { rows::claim(&mut **db, &ids).await }
        };
        let late = |row: &Seen| row.old && !row.tried && !row.aside && chosen.iter().any(|(id, _)| *id == row.id);
        if seen.iter().any(late) {
            *self.last_late() = Some(Instant::now());
        }
        let count = chosen.len();
        let mut held_up: HashMap<Uuid, Vec<Uuid>> = chosen.iter().cloned().collect();
        let mut claimed = self.0.database.read(take).await?;
        if claimed.len() < count {
            // Somebody was quicker with some of them: what would have followed those waits for the next look.
            let ours: HashSet<Uuid> = claimed.iter().map(|row| row.id).collect();
            candidates.iter_mut().for_each(|candidate| candidate.due &= ours.contains(&candidate.row.id));
            held_up = choose(&candidates, TAKE).chosen.into_iter().collect();
            let back: Vec<Uuid> = ours.into_iter().filter(|id| !held_up.contains_key(id)).collect();
            rows::give_back(&pool, &back).await?;
            claimed.retain(|row| held_up.contains_key(&row.id));
        }
        let ids: Vec<Uuid> = claimed.iter().map(|row| row.id).collect();
        self.in_hand().extend(&ids);
        let begun = Instant::now();
        let progress = self.publish_claimed(claimed, &held_up).await;
        let answered = begun.elapsed() < ANSWERED_WITHIN;
        self.sweep().await;
        // What is published and could not be deleted yet stays in hand.
        let published: HashSet<Uuid> = self.published().iter().copied().collect();
        self.in_hand().retain(|id| !ids.contains(id) || published.contains(id));
        Ok(match progress || moved {
            true => Pass::Published,
            false if answered => Pass::InVain,
            false => Pass::Failed,
        })
    }

    /// Rows that were left here and are gone: another instance published them. Those set aside do not all show.
    async fn forget_gone(&self, mut left: HashSet<Uuid>, seen: &[Seen], more_aside: bool) -> sqlx::Result<()> {
        let here: HashSet<Uuid> = seen.iter().map(|row| row.id).collect();
        left.retain(|row| !here.contains(row));
        if more_aside && !left.is_empty() {
            let there = |mut db: Reader| {
                let left: Vec<Uuid> = left.iter().copied().collect();
                async move { rows::there(&mut **db, &left).await }
            };
            for row in self.0.database.read(there).await? {
                left.remove(&row);
            }
        }
        let mut lane = self.lane();
        left.into_iter().for_each(|gone| lane.remove(gone));
        Ok(())
    }

    /// Publishes rows in their order, each with an outcome of its own. `held_up`: the things of which a row's messages wait behind a row that
    /// is set aside. Returns whether any message went out, or was refused: then the row is not due any more, and others may be.
    async fn publish_claimed(&self, claimed: Vec<Claimed>, held_up: &HashMap<Uuid, Vec<Uuid>>) -> bool {
        let (mut messages, mut places, mut made) = (Vec::new(), Vec::new(), Vec::new());
        let mut progress = false;
        let packets = self.packets(&claimed).await;
        for (row, packets) in claimed.into_iter().zip(packets) {
            let packets = match packets {
                Ok(packets) => packets,
                Err(unmade) => {
                    progress |= self.cannot_be_made(&row, unmade).await;
                    continue;
                }
            };
            let held_up = held_up.get(&row.id).map_or(&[][..], Vec::as_slice);
            let mut waiting = Vec::new();
            for (index, packet) in in_wire_order(packets.iter(), row.pending.as_deref()) {
                if subject_id(&packet.subject).is_some_and(|thing| held_up.contains(&thing)) {
                    waiting.push(index);
                    continue;
                }
                messages.push((message_id(row.id, index), packet.clone()));
                places.push((made.len(), index));
            }
            made.push((row, packets, waiting));
        }
        let sent = messages.len();
        let failed = self.put_on_the_wire(messages).await;
        progress |= failed.len() < sent;
        let mut failures: Vec<Vec<(usize, Unpublished)>> = made.iter().map(|_| Vec::new()).collect();
        for (place, unpublished) in failed {
            let (row, index) = places[place];
            failures[row].push((index, unpublished));
        }
        let mut published = 0;
        for ((row, packets, waiting), failures) in made.into_iter().zip(failures) {
            if failures.is_empty() && waiting.is_empty() {
                published += 1;
                self.is_published(row.id);
            } else {
                progress |= self.settle(&row, &packets, failures, waiting).await;
            }
        }
        if published > 0 {
            self.0.metrics.relayed(published);
            tracing::info!(rows = published, "published what was left behind");
        }
        progress
    }

    /// The messages of each row: those it holds, or those its notes stand for.
    async fn packets(&self, rows: &[Claimed]) -> Vec<Result<Vec<Packet>, Unmade>> {
        let noted = |row: &Claimed| (!row.notes.is_empty()).then(|| Note::read_all(&row.notes)).flatten();
        let notes: Vec<Vec<Note>> = rows.iter().filter_map(noted).collect();
        let mut rebuilt = self.rebuilt(&notes).await.into_iter();
        let packets = |row: &Claimed| match noted(row) {
            Some(notes) => rebuilt.next().expect("one for each").map_err(|(cause, reason)| Unmade { cause, reason, notes }),
            None if row.notes.is_empty() => Ok(row.packets.clone()),
            None => Err(Unmade { cause: Cause::Never, reason: "the row's notes cannot be read".to_owned(), notes: Vec::new() }),
        };
        rows.iter().map(packets).collect()
    }

    /// The messages that the notes of each row stand for. Where they cannot be read together, each row is read alone.
    async fn rebuilt(&self, rows: &[Vec<Note>]) -> Vec<Result<Vec<Packet>, (Cause, String)>> {
        if rows.is_empty() {
            return Vec::new();
        }
        let Some(rebuild) = &self.0.rebuild else {
            let why = "the row holds notes, and this service makes no messages from notes";
            return rows.iter().map(|_| Err((Cause::Never, why.to_owned()))).collect();
        };
        let made = async |rows| rebuild.rebuild(&mut *self.0.database.pool().acquire().await?, rows).await;
        let unmade = |error: anyhow::Error| {
            let cause = if Meaning::of_any(&error) != Meaning::Own {
                Cause::Outage
            } else if error.chain().any(|cause| cause.is::<CannotRebuild>()) {
                Cause::Never
            } else {
                Cause::Refused
            };
            (cause, causes(&error))
        };
        let mut all = Vec::with_capacity(rows.len());
        match made(rows).await {
            Ok(rebuilt) => all.extend(rebuilt.into_iter().map(|packets| packets.map_err(unmade))),
            Err(error) if rows.len() == 1 || Meaning::of_any(&error) != Meaning::Own => {
                let why = unmade(error);
                all.extend(rows.iter().map(|_| Err(why.clone())));
            }
            Err(_) => {
                for row in rows {
                    let alone =
                        made(std::slice::from_ref(row)).await.and_then(|mut rebuilt| rebuilt.pop().expect("one for each"));
                    all.push(alone.map_err(unmade));
                }
            }
        }
        all
    }

    /// A row whose messages cannot be made again: apart from the others of its batch, later, or at last as a dead letter.
    async fn cannot_be_made(&self, row: &Claimed, unmade: Unmade) -> bool {
        let Unmade { cause, reason, notes } = unmade;
        if cause != Cause::Outage && notes.len() > 1 {
            tracing::warn!(row = %row.id, reason, notes = notes.len(), "the messages of an outbox row cannot be made; trying each alone");
            return match rows::split(&self.0.database.pool(), row.id, &notes).await {
                Ok(parts) => {
                    // Before the whole is out of hand: nothing of theirs may pass.
                    let mut lane = self.lane();
                    parts.into_iter().zip(&notes).for_each(|(part, note)| lane.leave(part, vec![note.subject]));
                    lane.remove(row.id);
                    true
                }
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be written; trying again");
                    false
                }
            };
        }
        let what = match notes.first() {
            Some(Note { subject, entry }) => format!("entry {entry} of the history of {subject}"),
            None => format!("{} bytes of notes", row.notes.len()),
        };
        self.settle(
            row,
            &[letter::unmade(what, notes.first().map(|note| note.subject))],
            vec![(0, Unpublished { cause, reason })],
            Vec::new(),
        )
        .await
    }
}

/// Why a row's messages cannot be made.
struct Unmade {
    cause: Cause,
    reason: String,
    notes: Vec<Note>,
}
