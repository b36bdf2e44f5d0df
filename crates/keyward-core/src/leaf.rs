//! What a leaf of the book's tree says: an event, in one fixed form of bytes. Personal parts are in it only as commitments under a
//! random salt: erase the salt and the part, and every proof still holds.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::time::Timestamp;
use crate::tree::{Hash, hash_leaf};

/// The form of the bytes below.
const VERSION: u8 = 1;
/// A length that no text has: the part is absent.
const ABSENT: u32 = u32::MAX;

/// Random bytes under which a part is committed to.
pub type Salt = [u8; 16];

/// A part that can be erased: its salt while it is there, afterwards the commitment that was made with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    Salt(Salt),
    Erased(Hash),
}

impl Seal {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Salt(salt) => salt,
            Self::Erased(commitment) => commitment,
        }
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let erased = || bytes.try_into().ok().map(Self::Erased);
        bytes.try_into().ok().map(Self::Salt).or_else(erased)
    }

    pub fn is_erased(&self) -> bool {
        matches!(self, Self::Erased(_))
    }

    fn commitment(&self, part: &[Option<&str>]) -> Hash {
        match self {
            Self::Erased(commitment) => *commitment,
            Self::Salt(salt) => {
                let mut bytes = Writer(Vec::with_capacity(256));
                part.iter().for_each(|text| bytes.text(*text));
                let mut mac = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes a key of any length");
                mac.update(&bytes.0);
                mac.finalize().into_bytes().into()
            }
        }
    }
}

/// An event as its leaf says it.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// The log that it is a leaf of.
    pub log: [u8; 16],
    pub sequence: u64,
    pub id: [u8; 16],
    pub organization: Option<[u8; 16]>,
    pub event_type: &'a str,
    pub action: &'a str,
    pub success: bool,
    pub actor_kind: &'a str,
    pub resource_kind: &'a str,
    pub request_id: Option<&'a str>,
    pub occurred_at: Timestamp,
    pub logged_at: Timestamp,
    pub actor: Actor<'a>,
    pub actor_seal: Seal,
    pub object: Object<'a>,
    pub object_seal: Seal,
}

/// Who did it and from where: the first part that can be erased.
#[derive(Debug, Clone, Copy, Default)]
pub struct Actor<'a> {
    pub id: &'a str,
    pub name: Option<&'a str>,
    pub ip_address: Option<&'a str>,
    pub user_agent: Option<&'a str>,
}

/// What it was done to, and what is told about it: the second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Object<'a> {
    pub id: &'a str,
    pub name: Option<&'a str>,
    pub error_message: Option<&'a str>,
    /// JSON text with its names in order.
    pub details: &'a str,
}

impl Leaf<'_> {
    pub fn actor_commitment(&self) -> Hash {
        let Actor { id, name, ip_address, user_agent } = self.actor;
        self.actor_seal.commitment(&[Some(id), name, ip_address, user_agent])
    }

    pub fn object_commitment(&self) -> Hash {
        let Object { id, name, error_message, details } = self.object;
        self.object_seal.commitment(&[Some(id), name, error_message, Some(details)])
    }

    /// The bytes that are hashed: every field behind its length, in this order and no other.
    pub fn entry(&self) -> Vec<u8> {
        let mut bytes = Writer(Vec::with_capacity(288));
        bytes.0.push(VERSION);
        bytes.0.extend_from_slice(&self.log);
        bytes.number(self.sequence as i64);
        bytes.0.extend_from_slice(&self.id);
        bytes.number(self.logged_at.as_micros());
        bytes.number(self.occurred_at.as_micros());
        bytes.bytes(self.organization.as_ref().map(<[u8; 16]>::as_slice));
        bytes.text(Some(self.event_type));
        bytes.text(Some(self.action));
        bytes.0.push(u8::from(self.success));
        bytes.text(Some(self.actor_kind));
        bytes.text(Some(self.resource_kind));
        bytes.text(self.request_id);
        bytes.0.extend_from_slice(&self.actor_commitment());
        bytes.0.extend_from_slice(&self.object_commitment());
        bytes.0
    }

    pub fn hash(&self) -> Hash {
        hash_leaf(&self.entry())
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: Option<&str>) {
        self.bytes(text.map(str::as_bytes));
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        let length = bytes.map_or(ABSENT, |bytes| bytes.len() as u32);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Leaf<'_> = Leaf {
        log: [1; 16],
        sequence: 7,
        id: [2; 16],
        organization: Some([3; 16]),
        event_type: "KEY",
        action: "key_revoked",
        success: true,
        actor_kind: "user",
        resource_kind: "key",
        request_id: None,
        occurred_at: Timestamp::from_micros(5),
        logged_at: Timestamp::from_micros(6),
        actor: Actor { id: "usr_1", name: Some("Maria"), ip_address: Some("192.0.2.7"), user_agent: None },
        actor_seal: Seal::Salt([4; 16]),
        object: Object { id: "key_1", name: None, error_message: None, details: "{}" },
        object_seal: Seal::Salt([5; 16]),
    };

    #[test]
    fn an_erased_part_leaves_the_leaf_as_it_was() {
        let erased = Leaf {
            actor: Actor::default(),
            actor_seal: Seal::Erased(LEAF.actor_commitment()),
            object: Object::default(),
            object_seal: Seal::Erased(LEAF.object_commitment()),
            ..LEAF
        };
        assert_eq!(erased.hash(), LEAF.hash());
        assert_eq!(Seal::read(erased.actor_seal.as_bytes()), Some(erased.actor_seal));
        assert_eq!(Seal::read(&[0; 17]), None);
    }

    #[test]
    fn every_field_is_in_the_leaf() {
        let mut hashes = vec![LEAF.hash()];
        let mut with = |change: fn(&mut Leaf<'_>)| {
            let mut leaf = LEAF;
            change(&mut leaf);
            hashes.push(leaf.hash());
        };
        with(|leaf| leaf.log = [0; 16]);
        with(|leaf| leaf.sequence = 8);
        with(|leaf| leaf.id = [0; 16]);
        with(|leaf| leaf.organization = None);
        with(|leaf| leaf.event_type = "KE");
        // A letter that moves over a border is a change.
        with(|leaf| (leaf.event_type, leaf.action) = ("KEYk", "ey_revoked"));
        with(|leaf| leaf.success = false);
        with(|leaf| leaf.actor_kind = "key");
        with(|leaf| leaf.resource_kind = "user");
        with(|leaf| leaf.request_id = Some(""));
        with(|leaf| leaf.occurred_at = Timestamp::from_micros(6));
        with(|leaf| leaf.logged_at = Timestamp::from_micros(5));
        with(|leaf| leaf.actor.id = "usr_2");
        with(|leaf| leaf.actor.name = None);
        with(|leaf| leaf.actor.ip_address = Some("192.0.2.8"));
        with(|leaf| leaf.actor.user_agent = Some(""));
        with(|leaf| leaf.actor_seal = Seal::Salt([0; 16]));
        with(|leaf| leaf.object.id = "key_2");
        with(|leaf| leaf.object.name = Some(""));
        with(|leaf| leaf.object.error_message = Some(""));
        with(|leaf| leaf.object.details = "[]");
        with(|leaf| leaf.object_seal = Seal::Salt([0; 16]));
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }
}
