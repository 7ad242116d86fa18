//! `waybill certs`: what a system needs so that its parts know each other. An authority and certificates for the servers, an nkey for
//! everybody who speaks to the broker, a password for each database, and an issuer of tokens for development.

mod database;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chassis::topology::accounts::members;
use events::streams::TOPOLOGY;
use saga_commands::authority::Authority;
use saga_commands::identities::Identities;
use saga_commands::output::{Format, Output, tell, write_out};
use serde_json::json;

use crate::addresses::DATABASES;
use crate::issuer::Issuer;

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  waybill certs secrets
  waybill certs secrets --host broker.internal --host 10.0.0.5";

/// What to do with it, for `--help`.
pub const LONG_HELP: &str = "\
FOLDER/ca.pem              the authority's certificate: NATS_CA, and sslrootcert= of a database's address
FOLDER/authority/          its key; nobody needs it but this command
FOLDER/nats/               cert.pem and key.pem of nats-server, and the rest of its environment for nats.conf: nats.env
FOLDER/postgres/           cert.pem and key.pem of a Postgres that all databases are on
FOLDER/<service>-db/       cert.pem and key.pem of a Postgres for this service alone, role.password of the service and superuser.password
FOLDER/<service>/          database.url (USER_DATABASE_URL_FILE and its like) leads there, by the names of docker-compose.yml
FOLDER/<member>/           nkey.seed (NATS_NKEY_SEED_FILE) and ca.pem (NATS_CA) of the services, the provisioner, the gateway, the operator
FOLDER/issuer/issuer.key   the key of a development issuer: `waybill token --key` signs with it; its public half is jwks.json of every
                           member (WAYBILL_AUTH_JWKS)

Authority, seeds, passwords and the issuer's key are kept once they are there; the servers' certificates, which last a year, are made anew each time.
";

/// Where every server is found on its own machine.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Where a Postgres is found that all databases are on, in docker-compose.yml and the like.
const POSTGRES: [&str; 3] = ["user-db", "product-db", "order-db"];

/// The flags of `waybill certs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to; only its owner can read what is secret there.
    folder: PathBuf,
    /// A further name or address under which the servers are found; may be repeated.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
}

impl Args {
    /// Runs the command.
    pub fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let folder = std::path::absolute(&self.folder)?;
        let authority = Authority::open(&folder)?;
        let names =
            |own: &[&str]| HERE.iter().chain(own).map(|name| (*name).to_owned()).chain(self.hosts.clone()).collect::<Vec<_>>();
        let [certificate, key] = authority.certify("nats", &names(&["nats"]))?;
        authority.certify("postgres", &names(&POSTGRES))?;
        for database in DATABASES {
            let server = database::server(database);
            authority.certify(&server, &names(&[&server]))?;
            database::introduce(&folder, database)?;
        }
        let members = members(&TOPOLOGY);
        let identities = Identities::open(&folder, members.clone())?;
        members.iter().try_for_each(|member| authority.introduce(member))?;
        let issuer = Issuer::open(&folder.join("issuer"))?;
        members.iter().try_for_each(|member| issuer.introduce(&folder.join(member)))?;
        let mut environment = identities.variables();
        environment.push(("WAYBILL_NATS_CERT".to_owned(), certificate.display().to_string()));
        environment.push(("WAYBILL_NATS_KEY".to_owned(), key.display().to_string()));
        let lines: String = environment.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let path = folder.join("nats/nats.env");
        fs::write(&path, lines).with_context(|| format!("cannot write {}", path.display()))?;
        match out.format {
            Format::Table => {
                for member in members {
                    write_out(&format!("{member:<10} {}", identities.file(member).display()))?;
                }
                tell(&format!("The authority is {}; `waybill certs --help` says what is for whom.", folder.join("ca.pem").display()));
            }
            Format::Json | Format::Jsonl => out.document(&json!({
                "folder": folder,
                "public_keys": members.iter().map(|member| (*member, identities.public(member))).collect::<std::collections::BTreeMap<_, _>>(),
            }))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
