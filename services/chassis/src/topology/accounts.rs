//! Who may do what on the broker: an account for each member, as nats-server reads them, made from the streams and consumers.
//!
//! An account is a name space of its own. From each service's own nothing leads to the account that holds JetStream but the subjects that it
//! imports, as services: what is asked there is answered to a subject that the server makes up and leads back. So a reply subject of a
//! service's choice never makes the server act for it, which permissions on subjects cannot prevent: they see the request, not the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use envelope::Topology;
use envelope::dead_letter::DEAD_LETTERS;

use crate::discovery::{ping, questions};

/// The account that holds the streams. Its one user may do everything: a person with the nats or the waybill command line.
const BUS: &str = "BUS";

/// The user of that account.
pub const OPERATOR: &str = "operator";

/// Who makes and updates streams and consumers.
pub const PROVISION: &str = "provision";

/// Who finds services by asking for them, is found so itself, and does nothing else on the broker.
pub const GATEWAY: &str = "gateway";

/// Where services are asked who is there (`nats micro ls`).
const DISCOVERY: &str = "$SRV.>";

/// Where requests to JetStream begin.
const API: &str = "$JS.API.";

/// Where they begin in the accounts that have none themselves. The server would answer them there that it is not enabled, beside the answer
/// of the account that they are meant for; so they go by another name, of which clients see nothing.
const API_OF_BUS: &str = "BUS.API.";

/// Connections and subscriptions of one account: far more than its instances have, and far from all that the server gives.
const LIMITS: &str = "{ max_connections: 150, max_subscriptions: 5000 }";

/// What a member may ask of the account that holds the streams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The subject.
    pub subject: String,
    /// Whether many messages answer one.
    pub streams: bool,
}

impl Right {
    fn to(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), streams: false }
    }
}

/// The services that say or read something.
pub fn services(topology: &Topology) -> BTreeSet<&'static str> {
    let producers = topology.streams.iter().map(|stream| stream.producer).filter(|producer| !producer.is_empty());
    producers.chain(topology.consumers.iter().map(|consumer| consumer.name)).collect()
}

/// Everybody who has a key: the services, and those who are none.
pub fn members(topology: &Topology) -> BTreeSet<&'static str> {
    services(topology).into_iter().chain([GATEWAY, PROVISION, OPERATOR]).collect()
}

