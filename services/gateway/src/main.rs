//! The gateway as a program of its own.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    chassis::environment::clean();
    let settings = gateway::Settings::parse();
    chassis::main(|shutdown| gateway::run(settings, shutdown))
}
