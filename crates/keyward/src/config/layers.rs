//! How settings come together: read raw and layered (defaults, file, environment, flags), then resolved. Unknown names are
//! refused, and every value remembers where it came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{DEFAULTS, Settings, sinks};

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

/// Numbers of which none would mean that nothing works. Of callers' limits so are all.
const AT_LEAST_ONE: [&str; 4] =
    ["database.connections", "verify.stale_bound_millis", "verify.flush_millis", "usage.flush_millis"];
const ADDRESSES: [&str; 2] = ["server.listen", "server.trusted_listen"];
const DATABASES: [&str; 2] = ["database.url", "maintenance.database_url"];

/// Whether the text names a host, or an address, and a port.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn is_postgres(text: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
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

    /// Refuses what no node could run with.
    fn check(&self) -> Result<(), ConfigError> {
        let bad = |setting: &str, why: &str| {
            let origin = self.origins.get(setting).unwrap_or(&Origin::Default);
            Err(ConfigError(format!("{origin}: {setting} {why}")))
        };
        for (section, name) in self.names() {
            let (setting, value) = (format!("{section}.{name}"), &self.table[section][name]);
            let least = if section == "caller_limits" || AT_LEAST_ONE.contains(&setting.as_str()) { 1 } else { 0 };
            if value.as_integer().is_some_and(|number| number < least) {
                return bad(&setting, &format!("must be at least {least}"));
            }
            let text = value.as_str().unwrap_or_default();
            if ADDRESSES.contains(&setting.as_str()) && !text.is_empty() && !is_address(text) {
                return bad(
                    &setting,
                    &format!("is {text:?}; it must be an address and a port, such as 127.0.0.1:8080"),
                );
            }
            // The text may hold a password.
            if DATABASES.contains(&setting.as_str()) && !text.is_empty() && !is_postgres(text) {
                return bad(&setting, "must begin with postgres:// or postgresql://");
            }
        }
        Ok(())
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
        self.check()?;
        let read = Value::Table(self.table).try_into();
        let mut settings: Settings = read.map_err(|error: toml::de::Error| ConfigError(error.message().to_owned()))?;
        sinks::complete(&mut settings.audit.sinks).map_err(ConfigError)?;
        Ok(settings)
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
    fn what_no_node_could_run_with_is_refused_by_name() {
        let told = |setting: &str, value: Value| {
            let mut layers = Layers::default();
            layers.flag(setting, value);
            layers.resolve().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(
            told("server.listen", "nonsense".into()),
            "flag: server.listen is \"nonsense\"; it must be an address and a port, such as 127.0.0.1:8080"
        );
        assert_eq!(
            told("database.url", "mysql://x".into()),
            "flag: database.url must begin with postgres:// or postgresql://"
        );
        assert_eq!(
            told("caller_limits.create_per_minute", 0.into()),
            "flag: caller_limits.create_per_minute must be at least 1"
        );
        assert_eq!(told("verify.stale_bound_millis", 0.into()), "flag: verify.stale_bound_millis must be at least 1");
        assert_eq!(told("verify.stale_seconds", (-1).into()), "flag: verify.stale_seconds must be at least 0");
        for listen in ["127.0.0.1:0", "[::1]:8080", "localhost:8080"] {
            assert_eq!(told("server.listen", listen.into()), "");
        }
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
