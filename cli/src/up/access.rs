//! Who may do what on the system of `waybill up`: everybody everything, or whoever bears a token of the development issuer, or of another one.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use chassis::identity::{Identity, IdentitySettings};
use stack::Stack;

use crate::issuer::{ISSUER_KEY, Issuer, OwnersToken};
use saga_commands::token::{TOKEN_FILE, Token};

/// Whether the settings say one thing, before anything is started. `address`: where the services listen.
pub fn check(auth: bool, settings: &IdentitySettings, address: Option<SocketAddr>) -> anyhow::Result<()> {
    if auth {
        ensure!(
            settings.auth_jwks.is_none(),
            "WAYBILL_AUTH_JWKS names an issuer already: leave --auth out, which has one of its own"
        );
        ensure!(!settings.insecure_no_auth, "--auth asks who it is, WAYBILL_INSECURE_NO_AUTH does not: unset one");
        return Ok(());
    }
    match address.map(|address| Identity::new(settings, address)) {
        Some(Err(why)) => bail!("{why}. `waybill up --auth` asks who it is, by tokens of its own"),
        _ => Ok(()),
    }
}

/// Who is believed.
pub struct Access {
    issuer: Option<Issuer>,
}

impl Access {
    /// For this stack.
    pub fn open(auth: bool, stack: &Stack) -> anyhow::Result<Self> {
        Ok(Self { issuer: auth.then(|| Issuer::open(&stack.folder().join("issuer"))).transpose()? })
    }

    /// Has a service believe whom the system believes.
    pub fn apply(&self, settings: &mut IdentitySettings) {
        self.issuer.iter().for_each(|issuer| issuer.apply(settings));
    }

    /// What the services, and the commands in this folder, are told.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(issuer) = &self.issuer else { return Vec::new() };
        let files = [(TOKEN_FILE, issuer.owners_token()), (ISSUER_KEY, issuer.key())];
        issuer.settings().into_iter().chain(files.map(|(name, file)| (name, file.display().to_string()))).collect()
    }

    /// What commands elsewhere are told beside the address, to bring the token of whoever runs the system.
    pub fn for_commands(&self) -> String {
        self.issuer.as_ref().map(|issuer| format!(" {TOKEN_FILE}={}", issuer.owners_token().display())).unwrap_or_default()
    }

    /// The token of whoever runs the system, if it asks for any.
    pub fn owners_token(&self) -> anyhow::Result<Option<OwnersToken<'_>>> {
        self.issuer.as_ref().map(OwnersToken::write).transpose()
    }

    /// The token of whoever runs the system, as its file has it at the time.
    pub fn token(&self) -> Option<Token> {
        self.issuer.as_ref().map(|issuer| Token::File(issuer.owners_token()))
    }

    /// One line for people. `settings`: what the environment says of another issuer.
    pub fn line(&self, settings: &IdentitySettings, host: &str) -> String {
        match (&self.issuer, &settings.auth_issuer) {
            (Some(_), _) => "by token: commands in this folder bring one, `waybill token --role ROLE` prints others".to_owned(),
            (None, Some(issuer)) => format!("by token of {issuer}"),
            (None, None) => format!("open: anyone who reaches {host} may do everything; `waybill up --auth` asks who it is"),
        }
    }
}

/// Renews the token for ever, if there is one.
pub async fn renewed(token: Option<&OwnersToken<'_>>) -> anyhow::Result<()> {
    match token {
        Some(token) => token.keep().await,
        None => std::future::pending().await,
    }
}
