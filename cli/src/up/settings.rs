//! The settings of the services that `waybill up` runs.

use anyhow::Context as _;
use chassis::topology::accounts::GATEWAY;
use clap::Parser;

use super::access::Access;
use super::keys::Keys;

/// The settings of the services, as their binaries would have them with no flags.
pub struct Settings {
    /// The user service's.
    pub user: user::Settings,
    /// The product service's.
    pub product: product::Settings,
    /// The order service's.
    pub order: order::Settings,
    /// The gateway's.
    pub gateway: gateway::Settings,
}

impl Settings {
    /// As the environment says, where that makes sense.
    pub fn from_environment() -> anyhow::Result<Self> {
        let settings = Self { user: read()?, product: read()?, order: read()?, gateway: read()? };
        settings.order.check()?;
        Ok(settings)
    }

    /// Each service comes to the broker as who it is.
    pub fn identify(&mut self, keys: &Keys) -> anyhow::Result<()> {
        let Self { user, product, order, gateway } = self;
        let parts = [("user", &mut user.parts), ("product", &mut product.parts), ("order", &mut order.parts)];
        parts.into_iter().try_for_each(|(service, parts)| keys.give(service, &mut parts.broker))?;
        keys.give(GATEWAY, &mut gateway.broker)
    }

    /// Has every service believe whom the system believes.
    pub fn believing(mut self, access: &Access) -> Self {
        let parts = [&mut self.user.parts, &mut self.product.parts, &mut self.order.parts];
        parts
            .into_iter()
            .map(|parts| &mut parts.identity)
            .chain([&mut self.gateway.identity])
            .for_each(|settings| access.apply(settings));
        self
    }
}

fn read<S: Parser>() -> anyhow::Result<S> {
    S::try_parse_from(["waybill"]).context("a setting in the environment is wrong")
}
