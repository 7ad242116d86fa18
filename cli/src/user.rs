//! `waybill user`: the people who order.

use std::process::ExitCode;

use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use events::UserId;
use events::user::User;
use reqwest::Method;
use saga_commands::client::Gateway;
use saga_commands::list;
use saga_commands::output::{Output, Tabular};
use serde::{Deserialize, Serialize};

use crate::complete;
use crate::once::{Once, perhaps};

/// Shown under `waybill user --help`.
pub const EXAMPLES: &str = "Examples:
  waybill user create --email ada@example.com --name \"Ada Lovelace\"
  waybill user list --all -o jsonl";

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a user. An e-mail address can be taken only once, in any case of letters.
    #[command(after_help = "Examples:
  waybill user create --email ada@example.com --name \"Ada Lovelace\"
  waybill user create --email ada@example.com --name Ada -o json | jq -r .id")]
    Create(Create),
    /// List users.
    #[command(after_help = "Examples:
  waybill user list
  waybill user list --limit 50 --cursor CURSOR
  waybill user list --all -o jsonl | jq -r .email")]
    List(list::Args),
    /// Show one user.
    #[command(after_help = "Example:
  waybill user show $ADA")]
    Show {
        /// The user's id.
        #[arg(value_name = "USER", add = ArgValueCandidates::new(complete::users))]
        id: UserId,
    },
    /// Change a user's name, or whether the user may order.
    #[command(after_help = "Examples:
  waybill user update $ADA --active false
  waybill user update $ADA --name \"Ada King\"")]
    Update(Update),
}

/// A new user.
#[derive(Debug, clap::Args, Serialize)]
pub struct Create {
    /// The e-mail address.
    #[arg(long)]
    email: String,
    /// The name.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    #[serde(skip)]
    once: Once,
}

/// A change of a user.
#[derive(Debug, clap::Args, Serialize)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Update {
    /// The user's id.
    #[arg(value_name = "USER", add = ArgValueCandidates::new(complete::users))]
    #[serde(skip)]
    id: UserId,
    /// The new name.
    #[arg(long, group = "change")]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether the user may order from now on.
    #[arg(long, value_name = "true|false", group = "change")]
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<bool>,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, gateway: &Gateway, out: Output) -> anyhow::Result<ExitCode> {
        let user: Shown = match self {
            Self::Create(new) => {
                let key = new.once.key();
                let made = gateway.change("/users", &key, &new).await;
                made.map_err(|unmade| unmade.or_perhaps(|| perhaps("The user may have been created", &key)))?
            }
            Self::List(args) => return args.run::<Shown>(gateway, out, "/users", vec![]).await,
            Self::Show { id } => gateway.get(&format!("/users/{id}")).await?,
            Self::Update(change) => {
                gateway.send(gateway.request(Method::PATCH, &format!("/users/{}", change.id)).json(&change)).await?.body
            }
        };
        out.one(&user)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A user, as people read it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Shown(User);

impl Tabular for Shown {
    const HEADER: &'static [&'static str] = &["ID", "EMAIL", "NAME", "ACTIVE", "CREATED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.0.id.to_string(),
            self.0.email.clone(),
            self.0.name.clone(),
            if self.0.active { "yes" } else { "no" }.to_owned(),
            saga_commands::output::time(self.0.created_at),
        ]
    }
}
