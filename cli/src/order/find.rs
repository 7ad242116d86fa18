//! What orders are found by, the same for orders and for their sagas.

use clap_complete::ArgValueCandidates;
use events::{ProductId, ReasonCode, Reference, Tag};
use saga_commands::{Filter, list};
use serde_json::Value;

use crate::complete;

/// What orders are found by beside their user and status.
#[derive(Debug, clap::Args)]
pub struct Find {
    /// Only with this reference.
    #[arg(long, value_name = "TEXT", value_parser = reference)]
    reference: Option<Reference>,
    /// Only with this tag; given several times, with all of them.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<Tag>,
    /// Only those given up for this reason: insufficient_stock, timed_out, ...
    #[arg(long, value_name = "CODE", value_parser = reason)]
    reason: Option<String>,
    /// Only with this product, among what another of these finds.
    #[arg(long, value_name = "PRODUCT", add = ArgValueCandidates::new(complete::products))]
    product: Option<ProductId>,
    #[command(flatten)]
    span: list::Span,
}

impl Find {
    /// As the service is asked for it.
    pub fn query(self) -> Vec<(&'static str, String)> {
        let tags: Vec<String> = self.tags.iter().map(ToString::to_string).collect();
        let mut query = self.span.query();
        query.extend(self.reference.map(|reference| ("reference", reference.into())));
        query.extend((!tags.is_empty()).then(|| ("tag", tags.join(","))));
        query.extend(self.reason.map(|reason| ("reason", reason)));
        query.extend(self.product.map(|product| ("product_id", product.to_string())));
        query
    }
}

/// The same as flags of `saga list`.
pub const FILTERS: [Filter; 4] = [
    Filter {
        flag: "reference",
        value_name: "TEXT",
        help: "Only with this reference, in flight or not",
        query: "reference",
        many: false,
        check: |text| reference(text).map(drop),
        candidates: Vec::new,
    },
    Filter {
        flag: "tag",
        value_name: "KEY=VALUE",
        help: "Only with this tag, in flight or not; given several times, with all of them",
        query: "tag",
        many: true,
        check: |text| text.parse::<Tag>().map(drop).map_err(|error| error.to_string()),
        candidates: Vec::new,
    },
    Filter {
        flag: "reason",
        value_name: "CODE",
        help: "Only those given up for this reason: insufficient_stock, timed_out, ...",
        query: "reason",
        many: false,
        check: |text| reason(text).map(drop),
        candidates: Vec::new,
    },
    Filter {
        flag: "product",
        value_name: "PRODUCT",
        help: "Only with this product, among what another of these finds",
        query: "product_id",
        many: false,
        check: |text| text.parse::<ProductId>().map(drop).map_err(|error| error.to_string()),
        candidates: complete::products,
    },
];

/// What somebody calls an order.
pub fn reference(text: &str) -> Result<Reference, String> {
    Reference::new(text).map_err(|error| error.to_string())
}

fn reason(text: &str) -> Result<String, String> {
    let code: Result<ReasonCode, _> = serde_json::from_value(Value::from(text));
    code.map(|_| text.to_owned()).map_err(|_| "it is not the code of a reason".to_owned())
}
