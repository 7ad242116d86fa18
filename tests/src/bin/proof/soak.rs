//! Faults of every kind at random, from a seed, beside clients of every kind; two instances of everything; and at quiet points a checker.
//!
//! A round is a system of its own for some minutes. Its seed is the run's seed plus its number: a failed one is run again by itself.

mod check;
mod clients;
mod faults;
mod fleet;
mod log;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::commit;
use crate::run::words;
use crate::soak::fleet::Fleet;
use crate::soak::log::Log;

/// The flags of `waybill-proof soak`.
#[derive(clap::Args)]
pub struct Soak {
    /// How long to go on.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,

    /// Makes the same choices again: which fault, of what, for how long. When each strikes beside what is up to the machine.
    #[arg(long)]
    seed: Option<u64>,

    /// Minutes of a round, which begins with a new system and ends with a look at all of it.
    #[arg(long, default_value_t = 3.0)]
    round_minutes: f64,

    /// Faults under way at once.
    #[arg(long, default_value_t = 6)]
    actors: usize,

    /// Clients at once.
    #[arg(long, default_value_t = 8)]
    clients: usize,

    /// Goes on with the next round where one failed.
    #[arg(long)]
    keep_going: bool,

    /// Only these kinds of faults, separated by commas: to find which one breaks something.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Where `soak.jsonl` keeps count from run to run, a line a round.
    #[arg(long, default_value = ".local/proof")]
    out: PathBuf,
}

/// What came of a round.
struct Round {
    seed: u64,
    faults: BTreeMap<&'static str, u64>,
    requests: BTreeMap<String, u64>,
    orders: usize,
    violations: Vec<String>,
    took: Duration,
}

/// Runs rounds until the time is up.
pub async fn run(arguments: Soak) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("seed {seed}, commit {}", commit());
    let began = Instant::now();
    let (mut number, mut failed, mut total) = (0, 0, 0);
    while began.elapsed().as_secs_f64() < arguments.minutes * 60.0 {
        let left = Duration::from_secs_f64((arguments.minutes * 60.0 - began.elapsed().as_secs_f64()).max(1.0));
        let round_seed = seed.wrapping_add(number);
        let Some(round) = play(&arguments, round_seed, left).await else { break };
        number += 1;
        let faults: u64 = round.faults.values().sum();
        println!(
            "round {number} (seed {round_seed}): {faults} faults in {:.0} s, {} orders, {}",
            round.took.as_secs_f64(),
            round.orders,
            if round.violations.is_empty() { "everything held".to_owned() } else { format!("VIOLATED: {:#?}", round.violations) }
        );
        if let Err(error) = keep(&arguments.out, &round) {
            eprintln!("error: the count could not be kept in {}: {error}", arguments.out.display());
        }
        if round.violations.is_empty() {
            total += faults;
        } else {
            failed += 1;
            if !arguments.keep_going {
                break;
            }
        }
    }
    let ever = count(&arguments.out);
    println!(
        "seed {seed}: {total} faults passed in {number} rounds, {failed} rounds failed, {:.0} s; {ever} faults passed in all runs",
        began.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays one round. `None`: interrupted.
async fn play(arguments: &Soak, seed: u64, left: Duration) -> Option<Round> {
    let folder = PathBuf::from(format!("/var/tmp/waybill-soak-{}-{seed}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    open_to_all(&folder);
    let began = Instant::now();
    let log = Log::begin(&folder);
    let chaos = Duration::from_secs_f64(arguments.round_minutes * 60.0).min(left);
    let body = round(folder.clone(), seed, chaos, arguments.actors, arguments.clients, arguments.only.clone(), log.clone());
    let mut task = tokio::spawn(body);
    let ended = tokio::select! {
        ended = &mut task => ended,
        _ = tokio::signal::ctrl_c() => {
            task.abort();
            let _ = task.await;
            let _ = fs::remove_dir_all(&folder);
            return None;
        }
    };
    let (orders, requests, mut violations) = ended.unwrap_or_else(|error| (0, BTreeMap::new(), vec![words(error)]));
    violations.extend(log.violations());
    if violations.is_empty() && (orders == 0 || log.counts().is_empty()) {
        violations.push("nothing happened: no fault, or no order".to_owned());
    }
    if violations.is_empty() {
        let _ = fs::remove_dir_all(&folder);
    } else {
        eprintln!("the seed is {seed}; the faults, with their times: {0}/faults.log; logs and databases: {0}", folder.display());
        eprint!("{}", tail(&folder.join("faults.log"), 40));
        let _ = fs::write(folder.join("violations.txt"), format!("seed {seed}\n{violations:#?}\n"));
    }
    Some(Round { seed, faults: log.counts(), requests, orders, violations, took: began.elapsed() })
}

/// One round: a system, faults and clients beside each other, then quiet, and a look at everything.
async fn round(
    folder: PathBuf,
    seed: u64,
    chaos: Duration,
    actors: usize,
    clients: usize,
    only: Vec<String>,
    log: Log,
) -> (usize, BTreeMap<String, u64>, Vec<String>) {
    let fleet = Fleet::start(&folder, &log).await;
    let ledger = clients::Ledger::open(&fleet).await;
    let working = clients::begin(&fleet, &ledger, clients, seed, &log);
    // Half of the time twice: what is found at the first quiet point is nearer to its cause.
    for half in 0..2_u64 {
        log.say("chaos begins");
        faults::strike(&fleet, actors, seed.wrapping_mul(2).wrapping_add(half), chaos / 2, &only, &log).await;
        log.say("quiet");
        fleet.heal().await;
        let pause = working.pause().await;
        let violations = check::everything(&fleet, &ledger, &folder, &log).await;
        if !violations.is_empty() {
            return (ledger.orders(), ledger.requests(), violations);
        }
        drop(pause);
    }
    working.end().await;
    (ledger.orders(), ledger.requests(), Vec::new())
}

fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| format!("  {line}\n")).collect()
}

/// Adds a round to the count.
fn keep(out: &Path, round: &Round) -> std::io::Result<()> {
    fs::create_dir_all(out)?;
    let mut file: File = OpenOptions::new().create(true).append(true).open(out.join("soak.jsonl"))?;
    let line = json!({
        "time": chrono::Utc::now(), "commit": commit(), "seed": round.seed, "seconds": round.took.as_secs_f64(),
        "faults": round.faults, "requests": round.requests, "orders": round.orders, "violations": round.violations,
    });
    writeln!(file, "{line}")
}

/// Faults in all rounds ever kept in which nothing was violated.
fn count(out: &Path) -> u64 {
    let text = fs::read_to_string(out.join("soak.jsonl")).unwrap_or_default();
    let rounds = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let clean = rounds.filter(|round| round["violations"].as_array().is_some_and(Vec::is_empty));
    clean.flat_map(|round| round["faults"].as_object().cloned().unwrap_or_default()).filter_map(|(_, n)| n.as_u64()).sum()
}

/// The database's user may pass.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).expect("our own folder");
}
