//! The environment a program starts in. What it says to other tools does not reach our connections, and secrets may come in files.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The end of a variable's name whose value is a file that holds the value.
const FILE: &str = "_FILE";

/// The most a file with a secret may hold: an address or a key is shorter.
const LONGEST: u64 = 64 * 1024;

/// The names that variables had in builds before this one, and those they have.
const RENAMED: [(&str, &str); 1] = [("WAYBILL_ORDER_DEADLINE", "WAYBILL_SAGA_DEADLINE")];

type Variable = (OsString, OsString);

/// Call this first in `main`. A program whose environment is not as it must be begins again in the right one, as the same process:
///
/// - a variable that is set but empty is as if unset: that is what `NAME=` in a Compose file or an `.env` file means;
/// - `PG*` is for libpq. The driver would take options, certificates and passwords from there that our settings do not name, and offers no
///   way to say no;
/// - a variable that has another name by now counts under that one, unless that is set too;
/// - what [`may_be_a_file`] is read from the file that `NAME_FILE` names, as orchestrators hand out secrets. So a secret stands in no command
///   line and in no description of a container, and every setting takes it.
///
/// To change the environment of a running process is unsafe; a process that begins again cannot be caught half way.
pub fn clean() {
    let all: Vec<Variable> = std::env::vars_os().collect();
    let why = match cleaned(&all) {
        Ok(cleaned) if cleaned == all => return,
        Ok(cleaned) => again(cleaned),
        Err(why) => why,
    };
    eprintln!("error: {why}");
    std::process::exit(1);
}

/// Whether a setting may come in a file: it holds a secret, or an address that may hold one. Not `WAYBILL_TOKEN`: a token is renewed while
/// a command runs, which reads its file again.
pub fn may_be_a_file(name: &str) -> bool {
    let ours = name.starts_with("WAYBILL_") || name.starts_with("NATS_") || name.ends_with("_DATABASE_URL");
    name == "OTEL_EXPORTER_OTLP_ENDPOINT" || ours && ["_URL", "_PASSWORD", "_SEED"].iter().any(|end| name.ends_with(end))
}

/// Begins again with these variables; returns why that cannot be.
fn again(variables: Vec<Variable>) -> String {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return format!("cannot start in a clean environment: {error}; unset PG* and empty variables"),
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).env_clear().envs(variables).exec();
    format!("cannot start in a clean environment: {error}; unset PG* and empty variables")
}

/// The variables that count, in their order, with the values that files hold.
fn cleaned(all: &[Variable]) -> Result<Vec<Variable>, String> {
    let counting = all.iter().filter(|(name, value)| !value.is_empty() && !name.as_bytes().starts_with(b"PG"));
    let mut cleaned: Vec<Variable> = Vec::new();
    for (name, value) in counting.clone() {
        let Some(setting) = in_file(name) else {
            cleaned.push((name.clone(), value.clone()));
            continue;
        };
        if counting.clone().any(|(other, _)| *other == *setting) {
            return Err(format!("{setting} and {} are both set: unset one", name.display()));
        }
        let value = content(value).map_err(|why| format!("{}: {} {why}", name.display(), value.display()))?;
        cleaned.push((setting.into(), value));
    }
    for (before, now) in RENAMED {
        if cleaned.iter().any(|(name, _)| name == now) {
            cleaned.retain(|(name, _)| name != before);
        }
        cleaned.iter_mut().filter(|(name, _)| name == before).for_each(|(name, _)| *name = now.into());
    }
    Ok(cleaned)
}

/// The setting whose file a variable names.
fn in_file(name: &OsStr) -> Option<&str> {
    name.to_str()?.strip_suffix(FILE).filter(|setting| may_be_a_file(setting))
}

