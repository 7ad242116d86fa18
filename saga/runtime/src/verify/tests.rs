use std::time::Duration;

use envelope::{CloudEvent, DecodeError, Message, Participant, Stream, Topology};
use saga::{Direction, Exportable, Milestone, Outcome, Plan, RetryPolicy, Stages, State, check, compensatable};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::saga::{Channel, History, Record};
use crate::steps::{reply_readers, step_named, topology, waiting_for};

/// What somebody forgot.
const NOTHING: u8 = 0;
const SUBJECT: u8 = 1;
const COMPENSATION: u8 = 2;
const WORDS: u8 = 3;
const DECODE_ARM: u8 = 4;
const HISTORY_ARM: u8 = 5;
const KIND: u8 = 6;
const REPLIES: u8 = 7;

/// A dinner: is there a table, and hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Dinner<const FORGOTTEN: u8> {
    id: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    LookUp,
    Book,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ask {}

envelope::vocabulary! {
    /// What is asked.
    pub enum Command {
        /// Anything.
        "dinner.ask.v1" => Ask(Ask),
    }
}

/// What is replied: a kind, and for which dinner.
#[derive(Clone, Debug, PartialEq)]
struct Reply<const FORGOTTEN: u8>(&'static str, Uuid);

const GUIDE: [&str; 1] = ["dinner.guide.found.v1"];
const HOUSE: [&str; 2] = ["dinner.house.booked.v1", "dinner.house.freed.v1"];
const ALL: [&str; 3] = [GUIDE[0], HOUSE[0], HOUSE[1]];

#[derive(Deserialize)]
struct Data {
    id: Uuid,
}

impl<const FORGOTTEN: u8> Message for Reply<FORGOTTEN> {
    fn kinds() -> Vec<&'static str> {
        ALL.into_iter().filter(|kind| FORGOTTEN != KIND || *kind != HOUSE[1]).collect()
    }

    fn kind(&self) -> &'static str {
        self.0
    }

    fn decode(kind: &str, data: &RawValue) -> Result<Self, DecodeError> {
        let known = ALL.into_iter().find(|known| *known == kind && (FORGOTTEN != DECODE_ARM || *known != HOUSE[1]));
        let known = known.ok_or_else(|| DecodeError::Unknown(kind.to_owned()))?;
        Ok(Self(known, serde_json::from_str::<Data>(data.get())?.id))
    }

    fn serialize_data<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ "id": self.1 }).serialize(serializer)
    }
}

impl<const FORGOTTEN: u8> Serialize for Reply<FORGOTTEN> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({ "type": self.0, "data": { "id": self.1 } }).serialize(serializer)
    }
}

