//! `waybill product`: what can be ordered, and how much of it there is.

mod release;

use std::num::NonZeroI64;
use std::process::ExitCode;

use clap::Subcommand;
use clap_complete::ArgValueCandidates;
use events::product::Product;
use events::{Currency, Money, ProductId};
use saga_commands::client::Gateway;
use saga_commands::list;
use saga_commands::output::{Output, Tabular, fields, time};
use saga_commands::usage::{Usage, number};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::once::{Once, perhaps};
use crate::{complete, price};

/// Shown under `waybill product --help`.
pub const EXAMPLES: &str = "Examples:
  waybill product create --name Kettle --price 19.99 --stock 100
  waybill product list";

/// What can be done with products.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a product.
    #[command(after_help = "Examples:
  waybill product create --name Kettle --price 19.99 --currency USD --stock 100
  waybill product create --name Green-Tea --description \"100 g, loose\" --price 1200 --currency JPY
  waybill product create --name Kettle --price-minor 1999")]
    Create(Create),
    /// List products.
    #[command(after_help = "Examples:
  waybill product list
  waybill product list --all -o jsonl | jq -r .name")]
    List(list::Args),
    /// Show one product.
    #[command(after_help = "Example:
  waybill product show $KETTLE")]
    Show {
        /// The product's id.
        #[arg(value_name = "PRODUCT", add = ArgValueCandidates::new(complete::products))]
        id: ProductId,
    },
    /// Add to the stock of a product, or take from it. It cannot fall below zero.
    #[command(after_help = "Examples:
  waybill product stock $KETTLE --delta 50
  waybill product stock $KETTLE --delta -3")]
    Stock {
        /// The product's id.
        #[arg(value_name = "PRODUCT", add = ArgValueCandidates::new(complete::products))]
        id: ProductId,
        /// How many pieces more; negative: fewer.
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        delta: NonZeroI64,
        #[command(flatten)]
        once: Once,
    },
    /// Give back stock that no saga gives back: of an order that does not exist, or has ended without.
    #[command(after_help = release::EXAMPLES)]
    Release(release::Args),
}

/// A new product.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("cost").required(true))]
pub struct Create {
    /// The name.
    #[arg(long)]
    name: String,
    /// What one piece costs, with at most the decimals its currency has.
    #[arg(long, value_name = "AMOUNT", group = "cost")]
    price: Option<String>,
    /// What one piece costs, in minor units (cents).
    #[arg(long, value_name = "CENTS", group = "cost", value_parser = number::<i64, 0, { i64::MAX as u64 }>)]
    price_minor: Option<i64>,
    /// The currency, ISO 4217.
    #[arg(long, default_value = "USD", value_parser = price::currency)]
    currency: Currency,
    /// What there is to say about it.
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Pieces in stock.
    #[arg(long, value_name = "N", default_value = "0", value_parser = number::<i64, 0, 1_000_000_000>)]
    stock: i64,
    #[command(flatten)]
    once: Once,
}

impl Create {
    fn price(&self) -> Result<Money, Usage> {
        match (&self.price, self.price_minor) {
            (_, Some(amount)) => Ok(Money::new(amount, self.currency)),
            (Some(text), None) => price::parse(text, self.currency).map_err(|why| Usage(format!("--price {why}"))),
            (None, None) => Err(Usage("give --price or --price-minor".to_owned())),
        }
    }
}

impl Command {
    /// Runs the command.
    pub async fn run(self, gateway: &Gateway, out: Output) -> anyhow::Result<ExitCode> {
        let product: Shown = match self {
            Self::Create(new) => {
                let price = new.price()?;
                let body = json!({"name": new.name, "description": new.description, "price": price, "stock": new.stock});
                let key = new.once.key();
                let made = gateway.change("/products", &key, &body).await;
                made.map_err(|unmade| unmade.or_perhaps(|| perhaps("The product may have been created", &key)))?
            }
            Self::List(args) => return args.run::<Shown>(gateway, out, "/products", vec![]).await,
            Self::Release(args) => return args.run(out).await,
            Self::Show { id } => gateway.get(&format!("/products/{id}")).await?,
            Self::Stock { id, delta, once } => {
                let (key, path) = (once.key(), format!("/products/{id}/stock"));
                let made = gateway.change(&path, &key, &json!({ "delta": delta })).await;
                made.map_err(|unmade| unmade.or_perhaps(|| perhaps("The stock may have been changed", &key)))?
            }
        };
        out.one(&product)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A product, as people read it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Shown(Product);

impl Tabular for Shown {
    const HEADER: &'static [&'static str] = &["ID", "NAME", "PRICE", "STOCK", "RESERVED", "CREATED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.0.id.to_string(),
            self.0.name.clone(),
            price::show(self.0.price),
            self.0.stock.to_string(),
            self.0.reserved.to_string(),
            time(self.0.created_at),
        ]
    }

    fn details(&self) -> Vec<(String, String)> {
        let mut pairs = fields(self);
        if !self.0.description.is_empty() {
            pairs.insert(2, ("description".to_owned(), self.0.description.clone()));
        }
        pairs
    }
}
