//! Address rules: which client addresses may use a key. CIDR blocks of either family; deny wins over allow.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Allowed and denied address blocks. An empty allow list allows every address that is not denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    pub allowed: Box<[IpNet]>,
    pub denied: Box<[IpNet]>,
}

impl AddressRules {
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.denied.is_empty()
    }

    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !self.denied.iter().any(|block| block.contains(&address))
            && (self.allowed.is_empty() || self.allowed.iter().any(|block| block.contains(&address)))
    }
}

/// Reads a CIDR block or a lone address; host bits are cleared, an IPv4-mapped IPv6 block becomes IPv4.
pub fn parse_block(text: &str) -> Option<IpNet> {
    let block = match IpNet::from_str(text) {
        Ok(block) => block.trunc(),
        Err(_) => IpNet::from(IpAddr::from_str(text).ok()?.to_canonical()),
    };
    Some(match block {
        IpNet::V6(six) if six.prefix_len() >= 96 => match six.network().to_ipv4_mapped() {
            Some(four) => IpNet::new(IpAddr::V4(four), six.prefix_len() - 96).ok()?,
            None => block,
        },
        _ => block,
    })
}

/// Reads an address as clients write it: v4 or v6; an IPv4-mapped IPv6 address counts as IPv4.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    IpAddr::from_str(text).ok().map(|address| address.to_canonical())
}

/// Blocks in which no address belongs to a host of the public internet (IANA's special-purpose registries): this host, private
/// and link-local networks (where clouds answer with their metadata), documentation, tests, multicast, and the ways from one
/// family into the other.
const NOT_PUBLIC: [&str; 27] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Whether the address may belong to a host of the public internet (statement I-06).
pub fn is_public(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !NOT_PUBLIC.iter().filter_map(|text| IpNet::from_str(text).ok()).any(|block| block.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_from_within_is_not_public() {
        assert!(NOT_PUBLIC.iter().all(|text| IpNet::from_str(text).is_ok()));
        for text in [
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "0.0.0.0",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "255.255.255.255",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    fn rules(allowed: &[&str], denied: &[&str]) -> AddressRules {
        let blocks = |list: &[&str]| list.iter().map(|text| parse_block(text).unwrap()).collect();
        AddressRules { allowed: blocks(allowed), denied: blocks(denied) }
    }

    fn check(rules: &AddressRules, permitted: &[&str], refused: &[&str]) {
        for text in permitted {
            assert!(rules.permits(text.parse().unwrap()), "{text} should pass");
        }
        for text in refused {
            assert!(!rules.permits(text.parse().unwrap()), "{text} should be refused");
        }
    }

    #[test]
    fn deny_wins_and_mapped_addresses_count_as_v4() {
        let both = rules(&["203.0.113.0/24", "2001:db8::/32"], &["203.0.113.7"]);
        check(
            &both,
            &["203.0.113.8", "::ffff:203.0.113.8", "2001:db8::1"],
            &["203.0.113.7", "::ffff:203.0.113.7", "198.51.100.1", "2001:db9::1"],
        );
        check(&rules(&[], &["10.0.0.0/8"]), &["192.0.2.1", "::1"], &["10.1.2.3"]);
        check(&rules(&["::ffff:192.0.2.0/120"], &[]), &["192.0.2.9"], &["192.0.3.9"]);
    }

    #[test]
    fn blocks() {
        assert_eq!(parse_block("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(parse_block("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        for bad in ["", "10.0.0.0/33", "10.0.0", "::/129", "example.com", "10.0.0.0/8 "] {
            assert!(parse_block(bad).is_none(), "{bad}");
        }
    }
}
