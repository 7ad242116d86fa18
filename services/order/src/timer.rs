//! When an order is due again, and what the clock says of it then. Pure: the time is the database's.

use chrono::{DateTime, TimeDelta, Utc};
use saga::order::{Order, Step};
use saga::{Direction, Input, State};

use crate::Timing;
use crate::view::Row;

/// Winds the timer of an order that has moved on from `before`. It is due when the first of its unanswered commands is to be sent again; what
/// has a deadline is due then at the latest. A compensation has none: it cannot be given up.
pub fn wind(row: &mut Row, before: &State<Order>, now: DateTime<Utc>, timing: &Timing) {
    let mut next: Option<DateTime<Utc>> = None;
    let (mut begins, mut can_expire) = (false, false);
    for (step, direction, attempt) in row.state.outstanding() {
        let again = now + delta(timing.patience().delay(attempt, seed(&row.order)));
        next = Some(next.map_or(again, |next| next.min(again)));
        begins |= !before.outstanding().any(|(was, way, _)| (was, way) == (step, direction));
        can_expire |= direction == Direction::Act;
    }
    // Whoever waits for nobody has no time since when.
    row.waiting_since = next.map(|_| row.waiting_since.filter(|_| !begins).unwrap_or(now));
    row.due_at = next.zip(row.waiting_since).map(|(next, since)| match can_expire {
        true => next.min(since + delta(timing.step_deadline)).min(row.created_at + delta(timing.order_deadline)),
        false => next,
    });
}

/// What the clock says of each unanswered command of an order; nothing, if it is not due.
pub fn inputs(row: &Row, now: DateTime<Utc>, timing: &Timing) -> Vec<Input<Order>> {
    if row.due_at.is_none_or(|due| due > now) {
        return Vec::new();
    }
    let expired = row.waiting_since.is_some_and(|since| since + delta(timing.step_deadline) <= now);
    let overdue = row.created_at + delta(timing.order_deadline) <= now;
    let outstanding: Vec<(Step, Direction, u32)> = row.state.outstanding().collect();
    if overdue && !row.state.is_final() && outstanding.iter().any(|(_, direction, _)| *direction == Direction::Act) {
        return vec![Input::Overdue];
    }
    let input = |(step, direction, _)| match direction {
        Direction::Act if expired => Input::Expired(step),
        _ => Input::Due(step),
    };
    outstanding.into_iter().map(input).collect()
}

/// Sagas that began together must not all come back together.
fn seed(order: &Order) -> u64 {
    order.id.0.as_u128() as u64
}

/// A setting of more than a hundred million years is as good as none.
fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(36_500))
}
