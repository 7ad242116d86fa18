//! What stands around every page.

use saga::Exportable as _;
use saga_commands::CommandLine;

use crate::setup::Console;
use crate::words::count;

/// The pages that are always a step away: path and name.
const PAGES: [(&str, &str); 8] = [
    ("/", "Overview"),
    ("/sagas", "Sagas"),
    ("/attention", "Needs attention"),
    ("/dead-letters", "Dead letters"),
    ("/jobs", "Bulk actions"),
    ("/streams", "Streams"),
    ("/upgrade", "Upgrade"),
    ("/audit", "Audit log"),
];

/// What stands around a page.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The path of the page among [`PAGES`] that this one is, or belongs to.
    here: &'static str,
    /// What the sagas are called: `order`.
    pub kind: &'static str,
    /// Who acts.
    pub by: String,
    /// Whom it asks.
    pub service: String,
    /// What every form must bring.
    pub token: String,
    /// How many are stuck, and how many dead letters are kept: as last seen, and where there are any.
    stuck: Option<f64>,
    letters: Option<f64>,
}

/// A page as the navigation names it.
pub struct Tab {
    /// Where it is.
    pub path: &'static str,
    /// What it is called.
    pub name: &'static str,
    /// Whether it is this one.
    pub here: bool,
    /// How many wait there for an operator.
    pub waiting: Option<String>,
}

impl Frame {
    /// Around a page.
    pub fn of<C: CommandLine>(console: &Console<C>, here: &'static str) -> Self {
        let service = format!("{} at {}", C::SERVICE.name, console.service.address());
        let [stuck, letters] = console.samples.waiting();
        Self { here, kind: C::Saga::NAME, by: console.by.clone(), service, token: console.token.clone(), stuck, letters }
    }

    /// Around what could not be shown.
    pub fn bare() -> Self {
        let (by, service, token) = (String::new(), String::new(), String::new());
        Self { here: "", kind: "", by, service, token, stuck: None, letters: None }
    }

    /// The pages.
    pub fn tabs(&self) -> impl Iterator<Item = Tab> {
        PAGES.into_iter().map(|(path, name)| {
            let waiting = match path {
                "/attention" => self.stuck,
                "/dead-letters" => self.letters,
                _ => None,
            };
            Tab { path, name, here: path == self.here, waiting: waiting.filter(|waiting| *waiting > 0.0).map(count) }
        })
    }

    /// The version of this build.
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
