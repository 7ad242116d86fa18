//! `waybill saga upgrade-check`: whether this build continues every saga in flight. To be run with the build that is to be deployed,
//! against the system it is to be deployed to.

use std::collections::BTreeMap;
use std::process::ExitCode;

use events::OrderId;
use events::order::Status;
use order::saga::Order;
use saga::upgrade::{Continuity, check};
use serde::Serialize;

use super::place::Place;
use super::select::statuses;
use super::view::View;
use crate::list::LARGEST_PAGE;
use crate::output::{Format, Output, Tabular, table, write_out};
use crate::page::Page;
use crate::progress::Progress;

/// Shown under `waybill saga upgrade-check --help`.
pub const EXAMPLES: &str = "Run it with the build that is to be deployed. A saga keeps the plan version it began with: it continues if this build knows that
version, the version still means what it meant, and every step the saga took is still there.

Exit status: 0 every saga in flight continues, 1 at least one does not (each is named, with what stands in the way), or failed;
2 wrong usage.

Examples:
  waybill saga upgrade-check
  waybill saga upgrade-check --order-url http://order.internal:8083 -o json
  waybill saga upgrade-check --status confirmed   # those can still be cancelled";

/// Those not safe that are listed; all are counted.
const NAMED: usize = 100;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Orders with this status, instead of those in flight.
    #[arg(long, value_parser = statuses())]
    status: Option<Status>,
    #[command(flatten)]
    place: Place,
}

/// What the check says of one saga.
#[derive(Clone, Debug, Serialize)]
struct Checked {
    order_id: OrderId,
    status: Status,
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

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let service = self.place.service()?;
        let progress = Progress::start("check", None);
        let mut report = Report::default();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("limit", LARGEST_PAGE.to_string())];
            query.extend(self.status.map(|status| ("status", status.as_str().to_owned())));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: Page<View> = service.page("/sagas", &query).await?;
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
            Format::Table => write_out(&report.text())?,
            Format::Json => out.document(&report.json())?,
            Format::Jsonl => {}
        }
        Ok(if report.unsafe_.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn look(view: &View) -> Checked {
    let continuity = match view.fingerprint.as_deref().map(|digits| u64::from_str_radix(digits, 16)) {
        None => check::<Order>(&view.state, None),
        Some(Ok(recorded)) => check::<Order>(&view.state, Some(recorded)),
        Some(Err(_)) => Continuity::Unreadable("its plan's recorded fingerprint is no number".to_owned()),
    };
    let safe = continuity.is_safe();
    Checked {
        order_id: view.order_id,
        status: view.status,
        plan: view.plan,
        phase: view.phase(),
        safe,
        obstacle: (!safe).then(|| continuity.to_string()),
    }
}

impl Tabular for Checked {
    const HEADER: &'static [&'static str] = &["ORDER", "STATUS", "PLAN", "PHASE", "WHAT STANDS IN THE WAY"];

    fn row(&self) -> Vec<String> {
        let Self { order_id, status, plan, phase, obstacle, .. } = self;
        vec![
            order_id.to_string(),
            status.as_str().to_owned(),
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

    fn text(&self) -> String {
        let mut text = String::new();
        if self.unsafe_.count > 0 {
            text += &table(Checked::HEADER, self.unsafe_.first.iter().map(Checked::row));
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn view(state: Value, fingerprint: Value) -> View {
        serde_json::from_value(json!({
            "order_id": "01920000-0000-7000-8000-000000000003", "user_id": "01920000-0000-7000-8000-000000000001",
            "status": "pending", "plan": state["plan"], "fingerprint": fingerprint, "state": state, "waiting": [],
            "waiting_since": null, "due_at": null, "stuck": false, "cause": null,
            "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:06Z",
        }))
        .unwrap()
    }

    #[test]
    fn what_stands_in_the_way_is_named_and_counted() {
        let running = json!({"plan": 1, "phase": "running", "steps": {"validate_user": {"asked": 1}}});
        let own = format!("{:016x}", saga::upgrade::versions::<Order>()[0].1);
        let views = [
            view(running.clone(), json!(own)),
            view(running.clone(), Value::Null),
            view(running.clone(), json!("00000000000000ff")),
            view(running, json!("not a number")),
            view(json!({"plan": 9, "phase": "running", "steps": {}}), Value::Null),
            view(json!({"plan": 1, "phase": "running", "steps": {"pay": {"asked": 1}}}), Value::Null),
            view(json!({}), Value::Null),
        ];
        let mut report = Report::default();
        views.iter().for_each(|view| report.take(look(view)));
        assert_eq!((report.sagas, report.safe, report.unsafe_.count), (7, 2, 5));
        let text = report.text();
        for word in [
            "was changed after it began",
            "is no number",
            "plan version 9",
            "`pay` is unknown",
            "does not continue 5 of 7",
            "1 with an unreadable state",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(report.json()["unsafe"]["count"], 5);
    }

    #[test]
    fn nothing_in_flight_is_safe() {
        assert_eq!(Report::default().text(), "there is no saga to continue");
    }
}
