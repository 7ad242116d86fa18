//! The rights that `nats.conf` gives are those that the streams and consumers need: what is missing for a new participant is named here.

use std::collections::BTreeSet;

use events::dead_letter::DEAD_LETTERS;
use events::streams::{CONSUMERS, STREAMS};

/// The subjects that a service must be able to publish to, as the configuration writes them.
fn needed(service: &str) -> BTreeSet<String> {
    let own = STREAMS.iter().filter(|stream| stream.producer == service);
    let mut needed: BTreeSet<String> =
        own.clone().flat_map(|stream| stream.subjects).map(|subject| (*subject).to_owned()).collect();
    needed.extend(own.map(|stream| format!("$JS.API.STREAM.INFO.{}", stream.name)));
    needed.insert(format!("dead.OUTBOX.{service}"));
    needed.insert(format!("$JS.API.STREAM.INFO.{DEAD_LETTERS}"));
    for consumer in CONSUMERS.iter().filter(|consumer| consumer.name == service) {
        let (stream, name) = (consumer.stream, consumer.name);
        needed.insert(consumer.dead_subject());
        needed.insert(format!("$JS.API.STREAM.INFO.{stream}"));
        needed.insert(format!("$JS.API.CONSUMER.INFO.{stream}.{name}"));
        needed.insert(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"));
        needed.insert(format!("$JS.ACK.{stream}.{name}.>"));
    }
    needed
}

/// What a configuration lets a user publish to.
fn granted(conf: &str, user: &str) -> BTreeSet<String> {
    let block = conf.split_once(&format!("user: {user}\n")).map_or("", |(_, rest)| rest);
    let publish = block.split_once("publish: [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    publish.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"')).map(str::to_owned).collect()
}

/// What each user lacks.
fn lacking(conf: &str) -> Vec<String> {
    let services: BTreeSet<&str> = STREAMS.iter().map(|stream| stream.producer).filter(|producer| !producer.is_empty()).collect();
    let mut needed: Vec<(&str, BTreeSet<String>)> = services.into_iter().map(|service| (service, needed(service))).collect();
    let again = CONSUMERS.iter().map(|consumer| format!("$JS.API.CONSUMER.DELETE.{}.{}", consumer.stream, consumer.name));
    needed.push(("provision", again.collect()));
    let lacks = |(user, needed): (&str, BTreeSet<String>)| {
        let granted = granted(conf, user);
        needed.difference(&granted).map(|subject| format!("{user} may not publish to {subject}")).collect::<Vec<_>>()
    };
    needed.into_iter().flat_map(lacks).collect()
}

#[test]
fn the_broker_lets_every_service_say_and_read_what_is_its_own() {
    let conf = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../nats.conf")).expect("nats.conf");
    assert_eq!(lacking(&conf), [""; 0], "nats.conf");
    let without = conf.replace("          \"commands.product.*\"\n", "");
    assert_eq!(lacking(&without), ["order may not publish to commands.product.*"]);
}
