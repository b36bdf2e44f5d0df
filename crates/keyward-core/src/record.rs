//! What is known of one secret of one API key when it is judged: the row, read once and kept small.
//!
//! A million of these stay in memory, so the texts are packed into one allocation and what most keys do not have stands
//! behind one pointer. How records are read and kept is the platform's affair.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::access::Grant;
use crate::hours::ActiveHours;
use crate::id::{self, Id};
use crate::key::KeyDigest;
use crate::limit::{Bound, Withheld};
use crate::network::AddressRules;
use crate::prefetch::prefetch;
use crate::tally::Tally;
use crate::time::Timestamp;

/// What was decided about a key. That it has expired follows from the time and is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    Active,
    Disabled,
    Expired,
    Revoked,
}

/// What was decided about one secret. `Rotated` and `Expired` also follow from the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretStatus {
    Active,
    Rotated,
    Revoked,
    Expired,
}

macro_rules! stored_words {
    ($type:ident { $($variant:ident $word:literal),* }) => {
        impl $type {
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl std::str::FromStr for $type {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($word => Ok(Self::$variant),)* _ => Err(()) }
            }
        }
    };
}

stored_words!(KeyStatus { Active "active", Disabled "disabled", Expired "expired", Revoked "revoked" });
stored_words!(SecretStatus { Active "active", Rotated "rotated", Revoked "revoked", Expired "expired" });

/// The organization of a key as a verify sees it, shared by all its records.
#[derive(Debug)]
pub struct Tenant {
    pub id: Id<id::Organization>,
    pub plan: Box<str>,
    pub suspended: bool,
    /// What the plan allows all keys of the organization together.
    pub limits: Box<[Bound]>,
    pub quota: Option<Withheld>,
    superseded: AtomicBool,
}

impl Tenant {
    pub fn new(id: Id<id::Organization>, plan: &str, suspended: bool) -> Self {
        let superseded = AtomicBool::new(false);
        Self { id, plan: plan.into(), suspended, limits: Box::default(), quota: None, superseded }
    }

    #[must_use]
    pub fn limited(mut self, limits: Box<[Bound]>, quota: Option<Withheld>) -> Self {
        (self.limits, self.quota) = (limits, quota);
        self
    }

    /// Marks this picture as out of date: every record that holds it must be read again.
    pub fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }
}

/// Rules that few keys have.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub addresses: AddressRules,
    pub routes: Box<[Box<str>]>,
    /// ISO 3166-1 alpha-2, upper case.
    pub countries: Box<[[u8; 2]]>,
    pub hours: Option<ActiveHours>,
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty() && self.countries.is_empty() && self.hours.is_none()
    }
}

/// What a key or its end customer may use, beyond what the organization may.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    pub limits: Box<[Bound]>,
    pub quota: Option<Withheld>,
}

/// What few keys have, behind one pointer.
#[derive(Debug)]
struct Extras {
    rules: Rules,
    allowance: Allowance,
    grant: Option<Box<Grant>>,
}

/// The texts of a record in one allocation.
#[derive(Debug)]
struct Texts {
    all: Box<str>,
    /// Of all but the last: names, scopes and ids are bounded far below this.
    ends: [u16; 4],
}

impl Texts {
    fn pack(parts: [&str; 5]) -> Self {
        let mut ends = [0; 4];
        let mut end = 0;
        for (slot, part) in ends.iter_mut().zip(parts) {
            end += part.len();
            *slot = u16::try_from(end).expect("the texts of a key are bounded");
        }
        Self { all: parts.concat().into(), ends }
    }

    fn part(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { usize::from(self.ends[index - 1]) };
        let end = self.ends.get(index).map_or(self.all.len(), |end| usize::from(*end));
        &self.all[start..end]
    }
}

/// One secret of one key, with all that its judgement needs.
#[derive(Debug)]
pub struct KeyRecord {
    pub digest: KeyDigest,
    pub key_id: Id<id::Key>,
    pub secret_id: Id<id::KeySecret>,
    pub tenant: Arc<Tenant>,
    pub status: KeyStatus,
    pub secret_status: SecretStatus,
    /// `Timestamp::NEVER` when the key does not expire.
    pub expires_at: Timestamp,
    /// End of this secret (the overlap of a rotation); `Timestamp::NEVER` when it has none.
    pub secret_expires_at: Timestamp,
    /// Nil where nobody owns the key: an `Option` would make the record larger.
    owner: Uuid,
    extras: Option<Box<Extras>>,
    pub last_use: LastUse,
    /// Calls that the meter has not written yet.
    pub tally: Tally,
    texts: Texts,
}

/// With the two counts of an `Arc` it just fits 192 bytes: three lines of a processor's cache, and a size of the allocator. One byte
/// more would cost every cached key the next size.
const _: () = assert!(size_of::<KeyRecord>() + 16 <= 192);

/// The texts and parts that make a record.
pub struct RecordParts<'a> {
    pub digest: KeyDigest,
    pub key_id: Id<id::Key>,
    pub secret_id: Id<id::KeySecret>,
    pub owner_id: Option<Id<id::User>>,
    pub tenant: Arc<Tenant>,
    pub status: KeyStatus,
    pub secret_status: SecretStatus,
    pub expires_at: Option<Timestamp>,
    pub secret_expires_at: Option<Timestamp>,
    pub rules: Rules,
    pub allowance: Allowance,
    pub grant: Option<Grant>,
    pub name: &'a str,
    pub environment: &'a str,
    /// Parted by spaces.
    pub scopes: &'a str,
    /// A JSON object.
    pub metadata: &'a str,
    pub external_id: Option<&'a str>,
}

