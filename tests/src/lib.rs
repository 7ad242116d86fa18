//! The whole system on its real parts, for tests: a nats-server and a Postgres of its own, and the services as they are.
//!
//! ```no_run
//! # async fn test() {
//! use testkit::{Service, System};
//!
//! let system = System::builder().impatient().start().await;
//! let (user, product) = (system.create_user(true).await, system.create_product(10, 1999).await);
//! system.stop(Service::Product).await;
//! let order = system.submit(user, &[(product, 2)]).await;
//! system.start(Service::Product).await;
//! assert_eq!(system.wait_final(order).await["status"], "confirmed");
//! system.audit().await;
//! # }
//! ```
//!
//! A service runs as a task of the test ([`System::start`]) or, where it is to be killed with SIGKILL, as a process of its own
//! ([`System::spawn_binary`]). Nothing outlives the test, also when it panics. Tests need the multi-threaded runtime.
//! `RUST_LOG=info` shows what the services log.

#[cfg(test)]
mod architecture;
mod audit;
mod browser;
pub mod contract;
pub mod deployed;
mod domain;
mod eventually;
mod http;
mod instance;
mod issuer;
pub mod messages;
mod proxy;
mod service;
mod settings;
mod streams;
mod system;
mod trickle;

pub use audit::Audit;
pub use browser::Browser;
pub use domain::{id, order_body};
pub use eventually::eventually;
pub use http::{Answer, Client, answer};
pub use instance::{Instance, Surroundings, program};
pub use issuer::{Issuer, IssuerServer};
pub use proxy::{Lane, Line, Proxy};
pub use service::Service;
pub use settings::Settings;
pub use streams::Said;
pub use system::{Builder, Links, System};
pub use trickle::{Tally, Trickle};
