//! Who orders what: users and products made for the measurement, and orders of them, written out before it begins.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use events::{ProductId, UserId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use saga_commands::client::Gateway;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// The most a product can have in stock, so that nothing is ever short.
const STOCK: i64 = 1_000_000_000;

/// Requests at a time while users and products are made.
const AT_A_TIME: usize = 64;

/// Orders written out; they are sent in turn, again and again.
const ORDERS: usize = 16_384;

/// What an order asks for: which products, how many of each.
pub type Basket = Vec<(usize, i64)>;

/// A product to be.
#[derive(Clone, Debug)]
pub struct Product {
    /// Its name.
    pub name: String,
    /// Its price in cents.
    pub cents: i64,
}

/// What there is to be ordered.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// The products.
    pub products: Vec<Product>,
    /// Orders of them, by their index.
    pub baskets: Vec<Basket>,
}

impl Workload {
    /// Two lines an order over so many products.
    pub fn uniform(products: usize) -> Self {
        let mut rng = Rng(0x5eed);
        let basket = |_| {
            let first = rng.roll(products);
            let other = (first + 1 + rng.roll(products.max(2) - 1)) % products;
            let lines = if other == first { vec![first] } else { vec![first, other] };
            lines.into_iter().map(|product| (product, 1 + rng.roll(3) as i64)).collect()
        };
        let baskets = (0..ORDERS).map(basket).collect();
        let product = |number| Product { name: format!("Product {number}"), cents: 100 + 7 * number as i64 };
        Self { products: (0..products).map(product).collect(), baskets }
    }

    /// Lines an order, on average.
    pub fn lines(&self) -> f64 {
        let lines: usize = self.baskets.iter().map(Vec::len).sum();
        lines as f64 / self.baskets.len().max(1) as f64
    }
}

/// The orders as they are sent.
#[derive(Debug)]
pub struct Load {
    bodies: Vec<Bytes>,
    next: AtomicUsize,
}

impl Load {
    /// Makes users, so many of them inactive, and the products, and writes out the orders.
    pub async fn make(
        workload: &Workload,
        users: usize,
        inactive: f64,
        user: &Gateway,
        product: &Gateway,
    ) -> anyhow::Result<Self> {
        let run = Uuid::now_v7();
        let inactive = ((users as f64 * inactive).round() as usize).min(users);
        let people: Vec<UserId> = stream::iter(0..users)
            .map(|number| make_user(user, run, number, number < inactive))
            .buffered(AT_A_TIME)
            .try_collect()
            .await
            .context("the users cannot be made")?;
        let products: Vec<ProductId> = stream::iter(&workload.products)
            .map(|wanted| make_product(product, wanted))
            .buffered(AT_A_TIME)
            .try_collect()
            .await
            .context("the products cannot be made")?;
        let mut rng = Rng(0xca57);
        let bodies = workload.baskets.iter().map(|basket| {
            let items: Vec<Value> = basket
                .iter()
                .map(|(product, quantity)| json!({"product_id": products[*product], "quantity": quantity}))
                .collect();
            json!({"user_id": people[rng.roll(people.len())], "items": items}).to_string().into()
        });
        Ok(Self { bodies: bodies.collect(), next: AtomicUsize::new(0) })
    }

    /// The next order.
    pub fn next(&self) -> Bytes {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.bodies[number % self.bodies.len()].clone()
    }
}

#[derive(Deserialize)]
struct Made<Id> {
    id: Id,
}

async fn make_user(gateway: &Gateway, run: Uuid, number: usize, inactive: bool) -> anyhow::Result<UserId> {
    let body = json!({"email": format!("bench-{run}-{number}@example.com"), "name": format!("Customer {number}")});
    let made: Made<UserId> = gateway.post("/users", &body).await?;
    if inactive {
        let path = format!("/users/{}", made.id);
        gateway.send::<Value>(gateway.request(Method::PATCH, &path).json(&json!({"active": false}))).await?;
    }
    Ok(made.id)
}

async fn make_product(gateway: &Gateway, product: &Product) -> anyhow::Result<ProductId> {
    let price = json!({"amount": product.cents, "currency": "USD"});
    let body = json!({"name": product.name, "price": price, "stock": STOCK});
    let made: Made<ProductId> = gateway.post("/products", &body).await?;
    Ok(made.id)
}

/// The same numbers in every run (SplitMix64), so that runs compare.
struct Rng(u64);

impl Rng {
    /// From 0 to below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % sides.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_order_has_two_lines_of_different_products() {
        let workload = Workload::uniform(100);
        assert_eq!((workload.products.len(), workload.baskets.len(), workload.lines()), (100, ORDERS, 2.0));
        let mut asked = [0; 100];
        for basket in &workload.baskets {
            assert_ne!(basket[0].0, basket[1].0);
            basket.iter().for_each(|(product, _)| asked[*product] += 1);
        }
        let mean = 2 * ORDERS / 100;
        assert!(asked.iter().all(|&times| times > mean * 7 / 10 && times < mean * 13 / 10), "{asked:?}");
    }

    #[test]
    fn one_product_makes_orders_of_one_line() {
        let workload = Workload::uniform(1);
        assert!(workload.baskets.iter().all(|basket| basket.len() == 1 && basket[0].0 == 0));
        assert!(Workload::uniform(2).baskets.iter().all(|basket| basket.len() == 2));
    }
}
