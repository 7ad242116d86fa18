//! Who is who to the broker of `waybill up --auth`: an account and a key for each service, made once in the folder of the data.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chassis::settings::{BrokerSettings, Secret};
use chassis::topology::accounts::{OPERATOR, accounts, members};
use events::streams::TOPOLOGY;
use saga_commands::identities::Identities;
use uuid::Uuid;

/// The keys of everybody who speaks to this broker.
pub struct Keys {
    identities: Identities,
    /// A folder that is of no use afterwards.
    temporary: Option<PathBuf>,
}

impl Keys {
    /// Those kept beside the data, or new ones for a run that keeps nothing.
    pub fn open(data: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = data.is_none().then(|| std::env::temp_dir().join(format!("waybill-keys-{}", Uuid::now_v7().simple())));
        let folder = data.map(|data| data.join("secrets")).or(temporary.clone()).context("one of them is there")?;
        Ok(Self { identities: Identities::open(&std::path::absolute(folder)?, members(&TOPOLOGY))?, temporary })
    }

    /// The broker's accounts.
    pub fn accounts(&self) -> String {
        accounts(&TOPOLOGY, |member| self.identities.public(member))
    }

    /// Gives a member the key by which the broker knows it.
    pub fn give(&self, member: &str, settings: &mut BrokerSettings) -> anyhow::Result<()> {
        settings.nats_nkey_seed = Some(self.seed(member)?);
        Ok(())
    }

    /// A member's seed.
    pub fn seed(&self, member: &str) -> anyhow::Result<Secret> {
        self.identities.seed(member)
    }

    /// What a person types who has the `nats` command line.
    pub fn by_hand(&self, url: &str) -> String {
        format!("nats --server {url} --nkey {} sub 'events.>'", self.identities.file(OPERATOR).display())
    }

    /// Where services that are started by themselves find who they are.
    pub fn for_services(&self) -> String {
        let file = self.identities.file("<service>");
        format!("Each service is known to the broker by a key of its own: NATS_NKEY_SEED_FILE={}", file.display())
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
