//! `trip saga`: the operators' commands for trips.

use saga_commands::{CommandLine, Service};
use trip::saga::Trip;

#[derive(Clone, Debug)]
struct Trips;

impl CommandLine for Trips {
    type Saga = Trip;
    const COMMAND: &'static str = "trip saga";
    const ID: &'static str = "TRIP";
    const SERVICE: Service = Service {
        name: "trip service",
        id: "trip_url",
        flag: "trip-url",
        variable: "TRIP_URL",
        usual: "http://127.0.0.1:8093",
        path: "/trips",
    };
}

fn main() -> std::process::ExitCode {
    saga_commands::main::<Trips>("trip")
}
