//! The operators' command line for any saga: `list, causes, show, replay, export, upgrade-check, tail, actions, retry, cancel, compensate,
//! skip`.
//!
//! A [`CommandLine`] says which saga and where its service is; [`Command`] is the subcommands, to be put under any noun of a program, and
//! [`main`] is a program that has no other. What the steps are called, who does them and what they are waited for says the saga itself.
//!
//! Beside the commands there is what they, and the other commands of a program, are made of: output ([`output`]), requests ([`client`]),
//! the broker's streams ([`broker`]), where a system is found ([`system`], [`context`]) and who asks it ([`token`]), questions ([`confirm`]),
//! lists ([`list`]), completion ([`complete`]).

pub mod age;
pub mod authority;
pub mod broker;
pub mod broker_identity;
pub mod bulk;
pub mod client;
mod command_line;
mod commands;
pub mod complete;
pub mod confirm;
pub mod context;
pub mod dead_letter;
pub mod follow;
#[cfg(test)]
mod fuzz;
pub mod help;
pub mod identities;
pub mod input;
pub mod instances;
pub mod json_text;
pub mod layout;
pub mod list;
mod nats_context;
pub mod note;
pub mod output;
pub mod page;
pub mod private;
pub mod problem;
mod program;
pub mod progress;
pub mod record;
pub mod retry;
pub mod signal;
pub mod system;
pub mod tail;
pub mod token;
pub mod usage;

pub use command_line::{Claim, CommandLine, Filter, History, Service, Told, Verify};
pub use commands::live::Live;
pub use commands::{Command, Fold, Taken, Target, Timeline, View, causes, examples, many, phrases, preview, source};
pub use program::{Global, definition, main, run};
