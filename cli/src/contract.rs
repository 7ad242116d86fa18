//! `waybill openapi` and `waybill asyncapi`: the contracts of this build, for machines.

use std::process::ExitCode;

use clap::ValueEnum;
use saga_commands::output::write_bytes;
use serde_json::Value;

/// Examples for `--help`.
pub const OPENAPI_EXAMPLES: &str = "Examples:
  waybill openapi > openapi.json
  waybill openapi --service order | jq '.paths | keys'";

/// Examples for `--help`.
pub const ASYNCAPI_EXAMPLES: &str = "Examples:
  waybill asyncapi > asyncapi.json
  waybill asyncapi | jq '.channels | keys'";

/// The flags of `waybill openapi`.
#[derive(Debug, clap::Args)]
pub struct OpenApi {
    /// Whose.
    #[arg(long, value_enum, default_value_t = Service::Gateway)]
    service: Service,
}

/// Who has an OpenAPI document.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Service {
    /// What all services serve to everyone.
    Gateway,
    /// The user service.
    User,
    /// The product service, with what is for operators.
    Product,
    /// The order service, with what is for operators.
    Order,
}

impl OpenApi {
    /// Prints the document.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let document = match self.service {
            Service::Gateway => serde_json::from_str(gateway::OPENAPI)?,
            Service::User => user::openapi(),
            Service::Product => product::openapi(),
            Service::Order => order::openapi(),
        };
        print(&document)
    }
}

/// Prints the AsyncAPI document.
pub fn asyncapi() -> anyhow::Result<ExitCode> {
    print(&events::contract::asyncapi())
}

fn print(document: &Value) -> anyhow::Result<ExitCode> {
    write_bytes(format!("{document:#}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
