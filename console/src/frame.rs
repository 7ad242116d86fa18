//! What stands around every page.

use saga::Exportable as _;
use saga_commands::CommandLine;

use crate::setup::Console;

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
}

impl Frame {
    /// Around a page.
    pub fn of<C: CommandLine>(console: &Console<C>, here: &'static str) -> Self {
        let service = format!("{} at {}", C::SERVICE.name, console.service.address());
        Self { here, kind: C::Saga::NAME, by: console.by.clone(), service, token: console.token.clone() }
    }

    /// Around what could not be shown.
    pub fn bare() -> Self {
        Self { here: "", kind: "", by: String::new(), service: String::new(), token: String::new() }
    }

    /// The pages: path, name, and whether this is it.
    pub fn pages(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        PAGES.into_iter().map(|(path, name)| (path, name, path == self.here))
    }

    /// The version of this build.
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
