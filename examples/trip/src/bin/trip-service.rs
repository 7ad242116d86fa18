//! The trip service.

use clap::Parser;
use trip::service::{Settings, run};

fn main() -> std::process::ExitCode {
    chassis::environment::clean();
    let settings = Settings::parse();
    chassis::main(|shutdown| run(settings, shutdown))
}
