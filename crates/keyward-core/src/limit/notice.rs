//! What is worth telling of a limit or quota: that a part of it is used, or that it refused for the first time.

use std::sync::Arc;

use super::{LimitRule, QuotaRule};
use crate::quota::QuotaUse;

/// One past every percentage: the limit was hit.
pub(super) const HIT: u8 = 101;

/// Something worth telling about a limit or quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The limit's name; `None` for a quota.
    pub limit: Option<Arc<str>>,
    /// The percentage that was reached; `None` when the limit refused for the first time.
    pub percent: Option<u8>,
    pub limit_value: u64,
}

impl Notice {
    /// The limit refused.
    pub fn hit(rule: &LimitRule) -> Self {
        Self { limit: Some(rule.name.as_str().into()), percent: None, limit_value: rule.limit }
    }
}

/// Whether so many percent of a limit are used.
pub(super) fn reaches(used: u64, percent: u8, limit: u64) -> bool {
    // A limit is far below what would not fit (`MAX_COUNT`).
    used.saturating_mul(100) >= limit.saturating_mul(percent.into())
}

/// Percentages of a quota that are told.
const QUOTA_STEPS: [u8; 3] = [100, 80, 50];

pub(super) fn crossed_quota(rule: &QuotaRule, used: &mut QuotaUse) -> Option<Notice> {
    let so_far = used.used();
    let step =
        QUOTA_STEPS.into_iter().find(|step| reaches(so_far, *step, rule.limit)).filter(|step| *step > used.told)?;
    used.told = step;
    Some(Notice { limit: None, percent: Some(step), limit_value: rule.limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::MAX_COUNT;

    #[test]
    fn a_percentage_is_reached_once_all_of_it_is_used() {
        assert!(reaches(1, 33, 3) && !reaches(1, 34, 3));
        assert!(reaches(MAX_COUNT, 100, MAX_COUNT) && !reaches(MAX_COUNT - 1, 100, MAX_COUNT));
    }
}
