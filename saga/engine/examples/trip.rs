//! A trip: flight, hotel and car side by side, then the payment, then the tickets. The engine of the orders, in another domain.
//!
//! ```text
//! cargo run -p waybill-saga --example trip                      all goes well
//! cargo run -p waybill-saga --example trip -- hotel refuses     what is booked is cancelled
//! cargo run -p waybill-saga --example trip -- car silent        it may be booked all the same: it is cancelled too
//! cargo run -p waybill-saga --example trip -- bank refuses      the pivot turns the trip round
//! cargo run -p waybill-saga --example trip -- post silent       after the pivot no step may refuse: asked until it is done
//! ```

use std::time::Duration;

use Command::{Cancel, Do};
use Step::{Car, Flight, Hotel, Payment, Tickets};
use chrono::{DateTime, TimeDelta};
use saga::{Change, Decision, Entry, Input, Outcome, Plan, RetryPolicy, Stages, State};
use saga::{compensatable, decide, pivot, replay, retriable};
use serde::{Deserialize, Serialize};

// ------------------------------------------------------------------------------------------------------------------ the plan

#[derive(Clone, Debug, PartialEq)]
struct Trip {
    to: &'static str,
    nights: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
enum Step {
    Flight,
    Hotel,
    Car,
    Payment,
    Tickets,
}

#[derive(Debug)]
enum Command {
    Do(Step, String),
    Cancel(Step),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Reply {
    Done(Step, Receipt),
    Refused(Step, String),
    Cancelled(Step),
}

/// For what, and how many euros.
type Receipt = (String, u32);

const SECOND: Duration = Duration::from_secs(1);
const RETRY: RetryPolicy = RetryPolicy { first_retry: SECOND, max_retry: SECOND, deadline: SECOND };

impl Plan for Trip {
    type Step = Step;
    type Command = Command;
    type Reply = Reply;
    type Output = Receipt;
    type Refusal = String;

    const VERSIONS: &'static [(u32, Stages<Self>)] = &[(
        1,
        Stages::new(&[
            &[
                compensatable(Flight, RETRY, |trip, _| Do(Flight, format!("to {} and back", trip.to)), |_, _| Cancel(Flight)),
                compensatable(Hotel, RETRY, |trip, _| Do(Hotel, format!("for {} nights", trip.nights)), |_, _| Cancel(Hotel)),
                compensatable(Car, RETRY, |trip, _| Do(Car, format!("for {} days", trip.nights + 1)), |_, _| Cancel(Car)),
            ],
            &[pivot(Payment, RETRY, |_, state| Do(Payment, total(state)))],
            &[retriable(Tickets, RETRY, |trip, _| Do(Tickets, format!("to {}", trip.to)))],
        ]),
    )];

    fn outcome(&self, answer: &Reply) -> Option<(Step, Outcome<Self>)> {
        Some(match answer.clone() {
            Reply::Done(step, receipt) => (step, Outcome::Done(receipt)),
            Reply::Refused(step, why) => (step, Outcome::Refused(why)),
            Reply::Cancelled(step) => (step, Outcome::Undone),
        })
    }
}

/// Later steps are told from what earlier ones brought forth.
fn total(state: &State<Trip>) -> String {
    let prices = state.steps().filter_map(|(step, _)| Some(state.output(step)?.1));
    format!("{} euros", prices.sum::<u32>())
}

// ---------------------------------------------------------------------------------------------------------- the participants

/// Each keeps one row a trip, whatever it is asked and however often: the row is the answer.
#[derive(Default)]
struct Participant {
    name: &'static str,
    euros: u32,
    mood: Mood,
    row: Option<Reply>,
    asked: u32,
}

#[derive(Clone, Copy, PartialEq, Default)]
enum Mood {
    #[default]
    Willing,
    Refuses,
    /// Does what it is asked, and its first two answers are lost.
    Silent,
}

/// In the order of the steps.
const NAMES: [(&str, u32); 5] = [("airline", 410), ("hotel", 360), ("car", 95), ("bank", 0), ("post", 0)];

