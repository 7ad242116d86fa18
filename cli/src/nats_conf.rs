//! `waybill nats-conf`: who may do what on the broker, as nats-server reads it.

use std::process::ExitCode;

use chassis::topology::accounts::{accounts, key_variable};
use events::streams::TOPOLOGY;
use saga_commands::output::write_bytes;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill nats-conf > nats-accounts.conf
  diff nats-accounts.conf <( waybill nats-conf )";

/// How the file begins.
const HEADER: &str = "\
# Who may do what on the broker; nats.conf includes this. Made by `waybill nats-conf` from events/src/streams.rs, and a test holds it so.
#
# Each service has an account of its own. From there nothing leads to the streams but the subjects it imports: what it says, its own
# consumers, how the streams are made that concern it. What it asks is answered to a subject that the server makes up, so a reply subject of
# its choice (`$JS.API.STREAM.DELETE...`) makes nobody do anything. Requests to JetStream go by another name there (`mappings`): the account
# would answer them as well, that it has none. The keys are public; `waybill certs` makes them, with their secret seeds.

";

/// The text of the file.
pub fn text() -> String {
    HEADER.to_owned() + &accounts(&TOPOLOGY, |member| format!("${}", key_variable(member)))
}

/// Runs the command.
pub fn run() -> anyhow::Result<ExitCode> {
    write_bytes(text().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_accounts_of_the_repository_are_those_of_the_streams_and_consumers() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../nats-accounts.conf");
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(kept, super::text(), "`waybill nats-conf > nats-accounts.conf` brings the file up to date");
    }
}
