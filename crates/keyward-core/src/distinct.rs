//! How many different things were seen, kept small and mergeable: a HyperLogLog (Flajolet, Fusy, Gandouet and Meunier,
//! "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", AofA 2007) of 4,096 registers, with
//! Ertl's estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017), which needs no corrections.

use sha2::{Digest, Sha256};

/// Bits of a hash that choose the register.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
/// Bits that are left for counting zeros.
const REST: u32 = u64::BITS - PRECISION;
/// Up to so many registers, each is written with its number.
const SPARSE: usize = REGISTERS / 4;

/// The told number is off by more than this in about one case of three: 1.04 / √4,096.
pub const RELATIVE_ERROR: f64 = 0.016_25;

/// First byte of the stored form.
const SPARSE_FORM: u8 = 1;
const DENSE_FORM: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distinct(Vec<u8>);

impl Default for Distinct {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Distinct {
    pub fn add(&mut self, thing: &[u8]) {
        let hash = Sha256::digest(thing);
        let hash = u64::from_be_bytes(hash[..8].try_into().expect("a hash has 32 bytes"));
        let register = (hash >> REST) as usize;
        let rank = ((hash << PRECISION).leading_zeros().min(REST) + 1) as u8;
        self.0[register] = self.0[register].max(rank);
    }

    /// The same as if this one had seen both.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            *ours = (*ours).max(*theirs);
        }
    }

    /// How many different things were added, within `RELATIVE_ERROR` as a rule.
    pub fn estimate(&self) -> u64 {
        let mut counts = [0u32; REST as usize + 2];
        self.0.iter().for_each(|rank| counts[usize::from(*rank)] += 1);
        let registers = REGISTERS as f64;
        let top = REST as usize + 1;
        let mut sum = registers * tau(1.0 - f64::from(counts[top]) / registers);
        for count in counts[1..top].iter().rev() {
            sum = 0.5 * (sum + f64::from(*count));
        }
        sum += registers * sigma(f64::from(counts[0]) / registers);
        // 1 / (2 ln 2): the constant for many registers.
        let estimate = registers * registers / (2.0 * std::f64::consts::LN_2) / sum;
        estimate.round() as u64
    }

    /// The stored form: few registers with their numbers, or all of them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let set = self.0.iter().filter(|rank| **rank > 0).count();
        if set > SPARSE {
            return [&[DENSE_FORM], self.0.as_slice()].concat();
        }
        let mut bytes = vec![SPARSE_FORM];
        for (register, rank) in self.0.iter().enumerate().filter(|(_, rank)| **rank > 0) {
            bytes.extend_from_slice(&(register as u16).to_be_bytes());
            bytes.push(*rank);
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut sketch = Self::default();
        let fits = |rank: u8| u32::from(rank) <= REST + 1;
        match bytes.split_first()? {
            (&DENSE_FORM, ranks) if ranks.len() == REGISTERS && ranks.iter().all(|rank| fits(*rank)) => {
                sketch.0.copy_from_slice(ranks);
            }
            (&SPARSE_FORM, parts) if parts.len().is_multiple_of(3) => {
                for part in parts.chunks_exact(3) {
                    let register = usize::from(u16::from_be_bytes([part[0], part[1]]));
                    *sketch.0.get_mut(register).filter(|_| fits(part[2]))? = part[2];
                }
            }
            _ => return None,
        }
        Some(sketch)
    }
}

fn sigma(share: f64) -> f64 {
    if share >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut weight, mut sum) = (share, 1.0, share);
    loop {
        power *= power;
        let before = sum;
        sum += power * weight;
        weight += weight;
        if sum <= before {
            return sum;
        }
    }
}

fn tau(share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return 0.0;
    }
    let (mut root, mut weight, mut sum) = (share, 1.0, 1.0 - share);
    loop {
        root = root.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - root).powi(2) * weight;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: std::ops::Range<u32>) -> Distinct {
        let mut sketch = Distinct::default();
        numbers.for_each(|number| sketch.add(&number.to_be_bytes()));
        sketch
    }

    #[test]
    fn estimates_are_near_the_truth() {
        assert_eq!((of(0..0).estimate(), of(0..1).estimate(), of(0..10).estimate()), (0, 1, 10));
        for true_count in [100, 1_000, 5_000, 20_000, 100_000, 1_000_000] {
            let told = of(0..true_count).estimate() as f64;
            let off = (told - f64::from(true_count)).abs() / f64::from(true_count);
            assert!(off < 2.5 * RELATIVE_ERROR, "{told} for {true_count}: {off}");
        }
    }

    #[test]
    fn merging_is_seeing_both_and_the_stored_form_reads_back() {
        let mut merged = of(0..600);
        merged.merge(&of(300..9_000));
        assert_eq!(merged, of(0..9_000));
        for sketch in [of(0..0), of(0..600), of(0..9_000)] {
            assert_eq!(Distinct::from_bytes(&sketch.to_bytes()), Some(sketch));
        }
        for bad in [&[][..], &[9], &[1, 0], &[1, 255, 255, 1], &[2, 1], &[1, 0, 0, 99]] {
            assert_eq!(Distinct::from_bytes(bad), None, "{bad:?}");
        }
    }
}
