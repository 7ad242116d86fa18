//! The deployment's broker: a nats-server with the repository's `nats.conf`, and its users.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use chassis::broker::Broker;
use chassis::settings::BrokerSettings;
use clap::{Args as _, FromArgMatches as _};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::eventually;

const CONF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nats.conf");

const USERS: [&str; 5] = ["provision", "user", "product", "order", "operator"];

/// A nats-server with the repository's configuration, on a free port. Ends and leaves nothing when dropped.
pub struct Deployed {
    address: String,
    folder: PathBuf,
    process: Child,
}

impl Deployed {
    /// Starts one.
    pub async fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("waybill-nats-conf-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let mut command = nats_server().await;
        command.envs(environment(&folder)).args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "--ports_file_dir"]).arg(&folder);
        let process = command.spawn().unwrap();
        let ports = folder.join(format!("nats-server_{}.ports", process.id().unwrap()));
        let address = eventually(Duration::from_secs(20), || async {
            let text = std::fs::read_to_string(&ports).map_err(|error| error.to_string())?;
            let ports: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            ports["nats"][0].as_str().map(|url| url.replace("nats://", "")).ok_or(text)
        })
        .await;
        Self { address, folder, process }
    }

    /// Its address for one of its users.
    pub fn url(&self, user: &str) -> String {
        format!("nats://{user}:{}@{}", password(user), self.address)
    }

    /// JetStream as a service has it.
    pub async fn broker(&self, user: &str) -> Broker {
        let flags = BrokerSettings::augment_args(clap::Command::new("test"));
        let flags = flags.get_matches_from(["test", "--nats-url", &self.url(user)]);
        let broker =
            Broker::connect(&BrokerSettings::from_arg_matches(&flags).unwrap(), &format!("waybill-{user}")).await.unwrap();
        broker.connected().await.unwrap();
        broker
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
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

fn password(user: &str) -> String {
    format!("secret0{user}")
}

/// What the configuration wants in its environment.
pub fn environment(store: &Path) -> Vec<(String, String)> {
    let mut environment = vec![("WAYBILL_NATS_STORE".to_owned(), store.join("store").display().to_string())];
    environment.extend(USERS.map(|user| (format!("WAYBILL_NATS_{}_PASSWORD", user.to_uppercase()), password(user))));
    environment
}
