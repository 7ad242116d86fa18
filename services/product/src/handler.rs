//! What the product service does: creates products, counts stock, and holds it for orders.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::{Conflict, Handled, Handler, Outgoing, Saying};
use chrono::Utc;
use events::event_subject;
use events::product::{Command, Created, Event, PricedLine, Product, Refused, Released, Reply, Reserved, StockChanged};
use events::streams::PRODUCT_REPLIES;
use events::{CloudEvent, Description, Money, Name, OrderId, ProductId, ReservationId, StockLevel};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::keyed::{Keyed, Once};
use crate::shelf::{Ask, Shelf, Standing, Stock};
use crate::store::Change;
use crate::{SOURCE, store};

/// Does what orders ask: the products of the whole batch locked once, each order decided in turn, stock written back once a product.
pub struct Commands;

impl Handler for Commands {
    type Item = CloudEvent<Command>;
    type Answer = ();
    const NAME: &'static str = "hold_stock";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<()>> {
        let asks: Vec<(ReservationId, Ask)> = batch.iter().map(|event| ask(&event.message)).collect();
        let (change, standings) = settle(tx, &asks).await?;
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        for ((event, (id, ask)), standing) in batch.iter().zip(&asks).zip(standings) {
            outgoing.send(PRODUCT_REPLIES, Saying::<Reply>::reply(event, reply(OrderId(id.0), ask, standing)))?;
        }
        store::write(tx, &mut outgoing, false, &change).await?;
        Ok(Handled { answers: vec![(); batch.len()], outgoing })
    }

    fn rows(&self, event: &Self::Item) -> Vec<Uuid> {
        rows(&ask(&event.message))
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        held(db, &batch.iter().map(|event| ask(&event.message)).collect::<Vec<_>>()).await
    }
}

/// What a command asks, and about which reservation: the order's own.
pub fn ask(command: &Command) -> (ReservationId, Ask) {
    match command {
        Command::Reserve(reserve) => (reserve.order_id.into(), Ask::Reserve(reserve.items.clone())),
        Command::Release(release) => (release.order_id.into(), Ask::Release),
    }
}

/// What an order is answered.
pub fn reply(order_id: OrderId, ask: &Ask, standing: Standing) -> Reply {
    match standing {
        Standing::Reserved(held) => {
            let priced = held.iter().map(|line| PricedLine { product_id: line.product_id, unit_price: line.unit_price });
            Reserved { order_id, items: priced.collect() }.into()
        }
        Standing::Refused(reason) if matches!(ask, Ask::Reserve(_)) => Refused { order_id, reason }.into(),
        // Also where a release meets a refusal: its saga waits for the word that nothing is held, and for no other.
        Standing::Refused(_) | Standing::Released(_) => Released { order_id }.into(),
    }
}

/// Decides a batch of commands on locked stock. Returns what changes, and what stands after each.
pub(crate) async fn settle(tx: &mut PgConnection, asks: &[(ReservationId, Ask)]) -> anyhow::Result<(Change, Vec<Standing>)> {
    let ids: Vec<Uuid> = asks.iter().map(|(id, _)| id.0).collect::<BTreeSet<_>>().into_iter().collect();
    let mut products: BTreeSet<Uuid> = BTreeSet::new();
    for (_, ask) in asks {
        if let Ask::Reserve(lines) = ask {
            products.extend(lines.iter().map(|line| line.product_id.0));
        }
    }
    // What a release gives back is known only from its reservation.
    if asks.iter().any(|(_, ask)| *ask == Ask::Release) {
        products.extend(held_products(store::standing(&mut *tx, &ids).await?.values()));
    }
    let products: Vec<Uuid> = products.into_iter().collect();
    let locked = store::lock_stock(tx, &products).await?;
    // Read after the locks: whoever decided about these products before us has committed, and is seen.
    let before = store::standing(&mut *tx, &ids).await?;
    if held_products(before.values()).any(|product| products.binary_search(&product).is_err()) {
        return Err(Conflict.into());
    }
    let mut shelf = Shelf { products: locked.clone(), standing: before.clone() };
    let standings = asks.iter().map(|(id, ask)| shelf.decide(*id, ask)).collect();
    Ok((change(&locked, &before, shelf), standings))
}

