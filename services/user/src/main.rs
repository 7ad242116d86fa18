//! The user service.

use std::process::ExitCode;

use clap::Parser;

/// Batches are many small pieces of memory, taken by one thread and given back by another: an order costs a fifth less CPU with this.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chassis::environment::clean();
    let settings = user::Settings::parse();
    chassis::main(|shutdown| user::run(settings, shutdown))
}
