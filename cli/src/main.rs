//! `waybill`: the command line. Nouns, then verbs; data on stdout, progress and complaints on stderr.

mod addresses;
mod args;
mod audit;
mod bench;
mod certs;
mod complete;
mod context;
mod contract;
mod dead_letter;
mod events;
#[cfg(test)]
mod fuzz;
mod health;
mod import;
mod issuer;
mod nats_conf;
mod once;
mod order;
mod price;
mod product;
mod provision;
mod saga;
mod services;
mod token;
mod up;
mod user;

use std::process::ExitCode;

use saga_commands::output;

/// Batches are many small pieces of memory, taken by one thread and given back by another: an order costs a fifth less CPU with this.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chassis::environment::clean();
    // reqwest is built without a TLS provider of its own. Err only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    complete::answer(args::Cli::definition);
    let cli = args::Cli::read();
    let runtime = match chassis::runtime(chassis::cores()) {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&error),
    };
    runtime.block_on(cli.run()).unwrap_or_else(|error| output::fail(&error))
}
