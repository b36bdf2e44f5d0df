//! Limits as they are written on a plan or a key, and the arithmetic that counts them: `window` holds the calls of one
//! limit, `draw` decides about all limits of a call together, `notice` says what of it is told. Where the counters live is the
//! platform's affair.

mod draw;
mod lease;
mod notice;
mod window;

use serde::{Deserialize, Serialize};

pub use draw::{
    Bound, Count, Counter, Counting, Decision, Drawn, LimitState, QuotaState, Wanting, Withheld, applicable, draw,
    whole_seconds,
};
pub use lease::{Grant, Lease, Settlement};
pub use notice::Notice;
pub use window::{SlidingWindow, grain};

/// So many per sliding window, under a name that calls can refer to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    /// 1–32 of `[a-z0-9_]`; `requests` is what every call costs, others are drawn on by name.
    pub name: String,
    pub limit: u64,
    pub window_seconds: u64,
    /// Whose calls are counted together; absent: the key's on a key, the organization's on a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// Only calls to these routes count, such as `POST /invoices/*`; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Percentages of the limit, each told once when use first reaches it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warn_at: Vec<u8>,
    /// How far above the limit calls still pass.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overflow_percent: u8,
    /// What a node does that shares its counters through Redis while Redis does not answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_unreachable: WhenUnreachable,
}

/// Whose calls a limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    Organization,
    /// All keys of one end customer: those with the same `external_id`; keys without one count for themselves.
    ExternalId,
    Key,
}

/// Whether a limit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Enforce,
    /// Counts and tells, and never refuses.
    Shadow,
    Off,
}

/// The policy of a limit while its shared counter cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenUnreachable {
    /// Calls pass, uncounted.
    Open,
    /// Calls are refused.
    Closed,
    /// Each node counts for itself, up to its share of the limit.
    #[default]
    LocalShare,
}

/// So many per calendar period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaRule {
    pub limit: u64,
    pub period: Period,
    /// Length of `rolling_days`, today included; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u16>,
}

/// The period of a quota, by the organization's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Month,
    Day,
    RollingDays,
}

/// A limit that refused: what a 429 tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The name of the policy in the `RateLimit` fields.
    pub policy: String,
    pub limit: u64,
    pub window_seconds: u64,
    pub retry_after_seconds: u64,
}

/// Highest limit and cost that can be written: what every JSON reader keeps exactly (2^53 − 1).
pub const MAX_COUNT: u64 = (1 << 53) - 1;
/// What is told of a limit or cost that is none.
pub const OUT_OF_COUNT: &str = "must be between 1 and 9007199254740991";
/// Longest window, in seconds (31 days).
pub const MAX_WINDOW_SECONDS: u64 = 31 * 86_400;
/// Longest rolling quota, in days.
pub const MAX_ROLLING_DAYS: u16 = 92;
/// The limit that every call costs.
pub const REQUESTS: &str = "requests";
/// Most rules of one plan or key.
pub const MAX_RULES: usize = 16;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl LimitRule {
    /// A limit that counts every call and refuses above it.
    pub fn plain(name: &str, limit: u64, window_seconds: u64) -> Self {
        Self {
            name: name.to_owned(),
            limit,
            window_seconds,
            per: None,
            routes: Vec::new(),
            mode: Mode::Enforce,
            warn_at: Vec::new(),
            overflow_percent: 0,
            when_unreachable: WhenUnreachable::LocalShare,
        }
    }

    /// The field and the fault of a rule that cannot be kept, if there is one.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.name.is_empty()
            || self.name.len() > 32
            || !self.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        {
            Some(("name", "must be 1–32 of a–z, 0–9 and _"))
        } else if !(1..=MAX_COUNT).contains(&self.limit) {
            Some(("limit", OUT_OF_COUNT))
        } else if !(1..=MAX_WINDOW_SECONDS).contains(&self.window_seconds) {
            Some(("window_seconds", "must be between 1 and 2678400"))
        } else if self.routes.len() > MAX_RULES || !self.routes.iter().all(|text| crate::route::is_valid(text)) {
            Some(("routes", "must be at most 16 routes such as GET /invoices/*"))
        } else if self.warn_at.len() > 8 || !self.warn_at.iter().all(|percent| (1..=100).contains(percent)) {
            Some(("warn_at", "must be at most 8 percentages between 1 and 100"))
        } else if self.overflow_percent > 100 {
            Some(("overflow_percent", "must be at most 100"))
        } else {
            None
        }
    }

    /// Whether two rules would count the same calls over the same window: a plan or key holds only one of them. `usual` is whose
    /// calls a rule counts there that does not say.
    pub fn counts_as(&self, other: &Self, usual: Per) -> bool {
        self.name == other.name
            && self.window_seconds == other.window_seconds
            && self.per.unwrap_or(usual) == other.per.unwrap_or(usual)
            && self.routes == other.routes
    }

    /// What may pass in a window: the limit and its overflow.
    pub fn ceiling(&self) -> u64 {
        self.limit + (u128::from(self.limit) * u128::from(self.overflow_percent) / 100) as u64
    }

    pub fn window_micros(&self) -> i64 {
        self.window_seconds as i64 * 1_000_000
    }
}

impl QuotaRule {
    pub fn per_month(limit: u64) -> Self {
        Self { limit, period: Period::Month, days: None }
    }

    /// The fault of a rule that cannot be kept, if there is one.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        match (self.period, self.days) {
            _ if !(1..=MAX_COUNT).contains(&self.limit) => Some(("limit", OUT_OF_COUNT)),
            (Period::RollingDays, Some(1..=MAX_ROLLING_DAYS)) | (Period::Month | Period::Day, None) => None,
            (Period::RollingDays, _) => Some(("days", "must be between 1 and 92")),
            (Period::Month | Period::Day, Some(_)) => Some(("days", "goes only with the period rolling_days")),
        }
    }
}
