//! The flags of `list` that one saga has and others have not.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, FromArgMatches};
use clap_complete::ArgValueCandidates;

use crate::command_line::CommandLine;

/// What was asked for with them.
#[derive(Clone, Debug)]
pub struct Filters<C> {
    /// Parameters for the service.
    pub query: Vec<(&'static str, String)>,
    line: PhantomData<C>,
}

impl<C: CommandLine> clap::Args for Filters<C> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let args = C::FILTERS.iter().map(|filter| {
            let check = filter.check;
            let read = move |text: &str| check(text).map(|()| text.to_owned());
            let arg = Arg::new(filter.flag).long(filter.flag).value_name(filter.value_name).help(filter.help);
            let arg = arg.action(if filter.many { ArgAction::Append } else { ArgAction::Set });
            arg.value_parser(read).add(ArgValueCandidates::new(filter.candidates))
        });
        command.args(args)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<C: CommandLine> FromArgMatches for Filters<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |flag: &str| {
            let values: Vec<&str> = matches.get_many::<String>(flag)?.map(String::as_str).collect();
            Some(values.join(","))
        };
        let query = C::FILTERS.iter().filter_map(|filter| Some((filter.query, value(filter.flag)?)));
        Ok(Self { query: query.collect(), line: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
