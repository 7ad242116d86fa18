//! Where a saga's history is read from: its service, an exported file, or the broker alone.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use reqwest::Method;
use saga::{Exportable as _, Transcript, Unreadable};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::chunks;
use crate::client::Gateway;
use crate::command_line::CommandLine;
use crate::input::{Input, plain};
use crate::page::Page;

/// Where from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A file of exported sagas; `-` is stdin.
    File(PathBuf),
    /// The broker's streams.
    Nats,
}

impl std::str::FromStr for From {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "nats" { Self::Nats } else { Self::File(text.into()) })
    }
}

/// A saga with its history.
pub struct Found<C: CommandLine> {
    /// The saga.
    pub transcript: Transcript<C::Saga>,
    /// Whether its decisions were recorded when they were made; else they are this build's, from what the streams still hold.
    pub recorded: bool,
    /// What is missing, or cannot be known.
    pub gaps: Vec<String>,
}

impl<C: CommandLine> Found<C> {
    /// A whole history.
    pub fn whole(transcript: Transcript<C::Saga>) -> Self {
        Self { transcript, recorded: true, gaps: Vec::new() }
    }
}

/// A saga as its service has it.
pub async fn from_service<C: CommandLine>(service: &Gateway, id: Uuid) -> anyhow::Result<Transcript<C::Saga>> {
    Ok(Transcript::read(&line_from_service(service, id).await?)?)
}

/// The same as the line it is exported as.
pub async fn line_from_service(service: &Gateway, id: Uuid) -> anyhow::Result<String> {
    let request = service.request(Method::GET, &format!("/sagas/{id}/waybill"));
    let answer = service.send::<Box<RawValue>>(request).await?;
    Ok(answer.body.get().to_owned())
}

/// The first entries of a saga's history as its service serves them, as one JSON array.
pub async fn entries_from_service<C: CommandLine>(service: &Gateway, id: Uuid, count: u32) -> anyhow::Result<String> {
    let (mut entries, mut cursor) = (Vec::<Box<RawValue>>::new(), None);
    loop {
        let query: Vec<(&str, String)> = cursor.into_iter().map(|cursor| ("cursor", cursor)).collect();
        let page: Page<Box<RawValue>> = service.page(&format!("{}/{id}/history", C::SERVICE.path), &query).await?;
        entries.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() || entries.len() >= count as usize {
            entries.truncate(count as usize);
            return Ok(serde_json::to_string(&entries)?);
        }
    }
}

/// A saga out of a file of exported ones.
pub async fn from_file<C: CommandLine>(path: &Path, id: Uuid) -> anyhow::Result<Transcript<C::Saga>> {
    let input = Input::open(path)?;
    let name = input.name.clone();
    // Files and decompression block.
    tokio::task::spawn_blocking(move || find::<C>(input, id)).await?.with_context(|| format!("in {name}"))
}

fn find<C: CommandLine>(input: Input, id: Uuid) -> anyhow::Result<Transcript<C::Saga>> {
    let (wanted, name) = (id.to_string(), C::Saga::NAME);
    let mut found = None;
    let mut unreadable = 0_u64;
    chunks::read(plain(input.bytes)?, |chunk| {
        for (_, line) in chunk.lines() {
            let line = String::from_utf8_lossy(line);
            match line.contains(&wanted).then(|| Transcript::<C::Saga>::read(&line)) {
                Some(Ok(transcript)) if transcript.plan.id() == id => found = Some(Ok(transcript)),
                Some(Err(error)) if is_about(&error, id) => found = Some(Err(error)),
                Some(Err(_)) => unreadable += 1,
                _ => {}
            }
            if found.is_some() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    match found {
        Some(found) => Ok(found?),
        None if unreadable > 0 => bail!("no {name} {id} that can be read ({unreadable} lines that name it cannot)"),
        None => bail!("no {name} {id}"),
    }
}

fn is_about(error: &Unreadable, wanted: Uuid) -> bool {
    matches!(error, Unreadable::Entry { id, .. } | Unreadable::Unread { id, .. } if *id == wanted)
}
