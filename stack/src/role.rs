//! A database and the one role that owns it: no superuser, and of no use with any other database.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

use crate::folder::random;

/// The passwords of the roles that were made here, each in a file `<role>.password` that only its owner reads.
#[derive(Debug)]
pub(crate) struct Roles {
    folder: PathBuf,
    known: Mutex<BTreeMap<String, String>>,
}

impl Roles {
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder, known: Mutex::default() }
    }

    /// The role of this name has been made: its password.
    pub(crate) fn password(&self, role: &str) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(role).cloned()
    }

    /// The password of a role that is yet to be made: the one it had in an earlier run, or a new one.
    pub(crate) fn prepare(&self, role: &str) -> anyhow::Result<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.join(format!("{role}.password"));
        let kept = match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("could not read {}", path.display()));
            }
            _ => {
                let password = format!("{:032x}", u128::from_ne_bytes(random()?));
                let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
                writeln!(file.with_context(|| format!("could not write {}", path.display()))?, "{password}")?;
                password
            }
        };
        known.insert(role.to_owned(), kept.clone());
        Ok(kept)
    }
}

/// What psql is told to make a database, and the role of the same name that owns it and all that is in it. Both may be there already, from a
/// time when the server's own role owned everything.
pub(crate) fn owned(name: &str, password: &str) -> String {
    format!(
        r#"-- Several may be at it at once.
select pg_advisory_lock(7236);
select 'create role "{name}" login' where not exists (select from pg_roles where rolname = '{name}') \gexec
alter role "{name}" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password '{password}';
select 'create database "{name}" owner "{name}"' where not exists (select from pg_database where datname = '{name}') \gexec
alter database "{name}" owner to "{name}";
-- Whoever is nobody in particular has no business in any database.
revoke all on database "{name}", postgres from public;
select pg_advisory_unlock(7236);
\connect "{name}"
do $do$
declare
  it record;
begin
  for it in
    select oid::regclass as relation from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S') and relowner <> '"{name}"'::regrole
      -- A table takes its sequences with it.
      and not exists (select from pg_depend where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype in ('a', 'i'))
  loop
    execute format('alter table %s owner to %I', it.relation, '{name}');
  end loop;
end
$do$;
"#
    )
}
