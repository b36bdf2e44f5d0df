//! Announcements: what a change touched, so that nothing judged from memory is out of date.
//!
//! Every change posts its subjects here when it commits; the verifier takes them before it looks into its memory
//! again. Between nodes on PostgreSQL they travel as rows in the change's own transaction (`nodes`): NOTIFY only
//! hurries, a bounded re-read is the net, and without either a node stops trusting its memory.

pub(crate) mod nodes;
mod sql;

use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;

/// What a change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A secret, by the slot of its digest (`KeyDigest::slot`).
    Secret(u128),
    Organization(Id<id::Organization>),
    /// A secret that did not exist before: what was absent may be present now.
    Issued,
    /// Foreign key strings of a new prefix were imported.
    Imports,
    /// A person's standing, roles or sessions.
    Person(Id<id::User>),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(slot) => write!(f, "secret {slot:032x}"),
            Self::Organization(id) => write!(f, "organization {id}"),
            Self::Issued => f.write_str("issued"),
            Self::Imports => f.write_str("imports"),
            Self::Person(id) => write!(f, "person {id}"),
        }
    }
}

impl FromStr for Subject {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(' ') {
            Some(("secret", slot)) => u128::from_str_radix(slot, 16).map(Self::Secret).map_err(|_| ()),
            Some(("organization", id)) => id.parse().map(Self::Organization).map_err(|_| ()),
            Some(("person", id)) => id.parse().map(Self::Person).map_err(|_| ()),
            None if text == "issued" => Ok(Self::Issued),
            None if text == "imports" => Ok(Self::Imports),
            _ => Err(()),
        }
    }
}

/// Where subjects are posted and waited for: those of keys by the verifier, those of people by the sessions.
#[derive(Debug)]
pub struct Board {
    posted: AtomicU64,
    pending: Mutex<Vec<Subject>>,
    people_posted: AtomicU64,
    people: Mutex<Vec<Id<id::User>>>,
    fresh_until: AtomicI64,
    live_nodes: AtomicU32,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            posted: AtomicU64::new(0),
            pending: Mutex::default(),
            people_posted: AtomicU64::new(0),
            people: Mutex::default(),
            fresh_until: AtomicI64::new(i64::MAX),
            live_nodes: AtomicU32::new(1),
        }
    }
}

impl Board {
    /// Announces what changed; visible to every later `posted`.
    pub fn post(&self, subjects: impl IntoIterator<Item = Subject>) {
        let mut people = Vec::new();
        let keys = subjects.into_iter().filter(|subject| match subject {
            Subject::Person(person) => {
                people.push(*person);
                false
            }
            _ => true,
        });
        let mut pending = self.pending.lock().expect("no one panics while posting");
        pending.extend(keys);
        self.posted.fetch_add(1, Ordering::Release);
        drop(pending);
        if !people.is_empty() {
            let mut touched = self.people.lock().expect("no one panics while posting");
            touched.extend(people);
            self.people_posted.fetch_add(1, Ordering::Release);
        }
    }

    /// As `posted`, for people.
    pub fn people_posted(&self) -> u64 {
        self.people_posted.load(Ordering::Acquire)
    }

    /// As `take`, for people.
    pub fn take_people(&self) -> (u64, Vec<Id<id::User>>) {
        let mut touched = self.people.lock().expect("no one panics while posting");
        (self.people_posted(), std::mem::take(&mut *touched))
    }

    /// A number that grows with every post: one atomic load for the hot path.
    pub fn posted(&self) -> u64 {
        self.posted.load(Ordering::Acquire)
    }

    /// Takes what was posted, with the number that it brings the reader to.
    pub fn take(&self) -> (u64, Vec<Subject>) {
        let mut pending = self.pending.lock().expect("no one panics while posting");
        (self.posted(), std::mem::take(&mut *pending))
    }

    /// Until when memory may be trusted: always on one process, a bounded time between re-reads on several nodes.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.as_micros() <= self.fresh_until.load(Ordering::Acquire)
    }

    /// Nodes that serve from this database, this one included; at least one.
    pub fn live_nodes(&self) -> u32 {
        self.live_nodes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_live_nodes(&self, count: u32) {
        self.live_nodes.store(count.max(1), Ordering::Relaxed);
    }

    pub(crate) fn trust_until(&self, until: Timestamp) {
        self.fresh_until.store(until.as_micros(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_read_back() {
        let organization = Id::from_uuid(uuid::Uuid::from_u128(7));
        for subject in [
            Subject::Secret(u128::MAX),
            Subject::Secret(1),
            Subject::Organization(organization),
            Subject::Issued,
            Subject::Imports,
            Subject::Person(Id::from_uuid(uuid::Uuid::from_u128(8))),
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        assert_eq!("secret xyz".parse::<Subject>(), Err(()));
    }
}
