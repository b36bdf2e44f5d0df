//! Events that are too many to be written one by one: verifications that were refused, that a limit denied, that passed. The hot
//! path leaves a small record here; `queue` holds it in memory, bounded, and `write` brings it into the book. What happens where
//! there is no room is each class's own policy (decision 18). Nothing here judges a key.

mod queue;
mod write;

use std::net::IpAddr;
use std::sync::Arc;

use keyward_core::id::{self, Id};
use keyward_core::limit::LimitRule;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Outcome, Verdict};
use tokio::sync::Notify;

use super::Audit;
use crate::config::{ClassPolicy, ClassSettings};
use crate::error::Result;
use crate::metrics::Metrics;
use queue::Queue;
use write::Batch;

/// Records that one transaction takes; so many are written without waiting for the timer.
const BATCH: usize = 1_000;

/// Each verification is of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Class {
    VerifyRefused,
    LimitDenied,
    Verify,
}

impl Class {
    const ALL: [Self; 3] = [Self::VerifyRefused, Self::LimitDenied, Self::Verify];

    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Valid => Self::Verify,
            Outcome::RateLimited | Outcome::QuotaExceeded => Self::LimitDenied,
            _ => Self::VerifyRefused,
        }
    }

    /// As the settings call it.
    fn as_str(self) -> &'static str {
        match self {
            Self::VerifyRefused => "verify_refused",
            Self::LimitDenied => "limit_denied",
            Self::Verify => "verify",
        }
    }

    fn policy(self, settings: &ClassSettings) -> ClassPolicy {
        match self {
            Self::VerifyRefused => settings.verify_refused,
            Self::LimitDenied => settings.limit_denied,
            Self::Verify => settings.verify,
        }
    }
}

/// What is left of a verification until it is written. Nothing in it is secret.
#[derive(Debug, Clone)]
struct Noted {
    outcome: Outcome,
    /// Absent where the presented string opened no key.
    key: Option<NotedKey>,
    /// The limit that denied.
    limit: Option<Arc<LimitRule>>,
    address: Option<IpAddr>,
    at: Timestamp,
}

impl Noted {
    fn of(verdict: &Verdict, record: Option<&KeyRecord>, address: Option<IpAddr>, at: Timestamp) -> Self {
        let key = |record: &KeyRecord| NotedKey {
            organization: record.tenant.id,
            key: record.key_id,
            secret: record.secret_id,
        };
        // A limit that would have refused beside a quota that did is not what denied.
        let denied = verdict.limits.iter().find(|state| state.refused && verdict.outcome == Outcome::RateLimited);
        let limit = denied.map(|state| state.rule.clone());
        Self { outcome: verdict.outcome, key: record.map(key), limit, address, at }
    }
}

#[derive(Debug, Clone, Copy)]
struct NotedKey {
    organization: Id<id::Organization>,
    key: Id<id::Key>,
    secret: Id<id::KeySecret>,
}

/// A queue for each class: a flood of one takes no room from another.
pub(crate) struct Classes {
    audit: Audit,
    /// In the order of `Class::ALL`.
    queues: [Queue; Class::ALL.len()],
    /// A bit for each outcome whose class is on.
    noted: u32,
    /// What was handed to the book last, until that is known to have it.
    batch: tokio::sync::Mutex<Batch>,
    nudged: Notify,
}

impl Classes {
    pub(crate) fn new(audit: Audit, settings: ClassSettings, metrics: &Metrics) -> Self {
        let is_on = |outcome: &&Outcome| Class::of(**outcome).policy(&settings) != ClassPolicy::Off;
        let noted = Outcome::ALL.iter().filter(is_on).fold(0, |bits, outcome| bits | 1 << *outcome as u32);
        let capacity = settings.queue_events.max(1);
        let queue = |class: Class| Queue::new(class.policy(&settings), capacity, metrics.of_class(class.as_str()));
        Self {
            audit,
            queues: Class::ALL.map(queue),
            noted,
            batch: tokio::sync::Mutex::default(),
            nudged: Notify::new(),
        }
    }

    /// Whether any class is on.
    pub(crate) fn are_on(&self) -> bool {
        self.noted != 0
    }

    /// Whether verifications that end so are noted: one test of one bit.
    pub(crate) fn note(&self, outcome: Outcome) -> bool {
        self.noted >> outcome as u32 & 1 != 0
    }

    /// Whether no verification may pass without a record.
    pub(crate) fn must_note_valid(&self) -> bool {
        self.of(Class::Verify).policy == ClassPolicy::Closed
    }

    /// Refuses where a verification that passes would find no room. Asked before anything is taken of its limits.
    pub(crate) fn require_room(&self) -> Result<()> {
        self.of(Class::Verify).require_room()
    }

    /// Takes in a record of what was decided. Apart from the hot path: by default no class is on.
    ///
    /// # Errors
    /// When there is no room and its class is closed.
    #[cold]
    pub(crate) fn put(
        &self,
        verdict: &Verdict,
        record: Option<&KeyRecord>,
        address: Option<IpAddr>,
        at: Timestamp,
    ) -> Result<()> {
        let class = Class::of(verdict.outcome);
        let noted = Noted::of(verdict, record, address, at);
        let queue = self.of(class);
        let length = match (class, queue.policy) {
            // It has asked for room before: the queue grows beyond it by at most the calls that are under way.
            (Class::Verify, ClassPolicy::Closed) => queue.put_even_so(noted),
            _ => queue.put(noted)?,
        };
        if length == BATCH.min(queue.capacity) {
            self.nudged.notify_one();
        }
        Ok(())
    }

    fn of(&self, class: Class) -> &Queue {
        &self.queues[class as usize]
    }
}
