//! One decision about every limit and quota of a call: all are taken, or none.
//!
//! The counters of a call are locked in one order that every call keeps (the organization's before the key's, each by
//! number), looked at, and only then written: no call ever sees a part of another.

use std::sync::{Arc, Mutex, MutexGuard};

use smallvec::SmallVec;

use super::window::{SlidingWindow, grain};
use super::{LimitRule, Mode, QuotaRule, REQUESTS};
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
    /// The highest percentage that was told since use was last below it; 101 once a call was refused.
    told: u8,
}

/// One past every percentage: the limit was hit.
const HIT: u8 = 101;

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

/// Something worth telling about a limit or quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The limit's name; `None` for a quota.
    pub limit: Option<Arc<str>>,
    /// The percentage that was reached; `None` when the limit refused for the first time.
    pub percent: Option<u8>,
    pub limit_value: u64,
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
/// `None` when the saved use of a quota has to be read first. `share` is the number of nodes that a limit is divided by.
pub fn draw(
    record: &KeyRecord,
    drawn: &[Drawn<'_>],
    asked: &Request<'_>,
    now: Timestamp,
    share: u32,
) -> Option<Decision> {
    let share = u64::from(share.max(1));
    let mut decision = Decision::default();
    // Whoever needs two locks takes them in the order of the records: the same for every call.
    let mut order: SmallVec<[usize; 4]> = (0..drawn.len()).collect();
    order.sort_unstable_by_key(|index| drawn[*index].bound.counter.id);
    let mut counts: SmallVec<[Option<MutexGuard<'_, Count>>; 4]> = drawn.iter().map(|_| None).collect();
    for index in order {
        counts[index] = Some(drawn[index].bound.counter.lock());
    }
    let mut quotas: SmallVec<[(&Withheld, MutexGuard<'_, QuotaUse>); 2]> =
        record.quotas().map(|quota| (quota, quota.counter.lock())).collect();

    for (draw, count) in drawn.iter().zip(&mut counts) {
        let count = count.as_mut().expect("every drawn limit is locked");
        decision.weigh(draw, count, now, share, asked.dry_run);
    }
    for (quota, used) in &quotas {
        let bucket = used.bucket(now)?;
        let left = quota.rule.limit.saturating_sub(used.used());
        if left < asked.cost {
            decision.refused = decision.refused.or(Some(Outcome::QuotaExceeded));
        }
        decision.note_quota(QuotaState { limit: quota.rule.limit, remaining: left, resets_at: bucket.end });
    }
    if asked.dry_run || decision.refused.is_some() {
        return Some(decision);
    }
    for ((draw, count), state) in drawn.iter().zip(&mut counts).zip(&mut decision.limits) {
        let (count, rule) = (count.as_mut().expect("every drawn limit is locked"), &draw.bound.rule);
        count.window.add(now.as_micros(), draw.cost, grain(rule.limit, rule.window_micros()));
        state.remaining = state.remaining.saturating_sub(draw.cost);
        state.reset_seconds = whole_seconds(count.window.until_next(rule.window_micros()));
        decision.notices.extend(count.crossed(rule, (rule.limit / share).max(1), state.remaining));
    }
    for (quota, used) in &mut quotas {
        let bucket = used.bucket(now)?;
        if used.add(bucket.start, asked.cost as i64) {
            decision.to_save.push(quota.counter.clone());
        }
        decision.notices.extend(crossed_quota(&quota.rule, used));
    }
    if let Some(state) = &mut decision.quota {
        state.remaining = state.remaining.saturating_sub(asked.cost);
    }
    Some(decision)
}

impl Decision {
    fn weigh(&mut self, draw: &Drawn<'_>, count: &mut Count, now: Timestamp, share: u64, dry_run: bool) {
        let (rule, window) = (&draw.bound.rule, draw.bound.rule.window_micros());
        let (limit, ceiling) = ((rule.limit / share).max(1), (rule.ceiling() / share).max(1));
        let used = count.window.used(now.as_micros(), window);
        let fits = used.saturating_add(draw.cost) <= ceiling;
        let refused = !fits && rule.mode == Mode::Enforce;
        let wait = if fits {
            count.window.until_next(window)
        } else {
            count.window.wait(window, ceiling, draw.cost).unwrap_or(window)
        };
        if refused {
            self.refused = Some(Outcome::RateLimited);
        }
        if !fits && !dry_run && count.told != HIT {
            count.told = HIT;
            self.notices.push(Notice {
                limit: Some(rule.name.as_str().into()),
                percent: None,
                limit_value: rule.limit,
            });
        }
        let remaining = limit.saturating_sub(used);
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
        let percent = (u128::from(limit - remaining.min(limit)) * 100 / u128::from(limit)) as u8;
        // Below a step again, it may be told again.
        let reached = rule.warn_at.iter().copied().filter(|step| *step <= percent).max().unwrap_or(0);
        let was = self.told;
        self.told = if percent >= 100 { was.max(reached) } else { reached };
        (reached > was).then(|| Notice {
            limit: Some(rule.name.as_str().into()),
            percent: Some(reached),
            limit_value: rule.limit,
        })
    }
}

/// Percentages of a quota that are told.
const QUOTA_STEPS: [u8; 3] = [100, 80, 50];

fn crossed_quota(rule: &QuotaRule, used: &mut QuotaUse) -> Option<Notice> {
    let percent = (u128::from(used.used()) * 100 / u128::from(rule.limit.max(1))).min(100) as u8;
    let step = QUOTA_STEPS.into_iter().find(|step| *step <= percent).filter(|step| *step > used.told)?;
    used.told = step;
    Some(Notice { limit: None, percent: Some(step), limit_value: rule.limit })
}

/// Microseconds as whole seconds, rounded up.
fn whole_seconds(micros: i64) -> u64 {
    u64::try_from(micros).unwrap_or(0).div_ceil(1_000_000)
}
