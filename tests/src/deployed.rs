//! The deployment's broker: a nats-server with the repository's `nats.conf`, and its members.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use chassis::broker::Broker;
use chassis::settings::BrokerSettings;
use chassis::topology::accounts::members;
use clap::{Args as _, FromArgMatches as _};
use events::streams::TOPOLOGY;
use saga_commands::authority::Authority;
use saga_commands::identities::Identities;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::eventually;

const CONF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nats.conf");

/// A nats-server with the repository's configuration, on a free port. Ends and leaves nothing when dropped.
pub struct Deployed {
    address: String,
    folder: PathBuf,
    identities: Identities,
    process: Child,
}

impl Deployed {
    /// Starts one.
    pub async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("waybill-nats-conf-{}", Uuid::now_v7()));
        let (identities, environment) = secrets(&folder);
        let mut command = nats_server().await;
        command.envs(environment).args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir"]).arg(&folder);
        let process = command.spawn().unwrap();
        let ports = folder.join(format!("nats-server_{}.ports", process.id().unwrap()));
        let address = eventually(Duration::from_secs(20), || async {
            let text = std::fs::read_to_string(&ports).map_err(|error| error.to_string())?;
            let ports: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let clients = ports["nats"].as_array().into_iter().chain(ports["tls"].as_array()).flatten();
            let address = clients.filter_map(|url| url.as_str()?.split_once("://")).next();
            address.map(|(_, address)| address.to_owned()).ok_or(text)
        })
        .await;
        Self { address, folder, identities, process }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("tls://{}", self.address)
    }

    /// The folder of keys and certificates.
    pub fn secrets(&self) -> &Path {
        &self.folder
    }

    /// What a member of the system is told of the broker.
    pub fn settings(&self, member: &str) -> BrokerSettings {
        let seed = self.identities.seed(member).unwrap();
        let ca = self.folder.join("ca.pem").display().to_string();
        settings(&["--nats-url", &self.url(), "--nats-ca", &ca, "--nats-nkey-seed", seed.expose()])
    }

    /// JetStream as a member has it.
    pub async fn broker(&self, member: &str) -> Broker {
        let broker = Broker::connect(&self.settings(member), &format!("waybill-{member}")).await.unwrap();
        broker.connected().await.unwrap_or_else(|error| panic!("{member}: {error}"));
        broker
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The settings that these flags make.
pub fn settings(flags: &[&str]) -> BrokerSettings {
    let command = BrokerSettings::augment_args(clap::Command::new("test"));
    BrokerSettings::from_arg_matches(&command.get_matches_from([&["test"], flags].concat())).unwrap()
}

/// A nats-server that reads the repository's configuration; the environment is still to be given.
pub async fn nats_server() -> Command {
    let mut command = Command::new(stack::Options::for_tests().nats_server().await.unwrap());
    command.args(["-c", CONF]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    for name in std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("WAYBILL_NATS_")) {
        command.env_remove(name);
    }
    command
}

/// Keys and certificates in a folder, and what the configuration wants in its environment.
pub fn secrets(folder: &Path) -> (Identities, Vec<(String, String)>) {
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let [certificate, key] = Authority::open(folder).unwrap().certify("nats", &names).unwrap();
    let identities = Identities::open(folder, members(&TOPOLOGY)).unwrap();
    let mut environment = identities.variables();
    for (name, path) in [("STORE", folder.join("store")), ("CERT", certificate), ("KEY", key)] {
        environment.push((format!("WAYBILL_NATS_{name}"), path.display().to_string()));
    }
    (identities, environment)
}
