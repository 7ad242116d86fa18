//! `waybill product release`: gives back stock that is held for an order nobody placed.

use std::process::ExitCode;

use anyhow::bail;
use chassis::settings::hidden;
use events::ReservationId;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Gateway;
use crate::confirm;
use crate::output::{Output, Tabular, fields};
use crate::problem::Failure;
use crate::system::{PRODUCT, announce, http_url, or_usual};

/// Shown under `waybill product release --help`.
pub const EXAMPLES: &str =
    "For what the audit found: stock that is held for an order that does not exist. The order service is asked first; where it
knows the order, its own saga gives back what it holds, and this command refuses. Who released it, when and why is kept.

Exit status: 0 released, 1 refused (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill product release $RESERVATION --reason \"restored from a backup, INC-4711\"";

/// Which reservation, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reservation's id: that of the order that does not exist.
    reservation: ReservationId,
    #[command(flatten)]
    signed: confirm::Signed,
    /// Where the product service listens [default: what `waybill up` started here, else http://127.0.0.1:8082].
    #[arg(long, env = "WAYBILL_PRODUCT_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(http_url))]
    product_url: Option<Url>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Released {
    reservation_id: ReservationId,
    status: String,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, gateway: &Gateway, out: Output) -> anyhow::Result<ExitCode> {
        self.signed.check()?;
        let url = or_usual(&self.product_url, PRODUCT, "http://127.0.0.1:8082")?;
        announce("product service", &[url.as_str()]);
        match gateway.get::<Value>(&format!("/orders/{}", self.reservation)).await {
            Ok(order) => bail!(
                "the order {} exists and is {}: its saga gives back what it holds (`waybill saga show {0}`)",
                self.reservation,
                order["status"].as_str().unwrap_or("under way")
            ),
            Err(Failure::Problem(problem)) if problem.status == 404 => {}
            Err(failure) => return Err(failure.into()),
        }
        if !self.signed.ask(&format!("Release what the reservation {} holds?", self.reservation))? {
            return Ok(ExitCode::FAILURE);
        }
        let path = format!("/reservations/{}/release", self.reservation);
        let released: Released = Gateway::new(&url)?.post(&path, &self.signed.body()?).await?;
        out.one(&released)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Tabular for Released {
    const HEADER: &'static [&'static str] = &["RESERVATION", "STATUS"];

    fn row(&self) -> Vec<String> {
        vec![self.reservation_id.to_string(), self.status.clone()]
    }

    fn details(&self) -> Vec<(String, String)> {
        fields(self)
    }
}