/// What a file holds, without the end of its last line. An error shows nothing of it.
fn content(path: &OsStr) -> Result<OsString, String> {
    let length = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > LONGEST {
        return Err("is too large for a secret".to_owned());
    }
    let mut content = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    while content.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        content.pop();
    }
    if content.is_empty() {
        return Err("is empty".to_owned());
    }
    if content.iter().any(|byte| matches!(byte, b'\0' | b'\n')) {
        return Err("holds more than one line".to_owned());
    }
    Ok(OsString::from_vec(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned_of(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        let all: Vec<Variable> = pairs.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let text = |(name, value): Variable| (name.into_string().unwrap(), value.into_string().unwrap());
        cleaned(&all).map(|cleaned| cleaned.into_iter().map(text).collect())
    }

    #[test]
    fn empty_variables_and_those_of_libpq_do_not_count() {
        let all = [("WAYBILL_DATA", "data"), ("HTTP_PROXY", "http://proxy"), ("WAYBILL_LOG", ""), ("PGOPTIONS", "-c jit=on")];
        let kept = [all[0], all[1]].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(cleaned_of(&all).unwrap(), kept);
    }

    #[test]
    fn a_secret_comes_from_its_file_and_only_a_secret_does() {
        let file = std::env::temp_dir().join(format!("waybill-secret-{}", std::process::id()));
        let path = file.to_str().unwrap();
        fs::write(&file, "nats://u:hunter2@h:4222\r\n").unwrap();
        for name in ["NATS_URL", "ORDER_DATABASE_URL", "WAYBILL_POSTGRES_URL", "NATS_NKEY_SEED", "WAYBILL_X_PASSWORD"] {
            let from_file = cleaned_of(&[(&format!("{name}_FILE"), path)]).unwrap();
            assert_eq!(from_file, [(name.to_owned(), "nats://u:hunter2@h:4222".to_owned())]);
            let both = cleaned_of(&[(name, "x"), (&format!("{name}_FILE"), path)]).unwrap_err();
            assert_eq!(both, format!("{name} and {name}_FILE are both set: unset one"));
            // What is empty is unset.
            assert!(cleaned_of(&[(name, ""), (&format!("{name}_FILE"), path)]).is_ok());
        }
        for name in ["SSL_CERT_FILE", "WAYBILL_TOKEN_FILE", "POSTGRES_PASSWORD_FILE", "SOME_URL_FILE"] {
            assert_eq!(cleaned_of(&[(name, path)]).unwrap(), [(name.to_owned(), path.to_owned())]);
        }
        for (text, why) in [("", "is empty"), ("\n", "is empty"), ("a\nhunter2\n", "holds more than one line")] {
            fs::write(&file, text).unwrap();
            assert_eq!(cleaned_of(&[("NATS_URL_FILE", path)]).unwrap_err(), format!("NATS_URL_FILE: {path} {why}"));
        }
        fs::remove_file(&file).unwrap();
        assert!(
            cleaned_of(&[("NATS_URL_FILE", path)]).unwrap_err().starts_with(&format!("NATS_URL_FILE: {path} cannot be read"))
        );
    }

    #[test]
    fn a_variable_counts_under_its_old_name_too() {
        let cleaned = |all: &[(&str, &str)]| {
            let all: Vec<Variable> = all.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let cleaned = cleaned(&all).unwrap();
            cleaned.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect::<Vec<_>>()
        };
        let (before, now) = ("WAYBILL_ORDER_DEADLINE", "WAYBILL_SAGA_DEADLINE");
        assert_eq!(cleaned(&[(before, "60")]), ["WAYBILL_SAGA_DEADLINE=60"]);
        assert_eq!(cleaned(&[(before, "60"), (now, "90")]), ["WAYBILL_SAGA_DEADLINE=90"]);
        assert_eq!(cleaned(&[(before, "60"), (now, "")]), ["WAYBILL_SAGA_DEADLINE=60"]);
        assert_eq!(cleaned(&[(now, "90"), ("WAYBILL_DATA", "data")]), ["WAYBILL_SAGA_DEADLINE=90", "WAYBILL_DATA=data"]);
    }
}
