//! The user service.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    chassis::environment::clean();
    let settings = user::Settings::parse();
    chassis::main(|shutdown| user::run(settings, shutdown))
}
