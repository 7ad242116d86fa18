//! Lists: one page, or all of them.

use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::client::{Gateway, Page};
use crate::output::{Format, Output, Tabular};
use crate::usage::number;

/// The most the server puts on one page.
pub const LARGEST_PAGE: usize = 200;

/// Which part of a list.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many on one page: 1 to 200.
    #[arg(long, value_name = "N", value_parser = number::<usize, 1, { LARGEST_PAGE as u64 }>)]
    limit: Option<usize>,
    /// Where to start: the `next_cursor` of the page before.
    #[arg(long)]
    cursor: Option<String>,
    /// Every page, not only one.
    #[arg(long)]
    all: bool,
}

impl Args {
    /// Fetches and prints the list at the path.
    pub async fn run<T: Tabular + DeserializeOwned>(
        self,
        gateway: &Gateway,
        out: Output,
        path: &str,
        filters: Vec<(&'static str, String)>,
    ) -> anyhow::Result<ExitCode> {
        let limit = self.limit.or(self.all.then_some(LARGEST_PAGE));
        let query = |cursor: &Option<String>| {
            let mut query = filters.clone();
            query.extend(limit.map(|limit| ("limit", limit.to_string())));
            query.extend(cursor.clone().map(|cursor| ("cursor", cursor)));
            query
        };
        let mut page: Page<T> = gateway.page(path, &query(&self.cursor)).await?;
        let mut before = vec![];
        while self.all && page.next_cursor.is_some() {
            // Lines can go out as they come; a table and a document need to know the whole.
            if out.format == Format::Jsonl {
                out.page(&page)?;
            } else {
                before.append(&mut page.items);
            }
            page = gateway.page(path, &query(&page.next_cursor)).await?;
        }
        before.append(&mut page.items);
        out.page(&Page { items: before, ..page })?;
        Ok(ExitCode::SUCCESS)
    }
}
