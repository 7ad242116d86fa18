//! Who we are to a broker, and whose word we take for who it is: files, which are kept beside its address.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chassis::settings::{BrokerSettings, Secret, certificates, nkey_seed, user_creds};
use serde::{Deserialize, Serialize};

/// The files that a context names, each as its variable does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerIdentity {
    /// The file of the seed of our nkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_nkey_seed_file: Option<PathBuf>,
    /// The file of our JWT and its seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_creds: Option<PathBuf>,
    /// The certificate of the authority that signs the broker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_ca: Option<PathBuf>,
}

impl BrokerIdentity {
    /// Says what the settings do not say yet. Of who we are they say it all or nothing.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub fn apply(&self, settings: &mut BrokerSettings) -> anyhow::Result<()> {
        if settings.nats_nkey_seed.is_none() && settings.nats_creds.is_none() {
            (settings.nats_nkey_seed, settings.nats_creds) = (self.seed()?, self.creds()?);
        }
        if settings.nats_ca.is_none() {
            settings.nats_ca = self.authority()?;
        }
        Ok(())
    }

    /// Reads every file once.
    ///
    /// # Errors
    /// Where one cannot be read, or holds something else; nothing of it is shown.
    pub fn check(&self) -> anyhow::Result<()> {
        self.seed()?;
        self.creds()?;
        self.authority().map(drop)
    }

    /// The line of its file that is the seed of a user's nkey: `nk` and `nsc` write some around it.
    fn seed(&self) -> anyhow::Result<Option<Secret>> {
        let Some(path) = &self.nats_nkey_seed_file else { return Ok(None) };
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let seed = text.lines().find_map(|line| nkey_seed(line).ok());
        seed.map(Some).with_context(|| format!("{} holds no seed of a user's nkey", path.display()))
    }

    fn creds(&self) -> anyhow::Result<Option<PathBuf>> {
        checked(self.nats_creds.as_deref(), user_creds)
    }

    fn authority(&self) -> anyhow::Result<Option<PathBuf>> {
        checked(self.nats_ca.as_deref(), certificates)
    }

    /// Takes over what another says; a seed and a JWT take each other's place.
    pub fn change(&mut self, said: Self) {
        if said.nats_nkey_seed_file.is_some() || said.nats_creds.is_some() {
            (self.nats_nkey_seed_file, self.nats_creds) = (said.nats_nkey_seed_file, said.nats_creds);
        }
        self.nats_ca = said.nats_ca.or(self.nats_ca.take());
    }

    /// What it says, by the names of the variables.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let all =
            [("NATS_NKEY_SEED_FILE", &self.nats_nkey_seed_file), ("NATS_CREDS", &self.nats_creds), ("NATS_CA", &self.nats_ca)];
        all.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?.display().to_string())))
    }
}

fn checked(path: Option<&Path>, read: fn(&str) -> Result<PathBuf, String>) -> anyhow::Result<Option<PathBuf>> {
    path.map(|path| read(&path.to_string_lossy()).map_err(anyhow::Error::msg)).transpose()
}
