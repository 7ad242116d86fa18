//! The proof that no fault breaks an invariant: `waybill-proof faults` runs the matrix of faults row by row, `waybill-proof soak` mixes
//! them at random. docs/reliability.md says what each row means and what came of it.

mod report;
mod rows;
mod run;
mod scene;
mod soak;
mod tmpfs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use futures_util::{StreamExt as _, stream};

use crate::report::Report;
use crate::run::Run;

/// Proves that no fault breaks an invariant.
#[derive(Parser)]
#[command(name = "waybill-proof", version)]
enum Command {
    /// Runs the matrix of faults, each row so many times, and prints a table.
    Faults(Faults),
    /// Mixes faults at random from a seed, under load, and looks at everything at quiet points.
    Soak(soak::Soak),
}

#[derive(clap::Args)]
struct Faults {
    /// Rows of the matrix, separated by commas; all without it.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<u8>,

    /// How often each row's fault is made to happen.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,

    /// Makes the same choices again. Without it one is drawn and printed.
    #[arg(long)]
    seed: Option<u64>,

    /// Rows at once, each with a system of its own: most of a row is waiting. Those that measure time or need the whole machine run alone.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    at_once: u8,

    /// Where `faults.jsonl` and `faults.md` are written.
    #[arg(long, default_value = ".local/proof")]
    out: PathBuf,
}

fn main() -> ExitCode {
    // A broken invariant is a panic, and its words are enough.
    std::panic::set_hook(Box::new(|panic| eprintln!("  {panic}")));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match Command::parse() {
        Command::Faults(arguments) => runtime.block_on(faults(arguments)),
        Command::Soak(arguments) => runtime.block_on(soak::run(arguments)),
    }
}

async fn faults(arguments: Faults) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let known: Vec<u8> = rows::ROWS.iter().map(|row| row.number).collect();
    if let Some(unknown) = arguments.rows.iter().find(|row| !known.contains(row)) {
        eprintln!("error: there is no row {unknown}; there are {known:?}");
        return ExitCode::from(2);
    }
    let wanted = |row: &&rows::Row| arguments.rows.is_empty() || arguments.rows.contains(&row.number);
    eprintln!("seed {seed}, each row {} times", arguments.times);
    let mut report = Report::new(seed, arguments.out);
    let began = Instant::now();
    let carry_out = |row: &'static rows::Row| async move {
        eprintln!("[{:>4.0} s] row {}: {}", began.elapsed().as_secs_f64(), row.number, row.fault);
        (row, Run::new(row.number, arguments.times as usize, seed).carry_out(row.run, row.heals_within()).await)
    };
    let (alone, others): (Vec<_>, Vec<_>) = rows::ROWS.iter().filter(wanted).partition(|row| row.is_alone());
    let others = stream::iter(others).map(carry_out).buffer_unordered(arguments.at_once.into());
    let mut results = std::pin::pin!(others.chain(stream::iter(alone).then(carry_out)));
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            result = results.next() => match result {
                Some((row, counted)) => report.add(row, counted),
                None => break,
            },
            // What has begun is dropped with the runtime: servers end, file systems are unmounted.
            _ = &mut interrupted => break,
        }
    }
    report.finish(began.elapsed())
}
