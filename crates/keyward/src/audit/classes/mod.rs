//! Events that are too many to be written one by one: verifications that were refused, that a limit denied, that passed. The hot
//! path leaves a small record here; `queue` holds it in memory, bounded, and `write` brings it into the book. What happens where
//! there is no room is each class's own policy (decision 18). Nothing here judges a key.

mod queue;
mod write;

use std::net::IpAddr;
use std::sync::Arc;

use keyward_core::id::{self, Id};
use keyward_core::limit::LimitRule;
use keyward_core::time::Timestamp;
use keyward_core::verdict::Outcome;
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
pub(crate) struct Noted {
    pub outcome: Outcome,
    /// Absent where the presented string opened no key.
    pub key: Option<NotedKey>,
    /// The limit that denied.
    pub limit: Option<Arc<LimitRule>>,
    pub address: Option<IpAddr>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NotedKey {
    pub organization: Id<id::Organization>,
    pub key: Id<id::Key>,
    pub secret: Id<id::KeySecret>,
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

    /// Takes a record in.
    ///
    /// # Errors
    /// When there is no room and its class is closed.
    pub(crate) fn put(&self, noted: Noted) -> Result<()> {
        let class = Class::of(noted.outcome);
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
