//! How long calls took, kept so that percentiles can be told later and parts can be added up: a DDSketch (Masson, Rim
//! and Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", PVLDB 12(12), 2019).
//!
//! Values fall into buckets whose bounds grow by γ = (1 + α) / (1 − α); a bucket holds only how many fell into it. So a
//! told quantile is within α of the true one, merging is adding, and nothing depends on the order. Which values are
//! collected, and where a sketch is stored, is not decided here.

use crate::varint;

/// α: a told quantile is at most one hundredth off the true one.
pub const RELATIVE_ERROR: f64 = 0.01;

const GAMMA: f64 = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);

/// First byte of the stored form.
const VERSION: u8 = 1;

/// The number of a bucket: 0 for the value 0, and i + 1 for values of (γ^(i−1), γ^i].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    pub fn of(value: u64) -> Self {
        match value {
            0 => Self(0),
            // 64 · ln 2 / ln γ is below 2,300: every bucket has a number.
            value => Self(1 + ((value as f64).ln() / GAMMA.ln()).ceil() as u16),
        }
    }

    /// The value whose distance from both bounds of the bucket is α.
    fn value(self) -> f64 {
        match self.0 {
            0 => 0.0,
            number => 2.0 * GAMMA.powi(i32::from(number) - 1) / (GAMMA + 1.0),
        }
    }
}

/// Counts by bucket, sparse and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch(Vec<(Bucket, u64)>);

impl Sketch {
    pub fn add(&mut self, bucket: Bucket) {
        match self.0.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(1),
            Err(at) => self.0.insert(at, (bucket, 1)),
        }
    }

    /// Adds what another sketch holds: the same as if this one had seen both.
    pub fn merge(&mut self, other: &Self) {
        let (mut ours, mut theirs) = (self.0.as_slice(), other.0.as_slice());
        let mut merged = Vec::with_capacity(ours.len() + theirs.len());
        while let ([one, after_one @ ..], [other, after_other @ ..]) = (ours, theirs) {
            if one.0 <= other.0 {
                merged.push(*one);
                ours = after_one;
            } else {
                merged.push(*other);
                theirs = after_other;
            }
            if one.0 == other.0 {
                let last = merged.last_mut().expect("one was pushed");
                last.1 = last.1.saturating_add(other.1);
                theirs = after_other;
            }
        }
        merged.extend_from_slice(ours);
        merged.extend_from_slice(theirs);
        self.0 = merged;
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The value below which a share of all lie, e.g. 0.99, within `RELATIVE_ERROR`; none of an empty sketch.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share.clamp(0.0, 1.0) * self.count().checked_sub(1)? as f64) as u64;
        let mut below = 0u64;
        let found = self.0.iter().find(|(_, count)| {
            below = below.saturating_add(*count);
            below > rank
        });
        found.or(self.0.last()).map(|(bucket, _)| bucket.value())
    }

    /// The stored form: a version, then for each bucket its distance from the one before and its count, as LEB128.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 3 * self.0.len());
        bytes.push(VERSION);
        let mut before = 0;
        for (Bucket(number), count) in &self.0 {
            varint::write(&mut bytes, u64::from(number - before));
            varint::write(&mut bytes, *count);
            before = *number;
        }
        bytes
    }

    /// Reads the stored form; none when it is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        let (mut counts, mut before) = (Vec::new(), 0u16);
        while !rest.is_empty() {
            let number = before.checked_add(u16::try_from(varint::read(&mut rest)?).ok()?)?;
            if number == before && !counts.is_empty() {
                return None;
            }
            counts.push((Bucket(number), varint::read(&mut rest)?));
            before = number;
        }
        (*version == VERSION).then_some(Self(counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch_of(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(Bucket::of(*value)));
        sketch
    }

    /// Values of every magnitude.
    fn values(most: usize) -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec((any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift), 1..most)
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_the_stated_error(mut values in values(400), share in 0.0..=1.0) {
            let told = sketch_of(&values).quantile(share).unwrap();
            values.sort_unstable();
            let exact = values[(share * (values.len() - 1) as f64) as usize] as f64;
            // One part in a billion for the rounding of the logarithm.
            prop_assert!((told - exact).abs() <= exact * (RELATIVE_ERROR + 1e-9), "{told} for {exact}");
        }

        #[test]
        fn merged_parts_are_the_whole(one in values(200), other in values(200)) {
            let mut merged = sketch_of(&one);
            merged.merge(&sketch_of(&other));
            let whole = sketch_of(&[one, other].concat());
            prop_assert_eq!(merged.count(), whole.count());
            prop_assert_eq!(merged, whole);
        }

        #[test]
        fn the_stored_form_reads_back(values in values(400)) {
            let sketch = sketch_of(&values);
            prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Some(sketch));
        }

        #[test]
        fn other_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(sketch) = Sketch::from_bytes(&bytes) {
                let _ = sketch.quantile(0.5);
            }
        }
    }

    #[test]
    fn edges() {
        assert_eq!(Sketch::default().quantile(0.5), None);
        assert_eq!(sketch_of(&[0, 0, 0]).quantile(0.99), Some(0.0));
        assert_eq!(Sketch::from_bytes(&Sketch::default().to_bytes()), Some(Sketch::default()));
        for bad in [&[][..], &[2], &[1, 5], &[1, 5, 1, 0, 1], &[1, 0x80], &[1, 0xff, 0xff, 0x7f, 1]] {
            assert_eq!(Sketch::from_bytes(bad), None, "{bad:?}");
        }
    }
}
