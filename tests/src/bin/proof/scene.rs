//! A system at work, as nearly every row wants it: one user, one product, and orders trickling in.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use events::{OrderId, ProductId, UserId};
use reqwest::Method;
use testkit::{Answer, Audit, Builder, Service, System, Trickle, eventually, id, order_body};

use crate::run::Run;

/// Within this all is well again, or it is not well.
pub const SOON: Duration = Duration::from_secs(60);

/// How often the order service looks whether the broker still holds the events that it acknowledged.
pub const EVENTS_CHECK_EVERY: Duration = Duration::from_millis(500);

/// A system at work.
pub struct Scene {
    pub system: System,
    pub user: UserId,
    pub product: ProductId,
    pub trickle: Trickle,
    run: Run,
    /// Orders placed beside the trickle, each to be confirmed.
    beside: Vec<OrderId>,
}

/// Orders beside those of a scene, and how they ended.
#[derive(Default)]
pub struct Others {
    pub confirmed: usize,
    /// Of the scene's product, held by them.
    pub pieces: i64,
    pub rejected: usize,
    pub cancelled: usize,
}

/// How most rows want their system: repetitions after tenths of seconds, no order given up, and a look at the stream of order events twice
/// a second.
pub fn patient() -> Builder {
    System::builder().impatient().never_giving_up().order(|order| order.sagas.events.events_check_every = EVENTS_CHECK_EVERY)
}

impl Scene {
    /// Starts it; orders come in through the order service.
    pub async fn begin(run: &Run, builder: Builder) -> Self {
        let system = builder.start().await;
        Self::on(run, system, Service::Order).await
    }

    /// Begins to order from a system that runs, through this service.
    pub async fn on(run: &Run, system: System, through: Service) -> Self {
        let (user, product) = (system.create_user(true).await, system.create_product(1_000_000, 100).await);
        let trickle = Trickle::begin(system.client(through), user, product);
        trickle.more(8).await;
        Self { system, user, product, trickle, run: run.clone(), beside: Vec::new() }
    }

    /// From now on orders trickle in with longer rests between them: where a fault makes messages pile up, and not their number is of interest.
    pub async fn slow_down(self, rest: Duration) -> Self {
        let Self { system, user, product, trickle, run, mut beside } = self;
        beside.extend(trickle.end().await.orders);
        let trickle = Trickle::resting(rest, system.client(Service::Order), user, product);
        Self { system, user, product, trickle, run, beside }
    }

    /// An order of its own beside the trickle, which must be confirmed in the end.
    pub async fn place(&mut self) -> OrderId {
        let order = self.system.submit(self.user, &[(self.product, 1)]).await;
        self.beside.push(order);
        order
    }

    /// An order that somebody else placed, to be confirmed in the end.
    pub fn adopt(&mut self, order: OrderId) {
        self.beside.push(order);
    }

    /// Waits until a service says that it is not ready, or nothing at all.
    pub async fn noticed(&self, service: Service, since: Instant) {
        let client = self.system.client(service);
        let asked = || client.request(Method::GET, "/readyz").timeout(Duration::from_secs(1));
        eventually(SOON, || async {
            match Answer::try_of(asked()).await {
                Ok(answer) if answer.status == 200 => Err("it is ready"),
                _ => Ok(()),
            }
        })
        .await;
        self.run.detected(since.elapsed());
    }

    /// Waits until a request of the trickle has failed since.
    pub async fn felt(&self, since: Instant) {
        self.trickle.a_failure().await;
        self.run.detected(since.elapsed());
    }

    /// Waits until an order that is placed now is confirmed, and some of the trickle's are taken.
    pub async fn well(&mut self, since: Instant) {
        self.well_within(since, SOON).await;
    }

