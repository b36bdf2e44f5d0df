//! How keys are shown (contract, section 9).

use keyward::keys::{ApiKey, ImportOutcome, IssuedKey, KeyCounts, KeyHealth, KeySecret, KeyUsage};
use keyward_core::hours::HoursText;
use keyward_core::id::{self, Id};
use keyward_core::limit::{LimitRule, QuotaRule};
use keyward_core::record::{KeyStatus, SecretStatus};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::api::usage::views::SummaryView;

/// An API key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeyView {
    #[schemars(with = "String")]
    pub id: Id<id::Key>,
    name: String,
    #[schemars(with = "String")]
    organization_id: Id<id::Organization>,
    #[schemars(with = "Option<String>")]
    owner_id: Option<Id<id::User>>,
    #[schemars(with = "String")]
    keyspace_id: Id<id::Keyspace>,
    environment: String,
    status: &'static str,
    prefix: String,
    hint: String,
    scopes: Vec<String>,
    permissions: Vec<String>,
    allowed_ips: Vec<String>,
    denied_ips: Vec<String>,
    allowed_routes: Vec<String>,
    allowed_countries: Vec<String>,
    #[schemars(with = "Option<Value>")]
    active_hours: Option<HoursText>,
    #[schemars(with = "Vec<Value>")]
    limits: Vec<LimitRule>,
    #[schemars(with = "Option<Value>")]
    quota: Option<QuotaRule>,
    external_id: Option<String>,
    metadata: Value,
    /// Why it was disabled or revoked.
    reason: Option<String>,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "String")]
    updated_at: Timestamp,
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
    #[schemars(with = "Option<String>")]
    last_used_at: Option<Timestamp>,
    last_used_ip: Option<String>,
    secrets: Vec<SecretView>,
}

/// One secret of a key, without the secret.
#[derive(Debug, Serialize, JsonSchema)]
struct SecretView {
    #[schemars(with = "String")]
    id: Id<id::KeySecret>,
    status: &'static str,
    hint: String,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
    #[schemars(with = "Option<String>")]
    last_used_at: Option<Timestamp>,
    last_used_ip: Option<String>,
    #[schemars(with = "Option<String>")]
    replaces: Option<Id<id::KeySecret>>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        let last_use = key.last_use().map(|(at, ip)| (at, ip.map(str::to_owned)));
        Self {
            hint: key.hint().to_owned(),
            status: key.status.as_str(),
            last_used_at: last_use.as_ref().map(|(at, _)| *at),
            last_used_ip: last_use.and_then(|(_, ip)| ip),
            secrets: key.secrets.into_iter().map(|secret| SecretView::of(secret, key.status)).collect(),
            id: key.id,
            name: key.name,
            organization_id: key.organization_id,
            owner_id: key.owner_id,
            keyspace_id: key.keyspace_id,
            environment: key.environment,
            prefix: key.prefix,
            scopes: key.scopes,
            permissions: key.permissions,
            allowed_ips: key.rules.allowed_ips,
            denied_ips: key.rules.denied_ips,
            allowed_routes: key.rules.allowed_routes,
            allowed_countries: key.rules.allowed_countries,
            active_hours: key.rules.active_hours,
            limits: key.rules.limits,
            quota: key.rules.quota,
            external_id: key.external_id,
            metadata: key.metadata,
            reason: key.reason,
            created_at: key.created_at,
            updated_at: key.updated_at,
            expires_at: key.expires_at,
        }
    }
}

impl SecretView {
    /// With its key's end a secret has ended too.
    fn of(secret: KeySecret, key: KeyStatus) -> Self {
        let KeySecret { id, status, hint, created_at, expires_at, last_used_at, last_used_ip, replaces } = secret;
        let status = match (status, key) {
            (SecretStatus::Active, KeyStatus::Revoked) => SecretStatus::Revoked,
            (SecretStatus::Active, KeyStatus::Expired) => SecretStatus::Expired,
            (own, _) => own,
        };
        Self { id, status: status.as_str(), hint, created_at, expires_at, last_used_at, last_used_ip, replaces }
    }
}

/// A key with its string, shown once.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct IssuedView {
    /// The key itself. It cannot be shown again.
    key: String,
    #[serde(flatten)]
    pub view: KeyView,
}

impl From<IssuedKey> for IssuedView {
    fn from(issued: IssuedKey) -> Self {
        Self { key: issued.secret.expose().clone(), view: issued.key.into() }
    }
}

/// Advice on one key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HealthView {
    #[schemars(with = "String")]
    key_id: Id<id::Key>,
    name: String,
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct FindingView {
    code: &'static str,
    severity: &'static str,
    detail: String,
}

impl From<KeyHealth> for HealthView {
    fn from(health: KeyHealth) -> Self {
        let show = |finding: keyward::keys::Finding| FindingView {
            code: finding.code,
            severity: finding.severity,
            detail: finding.detail,
        };
        let findings = health.findings.into_iter().map(show).collect();
        Self { key_id: health.key.id, name: health.key.name, findings }
    }
}

/// How many keys stand how.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatsView {
    total: i64,
    active: i64,
    disabled: i64,
    expired: i64,
    revoked: i64,
    /// Verifications of this month (UTC), whatever their outcome.
    verifications: i64,
    /// This month.
    usage: SummaryView,
}

impl StatsView {
    pub(super) fn of(counts: KeyCounts, usage: SummaryView) -> Self {
        let KeyCounts { total, active, disabled, expired, revoked } = counts;
        Self { total, active, disabled, expired, revoked, verifications: usage.verifications(), usage }
    }
}

/// Usage of one key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeyStatsView {
    #[schemars(with = "String")]
    key_id: Id<id::Key>,
    /// Verifications of this month (UTC), whatever their outcome.
    verifications: i64,
    #[schemars(with = "Option<String>")]
    last_used_at: Option<Timestamp>,
    last_used_ip: Option<String>,
    /// This month.
    usage: SummaryView,
}

impl KeyStatsView {
    pub(super) fn of(last_use: KeyUsage, usage: SummaryView) -> Self {
        let KeyUsage { key_id, last_used_at, last_used_ip } = last_use;
        Self { key_id, verifications: usage.verifications(), last_used_at, last_used_ip, usage }
    }
}

/// What became of each imported item.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ImportView {
    items: Vec<ImportItemView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ImportItemView {
    index: usize,
    #[schemars(with = "Option<String>")]
    id: Option<Id<id::Key>>,
    error: Option<String>,
}

impl From<Vec<ImportOutcome>> for ImportView {
    fn from(outcomes: Vec<ImportOutcome>) -> Self {
        let show =
            |(index, outcome): (usize, ImportOutcome)| ImportItemView { index, id: outcome.id, error: outcome.error };
        Self { items: outcomes.into_iter().enumerate().map(show).collect() }
    }
}
