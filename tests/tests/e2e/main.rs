//! The whole system on its real parts, in one binary.

mod containers;
mod http_products;
mod http_users;
mod load;
mod nats_conf;
mod saga_cancel;
mod saga_late;
mod saga_outcomes;
mod saga_time;
mod shape;
mod smoke;
mod words;