    /// The same, for what takes its time.
    pub async fn well_within(&mut self, since: Instant, patience: Duration) {
        let order = self.place_somehow().await;
        eventually(patience, || async {
            let request = self.system.client(Service::Order).request(Method::GET, &format!("/orders/{order}"));
            match Answer::try_of(request).await {
                Ok(answer) if answer.status == 200 && answer.json()["status"] == "confirmed" => Ok(()),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
        self.run.healed(since.elapsed());
        self.trickle.more(2).await;
    }

    /// Places an order under a key of its own, again and again until it is taken.
    async fn place_somehow(&mut self) -> OrderId {
        let key = uuid::Uuid::now_v7().to_string();
        let body = order_body(self.user, &[(self.product, 1)]);
        let client = self.system.client(Service::Order);
        let placed = eventually(SOON, || async {
            let request = client.request(Method::POST, "/orders").header("idempotency-key", &key).json(&body);
            match Answer::try_of(request.timeout(Duration::from_secs(3))).await {
                Ok(answer) if answer.status == 202 => Ok(OrderId(id(&answer.json()))),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
        self.beside.push(placed);
        placed
    }

    /// Ends the trickle and proves everything: one order a key, each confirmed, and every invariant. Events that the broker lost must be
    /// there again.
    pub async fn end(self) -> Audit {
        self.end_among(Others::default()).await
    }

    /// The same among orders that a row placed beside.
    pub async fn end_among(self, others: Others) -> Audit {
        let mut orders = self.trickle.end().await.orders;
        orders.extend(self.beside);
        let audit = self.system.audit().await;
        let count = orders.len();
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), count, "two keys, one order");
        let wanted = (count + others.confirmed, others.rejected, others.cancelled);
        assert_eq!(
            (audit.confirmed, audit.rejected, audit.cancelled),
            wanted,
            "one key, one order, each with its end: {audit:?}"
        );
        assert_eq!(self.system.stock(self.product).await.1, count as i64 + others.pieces, "what was bought is held");
        self.run.succeeded(audit.confirmed);
        audit
    }

    /// Waits until rows have been in a service's outbox for longer than what is published stays there.
    pub async fn unsaid(&self, service: Service) {
        eventually(SOON, || async {
            let rows = self.rows_unsaid(service).await;
            if rows > 0 { Ok(()) } else { Err("all that is to be said is said") }
        })
        .await;
    }

    /// Waits until nothing that an earlier fault left behind is in a service's outbox.
    pub async fn all_said(&self, service: Service) {
        eventually(SOON, || async {
            let rows = self.rows_unsaid(service).await;
            if rows == 0 { Ok(()) } else { Err(format!("{rows} rows")) }
        })
        .await;
    }

    /// Rows that have been in the outbox of a service for longer than what is published stays there.
    pub async fn rows_unsaid(&self, service: Service) -> i64 {
        let pool = match service {
            Service::User => &self.system.user_db,
            Service::Product => &self.system.product_db,
            Service::Order => &self.system.order_db,
            Service::Gateway => panic!("the gateway says nothing"),
        };
        let rows = sqlx::query_scalar("select count(*) from outbox where created_at < now() - interval '400 ms'");
        rows.fetch_one(pool).await.expect("the outbox")
    }
}

/// When a stream, or a consumer of it, came to be; nothing where there is none.
pub async fn born(system: &System, stream: &str, consumer: Option<&str>) -> Option<DateTime<Utc>> {
    let stream = system.jetstream().get_stream(stream).await.ok()?;
    match consumer {
        None => Some(stream.cached_info().created),
        Some(consumer) => stream.consumer_info(consumer).await.ok().map(|info| info.created),
    }
}

/// Waits until a stream or consumer is there again, born later.
pub async fn reborn(system: &System, stream: &str, consumer: Option<&str>, before: DateTime<Utc>) {
    eventually(SOON, || async {
        match born(system, stream, consumer).await {
            Some(born) if born > before => Ok(()),
            other => Err(format!("{stream} {consumer:?}: {other:?}")),
        }
    })
    .await;
}
