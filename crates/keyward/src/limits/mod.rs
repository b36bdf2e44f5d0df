//! Limits and quotas as they are counted: the counters of this node, what is saved of them, and what is told about them.
//!
//! The arithmetic is `keyward_core::limit`; here counters are found, quotas read and saved, and warnings written into
//! the book. `verify` draws on them; nothing here judges a key.

pub mod callers;
mod counters;
mod save;
pub(crate) mod shared;
mod sql;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_core::id::{self, Id};
use keyward_core::limit::{self, Counting, Decision, LimitRule, MAX_RULES, Notice, Per, QuotaState, Wanting};
use keyward_core::problem::Code;
use keyward_core::quota::QuotaCounter;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Request, Verdict};
use serde_json::json;
use tokio::sync::watch;

use crate::audit::{Audit, Event, EventType};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ground::Ground;

pub(crate) use counters::{Counters, Holder};
use shared::Shared;

/// Most notices that are held between two flushes; a node that refuses more tells the number.
const MAX_NOTICES: usize = 1_000;

/// The limits and quotas of this node.
pub struct Limits {
    ground: Ground,
    audit: Audit,
    pub(crate) counters: Counters,
    /// What nodes share, where Redis is set.
    shared: Option<Shared>,
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

/// How long the first connection to Redis may take without being told of.
const START: Duration = Duration::from_secs(1);
/// A slice that was fetched may be used up by others before the call comes to it.
const MAX_TRIES: usize = 100;

impl Limits {
    pub(crate) fn new(ground: Ground, audit: Audit, shared: Option<Shared>) -> Self {
        Self {
            audit,
            ground,
            counters: Counters::default(),
            shared,
            dirty: Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            notices: Mutex::default(),
        }
    }

    /// How limits are counted now; `None`: each decision is Redis's.
    fn counting(&self) -> Option<Counting> {
        match &self.shared {
            Some(shared) => shared.counting(),
            None => Some(Counting::Local { share: self.ground.board.live_nodes() }),
        }
    }

