//! `waybill token`: a token of the development issuer.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chassis::identity::Role;
use chrono::{DateTime, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use saga_commands::age;
use saga_commands::confirm::user;
use saga_commands::output::{Format, Output, write_line};
use saga_commands::usage::Usage;
use serde::Serialize;

use crate::issuer::{self, Issuer};

/// Shown under `waybill token --help`.
pub const EXAMPLES: &str = "For systems that believe the development issuer, as `up --auth` starts them. Others have an issuer of their own, who gives out their tokens. A token goes to stdout and nowhere else; commands take one from --token-file, WAYBILL_TOKEN, or a context.

What a role may do is in docs/security.md. `customer` orders for itself alone: its subject is the id of a user.

Examples:
  waybill token --role operator --ttl 1h > token
  waybill token --role customer --subject $ADA
  waybill context add here --gateway localhost:8080
  waybill token --role catalog --role operator | waybill context add here --token-stdin";

/// Who is to be believed, and for how long.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A role of its bearer: customer, catalog, operator or service. May be repeated.
    #[arg(long = "role", required = true, value_name = "ROLE", value_parser = role())]
    roles: Vec<Role>,
    /// Its subject; for a customer the id of a user [default: $USER, else the name of this process's user].
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// How long it is valid: a minute to 30 days. Keep it short: a token cannot be revoked.
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = ttl)]
    ttl: Duration,
    /// The key of the issuer [default: that of the `waybill up --auth` that runs here].
    #[arg(long, env = issuer::ISSUER_KEY, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// A token as a program reads it.
#[derive(Serialize)]
struct Shown {
    token: String,
    subject: String,
    roles: Vec<&'static str>,
    expires_at: DateTime<Utc>,
}

impl Args {
    /// Runs the command.
    pub fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let is_customer = self.roles.contains(&Role::Customer);
        let subject = match self.subject.map(|subject| subject.trim().to_owned()) {
            Some(subject) if subject.is_empty() => return Err(Usage("--subject is empty".to_owned()).into()),
            Some(subject) if is_customer && subject.parse::<events::UserId>().is_err() => {
                return Err(Usage("--subject of a customer is the id of a user (`waybill user list`)".to_owned()).into());
            }
            Some(subject) => subject,
            None if is_customer => return Err(Usage("a customer is a user: name its id with --subject".to_owned()).into()),
            None => user(),
        };
        let issuer = self.key.map_or_else(Issuer::noted, |key| Issuer::by_key(&key))?;
        let issued = issuer.issue(&self.roles, &subject, self.ttl)?;
        match out.format {
            Format::Table => write_line(&issued.token)?,
            Format::Json | Format::Jsonl => out.document(&Shown {
                token: issued.token,
                subject,
                roles: self.roles.iter().map(|role| role.name()).collect(),
                expires_at: issued.expires_at,
            })?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn role() -> impl clap::builder::TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::name)).map(|name| Role::named(&name).expect("one of them"))
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = age::parse(text)?;
    let fits = (Duration::from_secs(60)..=issuer::LONGEST).contains(&ttl);
    if fits { Ok(ttl) } else { Err(format!("`{text}` is not from a minute to 30 days")) }
}
