//! What was promised and what was measured: the numbers of a run, each with its target.

use serde_json::{Value, json};

/// A bound that a figure has to keep.
#[derive(Clone, Copy)]
pub enum Target {
    AtLeast(f64),
    MoreThan(f64),
    AtMost(f64),
    LessThan(f64),
}

impl Target {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::MoreThan(bound) => value > bound,
            Self::AtMost(bound) => value <= bound,
            Self::LessThan(bound) => value < bound,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::MoreThan(bound) => write!(f, "> {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::LessThan(bound) => write!(f, "< {bound}"),
        }
    }
}

/// A measured number, one value a round; the median counts.
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
    pub target: Target,
}

impl Figure {
    pub fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>, target: Target) -> Self {
        Self { name: name.into(), unit, values, target }
    }

    /// Something that must not happen, and how often it did.
    pub fn none(name: &str, count: f64) -> Self {
        Self::new(name, "", vec![count], Target::AtMost(0.0))
    }

    pub fn holds(&self) -> bool {
        self.target.holds(median(&self.values))
    }

    pub fn range(&self) -> (f64, f64) {
        self.values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
    }

    pub fn to_json(&self) -> Value {
        let (min, max) = self.range();
        json!({
            "name": self.name, "unit": self.unit, "median": median(&self.values), "min": min, "max": max,
            "target": self.target.to_string(), "holds": self.holds()
        })
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_targets() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        let figure = |target| Figure::new("a", "", vec![0.9, 0.8, 0.85], target);
        assert!(figure(Target::AtLeast(0.85)).holds() && figure(Target::AtMost(0.85)).holds());
        assert!(!figure(Target::MoreThan(0.85)).holds() && !figure(Target::LessThan(0.85)).holds());
        assert_eq!(figure(Target::AtMost(1.0)).range(), (0.8, 0.9));
        assert!(!Figure::new("nothing", "", vec![], Target::AtLeast(0.0)).holds());
    }
}
