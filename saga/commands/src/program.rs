//! A program whose commands are those of one saga: `trip saga list`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches, Parser, Subcommand};

use crate::command_line::CommandLine;
use crate::commands::{Command, examples};
use crate::output::{Format, Output};
use crate::system::{self, NATS};
use crate::{help, output};

// No documentation of the struct: it would be that of the whole program.
#[allow(missing_docs)]
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Global {
    /// How to print: a table for people, one JSON document, or one JSON object a line.
    #[arg(short, long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub output: Format,
    /// A file with the token that says who asks; WAYBILL_TOKEN holds one itself.
    #[arg(long, global = true, env = "WAYBILL_TOKEN_FILE", value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Parser)]
struct Program<C: CommandLine> {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun<C>,
}

#[derive(Debug, Subcommand)]
enum Noun<C: CommandLine> {
    /// Any saga's story: read it, replay it, put it right.
    #[command(subcommand, visible_alias = "sagas", after_help = examples::<C>())]
    Saga(Box<Command<C>>),
}

/// What can be typed to the program of this name.
pub fn definition<C: CommandLine>(name: &'static str) -> clap::Command {
    help::with_values(Program::<C>::command().name(name))
}

/// Runs the program of this name, with the command line of the process. What goes wrong is told, and is its exit status.
pub fn main<C: CommandLine>(name: &'static str) -> ExitCode {
    run(definition::<C>(name), |program: Program<C>| {
        let Noun::Saga(command) = program.noun;
        command.run(Output::new(program.global.output))
    })
}

/// Runs a program that knows no system but its own: reads the command line of the process, and runs what was typed. What goes wrong is told, and is
/// its exit status.
pub fn run<P: FromArgMatches, F: Future<Output = anyhow::Result<ExitCode>>>(
    definition: clap::Command,
    run: impl FnOnce(P) -> F,
) -> ExitCode {
    chassis::environment::clean();
    // reqwest is built without a TLS provider of its own. Err only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let matches = definition.try_get_matches().unwrap_or_else(|error| help::wrong(error, &[]));
    system::said(&matches, &[(NATS, "nats_url")]);
    let program = P::from_arg_matches(&matches).unwrap_or_else(|error| help::wrong(error, &[]));
    let ran = chassis::runtime(chassis::cores()).and_then(|runtime| runtime.block_on(run(program)));
    ran.unwrap_or_else(|error| output::fail(&error))
}
