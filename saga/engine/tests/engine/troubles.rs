//! Whatever their participants do, the toy sagas end with all of it done or nothing.

use std::collections::{BTreeMap, BTreeSet};

use saga::testkit::{Bounds, Participants, explore, survives};
use saga::{Direction, Plan};

use crate::parcel::Parcel;
use crate::toy::{Command, Reply};
use crate::trip::Trip;

/// Participants of a toy plan: a row for each step, true where it is done and held.
#[derive(Clone, Debug)]
struct Toys<S> {
    refuse: BTreeSet<S>,
    rows: BTreeMap<S, bool>,
}

fn toys<S: Ord>() -> Toys<S> {
    Toys { refuse: BTreeSet::new(), rows: BTreeMap::new() }
}

impl<S: Copy + Ord, P: Plan<Step = S, Command = Command<S>, Reply = Reply<S>>> Participants<P> for Toys<S> {
    fn reply(&mut self, Command { step, direction, .. }: P::Command) -> P::Reply {
        if direction == Direction::Compensate {
            self.rows.insert(step, false);
            return Reply::Undone(step);
        }
        match self.rows.get(&step) {
            Some(true) => Reply::Done(step, 1),
            Some(false) => Reply::Undone(step),
            None if self.refuse.contains(&step) => Reply::Refused(step, "no".to_owned()),
            None => {
                self.rows.insert(step, true);
                Reply::Done(step, 1)
            }
        }
    }

    fn refuse(&mut self, step: S) {
        self.refuse.insert(step);
    }

    fn holds(&self, step: S) -> bool {
        self.rows.get(&step) == Some(&true)
    }
}

#[test]
fn a_trip_survives_every_trouble_of_its_steps() {
    let survived = survives(&Trip, &toys(), 1_000);
    assert!(survived.completed > 100 && survived.compensated > 100, "{survived:?}");
}

#[test]
fn a_parcel_survives_every_trouble_of_its_steps() {
    let survived = survives(&Parcel, &toys(), 1_000);
    assert!(survived.completed > 100 && survived.compensated > 100, "{survived:?}");
}

/// One that undoes nothing, whatever it is told.
#[derive(Clone, Debug)]
struct Keeps(Toys<crate::parcel::Step>);

impl Participants<Parcel> for Keeps {
    fn reply(&mut self, command: Command<crate::parcel::Step>) -> Reply<crate::parcel::Step> {
        if command.direction == Direction::Compensate {
            return Reply::Undone(command.step);
        }
        Participants::<Parcel>::reply(&mut self.0, command)
    }

    fn refuse(&mut self, step: crate::parcel::Step) {
        Participants::<Parcel>::refuse(&mut self.0, step);
    }

    fn holds(&self, step: crate::parcel::Step) -> bool {
        Participants::<Parcel>::holds(&self.0, step)
    }
}

#[test]
#[should_panic = "all of it or nothing"]
fn a_participant_that_keeps_what_it_should_give_back_is_found() {
    survives(&Parcel, &Keeps(toys()), 0);
}

#[test]
fn a_line_of_two_is_explored_whole() {
    let explored = explore(&crate::toy::Two, &toys(), Bounds { messages: usize::MAX, states: 200_000 });
    assert!(explored.states > 100 && explored.completed > 0 && explored.compensated > 0, "{explored:?}");
}
