//! `replay --all`: every history against this build. One task reads, a bounded channel of chunks hands over, workers decide:
//! memory stays flat however many there are.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::chunks::{self, Chunk, Cutter};
use super::export;
use super::select::Select;
use super::summary::Summary;
use super::target::Target;
use crate::command_line::CommandLine;
use crate::input::{Input, plain};
use crate::output::{Format, Output, write_out};
use crate::progress::Progress;

/// Chunks between reader and workers: enough that none waits for another, few enough to be nothing in memory.
const BETWEEN: usize = 16;

type Read = anyhow::Result<Chunk>;

/// Replays them all.
pub async fn run<C: CommandLine>(
    target: Target<C>,
    from: Option<PathBuf>,
    select: Select<C>,
    jobs: usize,
    out: Output,
) -> anyhow::Result<ExitCode> {
    let (sender, receiver) = mpsc::channel(BETWEEN);
    let began = Instant::now();
    let (jobs, filter, size, read) = match from {
        Some(path) => {
            let Input { name, size, read, bytes } = Input::open(&path)?;
            // Not a task: a read of stdin that never returns must not keep the runtime from ending.
            std::thread::spawn(move || from_file(&name, bytes, &sender));
            // The first so many, in the file's order: that is one worker's work.
            (if select.limit.is_some() { 1 } else { jobs }, select, size, Some(read))
        }
        None => {
            let service = target.service()?;
            let pieces = export::open(&service, &select).await?;
            tokio::spawn(from_service(pieces, sender));
            // The service has chosen already.
            (jobs, Select::default(), None, None)
        }
    };
    let work = Arc::new(Work { chunks: Mutex::new(receiver), filter, done: AtomicU64::new(0) });
    let workers: Vec<_> = (0..jobs).map(|_| work.clone()).map(|work| tokio::task::spawn_blocking(move || work.run())).collect();
    let mut summary = watched(&work, size.zip(read), workers).await?;
    summary.seconds = began.elapsed().as_secs_f64();
    summary.histories_per_s = summary.histories as f64 / summary.seconds;
    match out.format {
        Format::Table => write_out(&summary.text())?,
        Format::Json | Format::Jsonl => out.document(&summary)?,
    }
    Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for the workers, and shows how far they are.
async fn watched<C: CommandLine>(
    work: &Work<C>,
    file: Option<(u64, Arc<AtomicU64>)>,
    workers: Vec<tokio::task::JoinHandle<anyhow::Result<Summary>>>,
) -> anyhow::Result<Summary> {
    let progress = Progress::start("replay", file.as_ref().map(|(size, _)| *size));
    let finished = async {
        let mut summary = Summary::default();
        for worker in workers {
            summary.merge(worker.await??);
        }
        anyhow::Ok(summary)
    };
    tokio::pin!(finished);
    loop {
        tokio::select! {
            summary = &mut finished => return summary,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                let done = work.done.load(Relaxed);
                let position = file.as_ref().map_or(done, |(_, read)| read.load(Relaxed));
                progress.at(position, || format!("{done} histories"));
            }
        }
    }
}

/// What the workers share.
struct Work<C: CommandLine> {
    chunks: Mutex<mpsc::Receiver<Read>>,
    filter: Select<C>,
    done: AtomicU64,
}

impl<C: CommandLine> Work<C> {
    fn run(&self) -> anyhow::Result<Summary> {
        let mut summary = Summary::default();
        let limit = self.filter.limit.unwrap_or(u64::MAX);
        let mut taken = 0;
        while let Some(chunk) = self.next() {
            let mut looked = 0;
            for (number, line) in chunk?.lines() {
                if taken >= limit {
                    // Whoever reads finds nobody listening, and stops.
                    self.chunks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).close();
                    return Ok(summary);
                }
                taken += u64::from(summary.take(number, line, &self.filter));
                looked += 1;
            }
            self.done.fetch_add(looked, Relaxed);
        }
        Ok(summary)
    }

    fn next(&self) -> Option<Read> {
        self.chunks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).blocking_recv()
    }
}

fn from_file(name: &str, bytes: Box<dyn std::io::Read + Send>, to: &mpsc::Sender<Read>) {
    let send = |chunk| match to.blocking_send(Ok(chunk)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    let read = plain(bytes).and_then(|input| chunks::read(input, send));
    if let Err(error) = read.with_context(|| format!("{name} cannot be read")) {
        let _ = to.blocking_send(Err(error));
    }
}

async fn from_service(mut pieces: crate::client::Pieces, to: mpsc::Sender<Read>) {
    let mut cutter = Cutter::new();
    loop {
        let chunk = match pieces.next().await {
            Ok(Some(piece)) => cutter.take(&piece).map_err(anyhow::Error::from).transpose(),
            Ok(None) => break,
            Err(failure) => Some(Err(anyhow::Error::from(failure).context("the export broke off"))),
        };
        let last = matches!(chunk, Some(Err(_)));
        if let Some(chunk) = chunk
            && (to.send(chunk).await.is_err() || last)
        {
            return;
        }
    }
    if let Some(chunk) = cutter.end() {
        let _ = to.send(Ok(chunk)).await;
    }
}
