//! What the product service does: creates products, counts stock, and holds it for orders.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::{Conflict, Handled, Handler, InTransaction, NewEvent, Outgoing};
use chrono::Utc;
use events::event_subject;
use events::product::{self, Created, Event, PricedLine, Product, Refused, Released, Reply, Reserved, StockChanged};
use events::streams::PRODUCT_REPLIES;
use events::{CloudEvent, OrderId, ProductId, ReservationId, StockLevel};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::SOURCE;
use crate::inventory::{Command, Inventory, ReservationState, Stock};
use crate::keyed::Once;
use crate::requests::{Delta, NewProduct};
use crate::store::{self, Change, Holder};

/// Does what orders ask: the products of the whole batch locked once, each order decided in turn, stock written back once a product.
pub struct Commands;

impl Handler for Commands {
    type Item = CloudEvent<product::Command>;
    type Output = ();
    type Shape = InTransaction;
    const NAME: &'static str = "hold_stock";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Handled<()>> {
        let commands: Vec<(ReservationId, Command)> = batch.iter().map(|event| command(&event.message)).collect();
        let (change, states) = settle(tx, &commands).await?;
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        for ((event, (id, command)), state) in batch.iter().zip(&commands).zip(states) {
            outgoing.send(PRODUCT_REPLIES, NewEvent::<Reply>::reply(event, reply(OrderId(id.0), command, state)))?;
        }
        Ok(Handled::new(vec![(); batch.len()], store::write(outgoing, Holder::Orders, &change)?))
    }

    fn rows(&self, event: &Self::Item) -> Vec<Uuid> {
        rows(&command(&event.message))
    }

    async fn held(&self, db: &mut PgConnection, batch: &[&Self::Item]) -> anyhow::Result<Vec<Vec<Uuid>>> {
        held(db, &batch.iter().map(|event| command(&event.message)).collect::<Vec<_>>()).await
    }
}

/// What a command asks, and about which reservation: the order's own.
pub fn command(event: &product::Command) -> (ReservationId, Command) {
    match event {
        product::Command::Reserve(reserve) => (reserve.order_id.into(), Command::Reserve(reserve.items.clone())),
        product::Command::Release(release) => (release.order_id.into(), Command::Release),
    }
}

/// What an order is answered.
pub fn reply(order_id: OrderId, command: &Command, state: ReservationState) -> Reply {
    match state {
        ReservationState::Reserved(held) => {
            let priced = held.iter().map(|line| PricedLine { product_id: line.product_id, unit_price: line.unit_price });
            Reserved { order_id, items: priced.collect() }.into()
        }
        ReservationState::Refused(reason) if matches!(command, Command::Reserve(_)) => Refused { order_id, reason }.into(),
        // Also where a release meets a refusal: its saga waits for the word that nothing is held, and for no other.
        ReservationState::Refused(_) | ReservationState::Released(_) => Released { order_id }.into(),
    }
}

/// Decides a batch of commands on locked stock. Returns what changes, and what stands after each.
pub(crate) async fn settle(
    tx: &mut PgConnection,
    commands: &[(ReservationId, Command)],
) -> anyhow::Result<(Change, Vec<ReservationState>)> {
    let ids: Vec<Uuid> = commands.iter().map(|(id, _)| id.0).collect::<BTreeSet<_>>().into_iter().collect();
    let mut products: BTreeSet<Uuid> = BTreeSet::new();
    for (_, command) in commands {
        if let Command::Reserve(lines) = command {
            products.extend(lines.iter().map(|line| line.product_id.0));
        }
    }
    // What a release gives back is known only from its reservation.
    if commands.iter().any(|(_, command)| *command == Command::Release) {
        products.extend(held_products(store::reservation_states(&mut *tx, &ids).await?.values()));
    }
    let products: Vec<Uuid> = products.into_iter().collect();
    let locked = store::lock_stock(tx, &products).await?;
    // Read after the locks: whoever decided about these products before us has committed, and is seen.
    let before = store::reservation_states(&mut *tx, &ids).await?;
    if held_products(before.values()).any(|product| products.binary_search(&product).is_err()) {
        return Err(Conflict.into());
    }
    let mut inventory = Inventory { products: locked.clone(), reservations: before.clone() };
    let states = commands.iter().map(|(id, command)| inventory.decide(*id, command)).collect();
    Ok((change(&locked, &before, inventory), states))
}

/// The rows a command is known to need: what a release gives back is known only from its reservation.
pub(crate) fn rows((id, command): &(ReservationId, Command)) -> Vec<Uuid> {
    match command {
        Command::Reserve(lines) => lines.iter().map(|line| line.product_id.0).collect(),
        Command::Release => vec![id.0],
    }
}

