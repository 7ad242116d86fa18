//! `waybill context`: systems by name, with their addresses and the token that says who asks.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use chassis::settings::{Secret, hidden, nats_url};
use clap::Subcommand;
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use reqwest::Url;
use saga_commands::broker_identity::BrokerIdentity;
use saga_commands::context::{self, Context, check_name};
use saga_commands::output::{Format, Output, Tabular, table, tell, time, write_out};
use saga_commands::system::{self, http_url, shown};
use saga_commands::token::{self, Token};
use saga_commands::usage::Usage;
use serde::Serialize;

use crate::addresses::{ADDRESSES, Databases, GATEWAY};

/// Examples for `--help`.
pub const EXAMPLES: &str = "A context is what commands take addresses and a token from where neither a flag nor the environment says any. A token is sent to
the addresses of its own context alone. Contexts lie in $XDG_CONFIG_HOME/waybill/contexts, a file each; one that others can read is
refused, for it may hold a token and passwords.

Examples:
  waybill context add prod --gateway https://shop.internal --token-file /run/token
  waybill context use prod
  waybill context ls
  WAYBILL_CONTEXT=none waybill order list";

/// What can be done with contexts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a context, or change one: what is said now is kept, and what was kept stays.
    #[command(
        after_help = "Addresses are taken from flags and from the environment. Those with passwords are better set there: a command line
shows to everybody on the machine.

Examples:
  waybill context add prod --gateway https://shop.internal --nats-context prod
  waybill context add prod --order-url https://orders.shop.internal
  waybill context add prod --nats-nkey-seed-file ~/prod.seed --nats-ca ~/ca.pem
  waybill context add here --gateway localhost:8080
  waybill token --role operator | waybill context add here --token-stdin
  ORDER_DATABASE_URL=$( cat /run/order-url ) waybill context add prod"
    )]
    Add(Box<Add>),
    /// From now on commands are about this system; `none`: about none of these.
    #[command(after_help = "Examples:
  waybill context use prod
  waybill context use none")]
    Use {
        /// The context.
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(names))]
        name: String,
    },
    /// List contexts.
    #[command(
        visible_alias = "list",
        after_help = "Examples:
  waybill context ls
  waybill context ls -o jsonl | jq -r .name"
    )]
    Ls,
    /// Show a context, without its passwords and its token.
    #[command(after_help = "Examples:
  waybill context show prod
  waybill context show -o json")]
    Show {
        /// The context [default: the one that commands are about].
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(names))]
        name: Option<String>,
    },
    /// Remove a context.
    #[command(after_help = "Example:
  waybill context rm prod")]
    Rm {
        /// The context.
        #[arg(value_name = "NAME", add = ArgValueCandidates::new(names))]
        name: String,
    },
}

/// What is kept, beside the gateway and the file of a token, which every command can be told. [`system::given`] has it.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = check_name, add = ArgValueCandidates::new(names))]
    name: String,
    /// Where the user service listens.
    #[arg(long, env = "WAYBILL_USER_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(http_url))]
    user_url: Option<Url>,
    /// Where the product service listens.
    #[arg(long, env = "WAYBILL_PRODUCT_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(http_url))]
    product_url: Option<Url>,
    /// Where the order service listens.
    #[arg(long, env = "WAYBILL_ORDER_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(http_url))]
    order_url: Option<Url>,
    /// Where the broker listens.
    #[arg(long, env = "NATS_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(nats_url))]
    nats_url: Option<Secret>,
    /// The context of the `nats` command line that leads to the broker, in place of its address and of who we are there.
    #[arg(long, env = "NATS_CONTEXT", value_name = "NAME")]
    nats_context: Option<String>,
    /// The file of the seed of the nkey by which the broker knows us. Its name is kept, and it is read each time.
    #[arg(long, value_name = "FILE", conflicts_with = "nats_creds")]
    nats_nkey_seed_file: Option<PathBuf>,
    /// The file of the JWT and the seed by which the broker knows us, kept in the same way.
    #[arg(long, env = "NATS_CREDS", value_name = "FILE")]
    nats_creds: Option<PathBuf>,
    /// The file of the certificate of the authority that signs the broker's, kept in the same way.
    #[arg(long, env = "NATS_CA", value_name = "FILE")]
    nats_ca: Option<PathBuf>,
    #[command(flatten)]
    databases: Databases,
    /// Read the token from stdin. (--token-file keeps the name of a file, which is read each time.)
    #[arg(long)]
    token_stdin: bool,
}

