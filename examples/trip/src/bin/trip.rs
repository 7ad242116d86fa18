//! `trip saga`: the operators' commands for trips.

use saga_commands::{CommandLine, Service, Told};
use trip::saga::{Event, Trip};

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

    fn told(Event::Moved(moved): &Event) -> Option<Told<'_, Trip>> {
        Some(Told::plain(moved))
    }
}

fn main() -> std::process::ExitCode {
    saga_commands::main::<Trips>("trip")
}
