//! `upgrade-check`: whether this build continues every saga in flight. To be run with the build that is to be deployed,
//! against the system it is to be deployed to.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;
use uuid::Uuid;

use super::select::statuses;
use super::target::Target;
use super::view::View;
use crate::command_line::CommandLine;
use crate::list::LARGEST_PAGE;
use crate::output::{Format, Output, table, write_out};
use crate::page::Page;
use crate::progress::Progress;

/// Shown under `upgrade-check --help`.
pub const EXAMPLES: &str = "Run it with the build that is to be deployed. A saga keeps the plan version it began with: it continues if this build knows that
version, the version still means what it meant, and every step the saga took is still there.

Exit status: 0 every saga in flight continues, 1 at least one does not (each is named, with what stands in the way), or failed;
2 wrong usage.

Examples:
  {saga} upgrade-check
  {saga} upgrade-check {url} -o json
  {saga} upgrade-check --status {status}";

/// Those not safe that are listed; all are counted.
const NAMED: usize = 100;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args<C: CommandLine> {
    /// Those with this status, instead of those in flight.
    #[arg(long, value_parser = statuses::<C>())]
    status: Option<String>,
    #[command(flatten)]
    target: Target<C>,
}

/// What the check says of one saga.
#[derive(Clone, Debug, Serialize)]
struct Checked {
    /// Its id, under its kind.
    #[serde(flatten)]
    id: BTreeMap<String, Uuid>,
    status: String,
    plan: Option<u32>,
    phase: String,
    safe: bool,
    obstacle: Option<String>,
}

/// What it says of all.
#[derive(Debug, Default, Serialize)]
struct Report {
    sagas: u64,
    safe: u64,
    unsafe_: Unsafe,
    plans: BTreeMap<u32, u64>,
    /// Those that name no plan version.
    unreadable: u64,
}

#[derive(Debug, Default, Serialize)]
struct Unsafe {
    count: u64,
    first: Vec<Checked>,
}

impl<C: CommandLine> Args<C> {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let service = self.target.service()?;
        let progress = Progress::start("check", None);
        let mut report = Report::default();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("limit", LARGEST_PAGE.to_string())];
            query.extend(self.status.clone().map(|status| ("status", status)));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: Page<View<C>> = service.page("/sagas", &query).await?;
            for checked in page.items.iter().map(look) {
                if out.format == Format::Jsonl {
                    out.document(&checked)?;
                }
                report.take(checked);
            }
            progress.at(report.sagas, || format!("{} sagas", report.sagas));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        drop(progress);
        match out.format {
            Format::Table => write_out(&report.text(C::ID))?,
            Format::Json => out.document(&report.json())?,
            Format::Jsonl => {}
        }
        Ok(if report.unsafe_.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn look<C: CommandLine>(view: &View<C>) -> Checked {
    let continuity = view.continuity();
    let aside = view.aside.as_ref().map(|why| format!("the build that runs leaves it aside: {why}"));
    let obstacle = (!continuity.is_safe()).then(|| continuity.to_string()).or(aside);
    Checked {
        id: [(View::<C>::id_field().to_owned(), view.id())].into(),
        status: view.status.clone(),
        plan: view.plan,
        phase: view.phase(),
        safe: obstacle.is_none(),
        obstacle,
    }
}

impl Checked {
    fn row(&self) -> Vec<String> {
        let Self { id, status, plan, phase, obstacle, .. } = self;
        vec![
            id.values().map(Uuid::to_string).collect(),
            status.clone(),
            plan.map(|plan| plan.to_string()).unwrap_or_default(),
            phase.clone(),
            obstacle.clone().unwrap_or_default(),
        ]
    }
}

impl Report {
    fn take(&mut self, checked: Checked) {
        self.sagas += 1;
        match checked.plan {
            Some(plan) => *self.plans.entry(plan).or_default() += 1,
            None => self.unreadable += 1,
        }
        if checked.safe {
            self.safe += 1;
            return;
        }
        self.unsafe_.count += 1;
        if self.unsafe_.first.len() < NAMED {
            self.unsafe_.first.push(checked);
        }
    }

    fn json(&self) -> serde_json::Value {
        let Self { sagas, safe, unsafe_: Unsafe { count, first }, plans, unreadable } = self;
        let unsafe_ = serde_json::json!({"count": count, "first": first});
        serde_json::json!({"sagas": sagas, "safe": safe, "plans": plans, "unreadable": unreadable, "unsafe": unsafe_})
    }

    /// For people; `id`: what an id is called.
    fn text(&self, id: &str) -> String {
        let mut text = String::new();
        if self.unsafe_.count > 0 {
            text +=
                &table(&[id, "STATUS", "PLAN", "PHASE", "WHAT STANDS IN THE WAY"], self.unsafe_.first.iter().map(Checked::row));
            let more = self.unsafe_.count - self.unsafe_.first.len() as u64;
            text += &if more > 0 { format!("\nand {more} more\n\n") } else { "\n\n".to_owned() };
        }
        let mut plans: Vec<String> = self.plans.iter().map(|(plan, count)| format!("{count} on plan version {plan}")).collect();
        plans.extend((self.unreadable > 0).then(|| format!("{} with an unreadable state", self.unreadable)));
        let plans = if plans.is_empty() { String::new() } else { format!(" ({})", plans.join(", ")) };
        let unsafe_ = self.unsafe_.count;
        text + &match (self.sagas, unsafe_) {
            (0, _) => "there is no saga to continue".to_owned(),
            (sagas, 0) => format!("this build continues every saga: {sagas}{plans}"),
            (sagas, _) => format!("this build does not continue {unsafe_} of {sagas} sagas{plans}"),
        }
    }
}
