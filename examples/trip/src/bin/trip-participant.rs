//! A participant of trips: the airline, the bank or who issues tickets.

use clap::Parser;
use trip::participants::{Settings, run};

fn main() -> std::process::ExitCode {
    chassis::environment::clean();
    let settings = Settings::parse();
    chassis::main(|shutdown| run(settings, shutdown))
}
