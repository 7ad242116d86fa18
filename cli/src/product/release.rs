//! `waybill product release`: gives back stock that no saga gives back: held for an order that nobody placed, or that ended without.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chassis::settings::hidden;
use events::ReservationId;
use events::order::Status;
use order::saga::Step;
use reqwest::Url;
use saga_commands::client::Gateway;
use saga_commands::confirm;
use saga_commands::output::{Output, Tabular, fields, tell};
use saga_commands::problem::Failure;
use saga_commands::record::{Deed, Recorded};
use saga_commands::system::{announce, http_url, or_usual};
use serde::{Deserialize, Serialize};

use crate::addresses::PRODUCT;
use crate::saga::{self, View};

/// Shown under `waybill product release --help`.
pub const EXAMPLES: &str =
    "For what the audit found: stock that is held for an order that does not exist, or that was rejected or cancelled while its saga gave the
compensation up (`saga skip`). The order service is asked first: while an order is under way its own saga gives back what it
holds, and a confirmed one keeps it; then this command refuses. Who released it, when and why is kept
(`saga actions`).

Exit status: 0 released, 1 refused (it says why) or failed, or not confirmed; 2 wrong usage, or nobody to ask.

Examples:
  waybill product release $RESERVATION --reason \"restored from a backup, INC-4711\"
  waybill product release $ORDER --reason \"its compensation was skipped, INC-4712\" --yes";

/// Which reservation, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reservation's id, which is that of its order.
    reservation: ReservationId,
    #[command(flatten)]
    signed: confirm::Signed,
    /// Where the product service listens [default: what `waybill up` started here, else http://127.0.0.1:8082].
    #[arg(long, env = "WAYBILL_PRODUCT_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(http_url))]
    product_url: Option<Url>,
    #[command(flatten)]
    target: saga::Target,
}

#[derive(Debug, Serialize, Deserialize)]
struct Released {
    reservation_id: ReservationId,
    status: String,
}

impl Args {
    /// Runs the command.
    pub async fn run(self, out: Output) -> anyhow::Result<ExitCode> {
        let url = or_usual(&self.product_url, PRODUCT, "http://127.0.0.1:8082")?;
        let product = Gateway::new(&url)?;
        let by = self.signed.check(product.subject())?;
        announce("product service", &[url.as_str()]);
        let orders = self.target.service()?;
        let order = match orders.get::<View>(&format!("/sagas/{}", self.reservation)).await {
            Ok(order) => Some(order),
            Err(Failure::Problem(problem)) if problem.status == 404 => None,
            Err(failure) => return Err(failure.into()),
        };
        match &order {
            Some(order) => tell(&may_be_released(order)?),
            None => tell(&format!("There is no order {}.", self.reservation)),
        }
        if !self.signed.ask(&format!("Release what the reservation {} holds?", self.reservation))? {
            return Ok(ExitCode::FAILURE);
        }
        let path = format!("/reservations/{}/release", self.reservation);
        let about = format!("what the reservation {} holds", self.reservation);
        let (body, reason) = (self.signed.body(&by), Some(self.signed.reason.clone()));
        let deed = Deed { by, action: "release", about, saga: order.map(|order| order.id()), reason };
        let recorded = Recorded::begin(&orders, deed).await.context("nothing was done: it cannot be written down")?;
        let released = product.post::<Released>(&path, &body).await;
        let outcome = released.as_ref().map_or_else(|failure| format!("failed: {failure}"), |released| released.status.clone());
        recorded.end_or_tell(&outcome).await;
        out.one(&released?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether no saga gives back, or needs, what is held for this order; what is known of it.
fn may_be_released(order: &View) -> anyhow::Result<String> {
    let (id, status) = (order.id(), order.status.as_str());
    match status.parse().map_err(anyhow::Error::msg)? {
        Status::Rejected | Status::Cancelled if order.gave_up(Step::ReserveStock) => {
            Ok(format!("The order {id} is {status}, and its saga gave up the compensation of reserve_stock."))
        }
        Status::Rejected | Status::Cancelled => Ok(format!("The order {id} is {status}, and its saga has ended.")),
        Status::Confirmed => bail!("the order {id} is confirmed and keeps its stock (`waybill saga cancel {id}` gives it back)"),
        _ => bail!("the order {id} is {status}: its saga gives back what it holds (`waybill saga show {id}`)"),
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
