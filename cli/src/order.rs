//! `waybill order`: orders, and what became of them.

pub mod find;
pub mod view;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap_complete::ArgValueCandidates;
use events::order::Status;
use events::product::Line;
use events::{OrderId, ProductId, Quantity, Reference, Tag, Tags, UserId};
use reqwest::Method;
use saga_commands::client::{self, Gateway, key_header};
use saga_commands::list;
use saga_commands::output::Output;
use saga_commands::problem::Failure;
use saga_commands::retry::surely;
use saga_commands::usage::number;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use self::find::Find;
use self::view::Order;
use crate::complete;
use crate::once::{Once, perhaps};

/// Shown under `waybill order --help`.
pub const EXAMPLES: &str = "Examples:
  waybill order submit --user $ADA --item $KETTLE=2
  waybill order list --status rejected";

/// The outcome is not the one that was asked for.
const OTHERWISE: u8 = 3;
/// There is no outcome yet.
const UNDECIDED: u8 = 4;

/// What can be done with orders.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Target an order, and wait for its outcome.
    #[command(
        after_help = "Exit status: 0 confirmed (or accepted, with --no-wait), 3 rejected or cancelled, 4 still pending, 1 failed.

Examples:
  waybill order submit --user $ADA --item $KETTLE=2
  waybill order submit --user $ADA --item $KETTLE=1 --wait 120
  waybill order submit --user $ADA --item $KETTLE=1 --reference PO-1187 --tag channel=web
  waybill order submit --user $ADA --item $KETTLE=1 --idempotency-key cart-17 --no-wait"
    )]
    Submit(Submit),
    /// List orders.
    #[command(after_help = "Examples:
  waybill order list --limit 20
  waybill order list --status rejected --all -o jsonl | jq -r .reason.code
  waybill order list --user $ADA
  waybill order list --reference PO-1187
  waybill order list --tag channel=web --created-from 24h
  waybill order list --product $KETTLE --created-from 2026-01-31T00:00:00Z")]
    List {
        /// Only this user's.
        #[arg(long, value_name = "USER", add = ArgValueCandidates::new(complete::users))]
        user: Option<UserId>,
        /// Only orders with this status.
        #[arg(long, value_parser = statuses())]
        status: Option<Status>,
        #[command(flatten)]
        find: Find,
        #[command(flatten)]
        list: list::Args,
    },
    /// Show one order.
    #[command(after_help = "Example:
  waybill order show $ORDER")]
    Show {
        /// The order's id.
        #[arg(value_name = "ORDER", add = ArgValueCandidates::new(complete::orders))]
        id: OrderId,
    },
    /// Cancel an order: what was done for it is undone.
    #[command(
        after_help = "Exit status: 0 cancelled (or accepted, without --wait), 3 it ended otherwise, 4 not cancelled yet, 1 failed.

Examples:
  waybill order cancel $ORDER
  waybill order cancel $ORDER --wait
  waybill order cancel $ORDER --wait=120"
    )]
    Cancel {
        /// The order's id.
        #[arg(value_name = "ORDER", add = ArgValueCandidates::new(complete::orders))]
        id: OrderId,
        /// Wait until it is cancelled, at most so many seconds.
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30", value_parser = up_to_a_day, allow_hyphen_values = true)]
        wait: Option<u64>,
    },
}

/// A new order.
#[derive(Debug, clap::Args)]
pub struct Submit {
    /// Who orders.
    #[arg(long, value_name = "USER", add = ArgValueCandidates::new(complete::users))]
    user: UserId,
    /// A product's id and how many pieces of it; once for each product.
    #[arg(long = "item", value_name = "PRODUCT=QUANTITY", required = true, value_parser = item, add = ArgValueCandidates::new(complete::items))]
    items: Vec<Line>,
    /// What you call the order: it is found by this.
    #[arg(long, value_name = "TEXT", value_parser = find::reference)]
    reference: Option<Reference>,
    /// What it is found by too, up to eight times.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<Tag>,
    /// How many seconds to wait for the outcome.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = up_to_a_day, allow_hyphen_values = true)]
    wait: u64,
    /// Do not wait for the outcome.
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    #[command(flatten)]
    once: Once,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, gateway: &Gateway, out: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Submit(new) => new.run(gateway, out).await,
            Self::List { user, status, find, list } => {
                let mut filters = find.query();
                filters.extend(user.map(|user| ("user_id", user.to_string())));
                filters.extend(status.map(|status| ("status", status.as_str().to_owned())));
                list.run::<Order>(gateway, out, "/orders", filters).await
            }
            Self::Show { id } => {
                out.one(&gateway.get::<Order>(&format!("/orders/{id}")).await?)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Cancel { id, wait } => cancel(gateway, out, id, wait).await,
        }
    }
}

