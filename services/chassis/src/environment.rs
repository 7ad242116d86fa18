//! The environment a program starts in. What it says to other tools does not reach our connections.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Call this first in `main`. A program whose environment holds variables that must not count begins again without them, as the same
/// process:
///
/// - a variable that is set but empty is as if unset: that is what `NAME=` in a Compose file or an `.env` file means;
/// - `PG*` is for libpq. The driver would take options, certificates and passwords from there that our settings do not name, and offers no
///   way to say no.
///
/// To change the environment of a running process is unsafe; a process that begins again cannot be caught half way.
pub fn clean() {
    let all: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if all.iter().all(|(name, value)| counts(name, value)) {
        return;
    }
    let error = match std::env::current_exe() {
        Ok(program) => {
            let mut arguments = std::env::args_os();
            let mut command = Command::new(program);
            if let Some(name) = arguments.next() {
                command.arg0(name);
            }
            command.args(arguments).env_clear().envs(all.into_iter().filter(|(name, value)| counts(name, value))).exec()
        }
        Err(error) => error,
    };
    eprintln!("error: cannot start without the variables of other tools: {error}; unset PG* and empty variables");
    std::process::exit(1);
}

fn counts(name: &OsString, value: &OsString) -> bool {
    !value.is_empty() && !name.as_encoded_bytes().starts_with(b"PG")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variables_and_those_of_libpq_do_not_count() {
        let counts = |name: &str, value: &str| counts(&name.into(), &value.into());
        assert!(counts("WAYBILL_DATA", "data") && counts("HTTP_PROXY", "http://proxy"));
        assert!(!counts("WAYBILL_DATA", "") && !counts("PGOPTIONS", "-c jit=on") && !counts("PGPASSFILE", "x"));
    }
}
