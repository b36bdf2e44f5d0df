//! One decision about every limit and quota of a call: all are taken, or none.
//!
//! The counters of a call are locked in one order that every call keeps (limits by their counters' numbers, whoever they belong to;
//! then quotas, the key's before the organization's), looked at, and only then written: no call ever sees a part of another.

use std::sync::{Arc, Mutex, MutexGuard};

use smallvec::SmallVec;

use super::lease::{Lease, Slice};
use super::notice::{HIT, Notice, crossed_quota, reaches};
use super::window::{SlidingWindow, grain};
use super::{LimitRule, Mode, QuotaRule, REQUESTS, WhenUnreachable};
use crate::quota::{Calendar, QuotaCounter, QuotaUse};
use crate::record::KeyRecord;
use crate::route;
use crate::time::Timestamp;
use crate::verdict::{Outcome, Request};

/// A limit with its counter.
#[derive(Debug, Clone)]
pub struct Bound {
    pub rule: Arc<LimitRule>,
    pub counter: Arc<Counter>,
}

/// A quota with its counter.
#[derive(Debug, Clone)]
pub struct Withheld {
    pub rule: QuotaRule,
    pub calendar: Calendar,
    pub counter: Arc<QuotaCounter>,
}

/// The counter of one limit of one subject, shared by every record that it holds for.
#[derive(Debug)]
pub struct Counter {
    /// The same on every node: subject and rule.
    pub id: u128,
    state: Mutex<Count>,
}

/// What a counter holds.
#[derive(Debug, Default)]
pub struct Count {
    pub window: SlidingWindow,
    /// This node's slice of a budget that nodes share.
    pub lease: Lease,
    /// The highest percentage that was told since use was last below it; 101 once a call was refused.
    told: u8,
}

impl Counter {
    pub fn new(id: u128) -> Self {
        Self { id, state: Mutex::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, Count> {
        self.state.lock().expect("no one panics while counting")
    }
}

/// How a limit stands after the call.
#[derive(Debug, Clone)]
pub struct LimitState {
    pub rule: Arc<LimitRule>,
    pub remaining: u64,
    /// Seconds, rounded up: for a refused call until it would pass, else until something of the limit is free again.
    pub reset_seconds: u64,
    /// Whether this limit refused the call.
    pub refused: bool,
}

/// How a quota stands after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaState {
    pub limit: u64,
    pub remaining: u64,
    pub resets_at: Timestamp,
}

/// How this node counts limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// In its own windows, up to its share of the limit: one part in so many.
    Local { share: u32 },
    /// From slices of budgets that nodes share.
    Leased,
    /// Budgets are shared and cannot be reached: by each limit's own policy.
    Unreachable { share: u32 },
}

/// What has to be fetched before a call can be decided.
#[derive(Debug, Clone, Default)]
pub struct Wanting {
    /// The saved use of a quota.
    pub quotas: bool,
    /// New slices, by the place of the limit among those that are drawn on.
    pub leases: SmallVec<[usize; 2]>,
}

/// What was decided.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// `RateLimited` or `QuotaExceeded`; then nothing was taken.
    pub refused: Option<Outcome>,
    pub limits: SmallVec<[LimitState; 2]>,
    /// Of several quotas the one with the least left.
    pub quota: Option<QuotaState>,
    pub notices: Vec<Notice>,
    /// Quotas that have something to be saved for the first time since they were saved.
    pub to_save: SmallVec<[Arc<QuotaCounter>; 1]>,
}

/// A limit that a call draws on, and how much.
#[derive(Debug, Clone, Copy)]
pub struct Drawn<'a> {
    pub bound: &'a Bound,
    pub cost: u64,
}

/// The limits that a call draws on: the key's own first, as the answer lists them. `Err` holds the index of a limit
/// that the call names and neither the key nor its plan has.
pub fn applicable<'a>(record: &'a KeyRecord, asked: &Request<'_>) -> Result<SmallVec<[Drawn<'a>; 4]>, usize> {
    let mut drawn = SmallVec::new();
    for bound in record.limits() {
        if let Some(cost) = cost_of(&bound.rule, asked) {
            drawn.push(Drawn { bound, cost });
        }
    }
    let known = |name: &str| record.limits().any(|bound| bound.rule.name == name);
    match asked.limits.iter().position(|used| used.name != REQUESTS && !known(used.name)) {
        Some(unknown) => Err(unknown),
        None => Ok(drawn),
    }
}

