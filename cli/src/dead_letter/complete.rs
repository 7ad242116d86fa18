//! What a shell offers where the sequence of a dead letter is expected.

use async_nats::jetstream::consumer::DeliverPolicy;
use chassis::broker::Broker;
use clap_complete::CompletionCandidate;
use events::dead_letter::DEAD_LETTERS;
use saga_commands::broker::{self, Reader, broker_settings};
use saga_commands::complete::{OFFERED, asked, candidate};
use saga_commands::dead_letter::Letter;
use saga_commands::system::{self, NATS};

/// The oldest dead letters.
pub fn dead_letters() -> Vec<CompletionCandidate> {
    let letters = asked(async {
        let url = system::address(NATS, "nats://127.0.0.1:4222")?;
        let broker = Broker::connect(&broker_settings(&url)?, "waybill-completion").await?;
        broker.connected().await?;
        let stream = broker::stream(&broker, DEAD_LETTERS).await?;
        let mut reader = Reader::open(&stream, "", DeliverPolicy::All).await?;
        let mut letters = Vec::new();
        while letters.len() < OFFERED
            && let Some(stored) = reader.next().await?
        {
            letters.push(Letter::from(stored));
        }
        Ok(letters)
    });
    letters.into_iter().map(|letter| candidate(letter.sequence.to_string(), &letter.reason)).collect()
}
