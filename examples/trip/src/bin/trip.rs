//! `trip saga`: the operators' commands for trips.

use trip::commands::Trips;

fn main() -> std::process::ExitCode {
    saga_commands::main::<Trips>("trip")
}
