//! A stolen identity on the deployment's broker: what it reaches, and what it does not, however it asks. And who gets none.

use std::time::Duration;

use chassis::broker::{Broker, connecting};
use chassis::discovery::ping;
use chassis::topology::accounts::{provisioners_rights, rights_of};
use chassis::topology::{self, TopologySettings};
use events::streams::{STREAMS, TOPOLOGY};
use futures_util::StreamExt as _;
use saga_commands::authority::Authority;
use testkit::deployed::{Deployed, settings};
use testkit::eventually;
use uuid::Uuid;

use crate::nats_conf::{MEMBERS, settled};

/// What the server would do if it took a reply subject for a request of its own.
const DAMAGE: [&str; 6] = [
    "$JS.API.STREAM.DELETE.ORDER_EVENTS",
    "$JS.API.STREAM.PURGE.ORDER_EVENTS",
    "$JS.API.STREAM.MSG.DELETE.ORDER_EVENTS",
    "$JS.API.CONSUMER.DELETE.USER_COMMANDS.user",
    "$JS.API.CONSUMER.DELETE.PRODUCT_REPLIES.order",
    "$JS.API.STREAM.DELETE.DEAD_LETTERS",
];

/// Bodies that are answered with a refusal, which has no body itself, and some that are answered otherwise.
const BODIES: [&str; 5] = ["{", "", r#"{"batch":"x"}"#, r#"{"seq":1}"#, "+NXT {"];

/// Every subject that a member may ask.
fn asked(member: &str) -> Vec<String> {
    let rights = match member {
        "provision" => provisioners_rights(&TOPOLOGY),
        "gateway" => return vec![ping(Some("order"))],
        service => rights_of(&TOPOLOGY, service),
    };
    rights.into_iter().map(|right| right.subject.replace(".>", ".1.1.1.1.1").replace('*', "1")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_identity_makes_the_server_delete_nothing_by_the_subject_of_its_reply() {
    let server = Deployed::start().await;
    let operator = server.broker("operator").await;
    topology::ensure(operator.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap();
    operator.jetstream().publish("events.order.placed.1", "kept".into()).await.unwrap().await.unwrap();

    // In one account with the streams it works: this server does what the others try below.
    let consumer = "$JS.API.CONSUMER.MSG.NEXT.USER_COMMANDS.user";
    operator.client().publish_with_reply(consumer, "$JS.API.STREAM.DELETE.USER_EVENTS", "{".into()).await.unwrap();
    eventually(Duration::from_secs(10), || async {
        let there = operator.jetstream().get_stream("USER_EVENTS").await.is_ok();
        if there { Err("the stream is still there") } else { Ok(()) }
    })
    .await;
    topology::ensure(operator.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap();

    for member in MEMBERS {
        let broker = server.broker(member).await;
        for subject in asked(member) {
            // It may make a consumer anew, and a body that is none deletes it: what it loses with that is nothing.
            if subject.contains(".CONSUMER.DELETE.") {
                continue;
            }
            for damage in DAMAGE {
                for body in BODIES {
                    broker.client().publish_with_reply(subject.clone(), damage, body.into()).await.unwrap();
                }
            }
        }
        settled(member, &broker).await;
        let changes = topology::ensure(operator.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap();
        assert!(changes.made.is_empty(), "{member}: {changes:?}");
        let events = operator.jetstream().get_stream("ORDER_EVENTS").await.unwrap();
        assert_eq!(events.get_raw_message(1).await.unwrap().payload, "kept", "{member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provisioner_makes_and_updates_and_neither_reads_nor_says_anything() {
    let server = Deployed::start().await;
    let provisioner = server.broker("provision").await;
    topology::ensure(provisioner.jetstream(), &TOPOLOGY, &TopologySettings::default()).await.unwrap();
    let smaller = TopologySettings { stream_max_bytes: 1 << 26, ..Default::default() };
    assert_eq!(topology::ensure(provisioner.jetstream(), &TOPOLOGY, &smaller).await.unwrap().made.len(), STREAMS.len());
    let operator = server.broker("operator").await;
    operator.jetstream().publish("commands.user.validate", "a secret".into()).await.unwrap().await.unwrap();
    for (subject, body) in [
        ("$JS.API.CONSUMER.MSG.NEXT.USER_COMMANDS.user", "1"),
        ("$JS.API.STREAM.MSG.GET.USER_COMMANDS", r#"{"seq":1}"#),
        ("$JS.API.DIRECT.GET.USER_COMMANDS", r#"{"seq":1}"#),
        ("$JS.API.STREAM.DELETE.USER_COMMANDS", ""),
        ("$JS.API.STREAM.PURGE.USER_COMMANDS", ""),
        ("commands.user.validate", "said"),
        ("events.order.placed.1", "said"),
    ] {
        let refused = provisioner.client().request(subject, body.into()).await.unwrap_err();
        assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders, "{subject}");
    }
    let commands = operator.jetstream().get_stream("USER_COMMANDS").await.unwrap();
    assert_eq!(commands.cached_info().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_found_by_the_operator_and_the_gateway_and_by_no_service() {
    let server = Deployed::start().await;
    let mut answering = Vec::new();
    for name in ["user", "product", "order"] {
        let broker = server.broker(name).await;
        // Whatever anybody asks about anybody.
        answer(&broker, name, "$SRV.>".to_owned()).await;
        answering.push(broker);
    }
    let gateway = server.broker("gateway").await;
    answer(&gateway, "gateway", ping(None)).await;
    answer(&gateway, "gateway", ping(Some("gateway"))).await;
    // Each once: what is asked of the gateway goes no further.
    for (asking, about, expected) in [
        ("operator", None, vec!["gateway", "order", "product", "user"]),
        ("operator", Some("gateway"), vec!["gateway", "order", "product", "user"]),
        ("gateway", Some("order"), vec!["order"]),
        ("gateway", Some("user"), vec!["user"]),
        ("gateway", None, vec!["gateway"]),
        ("order", None, vec!["order"]),
        ("order", Some("user"), vec!["order"]),
        ("provision", None, vec![]),
    ] {
        let broker = server.broker(asking).await;
        eventually(Duration::from_secs(10), || async {
            let mut found = found(&broker, &ping(about)).await;
            found.sort();
            if found == expected { Ok(()) } else { Err(format!("{asking} finds {found:?} about {about:?}")) }
        })
        .await;
    }
}

/// Says a name to whoever asks there, for as long as the connection lasts.
async fn answer(broker: &Broker, name: &'static str, subject: String) {
    let client = broker.client().clone();
    let mut asked = client.subscribe(subject).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = asked.next().await {
            if let Some(reply) = request.reply {
                client.publish(reply, name.into()).await.unwrap();
            }
        }
    });
}

/// Who answers within a moment.
async fn found(broker: &Broker, about: &str) -> Vec<String> {
    let inbox = broker.client().new_inbox();
    let answers = broker.client().subscribe(inbox.clone()).await.unwrap();
    broker.client().publish_with_reply(about.to_owned(), inbox, "".into()).await.unwrap();
    let within = tokio::time::sleep(Duration::from_millis(300));
    let names = answers.take_until(within).filter(|answer| std::future::ready(answer.status.is_none()));
    names.map(|answer| String::from_utf8(answer.payload.to_vec()).unwrap()).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_known_key_over_an_encrypted_line_gets_in() {
    let server = Deployed::start().await;
    let ca = server.secrets().join("ca.pem").display().to_string();
    let known = server.settings("user").nats_nkey_seed.unwrap();
    let stranger = nkeys::KeyPair::new_user().seed().unwrap();
    let other = std::env::temp_dir().join(format!("waybill-authority-{}", Uuid::now_v7()));
    Authority::open(&other).unwrap();
    let foreign = other.join("ca.pem").display().to_string();
    let (url, plain) = (server.url(), server.url().replace("tls://", "nats://"));

    let connect = async |flags: &[&str]| {
        let (options, servers) = connecting(&settings(flags)).unwrap();
        options.connection_timeout(Duration::from_secs(5)).connect(servers).await
    };
    let right = ["--nats-url", &url, "--nats-ca", &ca, "--nats-nkey-seed", known.expose()];
    connect(&right).await.unwrap();
    for (why, flags, said) in [
        ("no key", [&right[..4], &[]].concat(), "authorization violation"),
        ("an unknown key", [&right[..4], &["--nats-nkey-seed", &stranger]].concat(), "authorization violation"),
        ("another authority", [&right[..2], &["--nats-ca", &foreign], &right[4..]].concat(), "invalid peer certificate"),
        ("no authority", [&right[..2], &right[4..]].concat(), "invalid peer certificate"),
    ] {
        let error = connect(&flags).await.err().unwrap_or_else(|| panic!("{why} gets in"));
        assert!(error.to_string().contains(said), "{why}: {error}");
    }
    // Who talks in the clear is told that he may not, and is closed, before he has shown anything.
    let mut stream = tokio::net::TcpStream::connect(plain.trim_start_matches("nats://")).await.unwrap();
    let mut said = Vec::new();
    let read = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut said).await;
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("who says nothing sensible is closed");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("\"tls_required\":true") && !said.contains("PONG"), "{said}");
    std::fs::remove_dir_all(&other).unwrap();
}
