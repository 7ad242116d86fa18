//! Ports: one the caller insists on, or any free one.

use std::net::{Ipv4Addr, TcpListener};

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

/// Free ports are sought here and not by binding port 0, which hands out the range that outgoing
/// connections use: while a server is down, a client trying to reconnect to such a port can be given the
/// very same port as its own, connects to itself, and the server cannot come back.
const FREE: std::ops::Range<u16> = 15_000..32_000;

/// The port of a server on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The number; 0 picks a free port.
    pub number: u16,
    /// The setting it came from, named when the port is taken.
    pub setting: &'static str,
}

impl Port {
    /// Any free port.
    pub const FREE: Self = Self { number: 0, setting: "" };

    /// This port and no other; `setting` is what a person would change, such as `--nats-port`.
    pub const fn fixed(number: u16, setting: &'static str) -> Self {
        Self { number, setting }
    }

    /// Whether a try with another number is worth it.
    pub(crate) fn is_free_choice(self) -> bool {
        self.number == 0
    }

    /// A number nobody listens on at this moment.
    ///
    /// # Errors
    /// When the port is a fixed one that is taken, or none is free.
    pub fn pick(self) -> anyhow::Result<u16> {
        if !self.is_free_choice() {
            return if bindable(self.number) { Ok(self.number) } else { Err(self.taken()) };
        }
        // Each process begins elsewhere and goes on from there, so that neither it nor its neighbours are handed one port twice before
        // the first has listened on it.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let span = u32::from(FREE.end - FREE.start);
        let begin = std::process::id().wrapping_mul(64);
        for _ in 0..span {
            let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
            let number = FREE.start + u16::try_from(offset).context("the range of free ports")?;
            if bindable(number) {
                return Ok(number);
            }
        }
        bail!("found no free port between {} and {}", FREE.start, FREE.end)
    }

    /// The error for a fixed port that somebody else has.
    pub(crate) fn taken(self) -> anyhow::Error {
        anyhow::anyhow!("port {} is taken on 127.0.0.1; choose another with {}", self.number, self.setting)
    }
}

fn bindable(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
}
