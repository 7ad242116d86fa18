//! Who asks: the address that counts for the shares of [`FairLimit`](crate::FairLimit).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;

/// The most proxies that a path tells apart: a load balancer before the gateway before a service, and the client.
const DEPTH: usize = 3;

/// A client: the address its connection comes from, then, as far as trusted proxies told them, the addresses behind it.
///
/// What a proxy says counts only within the proxy's own share, so whoever invents addresses shares with himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    path: [IpAddr; DEPTH],
    length: usize,
}

impl Client {
    /// A connection's client, whatever may come on it.
    pub fn direct(peer: IpAddr) -> Self {
        Self { path: [key(peer); DEPTH], length: 1 }
    }

    /// A request's client: its peer and, if that is a trusted proxy, who it says sent the request (`X-Forwarded-For`, the last address; if that is
    /// a trusted proxy too, the one before). A trusted proxy's own requests are a client of its own beside those it passes on.
    pub fn of(peer: SocketAddr, headers: &HeaderMap, trusted: &Networks) -> Self {
        let mut client = Self::direct(peer.ip());
        if !trusted.contains(peer.ip()) {
            return client;
        }
        client.length = 2;
        let values = headers.get_all("x-forwarded-for").iter().rev().filter_map(|value| value.to_str().ok());
        let told = values.flat_map(|value| value.rsplit(',')).map_while(|address| parse(address.trim()));
        for (place, address) in (1..DEPTH).zip(told) {
            client.path[place] = key(address);
            client.length = place + 1;
            if !trusted.contains(address) {
                break;
            }
        }
        client
    }

    /// The address that is the client's own, as far as it is told.
    pub(crate) fn address(&self) -> IpAddr {
        self.path[self.length - 1]
    }

    /// From the connection's address to the client's.
    pub(crate) fn path(&self) -> &[IpAddr] {
        &self.path[..self.length]
    }
}

/// Some proxies add the port.
fn parse(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// Who counts as one client: an address; of IPv6 its network, because each client has 2^64 of its own.
fn key(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// Networks: `127.0.0.0/8,::1`, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<(IpAddr, u8)>);

impl Networks {
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => address.into(),
        };
        let differ = |network: &IpAddr| bits(*network) ^ bits(address);
        self.0.iter().any(|(network, length)| {
            network.is_ipv4() == address.is_ipv4() && differ(network).leading_zeros() >= u32::from(*length)
        })
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = |text: &str| {
            let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let length = length.map_or(Some(longest), |length| length.parse().ok()).filter(|length| *length <= longest)?;
            Some((address, length))
        };
        if text == "none" {
            return Ok(Self(Vec::new()));
        }
        let networks = text
            .split(',')
            .map(|text| network(text.trim()).ok_or_else(|| format!("`{text}` is not a network such as 10.0.0.0/8")));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let networks: Vec<String> = self.0.iter().map(|(address, length)| format!("{address}/{length}")).collect();
        f.write_str(&networks.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted = "127.0.0.0/8,::1,10.0.0.0/8".parse().unwrap();
        let client = Client::of(SocketAddr::new(peer.parse().unwrap(), 5), &headers, &trusted);
        client.path().iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_within_their_own_share() {
        assert_eq!(client("192.0.2.1", &["192.0.2.9"]), ["192.0.2.1"]);
        assert_eq!(client("127.0.0.1", &["192.0.2.9"]), ["127.0.0.1", "192.0.2.9"]);
        assert_eq!(client("127.0.0.1", &["192.0.2.8, 192.0.2.9"]), ["127.0.0.1", "192.0.2.9"]);
        assert_eq!(client("127.0.0.1", &["192.0.2.8", "10.0.0.7:80"]), ["127.0.0.1", "10.0.0.7", "192.0.2.8"]);
        assert_eq!(client("127.0.0.1", &["192.0.2.1, 192.0.2.8, 10.0.0.6, 10.0.0.7"]), ["127.0.0.1", "10.0.0.7", "10.0.0.6"]);
        // Its own requests are one client beside those it passes on.
        assert_eq!(client("127.0.0.1", &[]), ["127.0.0.1", "127.0.0.1"]);
        assert_eq!(client("127.0.0.1", &["192.0.2.1, nonsense"]), ["127.0.0.1", "127.0.0.1"]);
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let same = |one: &str, other: &str| key(one.parse().unwrap()) == key(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn networks_are_addresses_and_how_much_of_them_counts() {
        let networks: Networks = "127.0.0.0/8, ::1, 10.1.2.3".parse().unwrap();
        for inside in ["127.9.9.9", "::1", "10.1.2.3", "::ffff:127.0.0.1"] {
            assert!(networks.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["128.0.0.1", "::2", "10.1.2.4", "::7f00:1"] {
            assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!("0.0.0.0/0".parse::<Networks>().unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(!"none".parse::<Networks>().unwrap().contains("127.0.0.1".parse().unwrap()));
        assert_eq!(networks.to_string(), "127.0.0.0/8,::1/128,10.1.2.3/32");
        for wrong in ["", "10.0.0.0/33", "localhost", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Networks>().is_err(), "{wrong}");
        }
    }
}