impl<'de, const FORGOTTEN: u8> Deserialize<'de> for Reply<FORGOTTEN> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            r#type: String,
            data: serde_json::Value,
        }
        let Raw { r#type, data } = Raw::deserialize(deserializer)?;
        let known = ALL.into_iter().find(|known| **known == *r#type && (FORGOTTEN != HISTORY_ARM || *known != HOUSE[1]));
        let known = known.ok_or_else(|| serde::de::Error::custom(format!("unknown variant `{}`", r#type)))?;
        Ok(Self(known, serde_json::from_value::<Data>(data).map_err(serde::de::Error::custom)?.id))
    }
}

const RETRY: RetryPolicy =
    RetryPolicy { first_retry: Duration::from_secs(1), max_retry: Duration::from_secs(8), deadline: Duration::from_secs(60) };

const fn stream(name: &'static str, subjects: &'static [&'static str]) -> Stream {
    Stream { name, subjects, description: "", producer: "" }
}

const THE_GUIDE: Participant =
    Participant { name: "guide", commands: stream("ASK_GUIDE", &["ask.guide"]), replies: stream("GUIDE", &["guide"]) };
const THE_HOUSE: Participant =
    Participant { name: "house", commands: stream("ASK_HOUSE", &["ask.house.*"]), replies: stream("HOUSE", &["house"]) };

impl<const FORGOTTEN: u8> Plan for Dinner<FORGOTTEN> {
    type Step = Step;
    type Command = Command;
    type Reply = Reply<FORGOTTEN>;
    type Output = ();
    type Refusal = ();

    const VERSIONS: &'static [(u32, Stages<Self>)] = &[(
        1,
        Stages::new(&[
            &[check(Step::LookUp, RETRY, |_, _| Ask {}.into())],
            &[compensatable(Step::Book, RETRY, |_, _| Ask {}.into(), |_, _| Ask {}.into())],
        ]),
    )];

    fn outcome(&self, _: &Self::Reply) -> Option<(Step, Outcome<Self>)> {
        None
    }
}

impl<const FORGOTTEN: u8> Exportable for Dinner<FORGOTTEN> {
    const NAME: &'static str = "dinner";

    fn id(&self) -> Uuid {
        self.id
    }
}

impl<const FORGOTTEN: u8> Dinner<FORGOTTEN> {
    const LOOK_UP: Channel = Channel {
        participant: THE_GUIDE,
        execute: "ask.guide",
        compensate: None,
        replies: || if FORGOTTEN == REPLIES { Vec::new() } else { GUIDE.to_vec() },
        executing: "look up a table",
        compensating: "",
    };
    const BOOK: Channel = Channel {
        participant: THE_HOUSE,
        execute: if FORGOTTEN == SUBJECT { "ask.house" } else { "ask.house.book" },
        compensate: if FORGOTTEN == COMPENSATION { None } else { Some("ask.house.free") },
        replies: || HOUSE.to_vec(),
        executing: "hold the table",
        compensating: if FORGOTTEN == WORDS { "" } else { "let go of the table" },
    };
}

impl<const FORGOTTEN: u8> Saga for Dinner<FORGOTTEN> {
    type Event = Command;
    type Layout = crate::Plain;

    const SOURCE: &'static str = "/dinner";
    const EVENTS: Stream = stream("DINNERS", &["events.dinner.*.*"]);

    fn channel(step: Step) -> &'static Channel {
        match step {
            Step::LookUp => &Self::LOOK_UP,
            Step::Book => &Self::BOOK,
        }
    }

    fn correlate(reply: &Self::Reply) -> Uuid {
        reply.1
    }

    fn event(_: Milestone, _: &Record<Self>, _: History<'_>) -> anyhow::Result<(&'static str, Command)> {
        Ok(("asked", Ask {}.into()))
    }
}

fn missing<const FORGOTTEN: u8>() -> String {
    let provisioned = topology::<Dinner<FORGOTTEN>>();
    verify::<Dinner<FORGOTTEN>>(&provisioned).expect_err("something is missing").to_string()
}

#[test]
fn whatever_is_missing_from_a_sagas_table_is_named_at_start_up() {
    assert_eq!(verify::<Dinner<NOTHING>>(&topology::<Dinner<NOTHING>>()), Ok(()));
    for (found, named) in [
        (missing::<SUBJECT>(), "the step book is asked for under ask.house, which is no subject of the stream ASK_HOUSE"),
        (missing::<COMPENSATION>(), "the step book has a compensation in the plan, and its channel has no subject for it"),
        (missing::<WORDS>(), "the step book has no words for what is waited for"),
        (
            missing::<DECODE_ARM>(),
            "the reply dinner.house.freed.v1 is among the kinds of replies, and is not read: its arm is missing in `Message::decode`",
        ),
        (
            missing::<HISTORY_ARM>(),
            "the reply dinner.house.freed.v1 is among the kinds of replies, and is not read: its arm is missing in `Deserialize`",
        ),
        (
            missing::<KIND>(),
            "the reply dinner.house.freed.v1 of the participant house is not among the kinds of replies that the saga reads",
        ),
        (missing::<REPLIES>(), "the reply dinner.guide.found.v1 is no participant's by the table of steps"),
    ] {
        assert_eq!(found, named);
    }
}

#[test]
fn whatever_is_not_provisioned_is_named_at_start_up() {
    let whole = topology::<Dinner<NOTHING>>();
    assert_eq!((whole.streams.len(), whole.consumers.len()), (6, 4));
    for lost in ["ASK_GUIDE", "HOUSE", "DINNERS"] {
        let streams: Vec<Stream> = whole.streams.iter().copied().filter(|stream| stream.name != lost).collect();
        let without = Topology { streams: streams.leak(), ..whole };
        assert_eq!(verify::<Dinner<NOTHING>>(&without), Err(Incomplete::Stream(lost)));
    }
    for lost in whole.consumers {
        let consumers: Vec<Consumer> = whole.consumers.iter().copied().filter(|consumer| consumer != lost).collect();
        let without = Topology { consumers: consumers.leak(), ..whole };
        assert_eq!(verify::<Dinner<NOTHING>>(&without), Err(Incomplete::Consumer(lost.stream, lost.name)));
    }
}

#[test]
fn a_reply_is_taken_from_its_own_participant_only() {
    let id = Uuid::from_u128(7);
    let event = |kind: &str| {
        let event = json!({
            "specversion": "1.0", "id": "1", "source": "/guide", "type": kind, "time": "2026-01-01T00:00:00Z", "subject": id,
            "data": { "id": id },
        });
        serde_json::value::to_raw_value(&event).unwrap()
    };
    for (consumer, read) in reply_readers::<Dinner<NOTHING>>() {
        let own: &[&str] = if consumer.stream == "GUIDE" { &GUIDE } else { &HOUSE };
        for kind in ALL {
            match read(&event(kind)) {
                Ok(reply) => assert!(own.contains(&kind) && Dinner::correlate(&reply) == id, "{kind} on {}", consumer.stream),
                Err(error) => {
                    assert!(!own.contains(&kind), "{kind} on {}: {error}", consumer.stream);
                    assert!(matches!(error, DecodeError::Unknown(unknown) if unknown == kind));
                }
            }
        }
    }
    assert!(CloudEvent::<Reply<NOTHING>>::decode(&event("dinner.nobody.v1")).is_err());
}

#[test]
fn people_read_what_is_waited_for() {
    type Any = Dinner<NOTHING>;
    assert_eq!(waiting_for::<Any>(Step::LookUp, Direction::Execute), "waiting for the guide service to look up a table");
    assert_eq!(waiting_for::<Any>(Step::Book, Direction::Compensate), "waiting for the house service to let go of the table");
    assert_eq!(step_named::<Any>("book"), Ok(Step::Book));
    assert_eq!(step_named::<Any>("pay"), Err("`pay` is not one of look_up, book".to_owned()));
}

#[test]
fn a_saga_says_where_it_stands() {
    assert_eq!(Dinner::<NOTHING>::status(&State::new()), "running");
    assert!(Dinner::<NOTHING>::STATUSES.iter().any(|word| word.name == "running" && !word.is_final));
}
