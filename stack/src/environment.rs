//! The environment of the servers and their tools: what they need to run, and nothing that is meant for others.
//!
//! A `PGPORT`, a proxy, a locale or a password of whoever starts us changes nothing about a server that our options describe.

use std::process::Command;

/// What a program needs to be found and loaded, and where it may keep files.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR", // people and folders
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOGC",
    "GODEBUG", // the limits of nats-server's runtime
    "GLIBC_TUNABLES",
    "NIX_LD",
];
/// The loader's own, and the clock of a test.
const KEPT_PREFIXES: [&str; 3] = ["LD_", "DYLD_", "FAKETIME"];

/// Takes everything else away from a command that is to be started; what is set on it afterwards stays.
pub(crate) fn clean(command: &mut Command) -> &mut Command {
    let kept = std::env::vars_os().filter(|(name, value)| {
        let name = name.to_string_lossy();
        !value.is_empty() && (KEPT.contains(&&*name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
    });
    command.env_clear().envs(kept)
}
