//! Settings: read raw and layered (defaults, file, environment, flags), then resolved. Unknown names are refused, and
//! every value remembers where it came from.

mod classes;
mod sinks;

pub use classes::{ClassPolicy, ClassSettings};
pub use sinks::{Severity, SinkFormat, SinkKind, SinkSettings};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

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

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    pub data_dir: PathBuf,
    pub url: String,
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

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "{name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A setting could not be read; says which and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Settings that are still being layered.
pub struct Layers {
    table: Table,
    origins: BTreeMap<String, Origin>,
}

/// The setting that is a list of tables, some of whose fields are secret.
const SINKS: &str = "audit.sinks";

/// Settings whose value is never printed.
const SECRETS: &[&str] = &[
    "database.url",
    "maintenance.database_url",
    "redis.url",
    "mail.smtp_url",
    "audit.signing_key",
    "oidc.client_secret",
    "keys.peppers",
    "keys.import_hmac_keys",
];

impl Default for Layers {
    fn default() -> Self {
        let table: Table = DEFAULTS.parse().expect("the embedded defaults are TOML");
        Self { table, origins: BTreeMap::new() }
    }
}

impl Layers {
    /// Lays a file over what is there.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        let table: Table = text.parse().map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        for (section, settings) in table {
            let Value::Table(settings) = settings else {
                return Err(ConfigError(format!("{}: {section} is not a section", path.display())));
            };
            for (name, value) in settings {
                self.set(&section, &name, value, Origin::File(path.to_owned()))?;
            }
        }
        Ok(())
    }

    /// Lays the variables named `KEYWARD_<SECTION>_<NAME>` over what is there.
    pub fn environment(&mut self, read: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let known: Vec<(String, String)> =
            self.names().map(|(section, name)| (section.to_owned(), name.to_owned())).collect();
        for (section, name) in known {
            let variable = format!("KEYWARD_{}_{}", section.to_uppercase(), name.to_uppercase());
            if let Some(text) = read(&variable) {
                let value = self.read_text(&section, &name, &text, &variable)?;
                self.set(&section, &name, value, Origin::Environment(variable))?;
            }
        }
        Ok(())
    }

    /// Lays one flag over what is there; `setting` is `section.name`.
    pub fn flag(&mut self, setting: &str, value: impl Into<Value>) {
        let (section, name) = setting.split_once('.').expect("flags name a section");
        self.set(section, name, value.into(), Origin::Flag).expect("flags name known settings");
    }

    fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.table
            .iter()
            .filter_map(|(section, settings)| Some((section, settings.as_table()?)))
            .flat_map(|(section, settings)| settings.keys().map(move |name| (section.as_str(), name.as_str())))
    }

    fn set(&mut self, section: &str, name: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
        let slot = self
            .table
            .get_mut(section)
            .and_then(Value::as_table_mut)
            .and_then(|settings| settings.get_mut(name))
            .ok_or_else(|| ConfigError(format!("{origin}: there is no setting {section}.{name}")))?;
        if slot.type_str() != value.type_str() {
            return Err(ConfigError(format!("{origin}: {section}.{name} must be a {}", slot.type_str())));
        }
        *slot = value;
        self.origins.insert(format!("{section}.{name}"), origin);
        Ok(())
    }

    /// Reads a variable's text as the type that its setting has; lists are parted by commas.
    fn read_text(&self, section: &str, name: &str, text: &str, variable: &str) -> Result<Value, ConfigError> {
        if format!("{section}.{name}") == SINKS {
            let tables = format!("sinks = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("sinks"));
            let are_tables = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(Value::is_table));
            // The text may hold a secret.
            return tables
                .filter(are_tables)
                .ok_or_else(|| ConfigError(format!("{variable} is not a TOML array of tables")));
        }
        let bad = |kind: &str| ConfigError(format!("{variable}: {text:?} is not a {kind}"));
        Ok(match &self.table[section][name] {
            Value::Integer(_) => Value::Integer(text.parse().map_err(|_| bad("whole number"))?),
            Value::Boolean(_) => Value::Boolean(text.parse().map_err(|_| bad("true or false"))?),
            Value::Array(_) => {
                Value::Array(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect())
            }
            _ => Value::String(text.to_owned()),
        })
    }

    /// Every setting with its value and origin, secrets hidden.
    pub fn describe(&self) -> Vec<(String, String, Origin)> {
        self.names()
            .map(|(section, name)| {
                let setting = format!("{section}.{name}");
                let value = &self.table[section][name];
                let set = value.as_str().is_some_and(|text| !text.is_empty())
                    || value.as_array().is_some_and(|a| !a.is_empty());
                let shown = if set && SECRETS.contains(&setting.as_str()) {
                    "[redacted]".to_owned()
                } else if setting == SINKS {
                    sinks::without_secrets(value)
                } else {
                    value.to_string()
                };
                let origin = self.origins.get(&setting).cloned().unwrap_or(Origin::Default);
                (setting, shown, origin)
            })
            .collect()
    }

    /// Reads `…_file` settings and gives every value its type.
    pub fn resolve(mut self) -> Result<Settings, ConfigError> {
        for setting in SECRETS {
            let (section, name) = setting.split_once('.').expect("secrets name a section");
            let settings = self.table[section].as_table_mut().expect("sections are tables");
            let Some(Value::String(path)) = settings.remove(&format!("{name}_file")) else { continue };
            if path.is_empty() {
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError(format!("{setting}_file: {path}: {error}")))?;
            let value = match &settings[name] {
                Value::Array(_) => Value::Array(text.split_whitespace().map(Value::from).collect()),
                _ => Value::String(text.trim().to_owned()),
            };
            settings.insert(name.to_owned(), value);
        }
        let read = Value::Table(self.table).try_into();
        let mut settings: Settings = read.map_err(|error: toml::de::Error| ConfigError(error.message().to_owned()))?;
        sinks::complete(&mut settings.audit.sinks).map_err(ConfigError)?;
        Ok(settings)
    }
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
    fn later_layers_win_and_unknown_names_are_refused() {
        let mut layers = Layers::default();
        let environment = |name: &str| match name {
            "KEYWARD_SERVER_LISTEN" => Some("127.0.0.1:9".to_owned()),
            "KEYWARD_SERVER_TRUSTED_PROXIES" => Some("10.0.0.0/8, 192.0.2.1".to_owned()),
            _ => None,
        };
        layers.environment(environment).unwrap();
        layers.flag("database.connections", 3);
        let settings = layers.resolve().unwrap();
        assert_eq!(settings.server.listen, "127.0.0.1:9");
        assert_eq!(settings.server.trusted_proxies, ["10.0.0.0/8", "192.0.2.1"]);
        assert_eq!(settings.database.connections, 3);

        let mut layers = Layers::default();
        let error = layers.set("server", "lisden", Value::from("x"), Origin::Flag).unwrap_err();
        assert_eq!(error.to_string(), "flag: there is no setting server.lisden");
        assert!(
            layers.environment(|name| (name == "KEYWARD_DATABASE_CONNECTIONS").then(|| "many".to_owned())).is_err()
        );
    }

    #[test]
    fn secrets_are_not_described() {
        let mut layers = Layers::default();
        layers.flag("database.url", "postgres://user:password@host/db");
        let described = layers.describe();
        assert!(described.iter().any(|(name, value, _)| name == "database.url" && value == "[redacted]"));
        assert!(!format!("{:?}", layers.resolve().unwrap()).contains("password"));
    }
}
