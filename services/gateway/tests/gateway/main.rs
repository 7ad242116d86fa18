//! The gateway between real sockets: small servers stand for the services behind it.

mod faults;
mod forwarding;
mod kit;
mod lifetimes;
mod room;
