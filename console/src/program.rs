//! A program that is nothing but the console of one saga.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use saga_commands::{CommandLine, Global};

use crate::args::Args;

/// The operators' pages.
#[derive(Debug, Parser)]
struct Program<C: CommandLine> {
    #[command(flatten)]
    _global: Global,
    #[command(flatten)]
    args: Args<C>,
}

/// Runs the program of this name, with the command line of the process. What goes wrong is told, and is its exit status.
pub fn main<C: CommandLine>(name: &'static str) -> ExitCode {
    saga_commands::run(Program::<C>::command().name(name), |program: Program<C>| program.args.run(Vec::new()))
}
