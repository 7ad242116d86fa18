//! `trip-console`: the operators' pages for trips.

use trip::commands::Trips;

fn main() -> std::process::ExitCode {
    console::main::<Trips>("trip-console")
}
