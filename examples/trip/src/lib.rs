//! A saga in another domain: a trip. Flight and hotel are booked side by side, then it is paid, then the ticket is issued.
//!
//! [`saga`] is the whole of the saga, [`messages`] what is said, `participants` who does the steps (the hotel is a Python script, `hotel.py`),
//! [`service`] what runs the sagas and can be asked.

pub mod commands;
mod database;
pub mod messages;
pub mod participants;
pub mod saga;
pub mod service;
