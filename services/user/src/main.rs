//! The user service.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let settings = user::Settings::parse();
    chassis::main(|shutdown| user::run(settings, shutdown))
}
