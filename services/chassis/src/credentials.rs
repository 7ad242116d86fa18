//! Where the broker is, and who we are to it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// What to connect with, and to whom: addresses separated by commas, the seed of our nkey or a file with a JWT and its seed, and the authority
/// that signs the server's certificate.
///
/// # Errors
/// Where an address is none, or the file cannot be read.
pub(crate) fn connecting(
    addresses: &str,
    seed: Option<&str>,
    creds: Option<&Path>,
    authority: Option<&Path>,
) -> anyhow::Result<(ConnectOptions, Vec<ServerAddr>)> {
    const FORM: &str = "the broker's address is not of the form nats://user:password@host:port";
    let servers = addresses.split(',').map(|server| server.trim().parse());
    let servers: Vec<ServerAddr> = servers.collect::<Result<_, _>>().context(FORM)?;
    let mut options = credentials(&servers);
    if let Some(seed) = seed {
        options = options.nkey(seed.to_owned());
    }
    if let Some(path) = creds {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        options = options.credentials(&text).with_context(|| format!("{} {NO_CREDS}", path.display()))?;
    }
    if let Some(authority) = authority {
        // Whoever names an authority does not mean a line that anybody can read.
        options = options.add_root_certificates(authority.to_owned()).require_tls(true);
    }
    Ok((options, bare(&servers).context(FORM)?))
}

/// Reads the seed of a user's nkey; an error shows nothing of it.
pub(crate) fn user_seed(text: &str) -> Result<String, String> {
    const FORM: &str = "is not the seed of a user's nkey, which begins with SU";
    let key = nkeys::KeyPair::from_seed(text.trim()).map_err(|_| FORM.to_owned())?;
    if key.public_key().starts_with('U') { Ok(text.trim().to_owned()) } else { Err(FORM.to_owned()) }
}

const NO_CREDS: &str = "holds no JWT and seed of a user, as `nsc generate creds` writes them";

/// Reads the path of a file with a user's JWT and its seed; an error shows nothing of it.
///
/// # Errors
/// Where the file cannot be read or holds something else.
pub fn user_creds(path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let read = ConnectOptions::with_credentials(&text);
    read.map(|_| path.to_owned()).map_err(|_| format!("{} {NO_CREDS}", path.display()))
}

/// Reads the path of a file with certificates: what is wrong with it is found out at the start, not at each attempt to connect.
///
/// # Errors
/// Where the file cannot be read or holds something else.
pub fn certificates(path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let holds = text.contains("-----BEGIN CERTIFICATE-----");
    if holds { Ok(path.to_owned()) } else { Err(format!("{} holds no certificate", path.display())) }
}

/// The addresses without users and passwords: the client logs where it connects to.
fn bare(servers: &[ServerAddr]) -> std::io::Result<Vec<ServerAddr>> {
    let bare = |server: &ServerAddr| {
        let mut url = server.clone().into_inner();
        // Err only where the address has no host, and then there is nothing to take away.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        ServerAddr::from_url(url)
    };
    servers.iter().map(bare).collect()
}

/// The user and password (or the token) of the address, which the client does not take from there by itself. All servers of a cluster
/// know the same ones.
fn credentials(servers: &[ServerAddr]) -> ConnectOptions {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let named = servers.iter().find_map(|server| Some((server.username()?, server.password())));
    match named {
        Some((user, Some(password))) => ConnectOptions::new().user_and_password(decoded(user), decoded(password)),
        Some((token, None)) => ConnectOptions::new().token(decoded(token)),
        None => ConnectOptions::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_may_be_logged_holds_no_password() {
        let servers: Vec<ServerAddr> =
            ["nats://u:hunter2@a:4222", "hunter2@b", "tls://c:1"].map(|server| server.parse().unwrap()).into();
        let bare: Vec<String> = bare(&servers).unwrap().iter().map(|server| server.as_url_str().to_owned()).collect();
        assert_eq!(bare, ["nats://a:4222", "nats://b", "tls://c:1"]);
    }

    #[test]
    fn only_a_users_seed_is_one_and_nothing_of_another_shows() {
        let user = nkeys::KeyPair::new_user().seed().unwrap();
        assert_eq!(user_seed(&format!("{user}\n")), Ok(user.clone()));
        let account = nkeys::KeyPair::new_account().seed().unwrap();
        for wrong in ["", "SUnot", &account, &nkeys::KeyPair::from_seed(&user).unwrap().public_key(), &user[..user.len() - 1]] {
            let error = user_seed(wrong).unwrap_err();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_named_at_the_start() {
        let this = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(certificates(this), Err(format!("{this} holds no certificate")));
        assert!(certificates("/nowhere/ca.pem").unwrap_err().starts_with("/nowhere/ca.pem cannot be read"));
    }
}
