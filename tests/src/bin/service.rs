//! Any one service as a process of its own, so that a test can end it with SIGKILL: `waybill-tests-service order --listen ...`.
//!
//! Each arm is the whole of that service's `main`. It is a binary of this package, and not the services' own, because Cargo builds a
//! package's binaries along with its integration tests and nobody else's: this one is never missing and never stale.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    chassis::environment::clean();
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let service = arguments.next().unwrap_or_default();
    let rest = std::iter::once(program).chain(arguments);
    match service.as_str() {
        "user" => {
            let settings = user::Settings::parse_from(rest);
            chassis::main(|shutdown| user::run(settings, shutdown))
        }
        "product" => {
            let settings = product::Settings::parse_from(rest);
            chassis::main(|shutdown| product::run(settings, shutdown))
        }
        "order" => {
            let settings = order::Settings::parse_from(rest);
            chassis::main(|shutdown| order::run(settings, shutdown))
        }
        "gateway" => {
            let settings = gateway::Settings::parse_from(rest);
            chassis::main(|shutdown| gateway::run(settings, shutdown))
        }
        other => {
            eprintln!("error: `{other}` is not one of user, product, order, gateway");
            ExitCode::from(2)
        }
    }
}