impl Submit {
    async fn run(self, gateway: &Gateway, out: Output) -> anyhow::Result<ExitCode> {
        let deadline = Instant::now() + Duration::from_secs(self.wait);
        let key = self.once.key();
        let mut body = json!({ "user_id": self.user, "items": self.items });
        if let Some(reference) = &self.reference {
            body["reference"] = json!(reference);
        }
        if !self.tags.is_empty() {
            body["tags"] = json!(Tags::of(self.tags.iter().cloned())?);
        }
        let request = || {
            let request = gateway.request(Method::POST, "/orders").header("idempotency-key", key_header(&key)).json(&body);
            if self.no_wait {
                return request;
            }
            let wait = self.wait.min(LONGEST_PREFERENCE);
            request.header("prefer", format!("wait={wait}")).timeout(client::PATIENCE + Duration::from_secs(wait))
        };
        let placed = surely(async || gateway.send::<Order>(request()).await.map(|answer| answer.body)).await;
        let mut order = placed.map_err(|unmade| unmade.or_perhaps(|| perhaps("The order may have been placed", &key)))?;
        if !self.no_wait {
            order = until(gateway, order, deadline, Status::is_final).await?;
        }
        out.one(&order)?;
        Ok(match order.status {
            _ if self.no_wait => ExitCode::SUCCESS,
            Status::Confirmed => ExitCode::SUCCESS,
            Status::Rejected | Status::Cancelled => ExitCode::from(OTHERWISE),
            Status::Pending | Status::Cancelling => ExitCode::from(UNDECIDED),
        })
    }
}

/// The longest wait in seconds that the server honours in one `Prefer` header.
const LONGEST_PREFERENCE: u64 = 30;

async fn cancel(gateway: &Gateway, out: Output, id: OrderId, wait: Option<u64>) -> anyhow::Result<ExitCode> {
    let deadline = Instant::now() + Duration::from_secs(wait.unwrap_or_default());
    let (path, key) = (format!("/orders/{id}/cancel"), Uuid::now_v7().to_string());
    let cancelled = gateway.change(&path, &key, &json!({})).await;
    let mut order: Order = cancelled
        .map_err(|unmade| unmade.or_perhaps(|| format!("The order may have been cancelled. `waybill order show {id}` tells.")))?;
    if wait.is_some() {
        // A confirmed order was final before; being accepted for cancellation, it is not any more.
        order = until(gateway, order, deadline, |status| status.is_final() && status != Status::Confirmed).await?;
    }
    out.one(&order)?;
    Ok(match order.status {
        _ if wait.is_none() => ExitCode::SUCCESS,
        Status::Cancelled => ExitCode::SUCCESS,
        Status::Rejected => ExitCode::from(OTHERWISE),
        Status::Pending | Status::Confirmed | Status::Cancelling => ExitCode::from(UNDECIDED),
    })
}

/// Looks at the order again, less and less often, until it stands as wanted or the time is up.
async fn until(
    gateway: &Gateway,
    mut order: Order,
    deadline: Instant,
    wanted: impl Fn(Status) -> bool,
) -> Result<Order, Failure> {
    let mut delay = Duration::from_millis(50);
    while !wanted(order.status) && Instant::now() < deadline {
        tokio::time::sleep_until(deadline.min(Instant::now() + delay)).await;
        delay = (delay * 3 / 2).min(Duration::from_secs(2));
        order = gateway.get(&format!("/orders/{}", order.id)).await?;
    }
    Ok(order)
}

fn up_to_a_day(text: &str) -> Result<u64, String> {
    number::<u64, 0, 86_400>(text)
}

fn item(text: &str) -> Result<Line, String> {
    let (product, quantity) =
        text.rsplit_once('=').ok_or("it is written PRODUCT=QUANTITY, a product's id and how many pieces")?;
    let product_id: ProductId = product.parse().map_err(|error: events::NotAnId| error.to_string())?;
    let quantity =
        quantity.parse().ok().and_then(Quantity::new).ok_or_else(|| format!("`{quantity}` is not a quantity: 1 to 100000"))?;
    Ok(Line { product_id, quantity })
}

fn statuses() -> impl clap::builder::TypedValueParser<Value = Status> {
    PossibleValuesParser::new(Status::ALL.map(Status::as_str)).try_map(|text| text.parse::<Status>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: &str = "01920000-0000-7000-8000-000000000002";

    #[test]
    fn an_item_is_a_product_and_a_quantity() {
        let line = item(&format!("{PRODUCT}=3")).unwrap();
        assert_eq!((line.product_id.to_string().as_str(), line.quantity.get()), (PRODUCT, 3));
        for wrong in
            [PRODUCT.to_owned(), format!("{PRODUCT}="), format!("{PRODUCT}=0"), format!("{PRODUCT}=100001"), "x=1".to_owned()]
        {
            assert!(item(&wrong).is_err(), "{wrong}");
        }
    }
}
