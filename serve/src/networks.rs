//! Which addresses a server connects to when somebody else names them.
//!
//! Public addresses always; addresses of this machine and of private networks only where the operator says so. An address
//! in another's clothes (IPv4 in IPv6, translated, tunnelled) counts as what it leads to, or is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::Url;

/// The networks that a server may connect to beside the public ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Takes what the operator set. Without a setting it is every network for a server that only this machine reaches, so
    /// that servers on loopback find each other, and none for any other: behind a proxy a server listens on loopback
    /// too, but then its public URL is another one.
    pub fn of(setting: Option<&[IpNet]>, listen: IpAddr, public_url: Option<&str>) -> Self {
        match setting {
            Some(networks) => Self(networks.to_vec()),
            None if listen.is_loopback() && public_url.is_none_or(is_on_loopback) => Self(EVERY.to_vec()),
            None => Self(Vec::new()),
        }
    }

    /// Tells whether the server may connect to an address.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_nobody = address.is_unspecified() || address.is_multicast() || address == Ipv4Addr::BROADCAST;
        !is_nobody && (is_public(address) || self.0.iter().any(|network| network.contains(&address)))
    }
}

fn is_on_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        None => false,
    })
}

/// Tells whether an address is one that anybody on the internet may have.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

const EVERY: [IpNet; 2] = [IpNet::V4(v4([0, 0, 0, 0], 0)), IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))];

/// The IANA registry of special-purpose IPv4 addresses, and multicast and what is reserved above it.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// What is given out of IPv6; loopback, link-local, private, multicast and translated addresses are outside.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// The IANA registry of special-purpose IPv6 addresses, as far as it is inside [`GLOBAL_V6`]: protocols (among them
/// Teredo), documentation, 6to4.
const SPECIAL_V6: [Ipv6Net; 4] =
    [v6([0x2001, 0, 0], 23), v6([0x2001, 0xdb8, 0], 32), v6([0x2002, 0, 0], 16), v6([0x3fff, 0, 0], 20)];

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6([a, b, c]: [u16; 3], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_public_addresses_are_reached_where_nothing_else_is_allowed() {
        let none = Networks(Vec::new());
        for public in ["1.1.1.1", "93.184.216.34", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"] {
            assert!(none.allow(ip(public)), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!none.allow(ip(private)), "{private}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_reached_and_nothing_beside_it() {
        let home = Networks(vec!["192.168.1.0/24".parse().unwrap(), "fd12::/64".parse().unwrap()]);
        for inside in ["192.168.1.9", "::ffff:192.168.1.9", "fd12::9"] {
            assert!(home.allow(ip(inside)), "{inside}");
        }
        for outside in ["192.168.2.9", "127.0.0.1", "fd13::9", "::1"] {
            assert!(!home.allow(ip(outside)), "{outside}");
        }
        let every = Networks(EVERY.to_vec());
        assert!(every.allow(ip("127.0.0.1")) && every.allow(ip("::1")) && every.allow(ip("10.0.0.1")));
        for nobody in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(!every.allow(ip(nobody)), "{nobody}");
        }
    }

    #[test]
    fn a_server_finds_its_neighbours_by_default_only_where_no_one_else_reaches_it() {
        let by_default = |listen, url| Networks::of(None, ip(listen), url).allow(ip("127.0.0.1"));
        assert!(by_default("127.0.0.1", None));
        assert!(by_default("::1", Some("http://[::1]:9")));
        assert!(by_default("127.0.0.1", Some("http://localhost:9")));
        assert!(!by_default("127.0.0.1", Some("https://table.example")));
        assert!(!by_default("0.0.0.0", None));
        assert!(!by_default("192.168.1.2", None));
        let told: &[IpNet] = &[];
        assert!(!Networks::of(Some(told), ip("127.0.0.1"), None).allow(ip("127.0.0.1")));
    }
}
