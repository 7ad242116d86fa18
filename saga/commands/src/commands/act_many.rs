//! An operator's action on all that are stuck, or on those of them that wait for the same: at a pace, with a tally.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use saga::Exportable as _;
use serde::Serialize;
use uuid::Uuid;

use super::many::{Act, Which};
use super::phrases;
use super::select::seconds;
use super::target::Target;
use super::view::View;
use crate::age;
use crate::bulk::{Bulk, Wish, rate};
use crate::command_line::CommandLine;
use crate::confirm::Signed;
use crate::output::{Format, Output, plain, table, tell, write_out};
use crate::progress::Progress;
use crate::signal::stop_signal;
use crate::system::announce;
use crate::usage::number;

/// Those that are stuck.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Stuck {
    /// All that have waited too long, instead of one.
    #[arg(long, conflicts_with = "id")]
    stuck: bool,
    /// Of these only those whose cause, as `list --stuck` shows it, holds this text, in any case of letters.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, conflicts_with = "id")]
    cause: String,
    /// Of these only those begun at least so long ago: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "AGE", value_parser = age::parse, conflicts_with = "id")]
    older_than: Option<Duration>,
    /// At most so many, from the newest.
    #[arg(long, value_name = "N", conflicts_with = "id", value_parser = number::<usize, 1, { u64::MAX }>)]
    limit: Option<usize>,
    /// So many a second, so that whoever was away is not run over at once.
    #[arg(long, value_name = "N", default_value = "20", conflicts_with = "id", value_parser = rate)]
    rate: f64,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Report {
    done: u64,
    gone: u64,
    left: u64,
    /// The last of those that are left as they were.
    why: BTreeMap<String, String>,
    stopped: bool,
}

impl Stuck {
    /// Shows how many they are and what they wait for, asks, and acts on each. An interruption ends it after what is under way.
    pub async fn act<C: CommandLine>(
        &self,
        signed: &Signed,
        target: &Target<C>,
        verb: &'static str,
        step: Option<String>,
        out: Output,
    ) -> anyhow::Result<ExitCode> {
        let service = target.service()?;
        let by = signed.check(service.subject())?;
        announce(C::SERVICE.name, &[target.url()?.as_str()]);
        let mut which = Which::stuck(&self.cause);
        which.query.extend(self.older_than.map(|age| ("older_than".to_owned(), seconds(age))));
        let mut views = Box::pin(which.views::<C>(service.clone()).take(self.limit.unwrap_or(usize::MAX)));
        let (mut ids, mut causes) = (Vec::new(), BTreeMap::<String, u64>::new());
        let progress = Progress::start("found", None);
        while let Some(view) = views.next().await {
            let view: View<C> = view?;
            ids.push(view.id());
            *causes.entry(view.cause_in_short().unwrap_or_default()).or_default() += 1;
            progress.at(ids.len() as u64, || format!("{} found", ids.len()));
        }
        drop(progress);
        if ids.is_empty() {
            tell(&format!("No {} is stuck so.", C::Saga::NAME));
            return Ok(ExitCode::SUCCESS);
        }
        let rows = causes.into_iter().map(|(cause, count)| vec![count.to_string(), cause]);
        tell(&table(&["SAGAS", "CAUSE"], rows));
        let count = phrases::count(ids.len() as u64, "saga", "sagas");
        if !signed.ask(&format!("{} {count}, {} a second?", phrases::capitalised(verb), self.rate))? {
            return Ok(ExitCode::FAILURE);
        }
        let mut body = signed.body(&by);
        body["step"] = step.into();
        let (bulk, whole) = (Bulk::default(), ids.len() as u64);
        watched(&bulk, ids, self.rate, Act { service, verb: verb.to_owned(), body }).await?;
        let tally = bulk.tally();
        let (done, gone, left) = (tally.done, tally.gone, tally.left);
        tally.why.iter().for_each(|(id, why)| tell(&plain(format!("{id} is left as it was: {why}"))));
        let report = Report { done, gone, left, why: tally.why.into_iter().collect(), stopped: bulk.wished() == Wish::Stop };
        match out.format {
            Format::Table => write_out(&report.text(whole))?,
            Format::Json | Format::Jsonl => out.document(&report)?,
        }
        Ok(if report.left == 0 && !report.stopped { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Acts on each, and shows how far it is, until all had their turn or somebody interrupts.
async fn watched(bulk: &Bulk, ids: Vec<Uuid>, rate: f64, act: Act) -> anyhow::Result<()> {
    let whole = ids.len() as u64;
    let progress = Progress::start("sagas", Some(whole));
    let work = bulk.run(stream::iter(ids.into_iter().map(Ok)), rate, |id| act.clone().on(id));
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            worked = &mut work => return worked,
            _ = stop_signal(), if bulk.wished() == Wish::Run => bulk.wish(Wish::Stop),
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                let seen = bulk.tally().seen();
                progress.at(seen, || format!("{seen} of {whole}"));
            }
        }
    }
}

impl Report {
    fn text(&self, whole: u64) -> String {
        let gone = if self.gone > 0 { format!(", {} gone already", self.gone) } else { String::new() };
        let stopped = match self.stopped {
            true => format!(", stopped with {} to go", whole - self.done - self.gone - self.left),
            false => String::new(),
        };
        format!("{} done, {} left{gone}{stopped}", self.done, self.left)
    }
}
