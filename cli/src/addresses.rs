//! The addresses of our system: its services, its databases.

use chassis::settings::{Secret, database_url, hidden};
use clap::Args;
use saga_commands::system::{NATS, or_noted};

/// The addresses of a system: the variable of each, and the name of its flag.
pub const ADDRESSES: [(&str, &str); 8] = [
    (GATEWAY, "gateway"),
    (USER, "user_url"),
    (PRODUCT, "product_url"),
    (ORDER, "order_url"),
    (NATS, "nats_url"),
    ("USER_DATABASE_URL", "user_database_url"),
    ("PRODUCT_DATABASE_URL", "product_database_url"),
    ("ORDER_DATABASE_URL", "order_database_url"),
];

/// The variable of the gateway's address.
pub const GATEWAY: &str = "WAYBILL_GATEWAY";
/// The variable of the user service's address.
pub const USER: &str = "WAYBILL_USER_URL";
/// The variable of the product service's address.
pub const PRODUCT: &str = "WAYBILL_PRODUCT_URL";
/// The variable of the order service's address.
pub const ORDER: &str = "WAYBILL_ORDER_URL";
/// The databases, in the order user, product, order.
pub const DATABASES: [&str; 3] = ["waybill_user", "waybill_product", "waybill_order"];

/// The databases of the services.
#[derive(Debug, Args)]
pub struct Databases {
    /// The user service's database [default: what `waybill up` started here].
    #[arg(long, env = "USER_DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(database_url))]
    user_database_url: Option<Secret>,
    /// The product service's database [default: what `waybill up` started here].
    #[arg(long, env = "PRODUCT_DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(database_url))]
    product_database_url: Option<Secret>,
    /// The order service's database [default: what `waybill up` started here].
    #[arg(long, env = "ORDER_DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = hidden(database_url))]
    order_database_url: Option<Secret>,
}

impl Databases {
    /// The product service's database.
    pub fn product(&self) -> anyhow::Result<String> {
        or_noted(&self.product_database_url, "PRODUCT_DATABASE_URL")
    }

    /// The order service's database.
    pub fn order(&self) -> anyhow::Result<String> {
        or_noted(&self.order_database_url, "ORDER_DATABASE_URL")
    }
}

#[cfg(test)]
mod tests {
    use events::streams::PARTICIPANTS;

    use super::*;

    #[test]
    fn every_participant_has_its_database_and_its_addresses() {
        for name in PARTICIPANTS.iter().map(|participant| participant.name).chain(["order"]) {
            let upper = name.to_uppercase();
            let database = format!("waybill_{name}");
            assert!(DATABASES.contains(&database.as_str()), "{database} is not among the databases");
            for variable in [format!("WAYBILL_{upper}_URL"), format!("{upper}_DATABASE_URL")] {
                assert!(ADDRESSES.iter().any(|(known, _)| *known == variable), "{variable} is not among the addresses");
            }
        }
    }
}
