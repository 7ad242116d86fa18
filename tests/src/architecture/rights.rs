//! The rights that are made from the streams and consumers are those that a participant needs: what a new one adds is named here.

use std::collections::BTreeSet;

use chassis::topology::accounts::{accounts, members, rights_of, services};
use envelope::dead_letter::DEAD_LETTERS_STREAM;
use envelope::{Consumer, Participant, Stream, Topology};
use events::streams::TOPOLOGY;

const HOTEL: Participant = Participant {
    name: "hotel",
    commands: Stream { name: "HOTEL_COMMANDS", subjects: &["commands.hotel.*"], description: "", producer: "trip" },
    replies: Stream { name: "HOTEL_REPLIES", subjects: &["replies.hotel"], description: "", producer: "hotel" },
};
const TRIPS: Stream = Stream { name: "TRIP_EVENTS", subjects: &["events.trip.*.*"], description: "", producer: "trip" };
const STREAMS: [Stream; 4] = [HOTEL.commands, HOTEL.replies, TRIPS, DEAD_LETTERS_STREAM];
const CONSUMERS: [Consumer; 2] = [HOTEL.reads(), HOTEL.replies_to("trip")];
const TOPOLOGY_OF_TRIPS: Topology = Topology { streams: &STREAMS, consumers: &CONSUMERS };

fn subjects(service: &str) -> Vec<String> {
    rights_of(&TOPOLOGY_OF_TRIPS, service).into_iter().map(|right| right.subject).collect()
}

#[test]
fn a_service_may_say_and_read_what_the_table_says_is_its_own_and_nothing_else() {
    let hotel = [
        "$JS.ACK.HOTEL_COMMANDS.hotel.>",
        "$JS.API.CONSUMER.INFO.HOTEL_COMMANDS.hotel",
        "$JS.API.CONSUMER.MSG.NEXT.HOTEL_COMMANDS.hotel",
        "$JS.API.STREAM.INFO.DEAD_LETTERS",
        "$JS.API.STREAM.INFO.HOTEL_COMMANDS",
        "$JS.API.STREAM.INFO.HOTEL_REPLIES",
        "dead.HOTEL_COMMANDS.hotel",
        "dead.OUTBOX.hotel",
        "replies.hotel",
    ];
    assert_eq!(subjects("hotel"), hotel);
    let trip = [
        "$JS.ACK.HOTEL_REPLIES.trip.>",
        "$JS.API.CONSUMER.INFO.HOTEL_REPLIES.trip",
        "$JS.API.CONSUMER.MSG.NEXT.HOTEL_REPLIES.trip",
        "$JS.API.DIRECT.GET.TRIP_EVENTS",
        "$JS.API.DIRECT.GET.TRIP_EVENTS.>",
        "$JS.API.STREAM.INFO.DEAD_LETTERS",
        "$JS.API.STREAM.INFO.HOTEL_COMMANDS",
        "$JS.API.STREAM.INFO.HOTEL_REPLIES",
        "$JS.API.STREAM.INFO.TRIP_EVENTS",
        "commands.hotel.*",
        "dead.HOTEL_REPLIES.trip",
        "dead.OUTBOX.trip",
        "events.trip.*.*",
    ];
    assert_eq!(subjects("trip"), trip);
}

fn services_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.contains("service: "))
}

#[test]
fn everybody_has_a_key_and_every_import_an_export() {
    assert_eq!(services(&TOPOLOGY), BTreeSet::from(["order", "product", "user"]));
    let text = accounts(&TOPOLOGY, |member| format!("<{member}>"));
    for member in members(&TOPOLOGY) {
        assert_eq!(text.matches(&format!("users: [ {{ nkey: <{member}> }} ]")).count(), 1, "{member}");
    }
    let subject = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let [exported, imported]: [BTreeSet<String>; 2] = [false, true]
        .map(|import| services_of(&text).filter(|line| line.contains("account: ") == import).filter_map(subject).collect());
    assert_eq!(exported, imported);
}
