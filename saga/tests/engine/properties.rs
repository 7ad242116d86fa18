//! However bad the network was, once it is good again every saga ends, and what it ends as is true of its participants.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, Hash, RandomState};

use events::order::Status::{self, *};
use events::product::{Line, PricedLine, Release, Released, Reserve, Reserved};
use events::{Currency, Money, OrderId, ProductId, Quantity, Reason, ReasonCode, UserId, product, user};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use saga::order::{Answer, Command, Order, Step};
use saga::{Direction, Kind, Phase, Plan, Progress, State};
use uuid::Uuid;

use crate::network::{Event, Participants, World, check, events};
use crate::parcel::{self, Parcel};
use crate::toy;
use crate::trip::{self, Trip};

/// Lives many small cases through, and returns every end there was. A failing case is printed in its smallest form, with the seed that
/// finds it again: `WAYBILL_TEST_SEED=<seed>`. Longer runs: `WAYBILL_TEST_CASES=1000000`.
fn lived<S: Strategy, T: Hash + Eq>(cases: &S, live: impl Fn(S::Value) -> T) -> HashSet<T> {
    let ends = RefCell::new(HashSet::new());
    let seed = from_environment("WAYBILL_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    let cases_wanted = from_environment("WAYBILL_TEST_CASES").map_or(1_000, |cases| cases as u32);
    let config = Config { cases: cases_wanted, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let mut runner = TestRunner::new(config);
    let run = runner.run(cases, |case| {
        let end = live(case);
        ends.borrow_mut().insert(end);
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}\nagain with: WAYBILL_TEST_SEED={seed} WAYBILL_TEST_CASES={cases_wanted}"));
    ends.into_inner()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// What the product service knows of the order: one row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Held,
    Refused,
    Released,
}

/// A user service and a product service, ideal: each effect is bound to the order's row.
#[derive(Debug)]
struct Shop {
    user_active: bool,
    available: i64,
    held: i64,
    row: Option<Row>,
    takes: u32,
    returns: u32,
}

const PIECES: i64 = 3;

fn order() -> Order {
    let line = |id, pieces| Line { product_id: ProductId(Uuid::from_u128(id)), quantity: Quantity::new(pieces).unwrap() };
    Order { id: OrderId(Uuid::from_u128(1)), user_id: UserId(Uuid::from_u128(2)), items: vec![line(3, 2), line(4, 1)] }
}

impl Shop {
    fn reserve(&mut self, Reserve { order_id, items }: Reserve) -> product::Reply {
        let wanted: i64 = items.iter().map(|line| i64::from(line.quantity)).sum();
        let row = *self.row.get_or_insert_with(|| {
            if self.available < wanted {
                return Row::Refused;
            }
            self.available -= wanted;
            self.held += wanted;
            self.takes += 1;
            Row::Held
        });
        let price = |line: Line| PricedLine { product_id: line.product_id, unit_price: Money::new(100, Currency::USD) };
        match row {
            Row::Held => Reserved { order_id, items: items.into_iter().map(price).collect() }.into(),
            Row::Refused => product::Refused { order_id, reason: Reason::new(ReasonCode::InsufficientStock, "") }.into(),
            Row::Released => Released { order_id }.into(),
        }
    }

    fn release(&mut self, Release { order_id }: Release) -> product::Reply {
        if self.row.replace(Row::Released) == Some(Row::Held) {
            self.available += self.held;
            self.held = 0;
            self.returns += 1;
        }
        Released { order_id }.into()
    }
}

impl Participants<Order> for Shop {
    fn answer(&mut self, command: Command) -> Answer {
        match command {
            Command::User(user::Command::Validate(user::Validate { order_id, user_id })) => Answer::User(if self.user_active {
                user::Validated { order_id, user_id }.into()
            } else {
                user::Refused { order_id, user_id, reason: Reason::new(ReasonCode::UserInactive, "") }.into()
            }),
            Command::Product(product::Command::Reserve(reserve)) => Answer::Product(self.reserve(reserve)),
            Command::Product(product::Command::Release(release)) => Answer::Product(self.release(release)),
        }
    }

    /// The user is deactivated or activated: the next answer contradicts the last.
    fn change(&mut self) {
        self.user_active = !self.user_active;
    }
}

/// An operator gave its compensation up: what it holds is put right by hand.
fn given_up<P: Plan>(state: &State<P>, step: P::Step) -> bool {
    matches!(state.progress(step), Some(Progress::GivenUp(_)))
}

/// Lives one order through, checks it, and says what became of it.
fn order_lives(user_active: bool, stock: i64, events: &[Event]) -> Vec<Status> {
    let shop = Shop { user_active, available: stock, held: 0, row: None, takes: 0, returns: 0 };
    let mut world = World::new(order(), shop);
    world.live(events);
    check(&world.plan, &world.state, &world.history);

    let mut statuses: Vec<Status> = world.history.iter().map(|entry| Order::status(&entry.state)).collect();
    statuses.dedup();
    let shop = &world.participants;
    assert_eq!(shop.available + shop.held, stock, "stock is conserved");
    if !given_up(&world.state, Step::ReserveStock) {
        assert_eq!(shop.held, if statuses.ends_with(&[Confirmed]) { PIECES } else { 0 }, "held if and only if confirmed");
    }
    assert!(shop.takes <= 1 && shop.returns <= shop.takes, "each command has at most one effect");
    statuses
}

#[test]
fn every_order_ends_and_stock_is_held_if_and_only_if_it_is_confirmed() {
    let cases = (any::<bool>(), 0..2 * PIECES, events());
    let lives = lived(&cases, |(user_active, stock, events)| order_lives(user_active, stock, &events));
    let possible = HashSet::from([
        vec![Pending, Confirmed],
        vec![Pending, Rejected],
        vec![Pending, Cancelled],
        vec![Pending, Cancelling, Cancelled],
        vec![Pending, Confirmed, Cancelling, Cancelled],
    ]);
    assert_eq!(lives, possible, "each possible life was lived, and no other");
}

/// Participants of a toy plan: a row for each step, true where it is done and held.
#[derive(Debug)]
struct Toys<S> {
    refuse: BTreeSet<S>,
    rows: BTreeMap<S, bool>,
    takes: BTreeMap<S, u32>,
}

impl<S: Copy + Ord, P: Plan<Step = S, Command = toy::Command<S>, Answer = toy::Answer<S>>> Participants<P> for Toys<S> {
    fn answer(&mut self, toy::Command { step, direction, .. }: P::Command) -> P::Answer {
        if direction == Direction::Undo {
            self.rows.insert(step, false);
            return toy::Answer::Undone(step);
        }
        if self.refuse.contains(&step) {
            return toy::Answer::Refused(step, "no".to_owned());
        }
        let held = *self.rows.entry(step).or_insert_with(|| {
            *self.takes.entry(step).or_default() += 1;
            true
        });
        if held { toy::Answer::Done(step, 1) } else { toy::Answer::Undone(step) }
    }
}

/// Lives one toy saga through and checks it; says whether it was completed.
fn toy_lives<S, P>(plan: P, refuse: BTreeSet<S>, events: &[Event]) -> bool
where
    S: Copy + Ord,
    P: Plan<Step = S, Command = toy::Command<S>, Answer = toy::Answer<S>>,
{
    let mut world = World::new(plan, Toys { refuse, rows: BTreeMap::new(), takes: BTreeMap::new() });
    world.live(events);
    check(&world.plan, &world.state, &world.history);

    let completed = *world.state.phase() == Phase::Completed;
    assert!(world.participants.takes.values().all(|takes| *takes == 1), "each command has at most one effect");
    for spec in P::stages(world.state.plan_version()).unwrap().iter().flatten() {
        if given_up(&world.state, spec.step) {
            continue;
        }
        let held = world.participants.rows.get(&spec.step) == Some(&true);
        match spec.kind {
            Kind::Check => {}
            Kind::Compensatable { .. } | Kind::Pivot | Kind::Retriable => assert_eq!(held, completed, "all of it or nothing"),
        }
    }
    completed
}

#[test]
fn every_toy_saga_ends_with_all_of_it_done_or_nothing() {
    // Steps after the pivot cannot refuse.
    let trip = [trip::Step::Passport, trip::Step::Flight, trip::Step::Hotel, trip::Step::Pay];
    let parcel = [parcel::Step::Pick, parcel::Step::Weigh, parcel::Step::Wrap, parcel::Step::Ship];
    let cases = (prop::option::of(0..4_usize), prop::option::of(0..4_usize), events());
    let ends = lived(&cases, |(in_trip, in_parcel, events)| {
        let trip = toy_lives(Trip, in_trip.map(|at| trip[at]).into_iter().collect(), &events);
        let parcel = toy_lives(Parcel, in_parcel.map(|at| parcel[at]).into_iter().collect(), &events);
        (trip, parcel)
    });
    assert_eq!(ends.len(), 4, "each was completed and each undone");
}