impl KeyRecord {
    pub fn new(parts: RecordParts<'_>) -> Self {
        let metadata = if parts.metadata == "{}" { "" } else { parts.metadata };
        let external_id = parts.external_id.unwrap_or_default();
        let RecordParts { rules, allowance, grant, owner_id, .. } = parts;
        let has_allowance = !allowance.limits.is_empty() || allowance.quota.is_some();
        let has_extras = !rules.is_empty() || has_allowance || grant.is_some();
        let extras = Extras { rules, allowance, grant: grant.map(Box::new) };
        Self {
            digest: parts.digest,
            key_id: parts.key_id,
            secret_id: parts.secret_id,
            tenant: parts.tenant,
            status: parts.status,
            secret_status: parts.secret_status,
            expires_at: parts.expires_at.unwrap_or(Timestamp::NEVER),
            secret_expires_at: parts.secret_expires_at.unwrap_or(Timestamp::NEVER),
            owner: owner_id.map_or(Uuid::nil(), |owner| owner.uuid()),
            extras: has_extras.then(|| Box::new(extras)),
            last_use: LastUse::default(),
            tally: Tally::default(),
            texts: Texts::pack([parts.name, parts.environment, parts.scopes, external_id, metadata]),
        }
    }

    pub fn owner_id(&self) -> Option<Id<id::User>> {
        (!self.owner.is_nil()).then(|| Id::from_uuid(self.owner))
    }

    pub fn rules(&self) -> Option<&Rules> {
        Some(&self.extras.as_ref()?.rules)
    }

    /// What the key may do at Keyward itself, when it is a service key.
    pub fn grant(&self) -> Option<&Grant> {
        self.extras.as_ref()?.grant.as_deref()
    }

    /// Every limit that can hold for a call: the key's own and its end customer's first, then its organization's.
    pub fn limits(&self) -> impl Iterator<Item = &Bound> {
        let own = self.extras.as_ref().map_or(&[][..], |own| &own.allowance.limits);
        own.iter().chain(&self.tenant.limits)
    }

    /// The key's quota, then its organization's.
    pub fn quotas(&self) -> impl Iterator<Item = &Withheld> {
        let own = self.extras.as_ref().and_then(|own| own.allowance.quota.as_ref());
        own.into_iter().chain(&self.tenant.quota)
    }

    /// Has the texts, which lie elsewhere, come near while the rules are judged.
    pub fn prefetch_texts(&self) {
        prefetch(&*self.texts.all);
    }

    pub fn name(&self) -> &str {
        self.texts.part(0)
    }

    pub fn environment(&self) -> &str {
        self.texts.part(1)
    }

    /// Parted by spaces; empty when the key has none.
    pub fn scopes(&self) -> &str {
        self.texts.part(2)
    }

    pub fn scope_list(&self) -> impl Iterator<Item = &str> {
        self.scopes().split(' ').filter(|scope| !scope.is_empty())
    }

    pub fn external_id(&self) -> Option<&str> {
        Some(self.texts.part(3)).filter(|text| !text.is_empty())
    }

    /// A JSON object as text.
    pub fn metadata(&self) -> &str {
        match self.texts.part(4) {
            "" => "{}",
            text => text,
        }
    }
}

/// When and from where the secret was last noted as used, so that not every verify has to note it again.
#[derive(Debug, Default)]
pub struct LastUse {
    second: AtomicU32,
    address: AtomicU32,
}

impl LastUse {
    /// Whether this use is worth writing down: the last noted one is at least `resolution_seconds` old, or another
    /// address asks and at least a second has passed. Notes it when so.
    pub fn is_news(&self, now: Timestamp, address: Option<IpAddr>, resolution_seconds: u32) -> bool {
        let second = now.as_seconds() as u32;
        let noted = self.second.load(Ordering::Relaxed);
        let mark = address.map_or(0, address_mark);
        let age = second.wrapping_sub(noted);
        let moved = age >= 1 && mark != 0 && mark != self.address.load(Ordering::Relaxed);
        if age < resolution_seconds.max(1) && !moved {
            return false;
        }
        // Of two threads that see the same age, one notes it.
        let won = self.second.compare_exchange(noted, second, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if won && mark != 0 {
            self.address.store(mark, Ordering::Relaxed);
        }
        won
    }

    /// The second of the last noted use since 1970, modulo 2³²; 0: none was noted.
    pub fn noted_second(&self) -> u32 {
        self.second.load(Ordering::Relaxed)
    }
}

/// Thirty-two bits that tell addresses apart well enough to notice a change.
fn address_mark(address: IpAddr) -> u32 {
    let bits = match address {
        IpAddr::V4(four) => u128::from(four.to_bits()),
        IpAddr::V6(six) => six.to_bits(),
    };
    let folded = (bits >> 64) as u64 ^ bits as u64;
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_per_resolution_and_when_the_address_changes() {
        let last = LastUse::default();
        let at = |second: i64| Timestamp::from_micros((1_000_000 + second) * 1_000_000);
        let (here, there) = (Some("192.0.2.1".parse().unwrap()), Some("192.0.2.2".parse().unwrap()));
        assert!(last.is_news(at(0), here, 60));
        assert!(!last.is_news(at(0), there, 60));
        assert!(!last.is_news(at(5), here, 60));
        assert!(last.is_news(at(5), there, 60));
        assert!(!last.is_news(at(64), there, 60));
        assert!(last.is_news(at(65), there, 60));
    }
}
