//! When the requests of a run leave, and about which key each of them asks.

use std::time::{Duration, Instant};

/// How fast, and until when.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Keys at random, as fast as answers come, for a time.
    Full { time: Duration },
    /// Keys at random, so many requests a second, for a time.
    Rate { per_second: f64, time: Duration },
    /// Every key once, as fast as answers come.
    EachOnce,
}

/// Says when the next request is due.
pub struct Schedule {
    pace: Pace,
    start: Instant,
    /// Nothing is sent after this.
    end: Instant,
    sent: u64,
    wanted: u64,
}

impl Schedule {
    pub fn new(pace: Pace, keys: usize, start: Instant) -> Self {
        let (wanted, time) = match pace {
            Pace::Full { time } => (u64::MAX, time),
            // A server that is too slow for the rate gets as much time again; what is left then is unsent.
            Pace::Rate { per_second, time } => ((per_second * time.as_secs_f64()) as u64, time * 2),
            Pace::EachOnce => (keys as u64, Duration::from_secs(24 * 3600)),
        };
        Self { pace, start, end: start + time, sent: 0, wanted }
    }

    /// The instant at which the next request should have left, if that is not in the future. Counts it as sent.
    pub fn next(&mut self, now: Instant) -> Option<Instant> {
        if self.is_over(now) {
            return None;
        }
        let due = match self.pace {
            Pace::Rate { per_second, .. } => self.start + Duration::from_secs_f64(self.sent as f64 / per_second),
            Pace::Full { .. } | Pace::EachOnce => now,
        };
        (due <= now).then(|| {
            self.sent += 1;
            due
        })
    }

    pub fn is_over(&self, now: Instant) -> bool {
        self.sent >= self.wanted || now >= self.end
    }

    /// Requests that a rate asked for and that could not be sent in time.
    pub fn unsent(&self) -> u64 {
        match self.pace {
            Pace::Rate { .. } => self.wanted - self.sent,
            Pace::Full { .. } | Pace::EachOnce => 0,
        }
    }

    /// How long one may sleep. Not at all at a rate: the kernel's milliseconds are longer than its intervals.
    pub fn patience(&self) -> Duration {
        match self.pace {
            Pace::Rate { .. } => Duration::ZERO,
            Pace::Full { .. } | Pace::EachOnce => Duration::from_secs(1),
        }
    }
}

/// Picks keys: in order, or by Marsaglia's xorshift, which costs less than a nanosecond.
pub struct KeyPicker {
    count: u64,
    state: u64,
    in_order: bool,
}

impl KeyPicker {
    pub fn new(pace: Pace, count: usize) -> Self {
        let in_order = matches!(pace, Pace::EachOnce);
        Self { count: count as u64, state: if in_order { 0 } else { 0x9E37_79B9_7F4A_7C15 }, in_order }
    }

    pub fn pick(&mut self) -> usize {
        if self.in_order {
            self.state += 1;
            return ((self.state - 1) % self.count) as usize;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((u128::from(self.state) * u128::from(self.count)) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_from_the_intended_instants() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::Rate { per_second: 1000.0, time: Duration::from_millis(5) }, 1, start);
        assert_eq!(schedule.next(start), Some(start));
        assert_eq!(schedule.next(start), None);
        let late = start + Duration::from_millis(4);
        let due: Vec<_> = std::iter::from_fn(|| schedule.next(late)).map(|due| (due - start).as_millis()).collect();
        assert_eq!(due, [1, 2, 3, 4]);
        assert!(schedule.is_over(late) && schedule.unsent() == 0);
    }

    #[test]
    fn a_server_that_does_not_keep_up_is_told() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::Rate { per_second: 1000.0, time: Duration::from_millis(5) }, 1, start);
        assert_eq!(schedule.next(start + Duration::from_millis(10)), None);
        assert_eq!(schedule.unsent(), 5);
    }

    #[test]
    fn keys_are_picked_in_order_or_evenly() {
        let mut in_order = KeyPicker::new(Pace::EachOnce, 3);
        assert_eq!([in_order.pick(), in_order.pick(), in_order.pick()], [0, 1, 2]);
        let mut random = KeyPicker::new(Pace::Full { time: Duration::ZERO }, 10);
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[random.pick()] += 1);
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
