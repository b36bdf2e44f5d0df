//! The keys of a run, side by side in one buffer: a generator that picks at random must not spend its time on
//! cache misses of its own.

use keyward_core::key::{Style, generate};
use sha2::{Digest, Sha256};

pub const PREFIX: &str = "kw";
pub const ENVIRONMENT: &str = "live";

/// Key texts of equal length.
#[derive(Default)]
pub struct Keyset {
    texts: Vec<u8>,
    text_bytes: usize,
}

impl Keyset {
    /// New keys of the contract's `checksummed` style.
    pub fn generate(count: usize) -> Self {
        let mut keys = Self::default();
        for _ in 0..count {
            let key = generate(PREFIX, ENVIRONMENT, Style::Checksummed);
            keys.text_bytes = key.expose().len();
            keys.texts.extend_from_slice(key.expose().as_bytes());
        }
        keys
    }

    /// One text that is no key.
    pub fn of(text: &str) -> Self {
        Self { texts: text.as_bytes().to_vec(), text_bytes: text.len() }
    }

    /// The same keys, each with a last letter that makes its checksum wrong.
    pub fn with_wrong_checksums(&self) -> Self {
        let mut wrong = Self { texts: self.texts.clone(), text_bytes: self.text_bytes };
        for key in wrong.texts.chunks_exact_mut(self.text_bytes) {
            let last = key.last_mut().expect("a key has letters");
            *last = if *last == b'0' { b'1' } else { b'0' };
        }
        wrong
    }

    pub fn len(&self) -> usize {
        self.texts.len() / self.text_bytes.max(1)
    }

    pub fn get(&self, index: usize) -> &[u8] {
        &self.texts[index * self.text_bytes..][..self.text_bytes]
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.chunks_exact(self.text_bytes.max(1)).map(|key| std::str::from_utf8(key).expect("keys are ASCII"))
    }

    /// Takes in the first of other keys, up to `count` in all.
    pub fn fill_from(&mut self, others: &Self, count: usize) {
        let missing = count.saturating_sub(self.len()).min(others.len());
        self.text_bytes = others.text_bytes;
        self.texts.extend_from_slice(&others.texts[..missing * others.text_bytes]);
    }
}

/// What an import takes: SHA-256 in hex.
pub fn sha256_hex(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_core::key::{Shape, shape};

    #[test]
    fn keys_are_well_formed_and_the_wrong_ones_are_not() {
        let keys = Keyset::generate(3);
        assert!(keys.iter().all(|key| shape(key) == Some(Shape::Own)));
        assert!(keys.with_wrong_checksums().iter().all(|key| shape(key) == Some(Shape::WrongChecksum)));
        let mut first = Keyset::default();
        first.fill_from(&keys, 2);
        assert_eq!((first.len(), first.get(1)), (2, keys.get(1)));
    }

    #[test]
    fn hashes() {
        let hash = sha256_hex("hello");
        assert_eq!(hash, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    }
}
