//! Identifiers: TypeIDs (specification v0.3), a prefix and the base32 of a UUIDv7.
//!
//! `Id<K>` carries its kind in the type, so a key's id cannot be handed where a user's is wanted. It does not decide
//! where an id comes from: the caller gives time and randomness.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::time::Timestamp;

/// An identifier of one kind of thing, e.g. `key_01h455vb4pex5vsknk084sn02q`.
pub struct Id<K>(Uuid, PhantomData<fn() -> K>);

/// What an identifier points at; gives the text its prefix.
pub trait Kind: 'static {
    const PREFIX: &'static str;
}

macro_rules! kinds {
    ($($name:ident $prefix:literal),* $(,)?) => {
        $(
            #[derive(Debug)]
            pub enum $name {}
            impl Kind for $name {
                const PREFIX: &'static str = $prefix;
            }
        )*
    };
}

kinds! {
    Organization "org", User "usr", Key "key", KeySecret "sec", Keyspace "kss", Plan "pln", Session "ses",
    Invitation "inv", Event "aud", Job "job", Backup "bak", Webhook "whk", Request "req", Node "nod", MeterBatch "mtb", UsageBatch "usb", SigningKey "sgk", Mail "mai", Leak "lek", Announcement "ann", Binding "rol",
    Reservation "rsv", Passkey "pky", Challenge "chl",
}

/// Crockford's base32 in lower case, as TypeID prescribes.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_LEN: usize = 26;
const HALF_LEN: usize = SUFFIX_LEN / 2;

/// The text of an identifier without an allocation.
#[derive(Clone, Copy)]
pub struct IdText {
    bytes: [u8; 32],
    len: u8,
}

impl IdText {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("the alphabet and prefixes are ASCII")
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId {
    pub expected_prefix: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is not an identifier of the form {}_…", self.expected_prefix)
    }
}

impl std::error::Error for InvalidId {}

impl<K: Kind> Id<K> {
    /// A new identifier that sorts by `now`, its random part from `random`.
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.as_micros() / 1000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid(), PhantomData)
    }

    /// A new identifier with randomness from the operating system.
    pub fn generate(now: Timestamp) -> Self {
        let mut random = [0; 10];
        getrandom::fill(&mut random).expect("the operating system gives randomness");
        Self::new(now, random)
    }

    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    /// From the usual text form of a UUID.
    pub fn from_uuid_text(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::from_uuid)
    }

    pub fn uuid(&self) -> Uuid {
        self.0
    }

    /// The text form, on the stack.
    pub fn text(&self) -> IdText {
        let mut bytes = [0; 32];
        let prefix = K::PREFIX.as_bytes();
        bytes[..prefix.len()].copy_from_slice(prefix);
        bytes[prefix.len()] = b'_';
        let start = prefix.len() + 1;
        let value = self.0.as_u128();
        // Thirteen letters are 65 bits: the upper ones are the number's upper 63, the lower ones its lower 64 and the bit above them.
        // No letter waits for another.
        let (upper, lower) = ((value >> 65) as u64, value as u64);
        let letter = |bits: u64| ALPHABET[bits as usize & 31];
        for place in 0..HALF_LEN {
            let shift = 60 - 5 * place;
            bytes[start + place] = letter(upper >> shift);
            bytes[start + HALF_LEN + place] = letter(lower >> shift);
        }
        bytes[start + HALF_LEN] = letter((value >> 60) as u64);
        IdText { bytes, len: (start + SUFFIX_LEN) as u8 }
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { expected_prefix: K::PREFIX };
        let suffix = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(invalid)?;
        // The first of 26 characters holds only three bits: anything above '7' would overflow.
        if suffix.len() != SUFFIX_LEN || suffix.as_bytes()[0] > b'7' {
            return Err(invalid);
        }
        let mut value = 0u128;
        for byte in suffix.bytes() {
            let digit = ALPHABET.iter().position(|letter| *letter == byte).ok_or(invalid)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(Uuid::from_u128(value), PhantomData))
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}
impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}
impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text().as_str())
    }
}
impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number: u128) {
            let id = Id::<Key>::from_uuid(Uuid::from_u128(number));
            prop_assert_eq!(id.to_string().parse::<Id<Key>>().unwrap(), id);
        }
    }

    #[test]
    fn text_follows_the_typeid_specification() {
        // From the specification's valid.yml: prefix_01h455vb4pex5vsknk084sn02q.
        let uuid: Uuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let id = Id::<Key>::from_uuid(uuid);
        assert_eq!(id.to_string(), "key_01h455vb4pex5vsknk084sn02q");
        assert_eq!("key_01h455vb4pex5vsknk084sn02q".parse::<Id<Key>>().unwrap(), id);
    }

    #[test]
    fn foreign_prefixes_overflow_and_bad_letters_are_refused() {
        for text in [
            "usr_01h455vb4pex5vsknk084sn02q",
            "key_81h455vb4pex5vsknk084sn02q",
            "key_01h455vb4pex5vsknk084sn02",
            "key_01h455vb4pex5vsknk084sn02u",
            "key_01H455VB4PEX5VSKNK084SN02Q",
            "key01h455vb4pex5vsknk084sn02q",
            "",
        ] {
            assert!(text.parse::<Id<Key>>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_sort_by_time() {
        let early = Id::<Key>::new(Timestamp::from_micros(1_000_000), [255; 10]);
        let late = Id::<Key>::new(Timestamp::from_micros(2_000_000), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
    }
}
