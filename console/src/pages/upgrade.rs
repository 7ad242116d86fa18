//! Upgrade: the plan versions that this build knows, and which running sagas it continues.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use saga::{Kind, Plan as _};
use saga_commands::many::Which;
use saga_commands::output::plain;
use saga_commands::{CommandLine, View, age, phrases};

use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::setup::Console;

/// Sagas that are looked at.
const LOOKED_AT: u64 = 1_000;

/// Of those in the way so many are named.
const NAMED: usize = 50;

#[derive(Template)]
#[template(path = "upgrade.html")]
struct Page {
    frame: Frame,
    versions: Vec<Version>,
    current: u32,
    seen: u64,
    safe: u64,
    more: bool,
    obstacles: Vec<Obstacle>,
}

/// A version of the plan.
struct Version {
    number: u32,
    fingerprint: String,
    stages: Vec<Vec<Step>>,
    running: u64,
}

/// A step of it.
struct Step {
    name: String,
    whom: String,
    kind: &'static str,
    retry: String,
    deadline: String,
}

/// A saga that this build does not continue.
struct Obstacle {
    path: String,
    id: String,
    plan: String,
    why: String,
}

fn versions<C: CommandLine>(running: &BTreeMap<u32, u64>) -> Vec<Version> {
    let length = |length: std::time::Duration| age::show(chrono::TimeDelta::from_std(length).unwrap_or(chrono::TimeDelta::MAX));
    let step = |spec: &saga::StepSpec<C::Saga>| Step {
        name: phrases::name(spec.step),
        whom: phrases::service::<C>(spec.step),
        kind: match spec.kind {
            Kind::Check => "check",
            Kind::Compensatable { .. } => "compensatable",
            Kind::Pivot => "pivot",
            Kind::Retriable => "retriable",
        },
        retry: format!("{} to {}", length(spec.retry.first_retry), length(spec.retry.max_retry)),
        deadline: length(spec.retry.deadline),
    };
    let version = |(number, stages): &(u32, saga::Stages<C::Saga>)| Version {
        number: *number,
        fingerprint: format!("{:016x}", stages.fingerprint()),
        stages: stages.iter().map(|stage| stage.iter().map(step).collect()).collect(),
        running: running.get(number).copied().unwrap_or_default(),
    };
    C::Saga::VERSIONS.iter().rev().map(version).collect()
}

/// The page.
pub async fn show<C: CommandLine>(State(console): State<Arc<Console<C>>>) -> Result<Response, Failed> {
    let mut views = Box::pin(Which::default().views::<C>(console.service.clone()));
    let (mut running, mut obstacles) = (BTreeMap::new(), Vec::new());
    let (mut seen, mut safe, mut more) = (0, 0, false);
    while let Some(view) = views.next().await {
        let view: View<C> = view?;
        more = seen == LOOKED_AT;
        if more {
            break;
        }
        seen += 1;
        *running.entry(view.plan.unwrap_or_default()).or_default() += 1;
        let continuity = view.continuity();
        if continuity.is_safe() {
            safe += 1;
        } else if obstacles.len() < NAMED {
            obstacles.push(Obstacle {
                path: Console::<C>::path(view.id()),
                id: view.id().to_string(),
                plan: view.plan.map_or_else(|| "unreadable".to_owned(), |plan| plan.to_string()),
                why: plain(continuity.to_string()),
            });
        }
    }
    let versions = versions::<C>(&running);
    page(&Page { frame: Frame::of(&console, "/upgrade"), versions, current: C::Saga::current(), seen, safe, more, obstacles })
}
