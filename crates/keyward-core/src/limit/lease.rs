//! A node's slice of a budget that nodes share: taken in one trip, used without any, and given back in part when its
//! time is over. The shared window counts a slice as used at its end, so that no sliding window holds too much
//! whenever the node uses it (docs/decisions/0008-shared-limits.md).

use super::LimitRule;
use crate::time::Timestamp;

/// A slice lives at most this long, in microseconds, and at most a quarter of the window.
const LONGEST: i64 = 15_000_000;
/// While half of the budget is free, it lives as long as the window and at most this long, in microseconds: that saves the trips of
/// callers who use little, and counting so late costs at most what a slice is of the limit.
const LONGEST_AT_REST: i64 = 60_000_000;
/// The limit is cut into so many slices.
const SLICES: u64 = 64;
/// After a refusal the shared budget is asked again this much later, in microseconds, or when something is free.
const PATIENCE: i64 = 100_000;

/// What a node holds of one budget.
#[derive(Debug, Default)]
pub struct Lease {
    available: u64,
    granted: u64,
    /// Where the shared window counts the slice; it is named when the slice is settled.
    at: i64,
    until: i64,
    /// What nobody held when the slice was granted.
    left: u64,
    /// Until then what was told of the budget counts, and it is not asked again.
    told_until: i64,
    /// When something will be free, as told then.
    free_at: i64,
}

/// Whether a slice has room for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    Enough {
        left: u64,
    },
    /// The whole budget is used up; microseconds until something is free.
    Spent {
        wait: i64,
    },
    Wanting,
}

/// What a node gives back when it asks anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settlement {
    pub at: i64,
    pub granted: u64,
    pub unused: u64,
}

/// What a node was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grant {
    pub granted: u64,
    pub at: i64,
    /// How long the slice may be used, in microseconds.
    pub life: i64,
    /// What nobody holds now.
    pub left: u64,
    /// Microseconds until something of the budget is free again.
    pub wait: i64,
}

impl Lease {
    /// How long a slice of this limit lives, in microseconds.
    pub fn life(rule: &LimitRule) -> i64 {
        (rule.window_micros() / 4).min(LONGEST)
    }

    /// The same while half of the budget is free. A slice of one call saves no trip by it.
    pub fn long_life(rule: &LimitRule) -> i64 {
        match rule.ceiling() / SLICES {
            0..=1 => Self::life(rule),
            _ => rule.window_micros().min(LONGEST_AT_REST),
        }
    }

    /// How much a node asks for at a time: a slice, or what is waited for when that is more.
    pub fn slice(rule: &LimitRule, waited_for: u64) -> u64 {
        (rule.ceiling() / SLICES).max(1).max(waited_for)
    }

    /// Whether the slice has room for so much.
    pub fn has(&self, cost: u64, now: Timestamp) -> bool {
        now.as_micros() < self.until && self.available >= cost
    }

    pub(super) fn weigh(&self, cost: u64, now: i64) -> Slice {
        if now < self.until && self.available >= cost {
            Slice::Enough { left: self.left + self.available }
        } else if now < self.told_until && self.left + self.available < cost {
            Slice::Spent { wait: (self.free_at - now).max(1) }
        } else {
            Slice::Wanting
        }
    }

    /// Microseconds until something of the budget is free again.
    pub(super) fn wait(&self, now: i64) -> i64 {
        (self.free_at - now).max(0)
    }

    /// Uses the slice, which has room for it.
    pub(super) fn take(&mut self, cost: u64) {
        self.available -= cost;
    }

    /// Ends the slice to ask for the next one.
    pub fn settle(&mut self) -> Settlement {
        let settlement = Settlement { at: self.at, granted: self.granted, unused: self.available };
        (self.available, self.granted, self.until) = (0, 0, 0);
        settlement
    }

    /// Takes in the next slice, asked for at `asked_at`.
    pub fn receive(&mut self, grant: Grant, asked_at: i64) {
        (self.available, self.granted, self.at, self.left) = (grant.granted, grant.granted, grant.at, grant.left);
        self.until = asked_at + grant.life;
        self.free_at = asked_at + grant.wait;
        self.told_until = asked_at + grant.wait.clamp(1, PATIENCE);
    }

    /// Nothing was granted because the budget could not be reached.
    pub fn give_up(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_used_until_its_end_and_settled_once() {
        let mut lease = Lease::default();
        assert_eq!(lease.weigh(1, 0), Slice::Wanting);
        lease.receive(Grant { granted: 8, at: 77, life: 1_000, left: 92, wait: 5 }, 0);
        assert_eq!(lease.weigh(8, 999), Slice::Enough { left: 100 });
        lease.take(7);
        assert_eq!((lease.weigh(1, 999), lease.weigh(2, 999)), (Slice::Enough { left: 93 }, Slice::Wanting));
        assert_eq!(lease.weigh(1, 1_000), Slice::Wanting, "its time is over");
        assert_eq!(lease.settle(), Settlement { at: 77, granted: 8, unused: 1 });
        assert_eq!(lease.settle().unused, 0, "nothing is given back twice");
    }

    #[test]
    fn a_spent_budget_is_not_asked_again_at_once() {
        let mut lease = Lease::default();
        lease.receive(Grant { granted: 0, at: 0, life: 1_000, left: 0, wait: 30_000_000 }, 0);
        assert_eq!(lease.weigh(1, PATIENCE - 1), Slice::Spent { wait: 30_000_000 - PATIENCE + 1 });
        assert_eq!(lease.weigh(1, PATIENCE), Slice::Wanting);
    }

    #[test]
    fn a_call_that_costs_more_than_there_is_gets_no_trip_of_its_own() {
        let mut lease = Lease::default();
        lease.receive(Grant { granted: 3, at: 9, life: 1_000_000, left: 2, wait: 30_000_000 }, 0);
        assert_eq!(lease.weigh(5, 10), Slice::Wanting);
        assert!(matches!(lease.weigh(6, 10), Slice::Spent { .. }));
        assert_eq!(lease.weigh(6, PATIENCE), Slice::Wanting, "by then something may be free");
    }

    #[test]
    fn slices_are_a_small_part_of_the_limit_and_the_window() {
        let rule = LimitRule::plain("requests", 10_000, 60);
        assert_eq!((Lease::slice(&rule, 1), Lease::slice(&rule, 500), Lease::life(&rule)), (156, 500, 15_000_000));
        let second = LimitRule::plain("requests", 3, 1);
        assert_eq!((Lease::slice(&second, 1), Lease::life(&second)), (1, 250_000));
        assert_eq!((Lease::long_life(&rule), Lease::long_life(&second)), (60_000_000, 250_000));
    }
}
