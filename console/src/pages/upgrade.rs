//! Upgrade: the plan versions that this build knows, and which running sagas it continues.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use saga::{Kind, Plan as _};
use saga_commands::causes::Causes;
use saga_commands::output::plain;
use saga_commands::{CommandLine, age, phrases};

use super::attention::counted;
use crate::failed::{Failed, page};
use crate::frame::Frame;
use crate::setup::Console;
use crate::words::When;

#[derive(Template)]
#[template(path = "upgrade.html")]
struct Page {
    frame: Frame,
    versions: Vec<Version>,
    current: u32,
    in_flight: u64,
    /// Those of groups in which one is not continued.
    stopped: u64,
    /// Those that were looked at: some of each group.
    looked_at: u64,
    counted: Option<When>,
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

/// Sagas that this build does not continue, by one of them.
struct Obstacle {
    path: String,
    id: String,
    plan: String,
    why: String,
    /// How many are of the same plan version and wait for the same.
    sagas: u64,
    waits: String,
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

/// The page. Sagas of one plan version that wait for the same are judged by some of them.
pub async fn show<C: CommandLine>(State(console): State<Arc<Console<C>>>) -> Result<Response, Failed> {
    let causes = Causes::<C>::of(&console.service).await?;
    let (mut running, mut obstacles) = (BTreeMap::new(), Vec::new());
    let (mut looked_at, mut stopped) = (0, 0);
    for group in &causes.groups {
        *running.entry(group.plan.unwrap_or_default()).or_default() += group.sagas;
        looked_at += group.newest.len() as u64;
        let mut stops = group.newest.iter().map(|view| (view, view.continuity())).filter(|(_, continuity)| !continuity.is_safe());
        if let Some((view, continuity)) = stops.next() {
            stopped += group.sagas;
            obstacles.push(Obstacle {
                path: Console::<C>::path(view.id()),
                id: view.id().to_string(),
                plan: group.plan.map_or_else(|| "unreadable".to_owned(), |plan| plan.to_string()),
                why: plain(continuity.to_string()),
                sagas: group.sagas,
                waits: plain(group.cause.clone()),
            });
        }
    }
    let versions = versions::<C>(&running);
    page(&Page {
        frame: Frame::of(&console, "/upgrade"),
        versions,
        current: C::Saga::current(),
        in_flight: causes.in_flight,
        stopped,
        looked_at,
        counted: counted(&causes),
        obstacles,
    })
}