/// The rows a command is known to need: what a release gives back is known only from its reservation.
fn rows((id, ask): &(ReservationId, Ask)) -> Vec<Uuid> {
    match ask {
        Ask::Reserve(lines) => lines.iter().map(|line| line.product_id.0).collect(),
        Ask::Release => vec![id.0],
    }
}

/// Of each command the rows that somebody else holds.
pub(crate) async fn held(db: &mut PgConnection, asks: &[(ReservationId, Ask)]) -> anyhow::Result<Vec<Vec<Uuid>>> {
    let ids: Vec<Uuid> = asks.iter().map(|(id, _)| id.0).collect();
    let standing = store::standing(&mut *db, &ids).await?;
    let products = |(id, ask): &(ReservationId, Ask)| match ask {
        Ask::Release => held_products(standing.get(id)).collect(),
        Ask::Reserve(_) => rows(&(*id, ask.clone())),
    };
    let needed: Vec<Vec<Uuid>> = asks.iter().map(products).collect();
    let locked = store::held(db, &needed.concat(), &ids).await?;
    let held = asks.iter().zip(needed).map(|((id, ask), products)| {
        let mut held: Vec<Uuid> = products.into_iter().filter(|product| locked.contains(product)).collect();
        // By its own id the release is known again.
        if *ask == Ask::Release && (!held.is_empty() || locked.contains(&id.0)) {
            held.push(id.0);
        }
        held
    });
    Ok(held.collect())
}

fn held_products<'a>(standing: impl IntoIterator<Item = &'a Standing>) -> impl Iterator<Item = Uuid> {
    standing.into_iter().flat_map(|standing| {
        match standing {
            Standing::Reserved(held) => held.as_slice(),
            _ => &[],
        }
        .iter()
        .map(|line| line.product_id.0)
    })
}

/// What a batch changes: the stock, each product once, however many orders are about it, and what stands for orders.
fn change(locked: &BTreeMap<ProductId, Stock>, before: &BTreeMap<ReservationId, Standing>, shelf: Shelf) -> Change {
    let stock = shelf.products.into_iter().filter(|(id, stock)| locked[id] != *stock).collect();
    let (known, new): (Vec<_>, Vec<_>) = shelf.standing.into_iter().partition(|(id, _)| before.contains_key(id));
    let released = known.into_iter().filter(|(id, standing)| before[id] != *standing).map(|(id, _)| id).collect();
    Change { stock, new, released }
}

/// Holds stock for a caller without an order.
pub struct Direct;

/// What a caller asks, without an order.
#[derive(Clone, Debug)]
pub struct DirectAsk {
    pub id: ReservationId,
    pub ask: Ask,
    pub keyed: Option<Keyed>,
}

/// What a caller is answered, of what was done.
pub fn direct_answer(id: ReservationId, standing: &Standing) -> Option<Value> {
    match standing {
        Standing::Reserved(_) => Some(json!({ "status": "reserved", "reservation_id": id })),
        Standing::Released(_) => Some(json!({ "status": "released" })),
        Standing::Refused(_) => None,
    }
}

impl Handler for Direct {
    type Item = DirectAsk;
    type Answer = Once<Standing>;
    const NAME: &'static str = "hold_stock_directly";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&DirectAsk]) -> anyhow::Result<Handled<Once<Standing>>> {
        let mut answers = Vec::with_capacity(batch.len());
        for item in batch {
            answers.push(match &item.keyed {
                Some(keyed) => keyed.earlier(tx).await?,
                None => None,
            });
        }
        let new: Vec<&DirectAsk> =
            batch.iter().zip(&answers).filter(|(_, earlier)| earlier.is_none()).map(|(item, _)| *item).collect();
        let asks: Vec<(ReservationId, Ask)> = new.iter().map(|item| (item.id, item.ask.clone())).collect();
        let (change, standings) = settle(tx, &asks).await?;
        // A refusal uses up no key: asked again, there may be stock.
        for (item, standing) in new.iter().zip(&standings) {
            if let (Some(keyed), Some(answer)) = (&item.keyed, direct_answer(item.id, standing)) {
                keyed.keep(tx, &answer).await?;
            }
        }
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        store::write(tx, &mut outgoing, true, &change).await?;
        let mut standings = standings.into_iter().map(Once::Now);
        let answers = answers.into_iter().filter_map(|earlier| earlier.or_else(|| standings.next())).collect();
        Ok(Handled { answers, outgoing })
    }

    fn rows(&self, item: &Self::Item) -> Vec<Uuid> {
        rows(&(item.id, item.ask.clone()))
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        held(db, &batch.iter().map(|item| (item.id, item.ask.clone())).collect::<Vec<_>>()).await
    }
}

