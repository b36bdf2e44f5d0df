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

#[cfg(test)]
mod tests {
    use super::*;

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