/// What a service may ask: to store what it says, to read by the consumers that are its own, to see how the streams are made that concern it,
/// and to look up the events that it told everyone.
pub fn rights_of(topology: &Topology, service: &str) -> BTreeSet<Right> {
    let mut rights =
        BTreeSet::from([Right::to(format!("dead.OUTBOX.{service}")), Right::to(format!("$JS.API.STREAM.INFO.{DEAD_LETTERS}"))]);
    for stream in topology.streams.iter().filter(|stream| stream.producer == service) {
        let name = stream.name;
        rights.extend(stream.subjects.iter().map(|subject| Right::to(*subject)));
        rights.insert(Right::to(format!("$JS.API.STREAM.INFO.{name}")));
        if !topology.consumers.iter().any(|consumer| consumer.stream == name) {
            rights.insert(Right::to(format!("$JS.API.DIRECT.GET.{name}")));
            rights.insert(Right::to(format!("$JS.API.DIRECT.GET.{name}.>")));
        }
    }
    for consumer in topology.consumers.iter().filter(|consumer| consumer.name == service) {
        let (stream, name) = (consumer.stream, consumer.name);
        rights.insert(Right::to(consumer.dead_subject()));
        rights.insert(Right::to(format!("$JS.API.STREAM.INFO.{stream}")));
        rights.insert(Right::to(format!("$JS.API.CONSUMER.INFO.{stream}.{name}")));
        rights.insert(Right { subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"), streams: true });
        rights.insert(Right::to(format!("$JS.ACK.{stream}.{name}.>")));
    }
    rights
}

/// What the provisioner may ask: to make, see and update every stream and consumer of ours, and to make a consumer anew, which loses nothing.
/// Not to delete or read a stream, nor to say anything.
pub fn provisioners_rights(topology: &Topology) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for stream in topology.streams {
        rights.extend(["INFO", "CREATE", "UPDATE"].map(|verb| Right::to(format!("$JS.API.STREAM.{verb}.{}", stream.name))));
    }
    for consumer in topology.consumers {
        let (stream, name) = (consumer.stream, consumer.name);
        rights.extend(["INFO", "CREATE", "DELETE"].map(|verb| Right::to(format!("$JS.API.CONSUMER.{verb}.{stream}.{name}"))));
    }
    rights
}

/// The accounts as a part of nats-server's configuration. `key` says how a member's public key is written there.
pub fn accounts(topology: &Topology, key: impl Fn(&str) -> String) -> String {
    let services = services(topology);
    let mut asks: BTreeMap<&str, BTreeSet<Right>> =
        services.iter().map(|service| (*service, rights_of(topology, service))).collect();
    asks.insert(PROVISION, provisioners_rights(topology));

    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes everything");
    line("accounts {".into());
    line("  # The streams, and a person with the nats or the waybill command line, who may do everything.".into());
    line(format!("  {BUS} {{"));
    line("    jetstream: enabled".into());
    line(format!("    users: [ {{ nkey: {} }} ]", key(OPERATOR)));
    line("    exports: [".into());
    let mut exports: BTreeMap<&Right, Vec<String>> = BTreeMap::new();
    for (member, rights) in &asks {
        rights.iter().for_each(|right| exports.entry(right).or_default().push(account(member)));
    }
    for (Right { subject, streams }, accounts) in exports {
        let many = if *streams { ", response_type: stream" } else { "" };
        line(format!("      {{ service: \"{subject}\"{many}, accounts: [{}] }}", accounts.join(", ")));
    }
    line("    ]".into());
    line("    imports: [".into());
    for service in &services {
        line(import(service, DISCOVERY));
    }
    // Not all of its name space: what it would pass on to the services, they would be asked twice.
    for question in questions(GATEWAY) {
        line(import(GATEWAY, &question));
    }
    line("    ]".into());
    line("  }".into());

    for (member, rights) in asks {
        line(String::new());
        line(format!("  {} {{", account(member)));
        line(format!("    users: [ {{ nkey: {} }} ]", key(member)));
        line(format!("    mappings: {{ \"{API}>\": \"{API_OF_BUS}>\" }}"));
        line("    imports: [".into());
        for Right { subject, .. } in rights {
            let to = subject.strip_prefix(API).map(|rest| format!(", to: \"{API_OF_BUS}{rest}\"")).unwrap_or_default();
            line(format!("      {{ service: {{ account: {BUS}, subject: \"{subject}\" }}{to} }}"));
        }
        line("    ]".into());
        if services.contains(member) {
            line("    exports: [".into());
            line(export(DISCOVERY, BUS));
            line(export(&ping(Some(member)), &account(GATEWAY)));
            line("    ]".into());
        }
        line(format!("    limits {LIMITS}"));
        line("  }".into());
    }

    line(String::new());
    line("  # Asks which services are there, for WAYBILL_DISCOVERY=nats, and says that it is there: each account about its own service alone.".into());
    line(format!("  {} {{", account(GATEWAY)));
    line(format!("    users: [ {{ nkey: {} }} ]", key(GATEWAY)));
    line(format!("    mappings: {{ \"{API}>\": \"{API_OF_BUS}>\" }}"));
    line("    imports: [".into());
    for service in &services {
        line(import(service, &ping(Some(service))));
    }
    line("    ]".into());
    line("    exports: [".into());
    for question in questions(GATEWAY) {
        line(export(&question, BUS));
    }
    line("    ]".into());
    line(format!("    limits {LIMITS}"));
    line("  }".into());
    line("}".into());
    text
}

fn account(member: &str) -> String {
    member.to_uppercase()
}

/// What is asked of a service, in its own account.
fn import(service: &str, subject: &str) -> String {
    format!("      {{ service: {{ account: {}, subject: \"{subject}\" }} }}", account(service))
}

/// Whoever is of that account may ask this, and everybody who is asked answers.
fn export(subject: &str, asking: &str) -> String {
    format!("      {{ service: \"{subject}\", response_type: stream, accounts: [{asking}] }}")
}

/// The variable of nats-server's environment that holds a member's public key.
pub fn key_variable(member: &str) -> String {
    format!("WAYBILL_NATS_{}_NKEY", member.to_uppercase())
}
