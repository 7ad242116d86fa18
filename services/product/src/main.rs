//! The product service.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    chassis::environment::clean();
    let settings = product::Settings::parse();
    chassis::main(|shutdown| product::run(settings, shutdown))
}
