//! The order saga: what its plan asks, what each input means in each place, how its histories are written, read and replayed, and that it
//! survives whatever its participants and the network do.

mod exported;
mod fuzz;
mod kit;
mod messages;
mod persisted;
mod plan;
mod replay;
mod steps;
mod survival;
mod timers;
