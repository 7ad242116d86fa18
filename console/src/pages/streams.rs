//! Streams: what the broker holds, who reads it and how far behind they are; what is still in the outboxes, and who is there.

use std::sync::Arc;

use askama::Template;
use async_nats::jetstream::stream::Stream;
use axum::extract::State;
use axum::response::Response;
use chassis::broker::Broker;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use saga_commands::{CommandLine, broker};

use super::overview::Service;
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::setup::Console;
use crate::words::{When, count};

#[derive(Template)]
#[template(path = "streams.html")]
struct Page {
    frame: Frame,
    streams: Vec<Shown>,
    consumers: Vec<Reading>,
    places: Vec<Service>,
    wrong: Option<String>,
}

/// A stream.
struct Shown {
    name: &'static str,
    description: &'static str,
    subjects: String,
    messages: String,
    bytes: String,
    last: Option<When>,
    /// Why it cannot be read.
    wrong: Option<String>,
}

/// A consumer.
struct Reading {
    stream: &'static str,
    name: &'static str,
    pending: String,
    unacknowledged: String,
    redelivered: String,
    behind: bool,
    /// There is something to read, and nobody asks for it.
    unread: bool,
    paused: bool,
    wrong: Option<String>,
}

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 10 << 10 => format!("{bytes} B"),
        bytes if bytes < 10 << 20 => format!("{} KiB", bytes >> 10),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

/// The page.
pub async fn show<C: CommandLine>(State(console): State<Arc<Console<C>>>) -> Result<Response, Failed> {
    let (mut streams, mut consumers, mut wrong) = (Vec::new(), Vec::new(), None);
    match console.broker.as_ref().filter(|broker| broker.is_connected()) {
        Some(broker) => {
            let looks = join_all(console.topology.streams.iter().map(|stream| look(broker, *stream, &console))).await;
            for (shown, reading) in looks {
                streams.push(shown);
                consumers.extend(reading);
            }
        }
        None => wrong = Some("The broker does not answer.".to_owned()),
    }
    let places = console.samples.places().into_iter().map(Service::of).collect();
    page(&Page { frame: Frame::of(&console, "/streams"), streams, consumers, places, wrong })
}

async fn look<C: CommandLine>(broker: &Broker, stream: envelope::Stream, console: &Console<C>) -> (Shown, Vec<Reading>) {
    let found = broker::stream(broker, stream.name).await;
    let (mut messages, mut bytes, mut last) = (String::new(), String::new(), None);
    let wrong = match &found {
        Ok(found) => {
            let state = &found.cached_info().state;
            messages = count(state.messages as f64);
            bytes = size(state.bytes);
            let stored: DateTime<Utc> = state.last_timestamp;
            last = (state.last_sequence > 0).then(|| When::at(stored));
            None
        }
        Err(error) => Some(chassis::causes(error)),
    };
    let readers = console.topology.consumers.iter().filter(|consumer| consumer.stream == stream.name);
    let consumers = match &found {
        Ok(found) => join_all(readers.map(|consumer| reading(found, *consumer))).await,
        Err(_) => Vec::new(),
    };
    let subjects = stream.subjects.join(" ");
    (Shown { name: stream.name, description: stream.description, subjects, messages, bytes, last, wrong }, consumers)
}

async fn reading(stream: &Stream, consumer: envelope::Consumer) -> Reading {
    let mut reading = Reading {
        stream: consumer.stream,
        name: consumer.name,
        pending: String::new(),
        unacknowledged: String::new(),
        redelivered: String::new(),
        behind: false,
        unread: false,
        paused: false,
        wrong: None,
    };
    match stream.consumer_info(consumer.name).await {
        Ok(info) => {
            reading.pending = count(info.num_pending as f64);
            reading.unacknowledged = count(info.num_ack_pending as f64);
            reading.redelivered = count(info.num_redelivered as f64);
            (reading.behind, reading.paused) = (info.num_pending > 0, info.paused);
            reading.unread = reading.behind && info.num_waiting == 0 && info.num_ack_pending == 0;
        }
        Err(error) => reading.wrong = Some(error.to_string()),
    }
    reading
}
