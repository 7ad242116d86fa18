//! Where things are said: the streams, their subjects, and the durable consumers that read them.
//!
//! One stream per producer, so that a service needs the right to publish to its own streams only. Limits retention throughout, so that
//! every stream can be browsed with the `nats` command line and nothing vanishes by being read.

use envelope::dead_letter::DEAD_LETTERS_STREAM;
use envelope::{Consumer, Participant, Stream, Topology};

/// Commands to validate users.
pub const VALIDATE: &str = "commands.user.validate";
/// The user service's answers.
pub const USER_REPLIES: &str = "replies.user";
/// Commands to reserve stock.
pub const RESERVE: &str = "commands.product.reserve";
/// Commands to release what was reserved.
pub const RELEASE: &str = "commands.product.release";
/// The product service's answers.
pub const PRODUCT_REPLIES: &str = "replies.product";

/// The user service, as a participant of sagas.
pub const USER: Participant = Participant {
    name: "user",
    commands: Stream {
        name: "USER_COMMANDS",
        subjects: &["commands.user.*"],
        description: "Batches of commands to the user service",
        producer: "order",
    },
    replies: Stream {
        name: "USER_REPLIES",
        subjects: &[USER_REPLIES],
        description: "Batches of the user service's answers",
        producer: "user",
    },
};

/// The product service, as a participant of sagas.
pub const PRODUCT: Participant = Participant {
    name: "product",
    commands: Stream {
        name: "PRODUCT_COMMANDS",
        subjects: &["commands.product.*"],
        description: "Batches of commands to the product service",
        producer: "order",
    },
    replies: Stream {
        name: "PRODUCT_REPLIES",
        subjects: &[PRODUCT_REPLIES],
        description: "Batches of the product service's answers",
        producer: "product",
    },
};

/// The stream of what became of every order.
pub const ORDERS: Stream = Stream {
    name: ORDER_EVENTS,
    subjects: &["events.order.*.*"],
    description: "What became of every order, one message an event",
    producer: "order",
};

/// The user service reads its commands.
pub const USER_COMMANDS_CONSUMER: Consumer = USER.reads();
/// The product service reads its commands.
pub const PRODUCT_COMMANDS_CONSUMER: Consumer = PRODUCT.reads();
/// The order service reads the user service's answers.
pub const USER_REPLIES_CONSUMER: Consumer = USER.replies_to("order");
/// The order service reads the product service's answers.
pub const PRODUCT_REPLIES_CONSUMER: Consumer = PRODUCT.replies_to("order");

/// The stream of users.
const USERS: Stream =
    Stream { name: "USER_EVENTS", subjects: &["events.user.*.*"], description: "Users created and updated", producer: "user" };

/// The stream of products.
const PRODUCTS: Stream = Stream {
    name: "PRODUCT_EVENTS",
    subjects: &["events.product.*.*"],
    description: "Products created, stock delivered and written off",
    producer: "product",
};

/// Everybody who is asked to do steps of an order's saga. Streams, consumers and rights follow from it.
pub const PARTICIPANTS: [Participant; 2] = [USER, PRODUCT];

/// The streams of events for everyone.
const EVENTS: [Stream; 3] = [ORDERS, USERS, PRODUCTS];

/// Every stream and every durable consumer of this shop.
pub const TOPOLOGY: Topology = Topology { streams: &STREAMS, consumers: &CONSUMERS };

/// Every stream: commands and replies of each participant, the events, and the dead letters.
pub const STREAMS: [Stream; 2 * PARTICIPANTS.len() + EVENTS.len() + 1] = {
    let mut streams = [DEAD_LETTERS_STREAM; 2 * PARTICIPANTS.len() + EVENTS.len() + 1];
    let mut at = 0;
    while at < PARTICIPANTS.len() {
        streams[2 * at] = PARTICIPANTS[at].commands;
        streams[2 * at + 1] = PARTICIPANTS[at].replies;
        at += 1;
    }
    let mut at = 0;
    while at < EVENTS.len() {
        streams[2 * PARTICIPANTS.len() + at] = EVENTS[at];
        at += 1;
    }
    streams
};

/// Every durable consumer: each participant reads its commands, the order service its replies.
pub const CONSUMERS: [Consumer; 2 * PARTICIPANTS.len()] = {
    let mut consumers = [PARTICIPANTS[0].reads(); 2 * PARTICIPANTS.len()];
    let mut at = 0;
    while at < PARTICIPANTS.len() {
        consumers[at] = PARTICIPANTS[at].reads();
        consumers[PARTICIPANTS.len() + at] = PARTICIPANTS[at].replies_to("order");
        at += 1;
    }
    consumers
};

/// The name of the stream of what became of every order.
pub const ORDER_EVENTS: &str = "ORDER_EVENTS";
