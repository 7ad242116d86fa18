//! When an order is due again, and what the clock says of it then: the engine's timers, kept in two columns of the order's row. Pure: `now` is a
//! reading of the steady clock, as all times here are.

use chrono::{DateTime, Utc};
use saga::{Input, State, Timer, Timers};

use crate::Timing;
use crate::saga::Order;
use crate::view::Row;

/// Sets the timer of an order that has moved on from `before`.
pub fn wind(row: &mut Row, before: &State<Order>, now: DateTime<Utc>, timing: &Timing) {
    let mut timers = timers(row, before);
    timers.set(before, &row.state, now, row.began_at, seed(&row.order), &timing.of_saga());
    (row.waiting_since, row.due_at) = (timers.waiting_since(), timers.due_at());
}

/// What the clock says of each unanswered command of an order; nothing, if it is not due.
pub fn inputs(row: &Row, now: DateTime<Utc>, timing: &Timing) -> Vec<Input<Order>> {
    timers(row, &row.state).inputs(&row.state, now, row.began_at, &timing.of_saga())
}

/// An order waits for one answer at a time, so one pair of columns is enough.
fn timers(row: &Row, state: &State<Order>) -> Timers<Order> {
    match (row.waiting_since, row.due_at) {
        (Some(since), Some(due)) => Timers::same(state, Timer { since, due }),
        _ => Timers::none(),
    }
}

/// Sagas that began together must not all come back together.
fn seed(order: &Order) -> u64 {
    order.id.0.as_u128() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use clap::Parser as _;
    use events::product::Line;
    use events::{OrderId, ProductId, Quantity, TraceParent, UserId};
    use saga::decide;
    use uuid::Uuid;

    use super::*;
    use crate::Settings;
    use crate::saga::Step;

    const RETRY: i64 = 5;
    const STEP: i64 = 300;
    const ORDER: i64 = 900;

    fn timing() -> Timing {
        let timing = Settings::parse_from(["order"]).timing;
        assert_eq!(timing.retry_first.as_secs() as i64, RETRY);
        assert_eq!((timing.step_deadline.as_secs() as i64, timing.order_deadline.as_secs() as i64), (STEP, ORDER));
        timing
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    /// An order placed at 0 by the steady clock, and at any time of day.
    fn placed(of_day: DateTime<Utc>, timing: &Timing) -> Row {
        let line = Line { product_id: ProductId(Uuid::from_u128(3)), quantity: Quantity::try_from(2).unwrap() };
        let order = Order { id: OrderId(Uuid::from_u128(1)), user_id: UserId(Uuid::from_u128(2)), items: vec![line] };
        let mut row = Row {
            order,
            state: State::new(),
            sequence: 0,
            history_bytes: 0,
            prices: None,
            trace: TraceParent::from_random(7),
            created_at: of_day,
            updated_at: of_day,
            began_at: at(0),
            waiting_since: None,
            due_at: None,
        };
        step(&mut row, &Input::Start, at(0), timing);
        row
    }

    fn step(row: &mut Row, input: &Input<Order>, now: DateTime<Utc>, timing: &Timing) {
        let before = row.state.clone();
        row.state = decide(&row.order, &row.state, input).state;
        wind(row, &before, now, timing);
    }

    #[test]
    fn it_asks_again_when_its_span_has_passed_and_not_before() {
        let timing = timing();
        let mut row = placed(at(0), &timing);
        let first = row.due_at.unwrap();
        assert!((at(RETRY - 1)..=at(RETRY + 1)).contains(&first), "{first}");
        assert_eq!(inputs(&row, first - TimeDelta::microseconds(1), &timing), []);
        assert_eq!(inputs(&row, first, &timing), [Input::Due(Step::ValidateUser)]);
        step(&mut row, &Input::Due(Step::ValidateUser), first, &timing);
        assert_eq!(row.waiting_since, Some(at(0)), "it waits for the same answer still");
        let second = row.due_at.unwrap() - first;
        assert!(second >= TimeDelta::seconds(2 * RETRY - 2) && second <= TimeDelta::seconds(2 * RETRY + 2), "{second}");
    }

    #[test]
    fn a_step_is_given_up_at_its_deadline_and_not_before() {
        let timing = timing();
        let mut row = placed(at(0), &timing);
        let before = at(STEP) - TimeDelta::seconds(1);
        step(&mut row, &Input::Due(Step::ValidateUser), before, &timing);
        assert_eq!(row.due_at, Some(at(STEP)), "no repetition is waited for past the deadline");
        row.due_at = Some(before);
        assert_eq!(inputs(&row, before, &timing), [Input::Due(Step::ValidateUser)]);
        assert_eq!(inputs(&row, at(STEP), &timing), [Input::Expired(Step::ValidateUser)]);
    }

    #[test]
    fn the_deadline_of_an_order_counts_from_when_it_began_whatever_the_time_of_day_was() {
        let timing = Timing { step_deadline: Duration::from_secs(100_000), ..timing() };
        for of_day in [at(0), at(-3_600), at(3_600)] {
            let mut row = placed(of_day, &timing);
            let before = at(ORDER) - TimeDelta::seconds(1);
            step(&mut row, &Input::Due(Step::ValidateUser), before, &timing);
            assert_eq!(row.due_at, Some(at(ORDER)), "{of_day}");
            row.due_at = Some(before);
            assert_eq!(inputs(&row, before, &timing), [Input::Due(Step::ValidateUser)], "{of_day}");
            assert_eq!(inputs(&row, at(ORDER), &timing), [Input::Overdue], "{of_day}");
        }
    }

    #[test]
    fn what_is_being_undone_is_asked_for_ever() {
        let timing = timing();
        let mut row = placed(at(0), &timing);
        let user = events::user::Validated { order_id: row.order.id, user_id: row.order.user_id };
        step(&mut row, &Input::Reply(crate::saga::Reply::User(user.into())), at(1), &timing);
        step(&mut row, &Input::Expired(Step::ReserveStock), at(STEP + 1), &timing);
        let late = at(100 * ORDER);
        assert_eq!(inputs(&row, late, &timing), [Input::Due(Step::ReserveStock)]);
        step(&mut row, &Input::Due(Step::ReserveStock), late, &timing);
        assert!(row.due_at.unwrap() > late, "{:?}", row.due_at);
    }

    #[test]
    fn no_setting_is_too_long() {
        let for_ever = Duration::from_secs(u64::MAX);
        let timing = Timing { step_deadline: for_ever, order_deadline: for_ever, ..timing() };
        assert_eq!(inputs(&placed(at(0), &timing), at(0), &timing), []);
    }
}
