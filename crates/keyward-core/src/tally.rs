//! A count of calls that lies in what is counted, so that counting looks nothing up. Only calls of one kind stand in it
//! at a time; what kind that is, and where other kinds are counted, is its owner's affair.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of a word that count; the others tell the kind.
const COUNT_BITS: u32 = 24;
const MOST: u64 = (1 << COUNT_BITS) - 1;

/// How many calls of one kind were counted since the last `take`; none at first.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

/// Forty bits that tell kinds apart: of two kinds with digests nobody can choose, one in 2⁴⁰ are taken for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(u64);

impl Kind {
    pub fn of(digest: u64) -> Self {
        Self(digest >> COUNT_BITS << COUNT_BITS)
    }
}

impl Tally {
    /// Counts one more call where such calls stand already, and there is room; answers whether it did.
    pub fn add(&self, kind: Kind) -> bool {
        let more = |word: u64| {
            let stands = word & MOST != 0 && word & !MOST == kind.0;
            (stands && word & MOST < MOST).then(|| word + 1)
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Counts the first call where none stands; answers whether it did.
    pub fn begin(&self, kind: Kind) -> bool {
        let first = |word: u64| (word == 0).then_some(kind.0 | 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, first).is_ok()
    }

    /// How many were counted, and none from now on.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::AcqRel) & MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_stands_until_it_is_taken() {
        let (tally, one, other) = (Tally::default(), Kind::of(u64::MAX), Kind::of(1 << 63));
        assert!(!tally.add(one), "nothing stands yet");
        assert!(tally.begin(one));
        assert!(!tally.begin(one) && !tally.begin(other) && !tally.add(other));
        assert!(tally.add(one) && tally.add(one));
        assert_eq!(tally.take(), 3);
        assert_eq!(tally.take(), 0);
        assert!(tally.begin(other));
    }

    #[test]
    fn a_full_one_counts_no_further() {
        let (tally, kind) = (Tally::default(), Kind::of(0));
        assert!(tally.begin(kind));
        tally.0.store(MOST - 1, Ordering::Relaxed);
        assert!(tally.add(kind));
        assert!(!tally.add(kind) && !tally.begin(kind));
        assert_eq!(tally.take(), MOST);
    }

    #[test]
    fn threads_lose_nothing() {
        let (tally, kind) = (Tally::default(), Kind::of(7 << 30));
        assert!(tally.begin(kind));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| assert!(tally.add(kind))));
            }
        });
        assert_eq!(tally.take(), 40_001);
    }
}
