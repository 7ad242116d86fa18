//! The order service.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    chassis::environment::clean();
    let settings = order::Settings::parse();
    chassis::main(|shutdown| order::run(settings, shutdown))
}
