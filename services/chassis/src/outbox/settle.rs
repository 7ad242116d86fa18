//! What becomes of a row that did not go out whole: set aside with a retry time of its own, or at last a dead letter.

use std::time::Duration;

use uuid::Uuid;

use super::Outbox;
use super::letter::Unpublishable;
use super::rows::{self, Claimed, SetAside};
use super::seen;
use crate::causes::causes;
use crate::packet::{Packet, subject_id};
use crate::unpublished::{Cause, Unpublished};

/// How long a row stands aside that waits behind another, where such rows would hide the rest.
pub(super) const BEHIND_FOR: Duration = Duration::from_secs(3);

/// How long a message waits after its first refusal, and a row after an outage. Within the broker's window of de-duplication: what was
/// stored although nobody said so is absorbed.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The longest wait for a stream that takes a subject: it is made within seconds, once somebody makes it.
const UNHEARD_RETRY_MAX: Duration = Duration::from_secs(15);

impl Outbox {
    /// Sets aside what of a row is not published: what failed, and what waits behind another row. What never can be published becomes a dead
    /// letter. Returns whether any did, or the broker has spoken: others may have more luck at once.
    pub(super) async fn settle(
        &self,
        row: &Claimed,
        packets: &[Packet],
        failures: Vec<(usize, Unpublished)>,
        waiting: Vec<usize>,
    ) -> bool {
        let refused = failures.iter().any(|(_, failure)| matches!(failure.cause, Cause::Refused | Cause::Never));
        let attempts = row.attempts.saturating_add(i32::from(refused));
        let last = usize::try_from(attempts).unwrap_or_default() >= self.0.settings.outbox_attempts as usize;
        let unheard = self.unheard().saw(row.id, &failures);
        let gives_up = |failure: &Unpublished| match failure.cause {
            Cause::Never => true,
            Cause::Refused => last,
            Cause::Unheard => unheard >= self.0.settings.outbox_unheard_after,
            Cause::Outage => false,
        };
        let (given_up, mut left): (Vec<_>, Vec<_>) = failures.into_iter().partition(|(_, failure)| gives_up(failure));
        let mut buried = false;
        for (index, failure) in given_up {
            let dead = Unpublishable {
                service: self.0.metrics.service(),
                row: row.id,
                index,
                packet: &packets[index],
                attempts,
                reason: &failure.reason,
            };
            match self.0.broker.publish_as(vec![dead.packed(self.0.broker.client().max_payload())]).await {
                Ok(()) => {
                    buried = true;
                    self.0.metrics.unpublishable(failure.cause);
                    let subject = packets[index].subject.escape_debug();
                    tracing::error!(row = %row.id, index, %subject, reason = failure.reason, "publishing failed for good: to the dead letters");
                }
                Err(error) => {
                    tracing::warn!(row = %row.id, index, error = causes(&error), "the dead letter cannot be stored; trying again");
                    left.push((index, failure));
                }
            }
        }
        if left.is_empty() && waiting.is_empty() {
            self.is_published(row.id);
            return buried;
        }
        let reason = left.first().map(|(index, failure)| match packets[*index].subject.as_str() {
            "" => failure.reason.clone(),
            subject => format!("{}: {}", subject.escape_debug(), failure.reason),
        });
        if let Some(reason) = &reason {
            tracing::warn!(row = %row.id, messages = left.len(), attempts, reason, "publishing failed; trying again");
        }
        let left: Vec<usize> = left.into_iter().map(|(index, _)| index).chain(waiting).collect();
        let mut pending: Vec<i32> = left.iter().map(|index| *index as i32).collect();
        pending.sort_unstable();
        // What could not be made is whole as before.
        let is_made = packets.iter().all(|packet| !packet.subject.is_empty());
        let about: Vec<Uuid> = match is_made {
            true => left.iter().filter_map(|index| subject_id(&packets[*index].subject)).collect(),
            false => seen::whole(&row.notes, &row.packets.iter().map(|packet| packet.subject.clone()).collect::<Vec<_>>()),
        };
        let set_aside = SetAside {
            id: row.id,
            pending: is_made.then_some(&pending),
            about: &about,
            attempts,
            retry_after: match &reason {
                None => BEHIND_FOR,
                Some(_) if refused => retry_after(row.id, attempts),
                Some(_) => retry_after(row.id, 0).max((unheard / 4).min(UNHEARD_RETRY_MAX)),
            },
            reason: reason.as_deref(),
        };
        match rows::set_aside(&self.0.database.pool(), &set_aside).await {
            Ok(()) => buried || refused,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be written; its rows are tried again later");
                buried
            }
        }
    }
}

/// How long a row waits after so many refusals: doubling, and jittered by what it is, so that many do not come back together.
fn retry_after(row: Uuid, attempts: i32) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << attempts.clamp(1, 10).wrapping_sub(1)).min(rows::RETRY_MAX);
    let jitter = (row.as_u128() as u64).wrapping_add(attempts as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    doubled.mul_f64(0.75 + jitter as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let seconds = |attempts| retry_after(id(7), attempts).as_secs_f64();
        assert!((0.75..=1.0).contains(&seconds(0)) && (0.75..=1.0).contains(&seconds(1)));
        assert!((3.0..=4.0).contains(&seconds(3)) && (45.0..=60.0).contains(&seconds(7)) && seconds(i32::MAX) <= 60.0);
        assert_ne!(retry_after(id(7), 3), retry_after(id(8), 3));
    }
}
