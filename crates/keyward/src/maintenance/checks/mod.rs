//! What a check of the health page is. The checks themselves are a table of statements, thresholds and advice beside it.

mod sql;

pub use sql::CHECKS;

/// On which side of a threshold trouble lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// At the threshold and above.
    High,
    /// Below the threshold.
    Low,
}

/// One thing to look at.
pub struct Check {
    pub name: &'static str,
    pub title: &'static str,
    /// What the values are.
    pub unit: &'static str,
    pub bad: Bad,
    pub warn_at: f64,
    pub critical_at: Option<f64>,
    /// Whether only pg_monitor sees the truth.
    pub needs_monitor: bool,
    /// What to do about a finding.
    pub advice: &'static str,
    pub statement: &'static str,
}
