//! However bad the network was, once it is good again every order ends, and what it ends as is true of its participants.

use std::collections::HashSet;

use events::order::Status::{self, *};
use events::product::{Line, PricedLine, Release, Released, Reserve, Reserved};
use events::{Currency, Money, OrderId, ProductId, Quantity, Reason, ReasonCode, Tags, UserId, product, user};
use order::saga::{Command, Order, Reply, Step};
use saga::testkit::{Bounds, Participants, World, check, events, explore, survives};
use saga::{Progress, State};
use uuid::Uuid;

/// What the product service knows of the order: one row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Held,
    Refused,
    Released,
}

/// A user service and a product service, ideal: each effect is bound to the order's row.
#[derive(Clone, Debug)]
struct Shop {
    user_active: bool,
    available: i64,
    held: i64,
    row: Option<Row>,
    takes: u32,
    returns: u32,
}

/// Three pieces are there, and a user who may order.
const SHOP: Shop = Shop { user_active: true, available: PIECES, held: 0, row: None, takes: 0, returns: 0 };

const PIECES: i64 = 3;

fn order() -> Order {
    let line = |id, pieces| Line { product_id: ProductId(Uuid::from_u128(id)), quantity: Quantity::new(pieces).unwrap() };
    Order {
        id: OrderId(Uuid::from_u128(1)),
        user_id: UserId(Uuid::from_u128(2)),
        items: vec![line(3, 2), line(4, 1)],
        reference: None,
        tags: Tags::default(),
    }
}

impl Shop {
    fn reserve(&mut self, Reserve { order_id, items }: Reserve) -> product::Reply {
        let wanted: i64 = items.iter().map(|line| i64::from(line.quantity)).sum();
        let row = *self.row.get_or_insert_with(|| {
            if self.available < wanted {
                return Row::Refused;
            }
            self.available -= wanted;
            self.held += wanted;
            self.takes += 1;
            Row::Held
        });
        let price = |line: Line| PricedLine { product_id: line.product_id, unit_price: Money::new(100, Currency::USD) };
        match row {
            Row::Held => Reserved { order_id, items: items.into_iter().map(price).collect() }.into(),
            Row::Refused => product::Refused { order_id, reason: Reason::new(ReasonCode::InsufficientStock, "") }.into(),
            Row::Released => Released { order_id }.into(),
        }
    }

    fn release(&mut self, Release { order_id }: Release) -> product::Reply {
        if self.row.replace(Row::Released) == Some(Row::Held) {
            self.available += self.held;
            self.held = 0;
            self.returns += 1;
        }
        Released { order_id }.into()
    }
}

impl Participants<Order> for Shop {
    fn reply(&mut self, command: Command) -> Reply {
        match command {
            Command::User(user::Command::Validate(user::Validate { order_id, user_id })) => Reply::User(if self.user_active {
                user::Validated { order_id, user_id }.into()
            } else {
                user::Refused { order_id, user_id, reason: Reason::new(ReasonCode::UserInactive, "") }.into()
            }),
            Command::Product(product::Command::Reserve(reserve)) => Reply::Product(self.reserve(reserve)),
            Command::Product(product::Command::Release(release)) => Reply::Product(self.release(release)),
        }
    }

    fn refuse(&mut self, step: Step) {
        match step {
            Step::ValidateUser => self.user_active = false,
            Step::ReserveStock => self.available = self.available.min(PIECES - 1),
        }
    }

    fn holds(&self, step: Step) -> bool {
        match step {
            Step::ValidateUser => false,
            Step::ReserveStock => self.held > 0,
        }
    }

    /// The user is deactivated or activated: the next reply contradicts the last.
    fn change(&mut self) {
        self.user_active = !self.user_active;
    }
}

#[test]
fn an_order_survives_every_trouble_of_its_steps() {
    let survived = survives(&order(), &SHOP, 1_000);
    assert!(survived.completed > 50 && survived.compensated > 50, "{survived:?}");
}

#[test]
fn every_state_that_one_order_can_get_into_leads_to_its_end() {
    let explored = explore(&order(), &SHOP, Bounds { messages: usize::MAX, states: 100_000 });
    assert!(explored.states > 100 && explored.completed > 0 && explored.compensated > 0, "{explored:?}");
}

/// Lives one order through, checks it, and says what became of it.
fn order_lives(shop: Shop, seed: u64) -> Vec<Status> {
    let stock = shop.available;
    let mut world = World::new(order(), shop);
    world.live(&events(seed));
    check(&world);
    let mut statuses: Vec<Status> = world.history.iter().map(|entry| Order::status(&entry.state)).collect();
    statuses.dedup();
    let shop = &world.participants;
    assert_eq!(shop.available + shop.held, stock, "stock is conserved");
    if !given_up(&world.state) {
        assert_eq!(shop.held, if statuses.ends_with(&[Confirmed]) { PIECES } else { 0 }, "held if and only if confirmed");
    }
    assert!(shop.takes <= 1 && shop.returns <= shop.takes, "each command has at most one effect");
    statuses
}

/// An operator gave the compensation up: what it holds is put right by hand.
fn given_up(state: &State<Order>) -> bool {
    matches!(state.progress(Step::ReserveStock), Some(Progress::GivenUp(_)))
}

#[test]
fn each_life_an_order_can_have_is_lived_and_no_other() {
    let shops = [true, false]
        .into_iter()
        .flat_map(|user_active| (0..2 * PIECES).map(move |available| Shop { user_active, available, ..SHOP }));
    let lives: HashSet<Vec<Status>> = shops.flat_map(|shop| (0..100).map(move |seed| order_lives(shop.clone(), seed))).collect();
    let possible = HashSet::from([
        vec![Pending, Confirmed],
        vec![Pending, Rejected],
        vec![Pending, Cancelled],
        vec![Pending, Cancelling, Cancelled],
        vec![Pending, Confirmed, Cancelling, Cancelled],
    ]);
    assert_eq!(lives, possible);
}
