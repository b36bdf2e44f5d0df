//! Limits and quotas as they are written on a plan or a key. How they are counted is not decided here.

use serde::{Deserialize, Serialize};

/// So many per window, under a name that calls can refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// 1–32 of `[a-z0-9_]`; `requests` is what every call costs.
    pub name: String,
    pub limit: u64,
    pub window_seconds: u64,
}

/// So many per calendar period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaRule {
    pub limit: u64,
    pub period: Period,
}

/// The calendar period of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Month,
    Day,
}

/// Highest limit and cost that can be written: what every JSON reader keeps exactly (2^53 − 1).
pub const MAX_COUNT: u64 = (1 << 53) - 1;
/// Longest window, in seconds (31 days).
pub const MAX_WINDOW_SECONDS: u64 = 31 * 86_400;

impl LimitRule {
    /// The fault of a rule that cannot be kept, if there is one.
    pub fn fault(&self) -> Option<&'static str> {
        if self.name.is_empty()
            || self.name.len() > 32
            || !self.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        {
            Some("name must be 1–32 of a–z, 0–9 and _")
        } else if !(1..=MAX_COUNT).contains(&self.limit) {
            Some("limit must be at least 1")
        } else if !(1..=MAX_WINDOW_SECONDS).contains(&self.window_seconds) {
            Some("window_seconds must be between 1 and 2678400")
        } else {
            None
        }
    }
}
