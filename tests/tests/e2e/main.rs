//! The whole system on its real parts, in one binary.

mod http_products;
mod http_users;
mod shape;
mod smoke;
