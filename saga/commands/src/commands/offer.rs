//! What a shell offers where an id is expected.

use clap_complete::CompletionCandidate;

use super::view::View;
use crate::command_line::CommandLine;
use crate::complete::listed;

/// The newest sagas, whatever their status.
pub fn newest<C: CommandLine>() -> Vec<CompletionCandidate> {
    match C::NEWEST {
        Some(path) => listed(C::SERVICE.variable, C::SERVICE.usual, path, "id", &["status", "created_at"]),
        None => in_flight::<C>(),
    }
}

/// The sagas that wait for somebody.
pub fn in_flight<C: CommandLine>() -> Vec<CompletionCandidate> {
    listed(C::SERVICE.variable, C::SERVICE.usual, "/sagas", View::<C>::id_field(), &["status", "cause"])
}
