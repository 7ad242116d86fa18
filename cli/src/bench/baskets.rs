//! Real shopping baskets as the load, from the files that `waybill import` reads.

use std::collections::HashMap;
use std::path::Path;

use events::order::MAX_ITEMS;
use futures_util::TryStreamExt as _;
use serde::Deserialize;

use super::workload::{Basket, Product, Workload};
use crate::import::lines::Lines;

/// The most baskets that are kept in memory; they are sent in turn, again and again.
const MOST: usize = 50_000;

/// The pieces of one line that the server takes.
const QUANTITIES: std::ops::RangeInclusive<i64> = 1..=100_000;

/// What a product costs that no file names.
const USUAL_CENTS: i64 = 199;

/// A line of the file of products.
#[derive(Debug, Deserialize)]
struct ProductLine {
    product: i64,
    name: String,
    cents: i64,
}

#[derive(Debug, Deserialize)]
struct BasketLine {
    lines: Vec<(i64, i64)>,
}

/// Reads baskets, and the names and prices of their products if there is a file of them. Also says how many baskets were left out
/// because the server would refuse them.
pub async fn read(baskets: &Path, products: Option<&Path>) -> anyhow::Result<(Workload, usize)> {
    let mut known = HashMap::new();
    if let Some(products) = products {
        let mut lines = std::pin::pin!(Lines::<ProductLine>::open(products)?.into_stream());
        while let Some(entry) = lines.try_next().await? {
            if let Ok(product) = entry.parsed {
                known.insert(product.product, Product { name: product.name, cents: product.cents });
            }
        }
    }
    let (mut catalog, mut left_out) = (Catalog { known, ..Catalog::default() }, 0);
    let mut lines = std::pin::pin!(Lines::<BasketLine>::open(baskets)?.into_stream());
    while let Some(entry) = lines.try_next().await? {
        match entry.parsed.ok().filter(is_acceptable) {
            Some(line) if catalog.workload.baskets.len() < MOST => catalog.add(&line),
            Some(_) => break,
            None => left_out += 1,
        }
    }
    anyhow::ensure!(!catalog.workload.baskets.is_empty(), "{} holds no basket", baskets.display());
    Ok((catalog.workload, left_out))
}

fn is_acceptable(line: &BasketLine) -> bool {
    let mut products: Vec<i64> = line.lines.iter().map(|(product, _)| *product).collect();
    products.sort_unstable();
    products.dedup();
    products.len() == line.lines.len()
        && (1..=MAX_ITEMS).contains(&products.len())
        && line.lines.iter().all(|(_, quantity)| QUANTITIES.contains(quantity))
}

/// The products that occur, each at its place.
#[derive(Debug, Default)]
struct Catalog {
    known: HashMap<i64, Product>,
    places: HashMap<i64, usize>,
    workload: Workload,
}

impl Catalog {
    fn add(&mut self, line: &BasketLine) {
        let basket: Basket = line.lines.iter().map(|(product, quantity)| (self.place(*product), *quantity)).collect();
        self.workload.baskets.push(basket);
    }

    fn place(&mut self, product: i64) -> usize {
        let (products, known) = (&mut self.workload.products, &mut self.known);
        *self.places.entry(product).or_insert_with(|| {
            let unknown = || Product { name: format!("Product {product}"), cents: USUAL_CENTS };
            products.push(known.remove(&product).unwrap_or_else(unknown));
            products.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_baskets_of_the_repository_can_be_ordered() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
        let (workload, left_out) = read(&data.join("baskets.ndjson"), Some(&data.join("products.ndjson"))).await.unwrap();
        assert!(workload.baskets.len() > 100 && left_out < 20, "{} and {left_out}", workload.baskets.len());
        assert!(workload.products.iter().all(|product| !product.name.is_empty()));
        let last = workload.baskets.iter().flatten().map(|(product, _)| *product).max();
        assert_eq!(last, Some(workload.products.len() - 1));
    }

    #[test]
    fn what_the_server_would_refuse_is_left_out() {
        for (wrong, lines) in
            [(false, vec![(1, 1), (2, 100_000)]), (true, vec![(1, 0)]), (true, vec![(1, 1), (1, 1)]), (true, vec![])]
        {
            assert_eq!(is_acceptable(&BasketLine { lines: lines.clone() }), !wrong, "{lines:?}");
        }
    }
}