/// What the call costs of this limit; `None` when it does not draw on it.
fn cost_of(rule: &LimitRule, asked: &Request<'_>) -> Option<u64> {
    if rule.mode == Mode::Off {
        return None;
    }
    let named = asked.limits.iter().find(|used| used.name == rule.name).map(|used| used.cost);
    let cost = named.or_else(|| (rule.name == REQUESTS).then_some(asked.cost))?;
    let on_route = || match (asked.method, asked.path) {
        (Some(method), Some(path)) => rule.routes.iter().any(|pattern| route::covers(pattern, method, path)),
        // Unknown routes count: leaving the path out is no way around a limit.
        _ => true,
    };
    (rule.routes.is_empty() || on_route()).then_some(cost)
}

/// Decides about the limits and quotas of a call and, unless it is a dry run or refused, takes them all.
///
/// # Errors
/// When something has to be fetched first; then nothing was taken.
pub fn draw(
    record: &KeyRecord,
    drawn: &[Drawn<'_>],
    asked: &Request<'_>,
    now: Timestamp,
    counting: Counting,
) -> Result<Decision, Wanting> {
    let mut counts = lock(drawn);
    let mut quotas: SmallVec<[(&Withheld, MutexGuard<'_, QuotaUse>); 2]> =
        record.quotas().map(|quota| (quota, quota.counter.lock())).collect();

    let (mut decision, mut wanting) = (Decision::default(), Wanting::default());
    let mut hit: SmallVec<[usize; 2]> = SmallVec::new();
    for (index, (draw, count)) in drawn.iter().zip(&mut counts).enumerate() {
        match count.weigh(&draw.bound.rule, draw.cost, now, counting) {
            Some(weight) => {
                if !weight.fits {
                    hit.push(index);
                }
                decision.note_limit(&draw.bound.rule, weight);
            }
            None => wanting.leases.push(index),
        }
    }
    for (quota, used) in &quotas {
        let Some(bucket) = used.bucket(now) else {
            wanting.quotas = true;
            continue;
        };
        let left = quota.rule.limit.saturating_sub(used.used());
        if left < asked.cost {
            decision.refused = decision.refused.or(Some(Outcome::QuotaExceeded));
        }
        decision.note_quota(QuotaState { limit: quota.rule.limit, remaining: left, resets_at: bucket.end });
    }
    if wanting.quotas || !wanting.leases.is_empty() {
        return Err(wanting);
    }
    if asked.dry_run {
        return Ok(decision);
    }
    // Only now: what is marked as told is told.
    for index in hit.into_iter().filter(|index| counts[*index].is_first_hit()) {
        decision.notices.push(Notice::hit(&drawn[index].bound.rule));
    }
    if decision.refused.is_some() {
        return Ok(decision);
    }
    for (index, (draw, count)) in drawn.iter().zip(&mut counts).enumerate() {
        let (rule, state) = (&draw.bound.rule, &mut decision.limits[index]);
        state.remaining = state.remaining.saturating_sub(draw.cost);
        count.take(rule, draw.cost, now, counting, state);
        decision.notices.extend(count.crossed(rule, counting.part(rule.limit), state.remaining));
    }
    for (quota, used) in &mut quotas {
        let Some(bucket) = used.bucket(now) else { continue };
        if used.add(bucket.start, asked.cost as i64) {
            decision.to_save.push(quota.counter.clone());
        }
        decision.notices.extend(crossed_quota(&quota.rule, used));
    }
    if let Some(state) = &mut decision.quota {
        state.remaining = state.remaining.saturating_sub(asked.cost);
    }
    Ok(decision)
}

/// The counts of what is drawn on, in its order. Whoever needs two locks takes them in the order of the counters' numbers: the same
/// for every call.
fn lock<'a>(drawn: &[Drawn<'a>]) -> SmallVec<[MutexGuard<'a, Count>; 4]> {
    if drawn.len() < 2 {
        return drawn.iter().map(|draw| draw.bound.counter.lock()).collect();
    }
    let mut order: SmallVec<[usize; 4]> = (0..drawn.len()).collect();
    order.sort_unstable_by_key(|index| drawn[*index].bound.counter.id);
    let mut counts: SmallVec<[Option<MutexGuard<'_, Count>>; 4]> = drawn.iter().map(|_| None).collect();
    for index in order {
        counts[index] = Some(drawn[index].bound.counter.lock());
    }
    counts.into_iter().flatten().collect()
}

impl Counting {
    fn share(self) -> u64 {
        match self {
            Self::Leased => 1,
            Self::Local { share } | Self::Unreachable { share } => u64::from(share.max(1)),
        }
    }

    /// What this node may count of so many.
    fn part(self, of: u64) -> u64 {
        // Mostly a node is alone: then nothing has to be divided.
        if self.share() == 1 { of.max(1) } else { (of / self.share()).max(1) }
    }

    /// The policy of this limit while its budget cannot be reached.
    fn policy(self, rule: &LimitRule) -> Option<WhenUnreachable> {
        matches!(self, Self::Unreachable { .. }).then_some(rule.when_unreachable)
    }

    /// Whether this limit is counted from a slice. A shadow refuses nobody, so it is worth no trip.
    fn leases(self, rule: &LimitRule) -> bool {
        self == Self::Leased && rule.mode == Mode::Enforce
    }
}

/// How a limit stands before the call.
struct Weight {
    fits: bool,
    remaining: u64,
    /// Microseconds until the call would fit, or until something is free again.
    wait: i64,
}

impl Count {
    /// Whether a refusal is the first since use was last below the limit.
    pub fn is_first_hit(&mut self) -> bool {
        std::mem::replace(&mut self.told, HIT) != HIT
    }

    /// `None` when a slice has to be fetched first.
    fn weigh(&mut self, rule: &LimitRule, cost: u64, now: Timestamp, counting: Counting) -> Option<Weight> {
        let (limit, window, now) = (counting.part(rule.limit), rule.window_micros(), now.as_micros());
        match counting.policy(rule) {
            Some(WhenUnreachable::Open) => return Some(Weight { fits: true, remaining: limit, wait: 0 }),
            Some(WhenUnreachable::Closed) => return Some(Weight { fits: false, remaining: 0, wait: 1 }),
            Some(WhenUnreachable::LocalShare) | None => {}
        }
        if counting.leases(rule) {
            return match self.lease.weigh(cost, now) {
                Slice::Enough { left } => {
                    Some(Weight { fits: true, remaining: left.min(limit), wait: self.lease.wait(now) })
                }
                Slice::Spent { wait } => Some(Weight { fits: false, remaining: 0, wait }),
                Slice::Wanting => None,
            };
        }
        let ceiling = counting.part(rule.ceiling());
        let used = self.window.used(now, window);
        let fits = used.saturating_add(cost) <= ceiling;
        let wait = if fits {
            self.window.until_next(window)
        } else {
            self.window.wait(window, ceiling, cost).unwrap_or(window)
        };
        Some(Weight { fits, remaining: limit.saturating_sub(used), wait })
    }

    /// Counts what fits.
    fn take(&mut self, rule: &LimitRule, cost: u64, now: Timestamp, counting: Counting, state: &mut LimitState) {
        if counting.policy(rule) == Some(WhenUnreachable::Open) {
            return;
        }
        if counting.leases(rule) {
            self.lease.take(cost);
            return;
        }
        let window = rule.window_micros();
        self.window.add(now.as_micros(), cost, grain(rule.limit, window));
        state.reset_seconds = whole_seconds(self.window.until_next(window));
    }
}

impl Decision {
    fn note_limit(&mut self, rule: &Arc<LimitRule>, weight: Weight) {
        let Weight { fits, remaining, wait } = weight;
        let refused = !fits && rule.mode == Mode::Enforce;
        if refused {
            self.refused = Some(Outcome::RateLimited);
        }
        self.limits.push(LimitState { rule: rule.clone(), remaining, reset_seconds: whole_seconds(wait), refused });
    }

    fn note_quota(&mut self, state: QuotaState) {
        if self.quota.is_none_or(|known| state.remaining < known.remaining) {
            self.quota = Some(state);
        }
    }
}

impl Count {
    /// The highest `warn_at` that use has newly reached.
    fn crossed(&mut self, rule: &LimitRule, limit: u64, remaining: u64) -> Option<Notice> {
        let used = limit - remaining.min(limit);
        // Below a step again, it may be told again.
        let reached = rule.warn_at.iter().copied().filter(|step| reaches(used, *step, limit)).max().unwrap_or(0);
        let was = self.told;
        self.told = if used < limit { reached } else { was.max(reached) };
        (reached > was).then(|| Notice {
            limit: Some(rule.name.as_str().into()),
            percent: Some(reached),
            limit_value: rule.limit,
        })
    }
}

/// Microseconds as whole seconds, rounded up.
pub fn whole_seconds(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).div_ceil(1_000_000)
}