/// Creates products.
pub struct Create;

/// A product to be.
#[derive(Clone, Debug)]
pub struct NewProduct {
    pub id: ProductId,
    pub name: Name,
    pub description: Description,
    pub price: Money,
    pub stock: StockLevel,
    pub key: Option<String>,
}

impl NewProduct {
    /// What was asked for, to tell a repetition from another request with the same key.
    pub fn request(&self) -> Value {
        json!({ "name": self.name, "description": self.description, "price": self.price, "stock": self.stock })
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Creation {
    Created(Product),
    /// The key was used for this very product before.
    Replayed(Product),
    /// The key was used for another.
    KeyReused,
}

impl Handler for Create {
    type Item = NewProduct;
    type Answer = Creation;
    const NAME: &'static str = "create_products";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&NewProduct]) -> anyhow::Result<Handled<Creation>> {
        let created: HashMap<ProductId, Product> =
            store::insert(tx, batch).await?.into_iter().map(|product| (product.id, product)).collect();
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        let mut answers = Vec::with_capacity(batch.len());
        for new in batch {
            if let Some(product) = created.get(&new.id) {
                let event = Saying::<Event>::event(format!("{}/created", product.id), product.id, Created(product.clone()));
                outgoing.tell(event_subject("product", "created", &product.id), event)?;
                answers.push(Creation::Created(product.clone()));
                continue;
            }
            // Not inserted: the key is taken. A new statement sees by what.
            let earlier = match &new.key {
                Some(key) => store::by_key(tx, key).await?,
                None => None,
            };
            let (earlier, request) = earlier.ok_or(Conflict)?;
            answers.push(if request == new.request() { Creation::Replayed(earlier) } else { Creation::KeyReused });
        }
        Ok(Handled { answers, outgoing })
    }
}

/// Counts deliveries and losses.
pub struct ChangeStock;

/// A delivery, or a loss.
#[derive(Clone, Debug)]
pub struct Delta {
    pub product: ProductId,
    pub delta: i64,
    pub keyed: Option<Keyed>,
}

/// What became of a change of stock.
#[derive(Clone, Debug)]
pub enum StockChange {
    Changed(Product),
    /// It would leave less than nothing, or more than fits; this is how it is.
    Impossible(Product),
    NotFound,
}

impl Handler for ChangeStock {
    type Item = Delta;
    type Answer = Once<StockChange>;
    const NAME: &'static str = "change_stock";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Delta]) -> anyhow::Result<Handled<Once<StockChange>>> {
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        let mut answers = Vec::with_capacity(batch.len());
        for &Delta { product: id, delta, keyed } in batch {
            if let Some(keyed) = keyed
                && let Some(earlier) = keyed.earlier(tx).await?
            {
                answers.push(earlier);
                continue;
            }
            answers.push(Once::Now(match store::change_stock(tx, *id, *delta, StockLevel::MAX).await? {
                Some(product) => {
                    if let Some(keyed) = keyed {
                        keyed.keep(tx, &serde_json::to_value(&product)?).await?;
                    }
                    let changed = StockChanged { delta: *delta, product: product.clone() };
                    let event = Saying::<Event>::event(Uuid::now_v7(), *id, changed);
                    outgoing.tell(event_subject("product", "stock_changed", id), event)?;
                    StockChange::Changed(product)
                }
                None => store::get(&mut *tx, *id).await?.map_or(StockChange::NotFound, StockChange::Impossible),
            }));
        }
        Ok(Handled { answers, outgoing })
    }

    fn rows(&self, delta: &Delta) -> Vec<Uuid> {
        vec![delta.product.0]
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        let ids: Vec<Uuid> = batch.iter().map(|delta| delta.product.0).collect();
        let held = store::held(db, &ids, &[]).await?;
        Ok(ids.into_iter().map(|id| if held.contains(&id) { vec![id] } else { Vec::new() }).collect())
    }
}
