//! When an order is due again, and what the clock says of it then: by the settings' defaults, which are the plan's own.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser as _;
use events::user;
use order::Settings;
use order::saga::{Order, Reply, Step};
use saga::{Input, State, Timer, Timers, Timing, decide};
use saga_runtime::TimingSettings;
use uuid::Uuid;

use crate::kit::order;

const RETRY: i64 = 5;
const STEP: i64 = 300;
const ORDER: i64 = 900;

fn settings() -> TimingSettings {
    Settings::parse_from(["order"]).sagas.timing
}

fn timing() -> Timing<Order> {
    settings().timing().unwrap()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

/// An order placed at 0 by the steady clock.
struct Placed {
    order: Order,
    state: State<Order>,
    timers: Timers<Order>,
}

impl Placed {
    fn new(timing: &Timing<Order>) -> Self {
        let mut placed = Self { order: order(), state: State::new(), timers: Timers::none() };
        placed.step(&Input::Start, at(0), timing);
        placed
    }

    fn step(&mut self, input: &Input<Order>, now: DateTime<Utc>, timing: &Timing<Order>) {
        let before = self.state.clone();
        self.state = decide(&self.order, &self.state, input).state;
        self.timers.set(&before, &self.state, now, at(0), 7, timing);
    }

    fn inputs(&self, now: DateTime<Utc>, timing: &Timing<Order>) -> Vec<Input<Order>> {
        self.timers.inputs(&self.state, now, at(0), timing)
    }

    /// Its timer is up at a moment.
    fn due(&mut self, due: DateTime<Utc>) {
        self.timers = Timers::same(&self.state, Timer { since: self.timers.waiting_since().unwrap(), due });
    }
}

#[test]
fn it_asks_again_when_its_span_has_passed_and_not_before() {
    let timing = timing();
    let mut placed = Placed::new(&timing);
    let first = placed.timers.due_at().unwrap();
    assert!((at(RETRY - 1)..=at(RETRY + 1)).contains(&first), "{first}");
    assert_eq!(placed.inputs(first - TimeDelta::microseconds(1), &timing), []);
    assert_eq!(placed.inputs(first, &timing), [Input::Due(Step::ValidateUser)]);
    placed.step(&Input::Due(Step::ValidateUser), first, &timing);
    assert_eq!(placed.timers.waiting_since(), Some(at(0)), "it waits for the same answer still");
    let second = placed.timers.due_at().unwrap() - first;
    assert!(second >= TimeDelta::seconds(2 * RETRY - 2) && second <= TimeDelta::seconds(2 * RETRY + 2), "{second}");
}

#[test]
fn a_step_is_given_up_at_its_deadline_and_not_before() {
    let timing = timing();
    let mut placed = Placed::new(&timing);
    let before = at(STEP) - TimeDelta::seconds(1);
    placed.step(&Input::Due(Step::ValidateUser), before, &timing);
    assert_eq!(placed.timers.due_at(), Some(at(STEP)), "no repetition is waited for past the deadline");
    placed.due(before);
    assert_eq!(placed.inputs(before, &timing), [Input::Due(Step::ValidateUser)]);
    assert_eq!(placed.inputs(at(STEP), &timing), [Input::Expired(Step::ValidateUser)]);
}

#[test]
fn the_deadline_of_an_order_counts_from_when_it_began() {
    let timing = TimingSettings { step_deadline: Some(Duration::from_secs(100_000)), ..settings() }.timing().unwrap();
    let mut placed = Placed::new(&timing);
    let before = at(ORDER) - TimeDelta::seconds(1);
    placed.step(&Input::Due(Step::ValidateUser), before, &timing);
    assert_eq!(placed.timers.due_at(), Some(at(ORDER)));
    placed.due(before);
    assert_eq!(placed.inputs(before, &timing), [Input::Due(Step::ValidateUser)]);
    assert_eq!(placed.inputs(at(ORDER), &timing), [Input::Overdue]);
}

#[test]
fn what_is_being_undone_is_asked_for_ever() {
    let timing = timing();
    let mut placed = Placed::new(&timing);
    let user = user::Validated { order_id: placed.order.id, user_id: placed.order.user_id };
    placed.step(&Input::Reply(Reply::User(user.into())), at(1), &timing);
    placed.step(&Input::Expired(Step::ReserveStock), at(STEP + 1), &timing);
    let late = at(100 * ORDER);
    assert_eq!(placed.inputs(late, &timing), [Input::Due(Step::ReserveStock)]);
    placed.step(&Input::Due(Step::ReserveStock), late, &timing);
    assert!(placed.timers.due_at().unwrap() > late, "{:?}", placed.timers);
}

#[test]
fn no_setting_is_too_long() {
    let for_ever = Duration::from_secs(u64::MAX);
    let timing = TimingSettings { step_deadline: Some(for_ever), saga_deadline: for_ever, ..settings() }.timing().unwrap();
    assert_eq!(Placed::new(&timing).inputs(at(0), &timing), []);
}

#[test]
fn a_step_may_be_set_otherwise_than_the_others_and_one_that_there_is_not_is_refused_by_name() {
    let set = |steps: &str| {
        let settings = Settings::try_parse_from(["order", "--retry-first", "7", "--steps", steps])?;
        settings.sagas.timing.timing::<Order>()
    };
    let timing = set("reserve_stock.deadline=60,reserve_stock.first_retry=2").unwrap();
    let (user, stock) = (timing.policy(1, Step::ValidateUser).unwrap(), timing.policy(1, Step::ReserveStock).unwrap());
    let seconds = Duration::from_secs;
    assert_eq!((user.first_retry, user.max_retry, user.deadline), (seconds(7), seconds(60), seconds(300)));
    assert_eq!((stock.first_retry, stock.max_retry, stock.deadline), (seconds(2), seconds(60), seconds(60)));
    for (wrong, why) in [
        ("pay.deadline=60", "the step `pay` is not one of validate_user, reserve_stock"),
        ("reserve_stock.patience=60", "there is no `patience` of a step; there are first_retry, max_retry and deadline"),
        ("reserve_stock=60", "it is not of the form STEP.NAME=SECONDS"),
        ("reserve_stock.deadline=soon", "`soon` is not a number of seconds"),
        ("reserve_stock.max_retry=1", "for the step reserve_stock"),
    ] {
        let error = set(wrong).expect_err(wrong).to_string();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn orders_that_began_together_do_not_come_back_together() {
    let mut ids = (1..4).map(Uuid::from_u128);
    let due = |id: Uuid| {
        let (mut timers, state) = (Timers::<Order>::none(), decide(&order(), &State::new(), &Input::Start).state);
        timers.set(&State::new(), &state, at(0), at(0), id.as_u128() as u64, &timing());
        timers.due_at()
    };
    let first = due(ids.next().unwrap());
    assert!(ids.all(|id| due(id) != first));
}
