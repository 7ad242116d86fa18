//! The engine beyond the order saga: stages side by side, pivots, steps that are never given up, plans that change, and a network
//! that loses, repeats and reorders.

mod operator;
mod parcel;
mod toy;
mod trip;
mod troubles;
mod upgrade;
mod versions;
