//! The settings of a system under test, and the same as the arguments of a process.

use std::time::Duration;

use chassis::Parts;
use chassis::identity::IdentitySettings;
use chassis::settings::BrokerSettings;
use clap::Parser;

use crate::{Issuer, Service};

/// The settings of every service, to be changed before the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The user service.
    pub user: user::Settings,
    /// The product service.
    pub product: product::Settings,
    /// The order service.
    pub order: order::Settings,
    /// The gateway.
    pub gateway: gateway::Settings,
    /// What the test itself says who it is with, where services ask.
    pub token: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user: user::Settings::parse_from(["user"]),
            product: product::Settings::parse_from(["product"]),
            order: order::Settings::parse_from(["order"]),
            gateway: gateway::Settings::parse_from(["gateway"]),
            token: None,
        }
    }
}

impl Settings {
    /// What the services with a database share.
    pub fn parts(&mut self) -> [&mut Parts; 3] {
        [&mut self.user.parts, &mut self.product.parts, &mut self.order.parts]
    }

    /// Has every service believe an issuer, and the test itself do what operators and services may.
    pub fn believe(&mut self, issuer: &Issuer) {
        self.identities().into_iter().for_each(|settings| issuer.believed(settings));
        self.token = Some(issuer.token("the-test", &["operator", "service"]));
    }

    /// Whom each service believes.
    pub fn identities(&mut self) -> [&mut IdentitySettings; 4] {
        let (user, product, order) = (&mut self.user.parts, &mut self.product.parts, &mut self.order.parts);
        [&mut user.identity, &mut product.identity, &mut order.identity, &mut self.gateway.identity]
    }

    /// Waits of tenths of seconds where production waits for seconds and minutes.
    pub fn impatient(&mut self) {
        for parts in self.parts() {
            parts.broker.relay_after = Duration::from_millis(500);
        }
        let timing = &mut self.order.sagas.timing;
        timing.retry_first = Some(Duration::from_millis(300));
        timing.retry_max = Some(Duration::from_secs(1));
        timing.step_deadline = Some(Duration::from_secs(3));
        timing.saga_deadline = Duration::from_secs(30);
        timing.sweep_every = Duration::from_millis(50);
    }

    /// The settings of one service as a process takes them. The addresses with passwords go by the environment.
    pub(crate) fn arguments(&self, service: Service) -> (Vec<String>, Vec<(&'static str, String)>) {
        match service {
            Service::User => of(&self.user.parts, "USER_DATABASE_URL", self.user.database_url.expose()),
            Service::Product => of(&self.product.parts, "PRODUCT_DATABASE_URL", self.product.database_url.expose()),
            Service::Order => {
                let (mut flags, environment) = of(&self.order.parts, "ORDER_DATABASE_URL", self.order.database_url.expose());
                let timing = &self.order.sagas.timing;
                let set = [
                    ("retry-first", timing.retry_first),
                    ("retry-max", timing.retry_max),
                    ("step-deadline", timing.step_deadline),
                ];
                flags.extend(set.into_iter().filter_map(|(flag, span)| Some(seconds(flag, span?))));
                flags.extend([
                    seconds("saga-deadline", timing.saga_deadline),
                    seconds("sweep-every", timing.sweep_every),
                    seconds("events-check-every", self.order.sagas.events.events_check_every),
                ]);
                (flags, environment)
            }
            Service::Gateway => {
                let gateway = &self.gateway;
                let mut flags = vec![
                    format!("--user-url=http://{}", gateway.user_url.authority()),
                    format!("--product-url=http://{}", gateway.product_url.authority()),
                    format!("--order-url=http://{}", gateway.order_url.authority()),
                    seconds("connect-timeout", gateway.upstream.connect_timeout),
                    seconds("answer-timeout", gateway.upstream.answer_timeout),
                    seconds("probe-interval", gateway.upstream.probe_interval),
                    seconds("http-header-timeout", gateway.http.http_header_timeout),
                ];
                flags.extend(identity(&gateway.identity));
                (flags, broker(&gateway.broker))
            }
        }
    }
}

fn of(parts: &Parts, database: &'static str, url: &str) -> (Vec<String>, Vec<(&'static str, String)>) {
    let mut flags = vec![
        format!("--publish-in-flight={}", parts.broker.publish_in_flight),
        seconds("relay-after", parts.broker.relay_after),
        format!("--outbox-attempts={}", parts.outbox.outbox_attempts),
        seconds("outbox-unheard-after", parts.outbox.outbox_unheard_after),
        seconds("outbox-stale-after", parts.outbox.outbox_stale_after),
        format!("--database-connections={}", parts.database.database_connections),
        seconds("statement-timeout", parts.database.statement_timeout),
        seconds("http-header-timeout", parts.http.http_header_timeout),
        seconds("http-timeout", parts.http.http_timeout),
        format!("--batch-max={}", parts.batch.batch_max),
        format!("--queue-max={}", parts.batch.queue_max),
        seconds("lock-timeout", parts.database.lock_timeout),
        seconds("busy-retry", parts.batch.busy_retry),
        seconds("busy-timeout", parts.batch.busy_timeout),
        format!("--aside-max={}", parts.batch.aside_max),
        format!("--dead-letters-per-second={}", parts.batch.dead_letters_per_second),
    ];
    flags.extend(identity(&parts.identity));
    let mut environment = broker(&parts.broker);
    environment.push((database, url.to_owned()));
    (flags, environment)
}

fn broker(settings: &BrokerSettings) -> Vec<(&'static str, String)> {
    let mut environment = vec![("NATS_URL", settings.nats_url.expose().to_owned())];
    environment.extend(settings.nats_nkey_seed.as_ref().map(|seed| ("NATS_NKEY_SEED", seed.expose().to_owned())));
    environment.extend(settings.nats_ca.as_ref().map(|file| ("NATS_CA", file.display().to_string())));
    environment
}

fn identity(settings: &IdentitySettings) -> Vec<String> {
    let jwks = settings.auth_jwks.as_ref().map(ToString::to_string);
    let given = [("jwks", &jwks), ("issuer", &settings.auth_issuer), ("audience", &settings.auth_audience)].into_iter();
    let mut flags: Vec<String> = given.filter_map(|(name, value)| Some(format!("--auth-{name}={}", value.as_ref()?))).collect();
    flags.push(format!("--auth-clock-skew={}", settings.auth_clock_skew));
    flags.push(format!("--auth-roles-claim={}", settings.auth_roles_claim));
    flags
}

fn seconds(flag: &str, duration: Duration) -> String {
    format!("--{flag}={}", duration.as_secs_f64())
}
