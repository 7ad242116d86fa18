//! The words of the shop, over HTTP at each service's own port.

use std::time::Duration;

use events::{OrderId, ProductId, UserId};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::Answer;
use crate::{Service, System, eventually};

/// How long an order may take where nothing is wrong, or where faults have been healed.
const FINAL_WITHIN: Duration = Duration::from_secs(30);

/// The words for the end of an order.
pub(crate) const FINAL: [&str; 3] = ["confirmed", "rejected", "cancelled"];

/// The body of an order.
pub fn order_body(user: UserId, items: &[(ProductId, i64)]) -> Value {
    let item = |(product, quantity): &(ProductId, i64)| json!({ "product_id": product, "quantity": quantity });
    json!({ "user_id": user, "items": items.iter().map(item).collect::<Vec<_>>() })
}

impl System {
    /// Creates a user nobody else is.
    pub async fn create_user(&self, active: bool) -> UserId {
        let client = self.client(Service::User);
        let body = json!({ "email": format!("{}@example.com", Uuid::now_v7()), "name": "Ada Lovelace" });
        let user = id(&client.post("/users", &body).await.expect(201));
        if !active {
            client.patch(&format!("/users/{user}"), &json!({ "active": false })).await.expect(200);
        }
        UserId(user)
    }

    /// Creates a product at a price in US cents.
    pub async fn create_product(&self, stock: i64, price: i64) -> ProductId {
        self.create_product_in("USD", stock, price).await
    }

    /// Creates a product at a price in minor units of a currency.
    pub async fn create_product_in(&self, currency: &str, stock: i64, price: i64) -> ProductId {
        let body =
            json!({ "name": "A thing", "description": "", "price": { "amount": price, "currency": currency }, "stock": stock });
        ProductId(id(&self.client(Service::Product).post("/products", &body).await.expect(201)))
    }

    /// Places an order, which must be taken.
    pub async fn submit(&self, user: UserId, items: &[(ProductId, i64)]) -> OrderId {
        OrderId(id(&self.client(Service::Order).post("/orders", &order_body(user, items)).await.expect(202)))
    }

    /// Places so many of the same order at once, each of which must be taken.
    pub async fn submit_many(&self, count: usize, user: UserId, items: &[(ProductId, i64)]) -> Vec<OrderId> {
        join_all((0..count).map(|_| self.submit(user, items))).await
    }

    /// Places an order with an idempotency key; any status, or no answer.
    pub async fn try_submit(&self, user: UserId, items: &[(ProductId, i64)], key: &str) -> reqwest::Result<Answer> {
        let request = self.client(Service::Order).request(Method::POST, "/orders").header("idempotency-key", key);
        Answer::try_of(request.json(&order_body(user, items))).await
    }

    /// Asks for an order to be cancelled.
    pub async fn cancel(&self, order: OrderId) -> Answer {
        self.client(Service::Order).post(&format!("/orders/{order}/cancel"), &json!({})).await
    }

    /// An order as its customer sees it.
    pub async fn order(&self, order: OrderId) -> Value {
        self.client(Service::Order).get(&format!("/orders/{order}")).await.expect(200)
    }

    /// An order's history: its items.
    pub async fn history(&self, order: OrderId) -> Vec<Value> {
        let history = self.client(Service::Order).get(&format!("/orders/{order}/history")).await.expect(200);
        history["items"].as_array().expect("items").clone()
    }

    /// How many inputs changed nothing, for this reason: counted since the order service's process began.
    pub async fn ignored(&self, reason: &str) -> u64 {
        let metrics = self.client(Service::Order).get("/metrics").await.text;
        let series = format!("waybill_inputs_ignored_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
    }

    /// A product as everyone sees it.
    pub async fn product(&self, product: ProductId) -> Value {
        self.client(Service::Product).get(&format!("/products/{product}")).await.expect(200)
    }

    /// How many pieces of a product are available, and how many are held.
    pub async fn stock(&self, product: ProductId) -> (i64, i64) {
        let product = self.product(product).await;
        let count = |field: &str| product[field].as_i64().unwrap_or_else(|| panic!("no {field} in {product:#}"));
        (count("stock"), count("reserved"))
    }

    /// Waits until an order is final, and returns it. The order service may be away meanwhile.
    pub async fn wait_final(&self, order: OrderId) -> Value {
        self.wait_for(order, |order| FINAL.iter().any(|status| order["status"] == *status)).await
    }

    /// Waits until an order has this status, and returns it.
    pub async fn wait_status(&self, order: OrderId, status: &str) -> Value {
        self.wait_for(order, |order| order["status"] == status).await
    }

    /// Waits until so many entries stand in an order's history: two, and its user is validated and its stock asked for.
    pub async fn wait_entries(&self, order: OrderId, count: usize) {
        eventually(FINAL_WITHIN, || async {
            let history = self.history(order).await;
            if history.len() >= count { Ok(()) } else { Err(history) }
        })
        .await;
    }

    async fn wait_for(&self, order: OrderId, there: impl Fn(&Value) -> bool) -> Value {
        let client = self.client(Service::Order);
        eventually(FINAL_WITHIN, || async {
            let answer = Answer::try_of(client.request(Method::GET, &format!("/orders/{order}"))).await;
            match answer {
                Ok(answer) if answer.status == 200 && there(&answer.json()) => Ok(answer.json()),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }
}

/// The id of what was created.
pub fn id(created: &Value) -> Uuid {
    created["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no id in {created:#}"))
}
