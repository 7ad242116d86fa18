//! What operators' commands and pages are told of trips.

use saga_commands::{CommandLine, Service, Told};

use crate::saga::{Event, Trip};

/// The saga of trips, and where its service is.
#[derive(Clone, Debug)]
pub struct Trips;

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
