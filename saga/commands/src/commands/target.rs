//! Where the service of a saga is, which the operators' commands ask.

use std::marker::PhantomData;

use chassis::settings::hidden;
use clap::{Arg, ArgMatches, FromArgMatches};
use reqwest::Url;

use crate::client::Gateway;
use crate::command_line::{CommandLine, Service};
use crate::system::{http_url, or_usual};

/// The flag that says where the service is.
#[derive(Clone, Debug)]
pub struct Target<C> {
    url: Option<Url>,
    line: PhantomData<C>,
}

impl<C: CommandLine> Target<C> {
    /// A client of it.
    pub fn service(&self) -> anyhow::Result<Gateway> {
        Gateway::new(&self.url()?)
    }

    /// Its address.
    pub fn url(&self) -> anyhow::Result<Url> {
        or_usual(&self.url, C::SERVICE.variable, C::SERVICE.usual)
    }
}

impl<C: CommandLine> clap::Args for Target<C> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let Service { name, id, flag, variable, usual, .. } = C::SERVICE;
        let help = format!("Where the {name} listens [default: what `waybill up` started here, else {usual}]");
        let arg = Arg::new(id).long(flag).env(variable).hide_env_values(true).value_name("URL");
        command.arg(arg.value_parser(hidden(http_url)).help(help))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<C: CommandLine> FromArgMatches for Target<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { url: matches.get_one::<Url>(C::SERVICE.id).cloned(), line: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
