//! The engine beyond the order saga: stages side by side, pivots, steps that are never given up, plans that change, and a network
//! that loses, repeats and reorders.

mod network;
mod operator;
mod parcel;
mod properties;
mod scenario;
mod toy;
mod trip;
mod upgrade;
mod versions;
