//! The queue of one class: what waits for the book, and what was lost because there was no room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use keyward_core::problem::Code;
use keyward_core::time::Timestamp;

use super::Noted;
use crate::config::ClassPolicy;
use crate::error::{Error, Result};
use crate::metrics::ClassMeter;

pub(super) struct Queue {
    pub policy: ClassPolicy,
    pub capacity: usize,
    meter: ClassMeter,
    /// Held for one step each time.
    held: Mutex<Held>,
}

/// What is not written, oldest first; a record stays until the book has it.
struct Held {
    waiting: VecDeque<Noted>,
    lost: Option<Loss>,
}

/// Events for which there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub count: u64,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Queue {
    pub fn new(policy: ClassPolicy, capacity: usize, meter: ClassMeter) -> Self {
        // All the room at once: the hot path never waits for more of it.
        let waiting = VecDeque::with_capacity(if policy == ClassPolicy::Off { 0 } else { capacity });
        Self { policy, capacity, meter, held: Mutex::new(Held { waiting, lost: None }) }
    }

    /// Takes a record in where there is room; answers how many wait. What is lost counts as taken.
    pub fn put(&self, noted: Noted) -> Result<usize> {
        let mut held = self.held();
        if held.waiting.len() < self.capacity {
            held.waiting.push_back(noted);
            return Ok(held.waiting.len());
        }
        if self.policy == ClassPolicy::Closed {
            return Err(self.held_back());
        }
        held.lost = Some(Loss::and(held.lost, noted.at));
        self.meter.lost.inc();
        Ok(held.waiting.len())
    }

    /// Takes a record in whether there is room or not; answers how many wait.
    pub fn put_even_so(&self, noted: Noted) -> usize {
        let mut held = self.held();
        held.waiting.push_back(noted);
        held.waiting.len()
    }

    pub fn require_room(&self) -> Result<()> {
        let has_room = self.held().waiting.len() < self.capacity;
        if has_room { Ok(()) } else { Err(self.held_back()) }
    }

    pub fn waiting(&self) -> usize {
        self.held().waiting.len()
    }

    pub fn oldest(&self, count: usize) -> Vec<Noted> {
        self.held().waiting.iter().take(count).cloned().collect()
    }

    /// Forgets the oldest records: they are written.
    pub fn drop_oldest(&self, count: usize) {
        self.held().waiting.drain(..count);
    }

    /// What was lost since the last time.
    pub fn take_loss(&self) -> Option<Loss> {
        self.held().lost.take()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no one panics while noting")
    }

    #[cold]
    fn held_back(&self) -> Error {
        self.meter.held_back.inc();
        Error::new(Code::NotReady, "The audit log cannot be written now, so the key was not judged.")
    }
}

impl Loss {
    fn and(before: Option<Self>, at: Timestamp) -> Self {
        let Self { count, from, to } = before.unwrap_or(Self { count: 0, from: at, to: at });
        Self { count: count + 1, from: from.min(at), to: to.max(at) }
    }
}
