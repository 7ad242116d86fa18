//! Lists: one page, or all of them.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::age;
use crate::client::Gateway;
use crate::output::{Format, Output, Tabular};
use crate::page::Page;
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

/// A span of time.
#[derive(Debug, clap::Args)]
pub struct Span {
    /// Only those begun then or later: a moment (2026-01-02T03:04:05Z) or how long ago (24h).
    #[arg(long, value_name = "MOMENT", value_parser = age::moment, allow_hyphen_values = true)]
    created_from: Option<DateTime<Utc>>,
    /// Only those begun before then.
    #[arg(long, value_name = "MOMENT", value_parser = age::moment, allow_hyphen_values = true)]
    created_to: Option<DateTime<Utc>>,
}

impl Span {
    /// As the service is asked for it.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let said = |moment: DateTime<Utc>| moment.to_rfc3339_opts(SecondsFormat::Micros, true);
        let (from, to) = (self.created_from.map(said), self.created_to.map(said));
        from.map(|from| ("created_from", from)).into_iter().chain(to.map(|to| ("created_to", to))).collect()
    }
}

impl Args {
    /// Whether it is the whole list.
    pub fn is_whole(&self) -> bool {
        self.all
    }

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
        let mut page: Page<Listed<T>> = gateway.page(path, &query(&self.cursor)).await?;
        let mut before = vec![];
        // A page may end before anything was found.
        while page.next_cursor.is_some() && (self.all || page.items.is_empty()) {
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

/// One of a list; or what there is of one that its service cannot read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Listed<T> {
    Unreadable(Unreadable),
    Whole(T),
}

#[derive(Debug, Serialize, Deserialize)]
struct Unreadable {
    id: String,
    unreadable: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl<T: Tabular> Tabular for Listed<T> {
    const HEADER: &'static [&'static str] = T::HEADER;

    fn row(&self) -> Vec<String> {
        match self {
            Self::Whole(whole) => whole.row(),
            Self::Unreadable(Unreadable { id, unreadable, .. }) => {
                let mut row = vec![id.clone(), format!("UNREADABLE: {unreadable}")];
                row.resize(T::HEADER.len(), String::new());
                row
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Thing {
        id: String,
        items: Vec<String>,
    }

    impl Tabular for Thing {
        const HEADER: &'static [&'static str] = &["ID", "ITEMS", "TOTAL"];

        fn row(&self) -> Vec<String> {
            vec![self.id.clone(), self.items.join(" "), String::new()]
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_a_row_among_the_others() {
        let item = json!({"id": "01920000-0000-7000-8000-000000000003", "items": "?", "unreadable": "column items"});
        let listed: Listed<Thing> = serde_json::from_value(item.clone()).unwrap();
        assert_eq!(listed.row()[..2], ["01920000-0000-7000-8000-000000000003", "UNREADABLE: column items"]);
        assert_eq!((listed.row().len(), serde_json::to_value(&listed).unwrap()), (Thing::HEADER.len(), item));
    }
}
