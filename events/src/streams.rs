//! Where things are said: the streams, their subjects, and the durable consumers that read them.
//!
//! One stream per producer, so that a service needs the right to publish to its own streams only. Limits retention throughout, so that
//! every stream can be browsed with the `nats` command line and nothing vanishes by being read.

use envelope::dead_letter::DEAD_LETTERS;
use envelope::{Consumer, Stream, Topology};

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

/// The user service reads its commands.
pub const USER_COMMANDS_CONSUMER: Consumer = Consumer { stream: "USER_COMMANDS", name: "user" };
/// The product service reads its commands.
pub const PRODUCT_COMMANDS_CONSUMER: Consumer = Consumer { stream: "PRODUCT_COMMANDS", name: "product" };
/// The order service reads the user service's answers.
pub const USER_REPLIES_CONSUMER: Consumer = Consumer { stream: "USER_REPLIES", name: "order" };
/// The order service reads the product service's answers.
pub const PRODUCT_REPLIES_CONSUMER: Consumer = Consumer { stream: "PRODUCT_REPLIES", name: "order" };

/// Every stream and every durable consumer of this shop.
pub const TOPOLOGY: Topology = Topology { streams: &STREAMS, consumers: &CONSUMERS };

/// Every stream.
pub const STREAMS: [Stream; 8] = [
    Stream {
        name: "USER_COMMANDS",
        subjects: &["commands.user.*"],
        description: "Batches of commands to the user service",
        producer: "order",
    },
    Stream {
        name: "USER_REPLIES",
        subjects: &["replies.user"],
        description: "Batches of the user service's answers",
        producer: "user",
    },
    Stream {
        name: "PRODUCT_COMMANDS",
        subjects: &["commands.product.*"],
        description: "Batches of commands to the product service",
        producer: "order",
    },
    Stream {
        name: "PRODUCT_REPLIES",
        subjects: &["replies.product"],
        description: "Batches of the product service's answers",
        producer: "product",
    },
    Stream {
        name: ORDER_EVENTS,
        subjects: &["events.order.*.*"],
        description: "What became of every order, one message an event",
        producer: "order",
    },
    Stream { name: "USER_EVENTS", subjects: &["events.user.*.*"], description: "Users created and updated", producer: "user" },
    Stream {
        name: "PRODUCT_EVENTS",
        subjects: &["events.product.*.*"],
        description: "Products created, stock delivered and written off",
        producer: "product",
    },
    Stream {
        name: DEAD_LETTERS,
        subjects: &["dead.>"],
        description: "Events that could not be handled, as they were",
        producer: "",
    },
];

/// Every durable consumer.
pub const CONSUMERS: [Consumer; 4] =
    [USER_COMMANDS_CONSUMER, PRODUCT_COMMANDS_CONSUMER, USER_REPLIES_CONSUMER, PRODUCT_REPLIES_CONSUMER];

/// The stream of what became of every order.
pub const ORDER_EVENTS: &str = "ORDER_EVENTS";
