//! The text of a key: generate, recognise, digest, hint.
//!
//! A presented string becomes an `ApiKey` (secret), a `KeyDigest` (what is stored and looked up) and a hint (what is
//! shown); only a digest can be bound to a query. Shapes are those of the contract, section 3. Whether a key exists
//! is not decided here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// How the keys of a keyspace look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// 43 base62 characters (256 bits) and six of CRC-32 over all before them.
    Checksummed,
    /// 43 base64url characters (256 bits).
    Plain,
}

impl Style {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checksummed => "checksummed",
            Self::Plain => "plain",
        }
    }
}

const SECRET_BYTES: usize = 32;
const BODY_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Longest string that is looked at, in bytes; imported keys may be longer than our own.
pub const MAX_PRESENTED_LEN: usize = 512;

/// A whole key in clear. Lives from generation to the one answer that shows it.
pub type ApiKey = Secret<String>;

/// What a presented string looks like, before anything is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One of ours, checksum right.
    Own,
    /// Not one of ours; only an imported key can look like this.
    Foreign,
    /// Ours by its form but with a wrong checksum. Never looked up, unless its prefix was imported.
    WrongChecksum,
}

/// A new key: 256 bits from the operating system in the given style.
pub fn generate(prefix: &str, environment: &str, style: Style) -> ApiKey {
    let mut random = [0u8; SECRET_BYTES];
    getrandom::fill(&mut random).expect("the operating system gives randomness");
    let key = spell(prefix, environment, style, &random);
    zeroize::Zeroize::zeroize(&mut random);
    key
}

fn spell(prefix: &str, environment: &str, style: Style, random: &[u8; SECRET_BYTES]) -> ApiKey {
    let mut text = String::with_capacity(prefix.len() + environment.len() + 2 + BODY_LEN + CHECKSUM_LEN);
    text.push_str(prefix);
    text.push('_');
    text.push_str(environment);
    text.push('_');
    match style {
        Style::Checksummed => {
            push_base62(&mut text, random);
            let checksum = checksum(text.as_bytes());
            text.push_str(std::str::from_utf8(&checksum).expect("base62 is ASCII"));
        }
        Style::Plain => URL_SAFE_NO_PAD.encode_string(random, &mut text),
    }
    Secret::new(text)
}

/// Writes 256 bits as 43 base62 digits (62^43 > 2^256), most significant first.
fn push_base62(text: &mut String, bytes: &[u8; SECRET_BYTES]) {
    let mut limbs = [0u32; 8];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(4)) {
        *limb = u32::from_be_bytes(chunk.try_into().expect("chunks of four"));
    }
    let mut digits = [0u8; BODY_LEN];
    for slot in digits.iter_mut().rev() {
        let mut rest = 0u64;
        for limb in &mut limbs {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / 62) as u32;
            rest = value % 62;
        }
        *slot = BASE62[rest as usize];
    }
    text.push_str(std::str::from_utf8(&digits).expect("base62 is ASCII"));
}

/// CRC-32 (IEEE) of all before it as six base62 digits.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut value = crc32fast::hash(bytes);
    let mut digits = [0; CHECKSUM_LEN];
    for slot in digits.iter_mut().rev() {
        *slot = BASE62[(value % 62) as usize];
        value /= 62;
    }
    digits
}

/// Looks at a presented string; `None` means that no key, ours or imported, can look like this.
pub fn shape(presented: &str) -> Option<Shape> {
    let bytes = presented.as_bytes();
    if bytes.len() < 8 || bytes.len() > MAX_PRESENTED_LEN || !all(bytes, u8::is_ascii_graphic) {
        return None;
    }
    let Some((prefix, environment, body)) = split(presented) else { return Some(Shape::Foreign) };
    if !is_prefix(prefix) || !is_environment(environment) {
        return Some(Shape::Foreign);
    }
    if body.len() == BODY_LEN + CHECKSUM_LEN && all(body.as_bytes(), u8::is_ascii_alphanumeric) {
        let (before, after) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
        return Some(if checksum(before) == after { Shape::Own } else { Shape::WrongChecksum });
    }
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'_');
    let plain = body.len() == BODY_LEN && all(body.as_bytes(), is_digit);
    Some(if plain { Shape::Own } else { Shape::Foreign })
}

