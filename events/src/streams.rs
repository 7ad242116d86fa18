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

/// Every stream and every durable consumer of this shop.
pub const TOPOLOGY: Topology = Topology { streams: &STREAMS, consumers: &CONSUMERS };

/// Every stream.
pub const STREAMS: [Stream; 8] = [
    USER.commands,
    USER.replies,
    PRODUCT.commands,
    PRODUCT.replies,
    ORDERS,
    Stream { name: "USER_EVENTS", subjects: &["events.user.*.*"], description: "Users created and updated", producer: "user" },
    Stream {
        name: "PRODUCT_EVENTS",
        subjects: &["events.product.*.*"],
        description: "Products created, stock delivered and written off",
        producer: "product",
    },
    DEAD_LETTERS_STREAM,
];

/// Every durable consumer.
pub const CONSUMERS: [Consumer; 4] =
    [USER_COMMANDS_CONSUMER, PRODUCT_COMMANDS_CONSUMER, USER_REPLIES_CONSUMER, PRODUCT_REPLIES_CONSUMER];

/// The name of the stream of what became of every order.
pub const ORDER_EVENTS: &str = "ORDER_EVENTS";