    /// Draws on every limit and quota of the call, from memory, and tells the verdict of them. `None` when something has to be
    /// fetched first, which `draw_slowly` does; then nothing was taken.
    pub(crate) fn draw(
        &self,
        record: &KeyRecord,
        asked: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Option<()> {
        let drawn = match limit::applicable(record, asked) {
            Ok(drawn) => drawn,
            Err(unknown) => {
                verdict.unknown_limit = Some(unknown);
                return Some(());
            }
        };
        let decision = limit::draw(record, &drawn, asked, now, self.counting()?).ok()?;
        self.follow_up(&decision, record, now);
        verdict.limited(decision, asked.dry_run);
        Some(())
    }

    /// The same where something has to be fetched: the saved use of a quota, a slice of a shared budget, or the whole
    /// decision.
    pub(crate) async fn draw_slowly(
        &self,
        record: &KeyRecord,
        asked: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let drawn = match limit::applicable(record, asked) {
            Ok(drawn) => drawn,
            Err(unknown) => {
                verdict.unknown_limit = Some(unknown);
                return Ok(());
            }
        };
        verdict.limited(self.decide(record, &drawn, asked, now).await?, asked.dry_run);
        Ok(())
    }

    /// Fetches what is wanted until a decision can be made.
    async fn decide(
        &self,
        record: &KeyRecord,
        drawn: &[limit::Drawn<'_>],
        asked: &Request<'_>,
        now: Timestamp,
    ) -> Result<Decision> {
        for _ in 0..MAX_TRIES {
            let Some(counting) = self.counting() else {
                match self.draw_exactly(record, drawn, asked, now).await? {
                    Some(decision) => return Ok(decision),
                    None => continue,
                }
            };
            match limit::draw(record, drawn, asked, now, counting) {
                Ok(decision) => {
                    self.follow_up(&decision, record, now);
                    return Ok(decision);
                }
                Err(wanting) => self.fetch(record, drawn, &wanting, now).await?,
            }
        }
        // Others were faster each time.
        Err(Error::new(Code::Overloaded, Code::Overloaded.meaning()))
    }

    async fn fetch(
        &self,
        record: &KeyRecord,
        drawn: &[limit::Drawn<'_>],
        wanting: &Wanting,
        now: Timestamp,
    ) -> Result<()> {
        if wanting.quotas {
            self.load(record, now).await?;
        }
        if let Some(shared) = self.shared.as_ref().filter(|_| !wanting.leases.is_empty()) {
            let slices = wanting.leases.iter().map(|index| (drawn[*index].bound.clone(), drawn[*index].cost));
            shared.fetch_slices(slices).await;
        }
        Ok(())
    }

    /// One script decides about the limits. The quotas are taken first and given back when it refuses.
    async fn draw_exactly(
        &self,
        record: &KeyRecord,
        drawn: &[limit::Drawn<'_>],
        asked: &Request<'_>,
        now: Timestamp,
    ) -> Result<Option<Decision>> {
        let quotas = match limit::draw(record, &[], asked, now, Counting::Local { share: 1 }) {
            Ok(decision) => decision,
            Err(wanting) => return self.fetch(record, drawn, &wanting, now).await.map(|()| None),
        };
        let looks = asked.dry_run || quotas.refused.is_some();
        let Some(shared) = &self.shared else { return Ok(None) };
        let decided = shared.decide(drawn, looks).await;
        let refused = decided.as_ref().is_none_or(|decision| decision.refused.is_some());
        if refused && !looks {
            self.give_back_quotas(record, asked.cost, now);
        }
        let Some(mut decision) = decided else { return Ok(None) };
        decision.quota = quotas.quota;
        if decision.refused.is_none() {
            decision.refused = quotas.refused;
            decision.notices.extend(quotas.notices);
        } else if !looks {
            decision.quota = quotas.quota.map(|state| QuotaState { remaining: state.remaining + asked.cost, ..state });
        }
        decision.to_save = quotas.to_save;
        self.follow_up(&decision, record, now);
        Ok(Some(decision))
    }

    fn give_back_quotas(&self, record: &KeyRecord, cost: u64, now: Timestamp) {
        for quota in record.quotas() {
            self.adjust(quota.counter.subject, quota.counter.unit, quota.calendar.bucket(now).start, -(cost as i64));
        }
    }

    /// Works beside the requests where limits are shared: keeps the connection, fetches slices, and writes down when
    /// Redis goes away and comes back (statement B-07). Never returns.
    pub(crate) async fn run(&self) {
        let Some(shared) = &self.shared else { return std::future::pending().await };
        tokio::join!(shared.run(), self.watch(shared.states()));
    }

    async fn watch(&self, mut states: watch::Receiver<bool>) {
        let context = Context::system("limits");
        // That Redis is reached at the start is no news; that it is not, is.
        let mut known = true;
        let _ = tokio::time::timeout(START, states.wait_for(|reachable| *reachable)).await;
        loop {
            let reachable = *states.borrow_and_update();
            if reachable != known {
                let action = if reachable { "limit_store_restored" } else { "limit_store_unreachable" };
                let event = Event::new(EventType::System, action, "instance", "redis");
                if let Err(error) = self.audit.note(&context, event).await {
                    tracing::error!(%error, "the state of Redis could not be noted");
                }
                known = reachable;
            }
            if states.changed().await.is_err() {
                return;
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
        if back == 0 || self.shared.is_some() {
            return;
        }
        let Some(counter) = self.counters.find_limit(number) else { return };
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

/// Refuses rules that cannot be kept, and two that would count the same calls over the same window. `usual` is whose calls a rule
/// counts there that does not say.
pub(crate) fn check_limits(rules: &[LimitRule], usual: Per) -> Result<()> {
    if rules.len() > MAX_RULES {
        return Err(Error::field("/limits", format!("has more than {MAX_RULES} entries")));
    }
    for (index, rule) in rules.iter().enumerate() {
        if let Some((field, why)) = rule.fault() {
            return Err(Error::field(format!("/limits/{index}/{field}"), why));
        }
        if rules[..index].iter().any(|other| other.counts_as(rule, usual)) {
            return Err(Error::field(format!("/limits/{index}"), "counts the same calls as one before it"));
        }
    }
    Ok(())
}
