//! A database and the service that owns it: the password by which Postgres knows the service, in a file for either.

use std::path::Path;

use anyhow::Context as _;
use reqwest::Url;
use saga_commands::private;

/// The service that owns a database.
fn owner(database: &str) -> &str {
    database.trim_start_matches("waybill_")
}

/// The Postgres of a database, by its name in docker-compose.yml.
pub fn server(database: &str) -> String {
    format!("{}-db", owner(database))
}

/// Makes the passwords of the owner and of the superuser, which Postgres reads when it makes the database, and the address with which the owner
/// comes. They are kept once they are there: Postgres knows them from then on.
pub fn introduce(folder: &Path, database: &str) -> anyhow::Result<()> {
    let server = server(database);
    let password = |of: &str| private::keep_or_make(&folder.join(&server).join(of), private::password);
    password("superuser.password")?;
    let address = address(&server, database, password("role.password")?.trim(), &folder.join("ca.pem"))?;
    private::write(&folder.join(owner(database)).join("database.url"), format!("{address}\n"))
}

/// Over an encrypted line, to a server that the authority knows by this name.
fn address(server: &str, database: &str, password: &str, authority: &Path) -> anyhow::Result<Url> {
    let authority = authority.to_str().context("the folder's name is no text")?;
    let mut url: Url = format!("postgres://{database}@{server}:5432/{database}").parse()?;
    url.set_password(Some(password)).ok().context("an address with a host takes a password")?;
    url.query_pairs_mut().append_pair("sslmode", "verify-full").append_pair("sslrootcert", authority);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use chassis::settings::database_url;

    use super::*;

    #[test]
    fn the_address_says_whom_to_believe_wherever_the_folder_is() {
        let address = address("user-db", "waybill_user", "p-_1", Path::new("/a folder/ca.pem")).unwrap();
        assert_eq!(address.host_str(), Some("user-db"));
        assert!(address.query_pairs().any(|(name, value)| name == "sslrootcert" && value == "/a folder/ca.pem"), "{address}");
        assert!(address.query_pairs().any(|(name, value)| name == "sslmode" && value == "verify-full"), "{address}");
        assert_eq!(database_url(address.as_str()).unwrap().expose(), address.as_str());
    }
}
