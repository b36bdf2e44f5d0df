//! The header fields of a request as the hot routes read them, and those of an answer as they write them, whether hyper carries them
//! or the lane.

use http::{HeaderMap, HeaderName, HeaderValue};

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

/// The name of a field that is put on answers, and how its line begins: with the end of the one before.
pub struct Name {
    /// Elsewhere: a line whose text is known when this is compiled is written without a call.
    pub name: &'static HeaderName,
    pub line: &'static str,
}

/// A `Name` from its text in small letters.
macro_rules! name {
    ($text:literal) => {{
        static NAME: http::HeaderName = http::HeaderName::from_static($text);
        $crate::hot::fields::Name { name: &NAME, line: concat!("\r\n", $text, ": ") }
    }};
}
pub(crate) use name;

/// The head of an answer.
pub trait PutField {
    /// Puts a field whose value `write` appends: visible ASCII.
    fn put_field(&mut self, name: &Name, write: impl FnOnce(&mut Vec<u8>));

    /// Puts a field with a text of somebody's. One that cannot stand in a field is left out.
    fn put_text(&mut self, name: &Name, text: &str) {
        self.put_field(name, |out| out.extend_from_slice(if is_text(text.as_bytes()) { text.as_bytes() } else { b"" }));
    }
}

impl PutField for HeaderMap {
    fn put_field(&mut self, name: &Name, write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = Vec::new();
        write(&mut value);
        self.insert(name.name, HeaderValue::from_bytes(&value).unwrap_or(HeaderValue::from_static("")));
    }
}

/// As the lane writes it, line by line.
impl PutField for Vec<u8> {
    fn put_field(&mut self, name: &Name, write: impl FnOnce(&mut Self)) {
        self.extend_from_slice(name.line.as_bytes());
        write(self);
    }
}

/// A field's value, if it is visible ASCII.
pub fn text(value: &[u8]) -> Option<&str> {
    if is_text(value) { std::str::from_utf8(value).ok() } else { None }
}

/// Whether it is visible ASCII, spaces and tabs.
fn is_text(value: &[u8]) -> bool {
    // To the end in any case: so the compiler looks at many bytes at once.
    value.iter().fold(true, |so_far, byte| so_far & matches!(byte, b'\t' | b' '..=b'~'))
}