/// To the end in any case: so the compiler looks at many bytes at once.
fn all(bytes: &[u8], is_right: impl Fn(&u8) -> bool) -> bool {
    bytes.iter().fold(true, |so_far, byte| so_far & is_right(byte))
}

fn split(presented: &str) -> Option<(&str, &str, &str)> {
    let (prefix, rest) = split_once(presented)?;
    let (environment, body) = split_once(rest)?;
    Some((prefix, environment, body))
}

/// At the first underscore, which is near: a search that is made for long texts takes longer.
fn split_once(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == b'_')?;
    Some((&text[..at], &text[at + 1..]))
}

/// 1–16 of `[a-z0-9]`.
pub fn is_prefix(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// 1–12 of `[a-z]`.
pub fn is_environment(text: &str) -> bool {
    (1..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())
}

/// The last four characters: enough to recognise a key, useless to guess it.
pub fn hint(presented: &str) -> &str {
    let start = presented.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    &presented[start..]
}

/// HMAC-SHA-256 of a whole key under a pepper: what is stored, cached and looked up.
#[derive(Clone, Copy, Eq)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 128 bits: where a cache files the digest. Equality is still decided on all 256.
    pub fn slot(&self) -> u128 {
        self.halves()[0]
    }

    fn halves(&self) -> [u128; 2] {
        let (halves, _) = self.0.as_chunks::<16>();
        [u128::from_be_bytes(halves[0]), u128::from_be_bytes(halves[1])]
    }
}

impl PartialEq for KeyDigest {
    /// Constant time.
    fn eq(&self, other: &Self) -> bool {
        self.halves().ct_eq(&other.halves()).into()
    }
}

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[digest]")
    }
}

/// The instance's secret that goes into every digest, so that a stolen database cannot be searched offline.
#[derive(Clone)]
pub struct Pepper {
    version: u32,
    keyed: Hmac<Sha256>,
}

impl Pepper {
    pub fn new(version: u32, secret: &[u8]) -> Self {
        Self { version, keyed: Hmac::new_from_slice(secret).expect("HMAC takes a key of any length") }
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn digest(&self, presented: &str) -> KeyDigest {
        let mut mac = self.keyed.clone();
        mac.update(presented.as_bytes());
        KeyDigest(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pepper({}, [redacted])", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_those_of_the_contract() {
        assert_eq!(generate("kw", "live", Style::Checksummed).expose().len(), 57);
        assert_eq!(generate("pk", "live", Style::Plain).expose().len(), 51);
    }

    #[test]
    fn base62_spells_the_extremes() {
        assert!(spell("k", "a", Style::Checksummed, &[0; 32]).expose().starts_with(&format!("k_a_{}", "0".repeat(43))));
        let top = spell("k", "a", Style::Checksummed, &[255; 32]);
        // 2^256 - 1 in base 62, computed independently.
        assert_eq!(&top.expose()[4..47], "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    }

    #[test]
    fn hints_are_the_last_four() {
        assert_eq!(hint("kw_live_abcd"), "abcd");
        assert_eq!(hint("abc"), "abc");
    }

    #[test]
    fn digests_depend_on_the_pepper() {
        let (one, two) = (Pepper::new(1, b"one"), Pepper::new(2, b"two"));
        assert_eq!(one.digest("k"), one.digest("k"));
        assert_ne!(one.digest("k"), two.digest("k"));
        assert_eq!(format!("{one:?} {:?}", one.digest("k")), "Pepper(1, [redacted]) [digest]");
    }

    proptest! {
        #[test]
        fn generated_keys_are_our_own(random: [u8; 32], plain: bool) {
            let style = if plain { Style::Plain } else { Style::Checksummed };
            prop_assert_eq!(shape(spell("kw", "live", style, &random).expose()), Some(Shape::Own));
        }

        #[test]
        fn one_changed_letter_breaks_the_checksum(random: [u8; 32], at in 8usize..57, letter in 0usize..62) {
            let key = spell("kw", "live", Style::Checksummed, &random);
            let mut bytes = key.expose().clone().into_bytes();
            prop_assume!(bytes[at] != BASE62[letter]);
            bytes[at] = BASE62[letter];
            prop_assert_eq!(shape(&String::from_utf8(bytes).unwrap()), Some(Shape::WrongChecksum));
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC*") {
            let _ = (shape(&text), hint(&text));
        }
    }
}
