//! The matrix of faults, row by row.

pub mod broker;
mod clients;
mod database;
mod messages;
mod network;
mod participants;
mod processes;
mod rights;

use std::time::Duration;

use crate::run::Body;

/// A row of the matrix.
pub struct Row {
    /// Its number.
    pub number: u8,
    /// What happens.
    pub fault: &'static str,
    /// What must hold.
    pub invariants: &'static str,
    /// Makes it happen.
    pub run: Body,
}

/// Rows that would say something else beside others: they measure how soon something is noticed, or need the whole machine.
const ALONE: [u8; 6] = [13, 18, 19, 23, 24, 27];

/// After the end of a fault an order that is placed then is confirmed within this, on a machine that does other things too. Where a broker was
/// stopped, or hundreds of buyers press, many others come first.
const HEALS_WITHIN: Duration = Duration::from_secs(10);
const HEALS_SLOWLY_WITHIN: Duration = Duration::from_secs(20);
const HEALS_SLOWLY: [u8; 2] = [7, 23];

impl Row {
    /// A row that heals slower is broken.
    pub fn heals_within(&self) -> Duration {
        if HEALS_SLOWLY.contains(&self.number) { HEALS_SLOWLY_WITHIN } else { HEALS_WITHIN }
    }

    /// Whether nothing may run beside it.
    pub fn is_alone(&self) -> bool {
        ALONE.contains(&self.number)
    }
}

/// Names a row's function as its [`Body`].
macro_rules! row {
    ($number:literal, $fault:literal, $invariants:literal, $run:path) => {
        Row { number: $number, fault: $fault, invariants: $invariants, run: |run| Box::pin($run(run)) }
    };
}

/// Every row.
///
/// I1: every order that got a 2xx exists and ends. I2: received = available + reserved. I3: stock is reserved only for a live or confirmed order.
/// I4: each command has at most one effect. I5: no saga sits past its deadline. I6: nobody reaches another's data.
pub static ROWS: [Row; 27] = [
    row!(1, "order service killed before the commit; the client asks again", "I1–I5", processes::before_the_commit),
    row!(2, "order service killed after the commit, before the answer", "I1–I5", processes::before_the_answer),
    row!(3, "a service killed after the commit, before it published", "I1–I5", processes::before_publishing),
    row!(4, "a service killed after the broker stored, before it heard so", "I1–I5", processes::before_the_pub_ack),
    row!(5, "a service killed after the commit, before it acknowledged", "I1–I5", processes::before_the_ack),
    row!(6, "processes killed at random in a loop", "I1–I5", processes::at_random),
    row!(7, "broker killed; broker stopped (SIGSTOP)", "I1–I5", broker::killed_or_stopped),
    row!(8, "broker's store wiped; restored from an old copy", "I1–I5", broker::wiped_or_restored),
    row!(9, "a stream deleted; a consumer deleted", "I1–I5", broker::stream_or_consumer_deleted),
    row!(10, "broker's disk full", "I1–I5", broker::disk_full),
    row!(11, "Postgres killed in the middle of transactions", "I1–I5", database::killed),
    row!(12, "Postgres's disk full: data, WAL", "I1–I5", database::disk_full),
    row!(13, "a service's line to Postgres or to the broker is a black hole", "I1–I5", network::black_hole),
    row!(14, "one direction held; 2 s late with jitter; cut before a reply", "I1–I5", network::bad_lines),
    row!(15, "clients hang up in the middle of a POST", "I1–I5", clients::hang_up),
    row!(16, "messages dropped (30 %), reordered, tripled", "I1–I5", messages::dropped_reordered_tripled),
    row!(17, "Release before Reserve; `reserved` after compensation; Release twice", "I2–I4", participants::out_of_order),
    row!(18, "Release fails 50 times", "I1–I5", participants::release_fails),
    row!(19, "what cannot be decoded; what always fails", "I1–I5", messages::poison),
    row!(20, "redelivery after the windows of de-duplication", "I1–I5", messages::long_after),
    row!(21, "a clock jumps by an hour", "I1–I5", processes::clock),
    row!(22, "two instances of every service, one killed at a time", "I1–I5", processes::two_of_each),
    row!(23, "500 buyers of the last unit", "I1–I4", clients::last_unit),
    row!(24, "a handler slower than ack_wait", "I1–I5", participants::slower_than_ack_wait),
    row!(25, "user A asks for B's order; bad tokens", "I6", rights::owners),
    row!(26, "a service publishes another's subject", "I6", rights::subjects),
    row!(27, "2,000 slow sockets", "I1–I5", clients::slow_sockets),
];
