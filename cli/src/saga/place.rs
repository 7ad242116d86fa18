//! Where the order service is, which the operators' commands ask.

use chassis::settings::hidden;
use reqwest::Url;

use crate::client::Gateway;
use crate::system::{ORDER, http_url, or_usual};

/// Where the order service is.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Place {
    /// Where the order service listens [default: what `waybill up` started here, else http://127.0.0.1:8083].
    #[arg(long, env = "WAYBILL_ORDER_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(http_url))]
    order_url: Option<Url>,
}

impl Place {
    /// A client of it.
    pub fn service(&self) -> anyhow::Result<Gateway> {
        Ok(Gateway::new(&self.url()?)?)
    }

    /// Its address.
    pub fn url(&self) -> anyhow::Result<Url> {
        or_usual(&self.order_url, ORDER, "http://127.0.0.1:8083")
    }
}
