//! The header fields of a request as the hot routes read them, whether hyper has parsed them or the lane.

use http::{HeaderMap, HeaderName};

pub trait Fields: Sync {
    /// The first field of that name.
    fn first(&self, name: &HeaderName) -> Option<&[u8]>;

    /// Every field of that name, in their order.
    fn every<'a>(&'a self, name: &HeaderName) -> Vec<&'a [u8]>;

    /// All of them, for what seldom happens.
    fn to_map(&self) -> HeaderMap;

    /// The first field of that name, if it is text.
    fn text(&self, name: &HeaderName) -> Option<&str> {
        text(self.first(name)?)
    }
}

impl Fields for HeaderMap {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get(name).map(|value| value.as_bytes())
    }

    fn every<'a>(&'a self, name: &HeaderName) -> Vec<&'a [u8]> {
        self.get_all(name).iter().map(|value| value.as_bytes()).collect()
    }

    fn to_map(&self) -> HeaderMap {
        self.clone()
    }
}

/// A field's value, if it is visible ASCII.
pub fn text(value: &[u8]) -> Option<&str> {
    if is_text(value) { std::str::from_utf8(value).ok() } else { None }
}

/// Whether it is visible ASCII, spaces and tabs.
pub fn is_text(value: &[u8]) -> bool {
    // To the end in any case: so the compiler looks at many bytes at once.
    value.iter().fold(true, |so_far, byte| so_far & matches!(byte, b'\t' | b' '..=b'~'))
}
