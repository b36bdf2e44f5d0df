//! Limits and quotas as they are counted: the counters of this node, what is saved of them, and what is told about them.
//!
//! The arithmetic is `keyward_core::limit`; here counters are found, quotas read and saved, and warnings written into
//! the book. `verify` draws on them; nothing here judges a key.

pub mod callers;
mod counters;
mod save;
mod sql;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use keyward_core::id::{self, Id};
use keyward_core::limit::{self, Decision, LimitRule, MAX_RULES, Notice};
use keyward_core::quota::QuotaCounter;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verdict::Request;
use serde_json::json;

use crate::audit::{Audit, Event, EventType};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ground::Ground;

pub(crate) use counters::{Counters, Holder};

/// Most notices that are held between two flushes; a node that refuses more tells the number.
const MAX_NOTICES: usize = 1_000;

/// The limits and quotas of this node.
pub struct Limits {
    ground: Ground,
    audit: Audit,
    pub(crate) counters: Counters,
    /// Quotas that have something to be saved.
    dirty: Mutex<Vec<Arc<QuotaCounter>>>,
    /// Held while quotas are read or saved, so that neither overtakes the other.
    storing: tokio::sync::Mutex<()>,
    notices: Mutex<VecDeque<Noted>>,
}

/// A notice with whom it is about.
struct Noted {
    notice: Notice,
    organization: Id<id::Organization>,
    key: Id<id::Key>,
    at: Timestamp,
}

/// What became of a call's limits.
pub(crate) enum Drawn {
    Decided(Decision),
    /// The call names a limit, by index, that nobody has set.
    Unknown(usize),
    /// The saved use of a quota has to be read first.
    NotLoaded,
}

impl Limits {
    pub(crate) fn new(ground: Ground) -> Self {
        Self {
            audit: Audit { ground: ground.clone() },
            ground,
            counters: Counters::default(),
            dirty: Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            notices: Mutex::default(),
        }
    }

    /// Draws on every limit and quota of the call, from memory.
    pub(crate) fn draw(&self, record: &KeyRecord, asked: &Request<'_>, now: Timestamp) -> Drawn {
        let drawn = match limit::applicable(record, asked) {
            Ok(drawn) => drawn,
            Err(unknown) => return Drawn::Unknown(unknown),
        };
        match limit::draw(record, &drawn, asked, now, self.ground.board.live_nodes()) {
            None => Drawn::NotLoaded,
            Some(decision) => {
                self.follow_up(&decision, record, now);
                Drawn::Decided(decision)
            }
        }
    }

    /// Notes what a decision leaves to be saved and told.
    fn follow_up(&self, decision: &Decision, record: &KeyRecord, now: Timestamp) {
        if !decision.to_save.is_empty() {
            self.dirty.lock().expect("no one panics while noting").extend(decision.to_save.iter().cloned());
        }
        if !decision.notices.is_empty() {
            let mut notices = self.notices.lock().expect("no one panics while noting");
            for notice in decision.notices.iter().take(MAX_NOTICES.saturating_sub(notices.len())) {
                let (organization, key) = (record.tenant.id, record.key_id);
                notices.push_back(Noted { notice: notice.clone(), organization, key, at: now });
            }
        }
    }

    /// Gives `back` of a limit that was taken at `taken_at`, or takes more of it now when negative. A counter that this
    /// node does not hold is left alone.
    pub(crate) fn settle(
        &self,
        number: u128,
        (limit, window_seconds): (u64, u64),
        taken_at: Timestamp,
        now: Timestamp,
        back: i64,
    ) {
        let Some(counter) = self.counters.find_limit(number).filter(|_| back != 0) else { return };
        let window = window_seconds as i64 * 1_000_000;
        let mut count = counter.lock();
        if back > 0 {
            count.window.refund(taken_at.as_micros(), back as u64, limit::grain(limit, window));
        } else {
            count.window.used(now.as_micros(), window);
            count.window.add(now.as_micros(), back.unsigned_abs(), limit::grain(limit, window));
        }
    }

    /// Writes the warnings into the book: a quota or limit at a percentage, or a limit that was hit.
    pub(crate) async fn tell(&self) -> Result<()> {
        let context = Context::system("limits");
        loop {
            // Taken one by one: what the book refuses now is told next time.
            let Some(noted) = self.notices.lock().expect("no one panics while noting").pop_front() else {
                return Ok(());
            };
            if let Err(error) = self.audit.note(&context, noted.event()).await {
                self.notices.lock().expect("no one panics while noting").push_front(noted);
                return Err(error);
            }
        }
    }
}

impl Noted {
    fn event(&self) -> Event {
        let Notice { limit, percent, limit_value } = &self.notice;
        let action = match (limit, percent) {
            (None, _) => "quota_warning",
            (Some(_), Some(_)) => "limit_warning",
            (Some(_), None) => "limit_reached",
        };
        let details =
            json!({ "limit": limit.as_deref(), "percent": percent, "limit_value": limit_value, "at": self.at });
        Event::new(EventType::Key, action, "api_key", self.key).of(self.organization).details(details)
    }
}

/// Refuses rules that cannot be kept, and two that would count the same calls over the same window.
pub(crate) fn check_limits(rules: &[LimitRule]) -> Result<()> {
    if rules.len() > MAX_RULES {
        return Err(Error::field("/limits", format!("has more than {MAX_RULES} entries")));
    }
    for (index, rule) in rules.iter().enumerate() {
        if let Some(why) = rule.fault() {
            return Err(Error::field(format!("/limits/{index}"), why));
        }
        if rules[..index].iter().any(|other| other.counts_as(rule)) {
            return Err(Error::field(format!("/limits/{index}"), "counts the same calls as one before it"));
        }
    }
    Ok(())
}
