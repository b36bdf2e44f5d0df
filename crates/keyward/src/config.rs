//! Settings: every section with its fields, as `keyward.default.toml` tells them. They are read raw and layered first (`layers`).

mod classes;
mod layers;
mod sinks;

pub use classes::{ClassPolicy, ClassSettings};
pub use layers::{ConfigError, Layers, Origin};
pub use sinks::{Severity, SinkFormat, SinkKind, SinkSettings};

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// The defaults, and the reference of every setting.
pub const DEFAULTS: &str = include_str!("../../../keyward.default.toml");

/// All settings, resolved.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub server: ServerSettings,
    pub database: DatabaseSettings,
    pub keys: KeySettings,
    pub verify: VerifySettings,
    pub leaks: LeakSettings,
    pub people: PeopleSettings,
    pub oidc: OidcSettings,
    pub mail: MailSettings,
    pub caller_limits: CallerLimitSettings,
    pub redis: RedisSettings,
    pub usage: UsageSettings,
    pub jobs: JobSettings,
    pub maintenance: MaintenanceSettings,
    pub audit: AuditSettings,
    pub audit_classes: ClassSettings,
}

/// Where mails go. The address may carry a password.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    pub smtp_url: String,
    pub from: String,
}

impl std::fmt::Debug for MailSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailSettings").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Proofs about the audit log, and where it is sent.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSettings {
    pub checkpoint_seconds: u32,
    pub signing_key: String,
    pub witnesses: Vec<String>,
    pub sinks: Vec<SinkSettings>,
}

impl std::fmt::Debug for AuditSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditSettings").field("witnesses", &self.witnesses).finish_non_exhaustive()
    }
}

/// Signing in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleSettings {
    pub issuer: String,
    pub access_token_seconds: u32,
    pub refresh_idle_seconds: u32,
    pub session_seconds: u32,
    pub strict_refresh: bool,
    pub signing_key_days: u32,
    pub second_factor_required: bool,
    pub concurrent_hashes: usize,
    pub waiting_hashes: usize,
    pub hash_memory_kib: u32,
    pub hash_passes: u32,
}

/// Signing in by an identity provider.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: String,
    pub label: String,
    pub scopes: Vec<String>,
    pub create_people: bool,
    pub groups_claim: String,
    pub roles: Vec<String>,
    pub trust_second_factor: bool,
    pub allow_private_addresses: bool,
}

impl std::fmt::Debug for OidcSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcSettings").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    pub listen: String,
    pub trusted_listen: String,
    pub public_url: String,
    pub tls_certificate_file: PathBuf,
    pub tls_key_file: PathBuf,
    pub hsts_preload: bool,
    pub cors_origins: Vec<String>,
    pub trusted_proxies: Vec<String>,
    pub key_header: String,
    pub key_query: String,
    pub body_limit_bytes: usize,
    pub read_timeout_seconds: u64,
    pub shutdown_grace_seconds: u64,
    pub log_format: String,
}

impl ServerSettings {
    /// What stands before a link to this instance: the address that people use, or without one that on which it listens, which
    /// leads somewhere on its own machine at least.
    pub fn address(&self) -> String {
        if !self.public_url.is_empty() {
            return self.public_url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls_certificate_file.as_os_str().is_empty() { "http" } else { "https" };
        match self.listen.parse::<SocketAddr>() {
            Ok(everywhere) if everywhere.ip().is_unspecified() => format!("{scheme}://localhost:{}", everywhere.port()),
            _ => format!("{scheme}://{}", self.listen),
        }
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    pub data_dir: PathBuf,
    pub url: String,
    /// To PostgreSQL. What verifications wait for has up to four more.
    pub connections: u32,
}

impl std::fmt::Debug for DatabaseSettings {
    /// The address may carry a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSettings").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    pub peppers: Vec<String>,
    pub import_hmac_keys: Vec<String>,
    pub last_used_resolution_seconds: u32,
}

impl std::fmt::Debug for KeySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySettings { [redacted] }")
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifySettings {
    pub cache_entries: usize,
    pub stale_bound_millis: u64,
    pub when_unreachable: WhenUnreachable,
    pub stale_seconds: u32,
    pub country_database: PathBuf,
    pub flush_millis: u64,
    pub slow_hashes: usize,
}

/// What to do about a key that is in memory but may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnreachable {
    Closed,
    Stale,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeakSettings {
    pub policy: LeakPolicy,
    pub partner_keys: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakPolicy {
    Disable,
    Rotate,
    Notify,
}

/// Calls a minute of one caller, or of one address where nobody is known.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerLimitSettings {
    pub unauthenticated_per_minute: u64,
    pub authentication_per_minute: u64,
    pub create_per_minute: u64,
    pub import_per_minute: u64,
    pub list_per_minute: u64,
    pub rotate_per_minute: u64,
    pub revoke_per_minute: u64,
    pub revoke_all_per_minute: u64,
    pub stats_per_minute: u64,
    pub health_per_minute: u64,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    pub url: String,
    pub mode: RedisMode,
    pub prefix: String,
}

impl std::fmt::Debug for RedisSettings {
    /// The address may carry a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSettings").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// How nodes share limits through Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    /// A node takes slices of a budget.
    Leased,
    /// Every decision is one script.
    Exact,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageSettings {
    pub metering: Metering,
    pub flush_millis: u64,
    pub record_retention_days: u32,
    pub minute_retention_days: u32,
    pub hour_retention_days: u32,
    pub day_retention_days: u32,
    pub month_retention_days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSettings {
    pub workers: usize,
    pub retention_days: u32,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceSettings {
    pub database_url: String,
    pub partitions_ahead: u32,
    pub retention_months: u32,
    pub archive_dir: PathBuf,
    pub lock_timeout_millis: u32,
}

impl std::fmt::Debug for MaintenanceSettings {
    /// The address may carry a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MaintenanceSettings").field("retention_months", &self.retention_months).finish_non_exhaustive()
    }
}

/// When a verification is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metering {
    /// After its answer, with many others.
    Behind,
    /// Before its answer, with those that came at the same time.
    Strict,
}

impl Settings {
    /// The defaults alone.
    pub fn defaults() -> Self {
        Layers::default().resolve().expect("the embedded defaults resolve")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_public_address_or_to_where_the_server_listens() {
        let address = |public: &str, listen: &str, certificate: &str| {
            let mut server = Settings::defaults().server;
            (server.public_url, server.listen) = (public.to_owned(), listen.to_owned());
            server.tls_certificate_file = certificate.into();
            server.address()
        };
        assert_eq!(address("https://keys.example.com/", "0.0.0.0:443", ""), "https://keys.example.com");
        assert_eq!(address("", "127.0.0.1:8080", ""), "http://127.0.0.1:8080");
        assert_eq!(address("", "[::]:8443", "/etc/keyward/cert.pem"), "https://localhost:8443");
        assert_eq!(address("", "keys:8080", ""), "http://keys:8080");
    }
}