/// Of each command the rows that somebody else holds.
pub(crate) async fn held(db: &mut PgConnection, commands: &[(ReservationId, Command)]) -> anyhow::Result<Vec<Vec<Uuid>>> {
    let ids: Vec<Uuid> = commands.iter().map(|(id, _)| id.0).collect();
    let states = store::reservation_states(&mut *db, &ids).await?;
    let products = |(id, command): &(ReservationId, Command)| match command {
        Command::Release => held_products(states.get(id)).collect(),
        Command::Reserve(_) => rows(&(*id, command.clone())),
    };
    let needed: Vec<Vec<Uuid>> = commands.iter().map(products).collect();
    let locked = store::held(db, &needed.concat(), &ids).await?;
    let held = commands.iter().zip(needed).map(|((id, command), products)| {
        let mut held: Vec<Uuid> = products.into_iter().filter(|product| locked.contains(product)).collect();
        // By its own id the release is known again.
        if *command == Command::Release && (!held.is_empty() || locked.contains(&id.0)) {
            held.push(id.0);
        }
        held
    });
    Ok(held.collect())
}

fn held_products<'a>(states: impl IntoIterator<Item = &'a ReservationState>) -> impl Iterator<Item = Uuid> {
    states.into_iter().flat_map(|state| {
        match state {
            ReservationState::Reserved(held) => held.as_slice(),
            _ => &[],
        }
        .iter()
        .map(|line| line.product_id.0)
    })
}

/// What a batch changes: the stock, each product once, however many orders are about it, and what stands for orders.
fn change(
    locked: &BTreeMap<ProductId, Stock>,
    before: &BTreeMap<ReservationId, ReservationState>,
    inventory: Inventory,
) -> Change {
    let stock = inventory.products.into_iter().filter(|(id, stock)| locked[id] != *stock).collect();
    let (known, new): (Vec<_>, Vec<_>) = inventory.reservations.into_iter().partition(|(id, _)| before.contains_key(id));
    let released = known.into_iter().filter(|(id, state)| before[id] != *state).map(|(id, _)| id).collect();
    Change { stock, new, released }
}

/// Creates products.
pub struct Create;

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
    type Output = Creation;
    type Shape = InTransaction;
    const NAME: &'static str = "create_products";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&NewProduct]) -> anyhow::Result<Handled<Creation>> {
        let created: HashMap<ProductId, Product> =
            store::insert(tx, batch).await?.into_iter().map(|product| (product.id, product)).collect();
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        let mut outputs = Vec::with_capacity(batch.len());
        for new in batch {
            if let Some(product) = created.get(&new.id) {
                let event = NewEvent::<Event>::event(format!("{}/created", product.id), product.id, Created(product.clone()));
                outgoing.publish_event(event_subject("product", "created", &product.id), event)?;
                outputs.push(Creation::Created(product.clone()));
                continue;
            }
            // Not inserted: the key is taken. A new statement sees by what.
            let earlier = match &new.key {
                Some(key) => store::by_key(tx, key).await?,
                None => None,
            };
            let (earlier, request) = earlier.ok_or(Conflict)?;
            outputs.push(if request == new.request() { Creation::Replayed(earlier) } else { Creation::KeyReused });
        }
        Ok(Handled::new(outputs, outgoing))
    }
}

/// Counts deliveries and losses.
pub struct ChangeStock;

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
    type Output = Once<StockChange>;
    type Shape = InTransaction;
    const NAME: &'static str = "change_stock";

    async fn handle(&self, tx: &mut PgConnection, batch: &[&Delta]) -> anyhow::Result<Handled<Once<StockChange>>> {
        let mut outgoing = Outgoing::new(SOURCE, Utc::now());
        let mut outputs = Vec::with_capacity(batch.len());
        for &Delta { product: id, delta, keyed } in batch {
            if let Some(keyed) = keyed
                && let Some(earlier) = keyed.earlier(tx).await?
            {
                outputs.push(earlier);
                continue;
            }
            outputs.push(Once::Now(match store::change_stock(tx, *id, *delta, StockLevel::MAX).await? {
                Some(product) => {
                    if let Some(keyed) = keyed {
                        keyed.keep(tx, &serde_json::to_value(&product)?).await?;
                    }
                    let changed = StockChanged { delta: *delta, product: product.clone() };
                    let event = NewEvent::<Event>::event(Uuid::now_v7(), *id, changed);
                    outgoing.publish_event(event_subject("product", "stock_changed", id), event)?;
                    StockChange::Changed(product)
                }
                None => store::get(&mut *tx, *id).await?.map_or(StockChange::NotFound, StockChange::Impossible),
            }));
        }
        Ok(Handled::new(outputs, outgoing))
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
