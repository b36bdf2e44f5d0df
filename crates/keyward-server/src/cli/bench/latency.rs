//! Latencies, counted in buckets that are a thirty-second of their beginning wide: quantiles are true to about 3 %.

const FINE: u64 = 32;

/// Counts by microseconds.
#[derive(Default)]
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    most: u64,
}

impl Latencies {
    pub fn add(&mut self, micros: u64) {
        let place = bucket(micros);
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
        self.total += 1;
        self.most = self.most.max(micros);
    }

    pub fn merge(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
        self.most = self.most.max(other.most);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn most(&self) -> u64 {
        self.most
    }

    /// The microseconds within which that share of all was answered.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(place).min(self.most);
            }
        }
        self.most
    }

    /// How many took from a power of two up to the next, in microseconds, from the first that is not empty to the last.
    pub fn by_doubling(&self) -> Vec<(u64, u64)> {
        let mut rows: Vec<(u64, u64)> = Vec::new();
        for (place, &count) in self.counts.iter().enumerate() {
            let from = last_of(place).checked_ilog2().map_or(0, |power| 1 << power);
            match rows.last_mut() {
                Some((last, sum)) if *last == from => *sum += count,
                Some(_) => rows.push((from, count)),
                None if count > 0 => rows.push((from, count)),
                None => {}
            }
        }
        rows
    }
}

fn bucket(micros: u64) -> usize {
    let shift = micros.checked_ilog2().unwrap_or(0).saturating_sub(FINE.ilog2());
    (u64::from(shift) * FINE + (micros >> shift)) as usize
}

/// The longest latency of a bucket.
fn last_of(place: usize) -> u64 {
    let place = place as u64;
    let shift = (place / FINE).saturating_sub(1);
    ((place - shift * FINE + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_a_bucket_of_its_size() {
        let mut before = 0;
        for micros in (0..10_000).chain([123_456, 10_000_000]) {
            let place = bucket(micros);
            assert!(place == before || place == before + 1 || micros > 10_000, "{micros}");
            assert!(last_of(place) >= micros && last_of(place) <= micros + micros / 32, "{micros}: {}", last_of(place));
            before = place;
        }
    }

    #[test]
    fn quantiles_and_rows_are_those_of_all() {
        let (mut fast, mut slow) = (Latencies::default(), Latencies::default());
        (1..=990).for_each(|_| fast.add(100));
        (1..=10).for_each(|_| slow.add(5_000));
        fast.merge(&slow);
        assert_eq!((fast.total(), fast.most()), (1_000, 5_000));
        assert!((100..104).contains(&fast.quantile(0.5)) && (100..104).contains(&fast.quantile(0.99)));
        assert_eq!(fast.quantile(0.999), 5_000);
        let rows = fast.by_doubling();
        assert_eq!((rows.first(), rows.last()), (Some(&(64, 990)), Some(&(4_096, 10))));
    }
}
