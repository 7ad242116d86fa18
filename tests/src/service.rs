//! The four services, by name.

/// The four services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    #[allow(missing_docs)]
    User,
    #[allow(missing_docs)]
    Product,
    #[allow(missing_docs)]
    Order,
    #[allow(missing_docs)]
    Gateway,
}

impl Service {
    /// All of them, in the order they are started.
    pub const ALL: [Self; 4] = [Self::User, Self::Product, Self::Order, Self::Gateway];

    /// `user`, `product`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Product => "product",
            Self::Order => "order",
            Self::Gateway => "gateway",
        }
    }
}
