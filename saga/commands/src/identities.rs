//! Who the members of a system are to its broker: an nkey each. The seed is a secret in a folder of its own, `<member>/nkey.seed`, so that each
//! member can be given its own and no other; the broker knows the public keys only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use chassis::settings::Secret;
use chassis::topology::accounts::key_variable;
use nkeys::KeyPair;

use crate::private;

/// The members' keys, in one folder.
pub struct Identities {
    folder: PathBuf,
    keys: BTreeMap<&'static str, KeyPair>,
}

impl Identities {
    /// Reads the keys of this folder, and makes those that are not there yet.
    ///
    /// # Errors
    /// Where the folder cannot be read or written, or a file of this name holds something else.
    pub fn open(folder: &Path, members: BTreeSet<&'static str>) -> anyhow::Result<Self> {
        private::folder(folder)?;
        let mut keys = BTreeMap::new();
        for member in members {
            let path = file(folder, member);
            let seed = private::keep_or_make(&path, || Ok(KeyPair::new_user().seed()? + "\n"))?;
            let key = KeyPair::from_seed(seed.trim()).map_err(|_| anyhow!("{} holds no seed of an nkey", path.display()))?;
            keys.insert(member, key);
        }
        Ok(Self { folder: folder.to_owned(), keys })
    }

    /// A member's public key.
    pub fn public(&self, member: &str) -> String {
        self.keys[member].public_key()
    }

    /// A member's seed.
    ///
    /// # Errors
    /// Never: it was made from one.
    pub fn seed(&self, member: &str) -> anyhow::Result<Secret> {
        Ok(self.keys[member].seed()?.into())
    }

    /// Where a member's seed is.
    pub fn file(&self, member: &str) -> PathBuf {
        file(&self.folder, member)
    }

    /// The public keys as nats-server's environment names them.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.keys.iter().map(|(member, key)| (key_variable(member), key.public_key())).collect()
    }
}

fn file(folder: &Path, member: &str) -> PathBuf {
    folder.join(member).join("nkey.seed")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_kept_and_only_their_owner_reads_them() {
        let folder = std::env::temp_dir().join(format!("waybill-keys-{}", uuid::Uuid::now_v7()));
        let first = Identities::open(&folder, BTreeSet::from(["user"])).unwrap();
        let second = Identities::open(&folder, BTreeSet::from(["order", "user"])).unwrap();
        assert_eq!(first.public("user"), second.public("user"));
        assert_ne!(second.public("order"), second.public("user"));
        assert_eq!(second.variables()[0], ("WAYBILL_NATS_ORDER_NKEY".to_owned(), second.public("order")));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&second.file("order"))), (0o700, 0o600));
        fs::write(second.file("user"), "hunter2").unwrap();
        let error = Identities::open(&folder, BTreeSet::from(["user"])).err().unwrap().to_string();
        assert!(error.ends_with("user/nkey.seed holds no seed of an nkey"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