impl Command {
    /// Runs the command.
    pub fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Add(add) => add.run()?,
            Self::Use { name } => context::employ(&name)?,
            Self::Ls => list(out)?,
            Self::Show { name } => show(name, out)?,
            Self::Rm { name } => Context::remove(&name)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    fn run(self) -> anyhow::Result<()> {
        let (addresses, nats_context) = system::given();
        let token_file = system::token_file().map(|(file, _)| std::path::absolute(file)).transpose()?;
        let broker = BrokerIdentity {
            nats_nkey_seed_file: kept(self.nats_nkey_seed_file)?,
            nats_creds: kept(self.nats_creds)?,
            nats_ca: kept(self.nats_ca)?,
        };
        // A file that is none is told of now, and not when the broker refuses it.
        broker.check()?;
        let nothing = addresses.is_empty() && nats_context.is_none() && broker == BrokerIdentity::default();
        if nothing && token_file.is_none() && !self.token_stdin {
            return Err(
                Usage("there is nothing to keep: give an address or a token (`waybill context add --help`)".to_owned()).into()
            );
        }
        let exists = Context::names()?.contains(&self.name);
        let mut context = if exists { Context::load(&self.name)? } else { Context { name: self.name, ..Context::default() } };
        // An address of the broker and a context that leads to it take each other's place.
        if addresses.contains_key(system::NATS) {
            context.nats_context = None;
        } else if nats_context.is_some() {
            context.addresses.remove(system::NATS);
            (context.nats_context, context.broker) = (nats_context, BrokerIdentity::default());
        }
        context.broker.change(broker);
        context.addresses.extend(addresses.into_iter().map(|(name, value)| (name.to_owned(), value)));
        if self.token_stdin {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            context.token = Some(token::checked(&text).map_err(|why| why.context("the token on stdin"))?);
            context.token_file = None;
        } else if let Some(file) = token_file {
            (context.token, context.token_file) = (None, Some(file));
        }
        context.save()?;
        let done = if exists { "changed" } else { "added" };
        tell(&format!(
            "The context {} is {done}; `waybill context use {}` has commands be about it.",
            context.name, context.name
        ));
        Ok(())
    }
}

/// A file as a context names it, wherever commands run.
fn kept(file: Option<PathBuf>) -> std::io::Result<Option<PathBuf>> {
    file.map(std::path::absolute).transpose()
}

fn list(out: Output) -> anyhow::Result<()> {
    let used = context::used()?;
    let shown = |name: &String| Shown::of(name, used.as_ref());
    let all: Vec<Shown> = Context::names()?.iter().map(shown).collect();
    match out.format {
        Format::Table => write_out(&table(Shown::HEADER, all.iter().map(Shown::row)))?,
        Format::Json => out.document(&all)?,
        Format::Jsonl => all.iter().try_for_each(|one| out.document(one))?,
    }
    Ok(())
}

fn show(name: Option<String>, out: Output) -> anyhow::Result<()> {
    let name = match name {
        Some(name) => name,
        None => match system::context()? {
            Some(context) => context.name.clone(),
            None => {
                anyhow::bail!("no context is in use: `waybill context use NAME` chooses one, `waybill context ls` shows them")
            }
        },
    };
    Context::load(&name)?;
    Ok(out.one(&Shown::of(&name, context::used()?.as_ref()))?)
}

/// The names, for a shell to complete.
fn names() -> Vec<CompletionCandidate> {
    Context::names().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

/// A context as it may be shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    in_use: bool,
    addresses: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats_context: Option<String>,
    #[serde(flatten)]
    broker: BrokerIdentity,
    /// What its token says of itself, or why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Shown {
    fn of(name: &str, used: Option<&String>) -> Self {
        let in_use = used.is_some_and(|used| used == name);
        match Context::load(name) {
            Ok(context) => {
                let known = ADDRESSES.into_iter();
                Self {
                    name: name.to_owned(),
                    in_use,
                    addresses: known.filter_map(|(name, _)| Some((name, shown(context.addresses.get(name)?)))).collect(),
                    nats_context: context.nats_context.clone(),
                    broker: context.broker.clone(),
                    token: about_token(&context),
                }
            }
            Err(why) => Self {
                name: name.to_owned(),
                in_use,
                addresses: BTreeMap::new(),
                nats_context: None,
                broker: BrokerIdentity::default(),
                token: Some(format!("{why:#}")),
            },
        }
    }
}

fn about_token(context: &Context) -> Option<String> {
    let token = context.token.clone().map(Token::Text).or_else(|| context.token_file.clone().map(Token::File))?;
    let said = match token.text() {
        Ok(text) => text,
        Err(why) => return Some(format!("{why:#}")),
    };
    let file = context.token_file.as_ref().map(|file| format!(" (from {})", file.display())).unwrap_or_default();
    let Some(claims) = token::claims(&said) else { return Some(format!("one that says nothing of itself{file}")) };
    let expiry = match claims.expires_at() {
        Some(at) if at < chrono::Utc::now() => format!(", expired {}", time(at)),
        Some(at) => format!(", until {}", time(at)),
        None => String::new(),
    };
    Some(format!("{}{expiry}{file}", claims.sub))
}

impl Tabular for Shown {
    const HEADER: &'static [&'static str] = &["NAME", "IN USE", "GATEWAY", "TOKEN"];

    fn row(&self) -> Vec<String> {
        let gateway = self.addresses.get(GATEWAY).cloned();
        let in_use = if self.in_use { "yes" } else { "" };
        vec![self.name.clone(), in_use.to_owned(), gateway.unwrap_or_default(), self.token.clone().unwrap_or_default()]
    }

    fn details(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("name".to_owned(), self.name.clone())];
        pairs.push(("in use".to_owned(), if self.in_use { "yes" } else { "no" }.to_owned()));
        pairs.extend(self.addresses.iter().map(|(name, address)| ((*name).to_owned(), address.clone())));
        pairs.extend(self.nats_context.clone().map(|name| ("nats context".to_owned(), name)));
        pairs.extend(self.broker.pairs().map(|(name, path)| (name.to_owned(), path)));
        pairs.push(("token".to_owned(), self.token.clone().unwrap_or_else(|| "none".to_owned())));
        pairs
    }
}
