//! The sliding window of one limit: every call with its time, so that the sum is exact at any instant
//! (docs/decisions/0005-an-exact-sliding-window.md says why not GCRA and not fixed windows).

use std::collections::VecDeque;

/// Most calls held for one window. A limit beyond it counts in grains of window / MAX_CALLS, each as if all its calls
/// came at the grain's end: never too few are counted, and a call is counted at most one grain too long.
pub const MAX_CALLS: u64 = 16_384;

/// What was taken, when. Times are microseconds; the window is half-open: a call at `t` counts before `t + window`.
#[derive(Debug, Default)]
pub struct SlidingWindow {
    calls: VecDeque<Call>,
    used: u64,
    newest: i64,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    at: i64,
    cost: u64,
}

/// The grain of a limit, in microseconds.
pub fn grain(limit: u64, window: i64) -> i64 {
    if limit <= MAX_CALLS { 1 } else { (window / MAX_CALLS as i64).max(1) }
}

fn mark(now: i64, grain: i64) -> i64 {
    now.div_euclid(grain) * grain + grain - 1
}

impl SlidingWindow {
    /// Forgets what has left the window; answers what is still in it. Time never runs backwards here: an earlier
    /// `now` counts as the newest that was seen.
    pub fn used(&mut self, now: i64, window: i64) -> u64 {
        self.newest = self.newest.max(now);
        while let Some(call) = self.calls.front().filter(|call| call.at + window <= self.newest) {
            self.used -= call.cost;
            self.calls.pop_front();
        }
        self.used
    }

    /// Counts a call. Whether it may be is the caller's decision.
    pub fn add(&mut self, now: i64, cost: u64, grain: i64) {
        let at = mark(now.max(self.newest), grain);
        self.used += cost;
        match self.calls.back_mut() {
            // A changed limit may have made the grain finer; the order of times is kept.
            Some(last) if last.at >= at => last.cost += cost,
            _ => self.calls.push_back(Call { at, cost }),
        }
    }

    /// Takes back up to `cost` of what was counted at `at`; answers how much was still there to be taken back.
    pub fn refund(&mut self, at: i64, cost: u64, grain: i64) -> u64 {
        let from = self.calls.partition_point(|call| call.at < mark(at, grain));
        let Some(call) = self.calls.get_mut(from) else { return 0 };
        let back = cost.min(call.cost);
        call.cost -= back;
        self.used -= back;
        back
    }

    /// Microseconds until `cost` more fits under `ceiling`; `None` when it never will. Call `used` first.
    pub fn wait(&self, window: i64, ceiling: u64, cost: u64) -> Option<i64> {
        let room = ceiling.checked_sub(cost)?;
        let mut left = self.used;
        for call in &self.calls {
            if left <= room {
                break;
            }
            left -= call.cost;
            if left <= room {
                return Some((call.at + window - self.newest).max(0));
            }
        }
        Some(0)
    }

    /// Microseconds until something leaves the window; zero when it is empty. Call `used` first.
    pub fn until_next(&self, window: i64) -> i64 {
        self.calls.iter().find(|call| call.cost > 0).map_or(0, |call| (call.at + window - self.newest).max(0))
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Offers calls (gap in microseconds, cost) and answers the accepted ones.
    fn offer(calls: &[(i64, u64)], limit: u64, window: i64) -> Vec<(i64, u64)> {
        let (mut state, mut now, mut accepted) = (SlidingWindow::default(), 0, Vec::new());
        for (gap, cost) in calls {
            now += gap;
            if state.used(now, window) + cost <= limit {
                state.add(now, *cost, grain(limit, window));
                accepted.push((now, *cost));
            }
        }
        accepted
    }

    fn busiest_window(accepted: &[(i64, u64)], window: i64) -> u64 {
        let within = |start: i64| accepted.iter().filter(move |(at, _)| (start..start + window).contains(at));
        accepted.iter().map(|(start, _)| within(*start).map(|(_, cost)| cost).sum()).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_in_any_window(
            calls in prop::collection::vec((0..3 * SECOND, 1u64..5), 1..300),
            limit in 5u64..40,
        ) {
            let accepted = offer(&calls, limit, 10 * SECOND);
            prop_assert!(busiest_window(&accepted, 10 * SECOND) <= limit);
        }

        #[test]
        fn coarse_grains_never_let_more_through(
            calls in prop::collection::vec((0..200i64, 1_000u64..9_000), 1..300),
        ) {
            let limit = MAX_CALLS * 10;
            let accepted = offer(&calls, limit, SECOND / 100);
            prop_assert!(busiest_window(&accepted, SECOND / 100) <= limit);
        }

        #[test]
        fn whoever_waits_as_told_is_let_in(calls in prop::collection::vec((0..SECOND, 1u64..5), 1..100)) {
            let (limit, window, mut state, mut now) = (20, 10 * SECOND, SlidingWindow::default(), 0);
            for (gap, cost) in calls {
                now += gap;
                if state.used(now, window) + cost > limit {
                    let wait = state.wait(window, limit, cost).unwrap();
                    prop_assert!(wait > 0 && state.used(now + wait - 1, window) + cost > limit);
                    now += wait;
                }
                prop_assert!(state.used(now, window) + cost <= limit);
                state.add(now, cost, 1);
            }
        }
    }

    #[test]
    fn a_steady_client_at_its_limit_is_never_refused() {
        for (limit, window) in [(1, 1), (3, 1), (7, 60), (100, 60), (1_000, 60), (10_000, 60)] {
            let gap = (window * SECOND) / limit + i64::from((window * SECOND) % limit != 0);
            let calls = vec![(gap, 1); limit as usize * 3];
            assert_eq!(offer(&calls, limit as u64, window * SECOND).len(), calls.len(), "{limit} in {window} s");
        }
    }

    #[test]
    fn a_burst_takes_the_whole_limit_and_frees_it_a_window_later() {
        let mut state = SlidingWindow::default();
        (0..3).for_each(|_| state.add(0, 1, 1));
        assert_eq!(state.wait(SECOND, 3, 1), Some(SECOND));
        assert_eq!(state.wait(SECOND, 3, 4), None);
        assert_eq!((state.used(SECOND - 1, SECOND), state.used(SECOND, SECOND)), (3, 0));
        assert!(state.is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_frees_nothing() {
        let mut state = SlidingWindow::default();
        state.add(100 * SECOND, 2, 1);
        assert_eq!(state.used(50 * SECOND, SECOND), 2);
        state.add(50 * SECOND, 1, 1);
        assert_eq!(state.used(101 * SECOND, SECOND), 0);
    }

    #[test]
    fn what_was_taken_can_be_given_back_once() {
        let mut state = SlidingWindow::default();
        state.add(0, 5, 1);
        state.add(10, 5, 1);
        assert_eq!((state.refund(0, 3, 1), state.refund(0, 3, 1)), (3, 2));
        assert_eq!(state.used(10, SECOND), 5);
        assert_eq!(state.refund(11, 1, 1), 0);
    }
}
