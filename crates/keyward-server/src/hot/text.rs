//! Texts, numbers, identifiers and instants put behind each other: what `write!` does, without the machinery of formatting, which
//! takes longer than all else of a verdict.

use keyward_core::id::{Id, Kind};
use keyward_core::time::Timestamp;

/// Something that an answer is made of.
pub trait Piece {
    fn put(self, out: &mut Vec<u8>);
}

impl Piece for &str {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Piece for &String {
    fn put(self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

impl Piece for u64 {
    fn put(self, out: &mut Vec<u8>) {
        itoa::Buffer::new().format(self).put(out);
    }
}

impl<K: Kind> Piece for Id<K> {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text().as_bytes());
    }
}

impl Piece for Timestamp {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text().as_bytes());
    }
}

/// Appends each piece to a `Vec<u8>`.
macro_rules! put {
    ($out:expr, $($piece:expr),+) => {{
        $($crate::hot::text::Piece::put($piece, $out);)+
    }};
}
pub(crate) use put;
