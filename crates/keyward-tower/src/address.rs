//! The client's address: from the request's extensions, where whoever accepted the connection put it. Headers are
//! believed only as far as the operator's own proxies wrote them.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{Extensions, HeaderMap};
use keyward_core::network::parse_address;

/// The address of the peer, as a request extension. Put it there when you accept the connection, or tell the layer
/// with `client_address` where yours stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

type ReadPeer = Arc<dyn Fn(&Extensions) -> Option<IpAddr> + Send + Sync>;

/// Where a layer reads the client's address.
#[derive(Clone)]
pub struct AddressSource {
    peer: ReadPeer,
    /// Proxies of one's own between the client and the service; with 0 no header is read.
    pub trusted_proxies: usize,
}

impl Default for AddressSource {
    fn default() -> Self {
        let peer = |extensions: &Extensions| extensions.get::<ClientAddress>().map(|address| address.0);
        Self { peer: Arc::new(peer), trusted_proxies: 0 }
    }
}

impl AddressSource {
    pub fn read_peer_with(&mut self, peer: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) {
        self.peer = Arc::new(peer);
    }

    /// The client's address, when it can be told.
    pub fn of(&self, request: &Parts) -> Option<IpAddr> {
        match self.trusted_proxies {
            0 => (self.peer)(&request.extensions).map(|address| address.to_canonical()),
            count => forwarded_for(&request.headers, count),
        }
    }
}

/// The entry of `X-Forwarded-For` that the outermost of `count` own proxies wrote: each appends the peer that it saw.
/// None when there are fewer entries or that one is unreadable; what stands further left anybody could have written.
fn forwarded_for(headers: &HeaderMap, count: usize) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|line| line.to_str()).collect::<Result<_, _>>().ok()?;
    let entry = lines.iter().rev().flat_map(|line| line.rsplit(',')).nth(count - 1)?;
    parse_address(entry.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], count: usize, expected: Option<&str>) {
        let mut request = http::Request::builder().extension(ClientAddress("::ffff:192.0.2.1".parse().unwrap()));
        for line in lines {
            request = request.header("x-forwarded-for", *line);
        }
        let source = AddressSource { trusted_proxies: count, ..AddressSource::default() };
        let found = source.of(&request.body(()).unwrap().into_parts().0);
        assert_eq!(found, expected.map(|text| text.parse().unwrap()));
    }

    #[test]
    fn without_trusted_proxies_only_the_peer_counts() {
        check(&[], 0, Some("192.0.2.1"));
        check(&["203.0.113.7"], 0, Some("192.0.2.1"));
    }

    #[test]
    fn entries_are_counted_from_the_right_over_all_lines() {
        check(&["6.6.6.6, 203.0.113.7"], 1, Some("203.0.113.7"));
        check(&["6.6.6.6, 203.0.113.7,10.0.0.1"], 2, Some("203.0.113.7"));
        check(&["6.6.6.6, 203.0.113.7", "10.0.0.1"], 2, Some("203.0.113.7"));
        check(&["::ffff:203.0.113.7"], 1, Some("203.0.113.7"));
        check(&[], 1, None);
        check(&["203.0.113.7"], 2, None);
        check(&["6.6.6.6, unknown"], 1, None);
    }
}
