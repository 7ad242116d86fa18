//! The address of a database.

use anyhow::{Context as _, anyhow, ensure};
use sqlx::postgres::PgConnectOptions;

/// Reads the address of a database. What it leaves out has the driver's own default, whatever is in the environment (see
/// [`crate::environment`]) and in the password file of libpq.
///
/// # Errors
/// Where it is no address, or has a parameter that the driver does not know and would log with its value.
pub fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    read(url).map_err(|why| anyhow!("the database's address {why}"))
}

/// The same; the error goes on where a sentence begins with what it is about.
pub(crate) fn read(url: &str) -> anyhow::Result<PgConnectOptions> {
    const FORM: &str = "is not of the form postgres://user:password@host:port/name";
    const KNOWN: [&str; 18] = [
        "sslmode",
        "ssl-mode",
        "sslrootcert",
        "ssl-root-cert",
        "ssl-ca",
        "sslcert",
        "ssl-cert",
        "sslkey",
        "ssl-key",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "application_name",
        "options",
        "statement-cache-capacity",
    ];
    let url = &with_scheme(url, "postgres");
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = address.strip_prefix("postgres://").or_else(|| address.strip_prefix("postgresql://")).context(FORM)?;
    let names = query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty());
    let mut has_password = authority.rsplit_once('@').is_some_and(|(credentials, _)| credentials.contains(':'));
    for name in names {
        ensure!(KNOWN.contains(&name) || name.starts_with("options["), "has a parameter that is not known: `{name}`");
        has_password |= name == "password";
    }
    // The driver's own error shows a part of the address.
    let options: PgConnectOptions = url.parse().map_err(|_| anyhow!(FORM))?;
    Ok(if has_password { options } else { options.password("") })
}

/// The address, with this scheme where it has none.
pub fn with_scheme(address: &str, scheme: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") }
}
