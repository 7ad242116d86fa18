//! The table at the end: for a person, as JSON lines, and as Markdown for the documents.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::{Value, json};

use crate::rows::Row;
use crate::run::Counted;

/// What came of all rows.
pub struct Report {
    seed: u64,
    out: PathBuf,
    commit: String,
    rows: Vec<(&'static Row, Counted)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(seed: u64, out: PathBuf) -> Self {
        Self { seed, out, commit: commit(), rows: Vec::new() }
    }

    /// One row more. What there is so far is written at once: a run that is ended by force has not been for nothing.
    pub fn add(&mut self, row: &'static Row, counted: Counted) {
        if let Some(violation) = &counted.violation {
            eprintln!("  {}: FAILED: {violation}", row.number);
        }
        eprintln!("  {}: done after {:.0} s", row.number, counted.took.as_secs_f64());
        self.rows.push((row, counted));
        self.rows.sort_by_key(|(row, _)| row.number);
        if let Err(error) = self.write(&self.markdown()) {
            eprintln!("error: the results could not be written to {}: {error}", self.out.display());
        }
    }

    /// Prints and writes everything. Fails where a row did.
    pub fn finish(self, took: Duration) -> ExitCode {
        let failed = self.rows.iter().filter(|(_, counted)| counted.violation.is_some()).count();
        let table = self.markdown();
        let fired: usize = self.rows.iter().map(|(_, counted)| counted.fired).sum();
        let orders: usize = self.rows.iter().map(|(_, counted)| counted.orders).sum();
        println!("{table}");
        println!(
            "commit {}, seed {}: {} rows, {fired} faults, {orders} orders in {:.0} s; {failed} failed",
            self.commit,
            self.seed,
            self.rows.len(),
            took.as_secs_f64()
        );
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn write(&self, table: &str) -> std::io::Result<()> {
        fs::create_dir_all(&self.out)?;
        let lines: String = self.rows.iter().map(|(row, counted)| format!("{}\n", self.line(row, counted))).collect();
        fs::write(self.out.join("faults.jsonl"), lines)?;
        fs::write(self.out.join("faults.md"), format!("{table}\nCommit {}, seed {}.\n", self.commit, self.seed))
    }

    fn line(&self, row: &Row, counted: &Counted) -> Value {
        let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
        json!({
            "commit": self.commit, "seed": self.seed, "row": row.number, "fault": row.fault, "invariants": row.invariants,
            "fired": counted.fired, "orders": counted.orders, "seconds": counted.took.as_secs_f64(),
            "detected_s": seconds(&counted.detected), "healed_s": seconds(&counted.healed),
            "notes": counted.notes, "skipped": counted.skipped, "violation": counted.violation,
        })
    }

    fn markdown(&self) -> String {
        let mut table = String::from(
            "| # | fault | fired | orders | detected (median, worst) | healed (median, worst) | invariants |\n|---|---|---|---|---|---|---|\n",
        );
        for (row, counted) in &self.rows {
            let (detected, healed) = (spread(&counted.detected), spread(&counted.healed));
            let mut end = match (&counted.violation, &counted.skipped) {
                (Some(violation), _) => format!("**violated**: {}", one_line(violation)),
                (None, Some(why)) => format!("not run: {why}"),
                (None, None) => format!("{} held", row.invariants),
            };
            for note in &counted.notes {
                end.push_str(&format!("; {note}"));
            }
            table.push_str(&format!(
                "| {} | {} | {} | {} | {detected} | {healed} | {end} |\n",
                row.number, row.fault, counted.fired, counted.orders
            ));
        }
        table
    }
}

/// The first words of what may be long, fit for a cell.
fn one_line(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    line.chars().take(400).collect()
}

fn spread(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort();
    match times.last() {
        None => "–".to_owned(),
        Some(worst) => format!("{:.2} s, {:.2} s", times[times.len() / 2].as_secs_f64(), worst.as_secs_f64()),
    }
}

/// The commit of the checkout this was built in, marked where it was changed.
pub fn commit() -> String {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=10"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = described.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text }
}