fn participants() -> [Participant; 5] {
    NAMES.map(|(name, euros)| Participant { name, euros, ..Participant::default() })
}

impl Participant {
    fn answer(&mut self, command: Command) -> Option<Reply> {
        let answer = match (command, self.row.take(), self.mood) {
            (Cancel(step), ..) => Reply::Cancelled(step),
            (Do(..), Some(row), _) => row,
            (Do(step, _), None, Mood::Refuses) => Reply::Refused(step, format!("the {} will not", self.name)),
            (Do(step, wish), None, _) => Reply::Done(step, (wish, self.euros)),
        };
        self.row = Some(answer.clone());
        self.asked += 1;
        (self.mood != Mood::Silent || self.asked > 2).then_some(answer)
    }
}

// ------------------------------------------------------------------------------------------------------------------- the run

/// Carries a trip to its end and returns its history. (A service would write each entry down before it sends anything.)
fn run(trip: &Trip, participants: &mut [Participant; 5]) -> Vec<Entry<Trip>> {
    let (mut state, mut history, mut time) = (State::new(), Vec::new(), DateTime::UNIX_EPOCH);
    let mut inputs = vec![Input::Start];
    while !inputs.is_empty() || !state.is_settled() {
        if inputs.is_empty() {
            // When nobody says anything any more, the clock does.
            time += TimeDelta::seconds(1);
            let clock = |(step, _, attempt)| if attempt > 1 { Input::Expired(step) } else { Input::Due(step) };
            inputs = state.outstanding().map(clock).collect();
        }
        let input = inputs.remove(0);
        time += TimeDelta::milliseconds(20);
        let Decision { verdict, state: next, effects } = decide(trip, &state, &input);
        for command in effects.iter().filter_map(|effect| next.command(trip, effect)) {
            let (Do(step, _) | Cancel(step)) = command;
            inputs.extend(participants[step as usize].answer(command).map(Input::Reply));
        }
        state = next.clone();
        let (sequence, attempts) = (history.len() as u32 + 1, Default::default());
        history.push(Entry { sequence, time, input, verdict, sent: effects, attempts, state: next });
    }
    history
}

fn main() {
    let trip = Trip { to: "Lisbon", nights: 4 };
    let mut participants = participants();
    if let [name, mood] = std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        let moody = participants.iter_mut().find(|participant| participant.name == name);
        let mood = if mood == "refuses" && name != "post" { Mood::Refuses } else { Mood::Silent };
        moody.expect("airline, hotel, car, bank or post").mood = mood;
    }
    println!("{trip:?}\n");
    let history = run(&trip, &mut participants);
    for entry in &history {
        println!("{}  {:?}: {:?}", entry.time.format("%S%.3f"), entry.input, entry.verdict);
        for effect in &entry.sent {
            match entry.state.command(&trip, effect) {
                Some(command) => println!("        → {command:?}"),
                None => println!("        {effect:?}"),
            }
        }
    }

    println!("\nThe same again, from the history alone:\n");
    let replay = replay(&trip, &history, None);
    for step in replay.steps.iter().filter(|step| !step.changes.is_empty()) {
        let changes: Vec<String> = step.changes.iter().map(Change::to_string).collect();
        println!("{:4}  {}", step.entry.sequence, changes.join("\n      "));
    }
    println!("\n{}", replay.divergence.map_or("No entry is decided otherwise.".to_owned(), |found| found.to_string()));
}

#[test]
fn whoever_refuses_or_is_silent_every_trip_ends_and_replays() {
    let trip = Trip { to: "Lisbon", nights: 4 };
    for (moody, mood) in (0..4).flat_map(|moody| [(moody, Mood::Refuses), (moody, Mood::Silent)]) {
        let mut participants = participants();
        participants[moody].mood = mood;
        let history = run(&trip, &mut participants);
        let completed = *history.last().unwrap().state.phase() == saga::Phase::Completed;
        assert_eq!((completed, replay(&trip, &history, None).divergence), (moody == 3 && mood == Mood::Silent, None));
    }
}
