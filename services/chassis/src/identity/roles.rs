//! Roles: what a caller is, and so what it may do.

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Orders for itself. Its subject is the id of a user.
    Customer,
    /// Keeps products and their stock.
    Catalog,
    /// Watches over everything, and takes a hand in sagas.
    Operator,
    /// A program of the shop, which acts for any user.
    Service,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Customer, Self::Catalog, Self::Operator, Self::Service];

    /// As it stands in a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Catalog => "catalog",
            Self::Operator => "operator",
            Self::Service => "service",
        }
    }

    /// The role of a name. Others may stand in a token too, and mean nothing here.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Some roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Whether one is among them.
    pub fn contains(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |all, role| all | 1 << role as u8))
    }
}
