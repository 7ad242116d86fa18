//! What is said, as one bit each: every command and answer the order plan knows, and what everyone is told of an end.

use events::product::{Line, PricedLine};
use events::{Currency, Money, OrderId, ProductId, Quantity, Reason, ReasonCode, Tags, UserId, product, user};
use order::saga::{Command, Order, Reply};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    // Commands.
    Validate,
    Reserve,
    Release,
    // Answers.
    Validated,
    Invalid,
    Reserved,
    Short,
    Released,
    // To everyone: nobody of ours listens.
    Confirmed,
    Undone,
}

use Word::*;

pub const WORDS: [Word; 10] = [Validate, Reserve, Release, Validated, Invalid, Reserved, Short, Released, Confirmed, Undone];

/// A set of words.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Words(u16);

impl Words {
    pub const NONE: Self = Self(0);
    /// Those for everyone.
    pub const TOLD: Self = Self(1 << Confirmed as u16 | 1 << Undone as u16);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub fn has(self, word: Word) -> bool {
        self.0 & (1 << word as u16) != 0
    }

    pub fn with(self, word: Word) -> Self {
        Self(self.0 | 1 << word as u16)
    }

    pub fn without(self, word: Word) -> Self {
        Self(self.0 & !(1 << word as u16))
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    pub fn among(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of the one and not of the other.
    pub fn not(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Word> {
        WORDS.into_iter().filter(move |word| self.has(*word))
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

const USER: UserId = UserId(Uuid::from_u128(3));
pub const PRODUCT: ProductId = ProductId(Uuid::from_u128(4));
pub const PRICE: Money = Money::new(1_999, Currency::USD);

/// Both orders are of one user, for one piece of one product.
pub fn order(which: usize) -> Order {
    let quantity = Quantity::new(1).expect("in range");
    Order {
        id: OrderId(Uuid::from_u128(1 + which as u128)),
        user_id: USER,
        items: vec![Line { product_id: PRODUCT, quantity }],
        reference: None,
        tags: Tags::default(),
    }
}

impl Word {
    pub fn of_command(command: &Command) -> Self {
        match command {
            Command::User(user::Command::Validate(_)) => Validate,
            Command::Product(product::Command::Reserve(_)) => Reserve,
            Command::Product(product::Command::Release(_)) => Release,
        }
    }

    pub fn of_answer(answer: &Reply) -> Self {
        match answer {
            Reply::User(user::Reply::Validated(_)) => Validated,
            Reply::User(user::Reply::Refused(_)) => Invalid,
            Reply::Product(product::Reply::Reserved(_)) => Reserved,
            Reply::Product(product::Reply::Refused(_)) => Short,
            Reply::Product(product::Reply::Released(_)) => Released,
        }
    }

    /// The answer it stands for.
    pub fn answer(self, which: usize) -> Option<Reply> {
        let Order { id: order_id, user_id, .. } = order(which);
        Some(match self {
            Validated => Reply::User(user::Validated { order_id, user_id }.into()),
            Invalid => {
                let reason = Reason::new(ReasonCode::UserInactive, "");
                Reply::User(user::Refused { order_id, user_id, reason }.into())
            }
            Reserved => {
                let items = vec![PricedLine { product_id: PRODUCT, unit_price: PRICE }];
                Reply::Product(product::Reserved { order_id, items }.into())
            }
            Short => {
                let reason = Reason::new(ReasonCode::InsufficientStock, "");
                Reply::Product(product::Refused { order_id, reason }.into())
            }
            Released => Reply::Product(product::Released { order_id }.into()),
            Validate | Reserve | Release | Confirmed | Undone => return None,
        })
    }
}
