//! The operators' pages for any saga: what flows, what is stuck and why, every decision of one saga as this build would take it, and the
//! audited button beside it.
//!
//! Pages are made on the server (`templates/`, checked when this is built) and can be read without JavaScript; the script only renews what it
//! shows. Everything is asked of the same operators' routes as by the commands, in the name of whoever started the console. So it listens on
//! this machine alone, and takes no word of another site's page (`guard`).

mod args;
mod asked;
mod assets;
mod changes;
mod chart;
mod failed;
mod forms;
mod frame;
mod guard;
mod jobs;
mod letters;
mod links;
mod metrics;
mod pages;
mod program;
mod samples;
mod secret;
mod server;
mod setup;
mod verbs;
mod words;

pub use args::{Args, EXAMPLES};
pub use program::main;
pub use server::serve;
pub use setup::{PORT, Setup};
