//! Advice on keys: what a careful owner would change. Pure on a key and the time.

use keyward_core::id::{self, Id};
use keyward_core::record::{KeyStatus, SecretStatus};
use keyward_core::time::Timestamp;

use super::{ApiKey, KeyFilter, Keys};
use crate::context::Context;
use crate::error::Result;
use crate::page::{Page, PageRequest};

const UNUSED_DAYS: i64 = 90;
const OLD_SECRET_DAYS: i64 = 180;

/// One thing to change about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    NoExpiry,
    NeverUsed,
    LongUnused,
    WideScope,
    OldSecret,
    NoIpRule,
}

/// Advice with how much it matters and why.
#[derive(Debug, Clone)]
pub struct Finding {
    pub code: &'static str,
    /// `high`, `medium` or `low`.
    pub severity: &'static str,
    pub detail: String,
}

/// A key and what to change about it.
#[derive(Debug, Clone)]
pub struct KeyHealth {
    pub key: ApiKey,
    pub findings: Vec<Finding>,
}

impl Keys {
    /// Advice on the active keys of an organization, a page of keys at a time; keys without findings are left out.
    pub async fn health(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        page: &PageRequest,
    ) -> Result<Page<KeyHealth>> {
        let filter = KeyFilter { status: Some(KeyStatus::Active.as_str().to_owned()), ..KeyFilter::default() };
        let keys = self.list(context, organization, &filter, page).await?;
        let now = self.ground.now();
        let mut page = keys.map(|key| KeyHealth { findings: examine(&key, now), key });
        page.items.retain(|health| !health.findings.is_empty());
        Ok(page)
    }
}

fn examine(key: &ApiKey, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |advice: Advice, detail: String| findings.push(advice.finding(detail));
    let days_ago = |days: i64| now.plus_days(-days);
    if key.expires_at.is_none() {
        find(Advice::NoExpiry, "The key never expires.".to_owned());
    }
    match key.last_use() {
        None if key.created_at <= days_ago(7) => {
            find(Advice::NeverUsed, format!("Created at {} and never used.", key.created_at))
        }
        Some((at, _)) if at <= days_ago(UNUSED_DAYS) => find(Advice::LongUnused, format!("Last used at {at}.")),
        _ => {}
    }
    if let Some(wide) = key.scopes.iter().find(|scope| *scope == "*" || scope.ends_with(":*")) {
        find(Advice::WideScope, format!("The scope {wide} covers more than most callers need."));
    }
    let active = key.secrets.iter().rev().find(|secret| secret.status == SecretStatus::Active);
    if let Some(secret) = active.filter(|secret| secret.created_at <= days_ago(OLD_SECRET_DAYS)) {
        find(Advice::OldSecret, format!("The secret has not been rotated since {}.", secret.created_at));
    }
    if key.rules.allowed_ips.is_empty() {
        find(Advice::NoIpRule, "The key works from any address.".to_owned());
    }
    findings
}

impl Advice {
    fn finding(self, detail: String) -> Finding {
        let (code, severity) = match self {
            Self::NoExpiry => ("no_expiry", "medium"),
            Self::NeverUsed => ("never_used", "medium"),
            Self::LongUnused => ("long_unused", "high"),
            Self::WideScope => ("wide_scope", "medium"),
            Self::OldSecret => ("old_secret", "high"),
            Self::NoIpRule => ("no_ip_rule", "low"),
        };
        Finding { code, severity, detail }
    }
}
