//! The development issuer: a key that signs tokens, for a system on one's own machine. Whoever has the key is believed to be anybody, so real
//! systems have an issuer of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use chassis::identity::{Algorithm, IdentitySettings, JwksAddress, Role, SigningKey};
use chrono::{DateTime, TimeDelta, Utc};
use saga_commands::confirm::user;
use saga_commands::note::Note;
use saga_commands::private;
use serde_json::json;

/// The variable of the key's file.
pub const ISSUER_KEY: &str = "WAYBILL_ISSUER_KEY";

/// What its tokens name as their issuer.
const ISSUER: &str = "https://waybill.localhost/dev";
/// Whom they are for.
const AUDIENCE: &str = "waybill";

/// The file of the public half.
const JWKS: &str = "jwks.json";

/// The claim that holds the roles.
const ROLES: &str = "roles";

/// The longest that a token may be valid: it cannot be revoked.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// A key that signs tokens.
pub struct Issuer {
    /// The key and what belongs to it.
    folder: PathBuf,
    key: SigningKey,
}

/// A token, and what it says.
pub struct Issued {
    /// The token.
    pub token: String,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

impl Issuer {
    /// The issuer of this folder: its key is made where there is none, and its public half is written beside it.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let file = key_in(&folder);
        match private::read(&file) {
            Err(error) if private::is_missing(&error) => private::write(&file, SigningKey::generate(Algorithm::EdDSA)?)?,
            read => drop(read?),
        }
        let issuer = Self::by_key(&file)?;
        let jwks = json!({ "keys": [issuer.key.public()?] });
        private::write(&issuer.jwks(), format!("{jwks:#}\n"))?;
        Ok(issuer)
    }

    /// The issuer that has this key.
    pub fn by_key(file: &Path) -> anyhow::Result<Self> {
        let pkcs8 = private::read(file)?;
        let key = |id: String| SigningKey::new(id, Algorithm::EdDSA, &pkcs8).with_context(|| format!("{}", file.display()));
        // Named by its public half, so that another key is another name: services then look for it.
        let public = serde_json::to_value(key(String::new())?.public()?)?;
        let id = public["x"].as_str().context("an Ed25519 key has an x")?.chars().take(16).collect();
        Ok(Self { folder: file.parent().unwrap_or(Path::new(".")).to_owned(), key: key(id)? })
    }

    /// The issuer of the system that runs here.
    pub fn noted() -> anyhow::Result<Self> {
        let Some(note) = Note::read()? else {
            bail!("no `waybill up --auth` runs in this folder: --key or {ISSUER_KEY} names the key of a development issuer")
        };
        match note.get(ISSUER_KEY) {
            Some(file) => Self::by_key(Path::new(file)),
            None => bail!(
                "the `waybill up`{} that runs in this folder is open and asks for no token: `waybill up --auth` does",
                note.by()
            ),
        }
    }

    /// The file of the key.
    pub fn key(&self) -> PathBuf {
        key_in(&self.folder)
    }

    /// The file of the public half.
    pub fn jwks(&self) -> PathBuf {
        self.folder.join(JWKS)
    }

    /// The file of the token of whoever runs the system.
    pub fn owners_token(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// Has whoever sees this folder know the public half.
    pub fn introduce(&self, folder: &Path) -> anyhow::Result<()> {
        private::write(&folder.join(JWKS), fs::read(self.jwks())?)
    }

    /// A token. `ttl`: how long it is valid.
    pub fn issue(&self, roles: &[Role], subject: &str, ttl: Duration) -> anyhow::Result<Issued> {
        let now = Utc::now();
        let expires_at = now + TimeDelta::from_std(ttl)?;
        let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, ROLES: roles,
            "iat": now.timestamp(), "nbf": now.timestamp(), "exp": expires_at.timestamp(),
            "jti": uuid::Uuid::now_v7(),
        });
        Ok(Issued { token: self.key.sign(&claims)?, expires_at })
    }

    /// What has a service believe this issuer, by the variables of its settings.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("WAYBILL_AUTH_JWKS", self.jwks().display().to_string()),
            ("WAYBILL_AUTH_ISSUER", ISSUER.to_owned()),
            ("WAYBILL_AUTH_AUDIENCE", AUDIENCE.to_owned()),
        ]
    }

    /// Has a service believe this issuer.
    pub fn apply(&self, settings: &mut IdentitySettings) {
        settings.auth_jwks = Some(JwksAddress::File(self.jwks().display().to_string()));
        settings.auth_issuer = Some(ISSUER.to_owned());
        settings.auth_audience = Some(AUDIENCE.to_owned());
        ROLES.clone_into(&mut settings.auth_roles_claim);
    }
}

fn key_in(folder: &Path) -> PathBuf {
    folder.join("issuer.key")
}

/// The token of whoever runs the system, in a file that commands read. Renewed for as long as the system runs, and then removed.
pub struct OwnersToken<'a>(&'a Issuer);

impl<'a> OwnersToken<'a> {
    /// How long one counts: whoever copies it has it no longer.
    const TTL: Duration = Duration::from_secs(3600);

    /// How often is looked whether half of that is over, by the clock of the day: a machine may have slept.
    const LOOK_EVERY: Duration = Duration::from_secs(30);

    /// Writes the first.
    pub fn write(issuer: &'a Issuer) -> anyhow::Result<Self> {
        let token = Self(issuer);
        token.renew()?;
        Ok(token)
    }

    /// Renews it, for ever.
    pub async fn keep(&self) -> anyhow::Result<()> {
        let mut renewed = Utc::now();
        loop {
            tokio::time::sleep(Self::LOOK_EVERY).await;
            if Utc::now() - renewed > TimeDelta::from_std(Self::TTL / 2)? {
                self.renew()?;
                renewed = Utc::now();
            }
        }
    }

    fn renew(&self) -> anyhow::Result<()> {
        // Everything that commands do: for any user, with the products, as an operator.
        let issued = self.0.issue(&[Role::Service, Role::Catalog, Role::Operator], &user(), Self::TTL)?;
        private::write(&self.0.owners_token(), format!("{}\n", issued.token))
    }
}

impl Drop for OwnersToken<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.owners_token());
    }
}
